local http = require "aijit.io.http"
local ai = require "aijit"
local json = require "aijit.json"
local log = require "aijit.log"
local process = require "support.process"

local folder, pid, stderr, said

local function raises(text, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  assert(tostring(message):find(text, 1, true), ("'%s' is not in: %s"):format(text, tostring(message)))
end

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

local function answers(chunk)
  local file = assert(io.open(folder .. "/answers.lua", "w"))
  file:write(chunk)
  file:close()
end

--- Starts the server; its address.
local function serve()
  local pipe = assert(io.popen(("luajit spec/support/http_server.lua %s 20 >/dev/null 2>%s/problems & echo $!"):format(folder, folder)))
  pid = pipe:read "*n"
  pipe:close()
  for _ = 1, 200 do
    local port = read(folder .. "/port")
    if port then return "http://127.0.0.1:" .. port end
    os.execute "sleep 0.02"
  end
  error("the server did not start: " .. (read(folder .. "/problems") or ""))
end

local function requests()
  local list = {}
  for line in (read(folder .. "/requests") or ""):gmatch "[^\n]+" do list[#list + 1] = json.decode(line) end
  return list
end

before_each(function()
  folder, stderr, said = process.folder(), io.stderr, {}
  rawset(io, "stderr", {write = function(_, ...) for _, text in ipairs{...} do said[#said + 1] = text end end})
end)
after_each(function()
  rawset(io, "stderr", stderr)
  if pid then os.execute(("kill %d 2>/dev/null"):format(pid)) end
  pid = nil
  os.execute("rm -r " .. folder)
end)

describe("a request", function()
  it("brings its body and headers, and gives the answer of any status", function()
    answers 'local method, path, body = ...\nreturn 404, method .. " " .. path .. " " .. #body'
    local uri = serve()
    local status, text = http.request(uri .. "/a?b=c", {body = ("x"):rep(100000), headers = {["X-One"] = "1"}})
    assert.same({404, "POST /a?b=c 100000"}, {status, text})
    assert.matches("\nX%-One: 1\r\n", requests()[1].head)
    assert.same({404, "GET /e 0"}, {http.request(uri .. "/e")})
    assert.equal("a%20b%2F%C3%A9", http.escape "a b/é")
  end)

  it("that nobody answers is an error that says why", function()
    raises("http: GET http://127.0.0.1:1/x: ", http.request, "http://127.0.0.1:1/x", {timeout = 2})
    raises("file", http.request, "file:///etc/passwd")
    raises("has an end of line in it", http.request, "http://127.0.0.1:1/", {headers = {A = "b\r\nC: d"}})
  end)
end)

-- A server with one experiment; it remembers nothing but what the spec reads of the requests.
local good = [[
local method, path, body = ...
if path:find "get%-by%-name" then return 404, '{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"none"}' end
if path:find "experiments/create" then return 200, '{"experiment_id":"7"}' end
local run = '{"run":{"info":{"run_id":"r1","artifact_uri":"mlflow-artifacts:/7/r1/artifacts"},"data":{"metrics":[{"key":"train/loss","value":1,"step":"5"}]}}}'
if path:find "runs/create" or path:find "runs/get" then return 200, run end
return 200, "{}"
]]

local function line(step, value, o)
  local l = {phase = "train", step = step, time = 10.5, epoch = 1, scalars = {{"loss", value}}, texts = {}, images = {}}
  for key, inner in pairs(o or {}) do l[key] = inner end
  return l
end

local Config = ai.Config.extend("FlowConfig", {width = 3, deep = {name = "a b"}})

describe("the MLflow logger", function()
  it("makes experiment and run, sends the config, numbers and files, and tells the end", function()
    answers(good)
    local logger = log.Mlflow{uri = serve() .. "/", token = "secret", run_name = "one", tags = {kind = "test"}}
    logger:start{name = "demo", config = Config()}
    logger:write(line(1, 0.5))
    logger:write(line(2, 0 / 0, {texts = {{"note", "hi"}}, images = {{name = "img", images = ai.zeros(2, 8, 8)}}}))
    assert.same({run_id = "r1"}, logger:position())
    logger:stop(true)
    local list, paths = requests(), {}
    for i, r in ipairs(list) do paths[i] = r.method .. " " .. r.path:gsub("^/api/2.0/", "") end
    assert.same({
      "GET mlflow/experiments/get-by-name?experiment_name=demo", "POST mlflow/experiments/create", "POST mlflow/runs/create",
      "POST mlflow/runs/log-batch", "POST mlflow/runs/log-batch", "POST mlflow/runs/log-batch",
      "PUT mlflow-artifacts/artifacts/7/r1/artifacts/texts/train-note-00000002.txt",
      "PUT mlflow-artifacts/artifacts/7/r1/artifacts/images/train-img-00000002.png", "POST mlflow/runs/update",
    }, paths)
    for _, r in ipairs(list) do assert.matches("Authorization: Bearer secret\r\n", r.head) end
    local created = json.decode(list[3].body)
    assert.same({"7", "one"}, {created.experiment_id, created.run_name})
    local params = {}
    for _, p in ipairs(json.decode(list[4].body).params) do params[p.key] = p.value end
    assert.same({"3", "a b"}, {params.width, params["deep.name"]})
    assert.same({run_id = "r1", metrics = {{key = "train/loss", value = 0.5, step = 1, timestamp = 10500}}}, json.decode(list[5].body))
    assert.equal("NaN", json.decode(list[6].body).metrics[1].value)
    assert.equal("FINISHED", json.decode(list[9].body).status)
    assert.same({}, said)
  end)

  it("goes on in the run of a checkpoint, without sending again what is there", function()
    answers(good)
    local logger = log.Mlflow{uri = serve(), experiment = "e"}
    logger:start{name = "demo"}
    logger:rewind{run_id = "r1"}
    for step = 4, 7 do logger:write(line(step, step)) end
    logger:stop(false)
    local steps, status = {}, nil
    for _, r in ipairs(requests()) do
      assert.is_nil(r.path:find "runs/create")
      local body = r.body ~= "" and json.decode(r.body) or {}
      for _, metric in ipairs(body.metrics or {}) do steps[#steps + 1] = metric.step end
      status = body.status or status
    end
    assert.same({6, 7}, steps)
    assert.equal("FAILED", status)
  end)

  it("keeps numbers while the server is gone, says so once, and sends them when it is back", function()
    answers(good:gsub("return 200, \"{}\"", "return 503, 'busy'"))
    local logger = log.Mlflow{uri = serve()}
    logger:start{name = "demo"}
    for step = 1, 3 do
      logger:write(line(step, step))
      logger._retry = 0
    end
    assert.equal(1, #said / 2)
    assert.matches("the server answered 503; training goes on", said[1])
    answers(good)
    logger:write(line(4, 4))
    assert.matches("is there again", said[3])
    local all = requests()
    assert.equal(4, #json.decode(all[#all].body).metrics)
  end)

  it("sends a thousand numbers at a time", function()
    answers(good)
    local logger = log.Mlflow{uri = serve()}
    logger:start{name = "demo"}
    local scalars = {}
    for i = 1, 2500 do scalars[i] = {"x" .. i, i} end
    logger:write(line(1, 1, {scalars = scalars}))
    local sizes = {}
    for _, r in ipairs(requests()) do
      if r.path:find "log%-batch" then sizes[#sizes + 1] = #json.decode(r.body).metrics end
    end
    assert.same({1000, 1000, 500}, sizes)
  end)

  it("passes on what the server refuses, drops it, and goes on", function()
    answers(good:gsub("return 200, \"{}\"", "return 400, '{\"message\":\"bad name\"}'"))
    local logger = log.Mlflow{uri = serve()}
    logger:start{name = "demo"}
    logger:write(line(1, 1))
    assert.matches("the server answered 400: bad name", said[1])
    assert.equal(0, #logger._metrics)
  end)

  it("counts at the end what was never sent, and does not end the training", function()
    local logger = log.Mlflow{uri = "http://127.0.0.1:1", timeout = 2}
    logger:start{name = "demo"}
    logger:write(line(1, 1))
    logger:write(line(2, 2))
    logger:stop(true)
    local all = table.concat(said)
    assert.matches("training goes on", all)
    assert.matches("2 values were not sent\n$", all)
  end)

  it("wants to know where the server is", function() raises("say where the server is", log.Mlflow, {uri = "host:5000"}) end)
end)
