--- The logger of an MLflow server, over its REST interface (version 2.0).
--
-- What cannot be sent is kept, and tried again after half a minute: training goes on without its server, and one line says so.
-- What the server never took is counted at the end; ai.log.Jsonl beside it keeps all. A resumed run goes on in its MLflow run, and
-- does not send again what is there.

local class = require "aijit.class"
local http = require "aijit.io.http"
local json = require "aijit.json"
local Logger = require "aijit.log.logger"
local system = require "aijit.bindings.system"

---@class aijit.MlflowLogger: aijit.Logger
local Mlflow = class("Mlflow", Logger)

Mlflow.interval = 10
Mlflow.kinds = {scalar = true, text = true, image = true}

-- What a request may hold, by MLflow's documentation; and what is kept while there is no server.
local MAX_METRICS, MAX_PARAMS, MAX_VALUE, MAX_KEPT = 1000, 100, 6000, 100000
local AGAIN = 30          -- seconds

---@class aijit.MlflowOptions
---@field uri? string         http://host:5000; $MLFLOW_TRACKING_URI
---@field experiment? string  its name; $MLFLOW_EXPERIMENT_NAME, else the task's
---@field run_name? string
---@field token? string       $MLFLOW_TRACKING_TOKEN; else $MLFLOW_TRACKING_USERNAME and $MLFLOW_TRACKING_PASSWORD
---@field tags? table<string, string>
---@field interval? number    seconds between two lines of a phase (10)
---@field keys? table<string, number>
---@field timeout? number     seconds that training waits for an answer (5)

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local parts = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for k = 3, 0, -1 do
      local at = math.floor(n / 64 ^ k) % 64 + 1
      parts[#parts + 1] = (k == 1 and not b or k == 0 and not c) and "=" or alphabet:sub(at, at)
    end
  end
  return table.concat(parts)
end

---@param o? aijit.MlflowOptions
function Mlflow:__init(o)
  o = o or {}
  self.uri = (o.uri or os.getenv "MLFLOW_TRACKING_URI" or ""):gsub("/+$", "")
  if not self.uri:match "^https?://" then
    error(("ai.log.Mlflow: say where the server is, {uri = \"http://host:5000\"} or MLFLOW_TRACKING_URI; got '%s'"):format(self.uri), 3)
  end
  self:limits(o, "ai.log.Mlflow", {"uri", "experiment", "run_name", "token", "tags", "timeout"})
  self.experiment, self.run_name, self.tags = o.experiment or os.getenv "MLFLOW_EXPERIMENT_NAME", o.run_name, o.tags or {}
  self.timeout = o.timeout or 5
  self._headers = {["Content-Type"] = "application/json"}
  local token, user = o.token or os.getenv "MLFLOW_TRACKING_TOKEN", os.getenv "MLFLOW_TRACKING_USERNAME"
  if token then
    self._headers.Authorization = "Bearer " .. token
  elseif user then
    self._headers.Authorization = "Basic " .. base64(user .. ":" .. (os.getenv "MLFLOW_TRACKING_PASSWORD" or ""))
  end
  self._metrics, self._params, self._files, self._sent = {}, {}, {}, {}
  self._lost, self._retry = 0, 0
end

local function say(message) io.stderr:write(message, "\n") end

-- An answer's table. Raises {lost = true} where another try may help, {refused = text} where the server said no.
local function call(self, method, path, body)
  local ok, status, text = pcall(http.request, self.uri .. "/api/2.0/mlflow/" .. path, {
    method = method, headers = self._headers, timeout = self.timeout, body = body and json.encode(body, {special = "string", utf8 = "replace"}),
  })
  if not ok then error({lost = tostring(status):gsub("^[^\n]-%.lua:%d+: ", "")}, 0) end
  if status >= 500 or status == 429 or status == 408 then error({lost = ("the server answered %d"):format(status)}, 0) end
  local read, answer = pcall(json.decode, text)
  if status ~= 200 then
    local message = read and type(answer) == "table" and answer.message
    error({refused = ("the server answered %d%s"):format(status, message and ": " .. tostring(message) or ""), status = status}, 0)
  end
  if not read or type(answer) ~= "table" then error({lost = "the answer is no JSON: is this an MLflow server?"}, 0) end
  return answer
end

local function milliseconds(time) return math.floor(time * 1000 + 0.5) end

local function experiment_id(self)
  local ok, answer = pcall(call, self, "GET", "experiments/get-by-name?experiment_name=" .. http.escape(self.experiment))
  if ok then return answer.experiment.experiment_id end
  if type(answer) ~= "table" or answer.status ~= 404 then error(answer, 0) end
  return call(self, "POST", "experiments/create", {name = self.experiment}).experiment_id
end

-- Makes the run, or takes up that of a checkpoint.
local function open(self)
  if self._open then return end
  if self.run_id then
    local run = call(self, "GET", "runs/get?run_id=" .. http.escape(self.run_id)).run
    for _, metric in ipairs(type(run.data) == "table" and run.data.metrics or {}) do self._sent[metric.key] = tonumber(metric.step) end
    call(self, "POST", "runs/update", {run_id = self.run_id, status = "RUNNING"})
    self._artifacts, self._params = run.info.artifact_uri, {}
  else
    local tags = json.array {{key = "mlflow.source.name", value = self._source or "aijit"}, {key = "mlflow.source.type", value = "LOCAL"}}
    for key, value in pairs(self.tags) do table.insert(tags, {key = tostring(key), value = tostring(value)}) end
    local run = call(self, "POST", "runs/create", {
      experiment_id = experiment_id(self), start_time = milliseconds(self._started), run_name = self.run_name, tags = tags,
    }).run
    self.run_id, self._artifacts = run.info.run_id, run.info.artifact_uri
  end
  self._open = true
end

local function clean(name) return (name:gsub("[^%w_%-%. /]", "_")) end

local function put_file(self, file)
  -- Only a server that takes files itself can be given one.
  local folder = (self._artifacts or ""):match "^mlflow%-artifacts:/*(.*)$"
  if not folder then return end
  local ok, status = pcall(http.request, ("%s/api/2.0/mlflow-artifacts/artifacts/%s/%s"):format(self.uri, folder, file.name), {
    method = "PUT", body = file.bytes, timeout = self.timeout,
    headers = {["Content-Type"] = "application/octet-stream", Authorization = self._headers.Authorization},
  })
  if not ok or status >= 500 then error({lost = ok and ("the server answered %d"):format(status) or tostring(status)}, 0) end
  if status >= 400 then error({refused = ("the server answered %d to the file %s"):format(status, file.name)}, 0) end
end

-- Takes up to `most` from the front of a list.
local function front(list, most)
  local part = json.array {}
  for i = 1, math.min(#list, most) do part[i] = list[i] end
  return part
end

local function drop(list, n)
  local count = #list
  for i = 1, count do list[i] = list[i + n] end
end

local function send(self)
  open(self)
  -- A list is shortened before an answer that refuses it is raised, so that it is not sent for ever.
  local function batch(list, most, field)
    while #list > 0 do
      local part = front(list, most)
      local ok, problem = pcall(call, self, "POST", "runs/log-batch", {run_id = self.run_id, [field] = part})
      if ok or problem.refused then drop(list, #part) end
      if not ok then error(problem, 0) end
    end
  end
  batch(self._params, MAX_PARAMS, "params")
  batch(self._metrics, MAX_METRICS, "metrics")
  while #self._files > 0 do
    local ok, problem = pcall(put_file, self, self._files[1])
    if ok or problem.refused then table.remove(self._files, 1) end
    if not ok then error(problem, 0) end
  end
end

--- Sends what there is, if the server is not known to be gone.
---@param at_once? boolean
---@return boolean sent
function Mlflow:flush(at_once)
  if not at_once and system.monotonic() < self._retry then return false end
  local ok, problem = pcall(send, self)
  if ok then
    if self._gone then say(("MLflow: %s is there again"):format(self.uri)) end
    self._gone = false
    return true
  end
  if type(problem) ~= "table" then error(problem, 0) end
  if problem.refused then
    say(("MLflow: %s: %s"):format(self.uri, problem.refused))
  elseif not self._gone then
    say(("MLflow: %s: %s; training goes on, and it is tried again every %d s"):format(self.uri, problem.lost, AGAIN))
  end
  self._gone, self._retry = problem.lost ~= nil or self._gone, system.monotonic() + (problem.lost and AGAIN or 0)
  return false
end

local function flatten(values, prefix, visit)
  local names = {}
  for name in pairs(values) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    local value, path = values[name], prefix .. tostring(name)
    if type(value) == "table" and getmetatable(value) == nil and value[1] == nil and next(value) ~= nil then
      flatten(value, path .. ".", visit)
    else
      visit(path, require("aijit.config.schema").show(value))
    end
  end
end

local function add_params(self, values)
  flatten(values, "", function(path, text)
    text = text:match '^"(.*)"$' or text
    table.insert(self._params, {key = clean(path), value = text:sub(1, MAX_VALUE)})
  end)
end

--- Hyper-parameters, sent as the run's params.
---@param values table
function Mlflow:hparams(values) add_params(self, values) end

function Mlflow:start(run)
  self._started = system.time()
  self.experiment = self.experiment or run.name or "aijit"
  local arguments = rawget(_G, "arg")
  self._source = type(arguments) == "table" and arguments[0] or nil
  local config = run.config
  if type(config) ~= "table" then return end
  if type(config.to_table) == "function" then config = config:to_table() end
  add_params(self, config)
end

function Mlflow:write(line)
  self._started = self._started or line.time
  self.experiment = self.experiment or "aijit"
  for _, pair in ipairs(line.scalars) do
    local key = clean(line.phase .. "/" .. pair[1])
    -- What a run that was resumed logs again is there already.
    if not (self._sent[key] and line.step <= self._sent[key]) then
      local metric = {key = key, value = pair[2], timestamp = milliseconds(line.time), step = line.step}
      table.insert(self._metrics, metric)
    end
  end
  for _, pair in ipairs(line.texts) do
    table.insert(self._files, {name = ("texts/%s-%s-%08d.txt"):format(line.phase, pair[1]:gsub("[^%w_%-]", "_"), line.step), bytes = pair[2]})
  end
  for _, image in ipairs(line.images) do
    local picture = require "aijit.log.picture"
    local name = ("images/%s-%s-%08d.png"):format(line.phase, image.name:gsub("[^%w_%-]", "_"), line.step)
    table.insert(self._files, {name = name, bytes = picture.png((picture.tile(image.images, image.captions)))})
  end
  if #self._metrics > MAX_KEPT then
    self._lost = self._lost + #self._metrics - MAX_KEPT
    drop(self._metrics, #self._metrics - MAX_KEPT)
  end
  while #self._files > 1000 do table.remove(self._files, 1) end
  self:flush()
end

function Mlflow:position() return self.run_id and {run_id = self.run_id} or nil end

--- Goes on in the run of the checkpoint.
function Mlflow:rewind(position)
  self.run_id, self._open, self._sent, self._metrics = position.run_id, false, {}, {}
  self:flush()
end

function Mlflow:stop(ok)
  if not self._started then return end
  local sent = self:flush(not self._gone or system.monotonic() >= self._retry)
  if sent then
    local ended, problem = pcall(call, self, "POST", "runs/update", {
      run_id = self.run_id, status = ok == false and "FAILED" or "FINISHED", end_time = milliseconds(system.time()),
    })
    if not ended then say(("MLflow: %s: the run's end could not be told: %s"):format(self.uri, problem.lost or problem.refused or tostring(problem))) end
  end
  local left = #self._metrics + self._lost
  if left > 0 then say(("MLflow: %s: %d values were not sent"):format(self.uri, left)) end
end

return Mlflow
