--- What a run leaves, whatever ends it: checkpoints that verify, one task a folder, signals answered, the run done again.

local ai = require "aijit"
local checkpoint = require "aijit.task.checkpoint"
local files = require "support.files"
local process = require "support.process"
local resume = require "aijit.task.resume"
local system = require "aijit.bindings.system"

local aijit = process.aijit()

local folder
before_each(function() folder = files.folder() end)
after_each(function() files.remove(folder) end)

local function save(step, o, valid)
  local store = checkpoint.Store(folder, o)
  return store:save {
    model = {w = ai.full({2}, step)}, optimizer = {state = {{m = ai.full({2}, 2 * step), step = step}}},
    state = {num_steps = step, valid = {loss = valid}, validated_step = valid and step or nil},
  }
end

local function steps()
  local list = {}
  for i, one in ipairs(checkpoint.list(folder)) do list[i] = one.step end
  return list
end

local function damage(path, how)
  local text = files.get(path)
  if how == "cut" then text = text:sub(1, -2)
  elseif how == "flip" then text = text:sub(1, -2) .. string.char((text:byte(-1) + 1) % 256)
  else text = text .. "x" end
  files.put(path, text)
end

describe("the checkpoints of a run", function()
  it("are the newest ones, and the best ones beside them", function()
    local o = {keep_last = 2, keep_best = 1}
    for step, loss in ipairs {5, 1, 4, 3, 9} do save(step, o, loss) end
    assert.same({5, 4, 2}, steps())
    assert.matches("step%-2$", checkpoint.find(folder, "best"))
    assert.matches("step%-5$", checkpoint.find(folder, "latest"))
    assert.matches("step%-5$", checkpoint.find(folder, "best", {mode = "max"}))
  end)

  it("are best by the value that is the greatest, when that is wanted, and NaN is none", function()
    local o = {keep_last = 1, keep_best = 2, mode = "max"}
    for step, value in ipairs {1, 7, 0 / 0, 6, 5} do save(step, o, value) end
    assert.same({5, 4, 2}, steps())
  end)

  it("hold what was saved", function()
    save(3)
    local kept = checkpoint.load(checkpoint.latest(folder))
    assert.same({3, 3}, kept.model.w:totable())
    assert.same({6, 6}, kept.optimizer.state[1].m:totable())
    assert.equal(3, kept.optimizer.state[1].step)
  end)

  it("are passed over when a file of theirs is not what was written, with the reason", function()
    for _, name in ipairs {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"} do
      for _, how in ipairs {"cut", "flip", "extend"} do
        save(1, {keep_last = 9})
        local path = save(2, {keep_last = 9})
        damage(path .. "/" .. name, how)
        local newest, passed = checkpoint.newest(folder)
        -- A blank or an x behind the manifest's JSON may leave it what it was: then it verifies, and rightly.
        if not (name == "manifest.json" and newest:match("step%-2$")) then
          assert.matches("step%-1$", newest)
          assert.equal(1, #passed)
          assert.matches("step%-2' is passed over: its " .. name:gsub("%p", "%%%0"), passed[1])
          assert.is_false(pcall(checkpoint.load, path))
        end
        os.execute("rm -rf " .. folder .. "/checkpoints")
      end
    end
    save(1)
    os.remove(save(2) .. "/model.safetensors")
    local _, passed = checkpoint.newest(folder)
    assert.matches("its model.safetensors is missing", passed[1])
  end)

  it("leave the old ones as they are when a write, sync or rename fails, whichever it is", function()
    local core = require "aijit.bindings.file"
    save(1)
    local failed = 0
    for n = 1, 200 do
      core.fail(n)
      local ok, problem = pcall(save, 2)
      core.fail(0)
      if not ok then
        failed = failed + 1
        assert.matches("Input/output error", problem)
        local newest = checkpoint.newest(folder)
        assert.is_truthy(newest)
        checkpoint.load(newest)
      end
      local left = ai.json.encode(files.list(folder .. "/checkpoints"))
      assert.is_nil(left:match("%.new"))
      os.execute("rm -rf " .. folder .. "/checkpoints/step-2")
      if ok then break end
    end
    assert.is_true(failed > 12 and failed < 199)
  end)

  it("are found again after a process died between two renames, and its leavings go", function()
    save(1)
    files.run(("mv %s/checkpoints/step-1 %s/checkpoints/.old-step-1; mkdir %s/checkpoints/.new-77"):format(folder, folder, folder))
    checkpoint.Store(folder):clean()
    assert.same({"step-1"}, files.list(folder .. "/checkpoints"))
    save(2)
    files.run(("cp -r %s/checkpoints/step-1 %s/checkpoints/.old-step-1"):format(folder, folder))
    checkpoint.Store(folder):clean()
    assert.same({"step-1", "step-2"}, files.list(folder .. "/checkpoints"))
  end)

  it("keep the same step's newer state", function()
    save(4, {}, nil)
    save(4, {}, 0.5)
    assert.equal(0.5, checkpoint.load(checkpoint.latest(folder)).state.valid.loss)
    assert.same({"step-4"}, files.list(folder .. "/checkpoints"))
  end)
end)

describe("the difference of two configs", function()
  it("is its lines, without the places of the run", function()
    local Config = ai.Config.extend("DifferenceConfig", {a = {b = 1, same = true}, list = {1, 2}})
    local config, old = Config {a = {b = 2}, exp_dir = "y"}, Config {exp_dir = "x"}
    assert.equal("", resume.difference(Config(), old:to_table()))
    assert.equal("- a.b: 1\n+ a.b: 2", resume.difference(config, old:to_table()))
  end)
end)

-- ---- as programs

if not aijit then return end

local function train(dir, words, environment)
  return process.run(("%s %s spec/torture/train.lua exp_dir=%s tensorboard=false %s"):format(environment or "", aijit, dir, words or ""), {limit = 120})
end

--- Starts a training in the background; gives a function that sends it a signal, and one that waits for its status.
local function start(dir, words, program)
  local base = dir .. "-background"
  local command = ("(env %s %s exp_dir=%s tensorboard=false %s >%s.out 2>&1 & echo $! >%s.pid; wait $!; echo $? >%s.status) &"):format(
    program or aijit, "spec/torture/train.lua", dir, words, base, base, base)
  os.execute(command)
  local function until_there(path, pattern)
    for _ = 1, 600 do
      local handle = io.open(path)
      local text = handle and handle:read("*a") or ""
      if handle then handle:close() end
      if text:match(pattern) then return text end
      os.execute("sleep 0.1")
    end
    error("'" .. path .. "' never came to hold " .. pattern)
  end
  local pid = until_there(base .. ".pid", "%d+"):match("%d+")
  until_there(dir .. "/log.jsonl", '"step":5,')
  return {
    signal = function(name) os.execute(("kill -%s %s"):format(name, pid)) end,
    wait = function() return tonumber(until_there(base .. ".status", "%d+")), files.get(base .. ".out") end,
  }
end

local function lines(dir)
  local text = files.get(dir .. "/log.jsonl"):gsub('"t":[%d%.]+,', "")
  return text
end

describe("a training that is a program", function()
  it("saves and leaves at SIGTERM, SIGUSR1 and Ctrl-C, with that signal's status, and goes on to the same bits", function()
    assert.equal(0, train(folder .. "/whole", "max_steps=200 save_every_n_steps=null keep_best=0").status)
    for name, status in pairs {TERM = 143, USR1 = 138, INT = 130} do
      local dir = folder .. "/" .. name
      local words = "max_steps=200 save_every_n_steps=null keep_best=0"
      local background = start(dir, words .. " slow=0.01")
      background.signal(name)
      local got, output = background.wait()
      if name ~= "INT" then
        assert.equal(status, got)
        assert.matches("interrupted at step %d+; saved in", output)
      end
      -- A shell's background job ignores Ctrl-C, and so does the task: it is at its end then.
      local result = train(dir, words)
      assert.equal(0, result.status)
      assert.matches("resumed at step", result.out)
      assert.equal(lines(folder .. "/whole"), lines(dir))
      local file = "/checkpoints/step-200/model.safetensors"
      assert.equal(files.get(folder .. "/whole" .. file), files.get(dir .. file))
    end
  end)

  it("does the same under plain luajit", function()
    local dir = folder .. "/plain"
    local background = start(dir, "max_steps=1000000 save_every_n_steps=null keep_best=0 valid_every_n_steps=1000000",
      "LUA_PATH='lua/?.lua;lua/?/init.lua;;' luajit")
    background.signal "TERM"
    local status, output = background.wait()
    assert.equal(143, status)
    assert.matches("interrupted at step %d+; saved in", output)
  end)

  it("has its folder for itself", function()
    local dir = folder .. "/one"
    local background = start(dir, "max_steps=1000000 save_every_n_steps=null keep_best=0 valid_every_n_steps=1000000")
    local before = lines(dir)
    local result = train(dir, "max_steps=3")
    assert.equal(1, result.status)
    assert.matches("the folder '.-/one' is in use by another task %(process %d+ on .-%): give each its own exp_dir", result.err)
    assert.equal(before, lines(dir):sub(1, #before))
    background.signal "KILL"
    background.wait()
    assert.equal(0, train(dir, "max_steps=6").status)       -- the lock went with the process
  end)

  it("neither takes up nor writes over the checkpoints of another class", function()
    local dir = folder .. "/theirs"
    assert.equal(0, train(dir, "max_steps=3").status)
    local path = dir .. "/run.json"
    local theirs = (files.get(path):gsub('"name":"TortureTask"', '"name":"TheirTask"'))
    files.put(path, theirs)
    local log = lines(dir)
    local result = train(dir, "max_steps=6")
    assert.equal(1, result.status)
    assert.matches("the folder '.-/theirs' holds the checkpoints of 'TheirTask', not of 'TortureTask': give this one its own exp_dir", result.err)
    assert.same({theirs, log}, {files.get(path), lines(dir)})
  end)

  it("gets a folder of its own when several start at once", function()
    local command = {}
    for i = 1, 5 do command[i] = ("%s spec/torture/train.lua run_dir=%s max_steps=1 >/dev/null 2>&1 &"):format(aijit, folder) end
    assert.equal(0, process.run("(" .. table.concat(command, "\n") .. "\nwait)", {limit = 120}).status)
    assert.same({"run_1", "run_2", "run_3", "run_4", "run_5"}, files.list(folder .. "/torture_task"))
    for i = 1, 5 do assert.matches("step%-1$", checkpoint.latest(("%s/torture_task/run_%d"):format(folder, i))) end
  end)

  it("that is a script ends at a signal when it looks, and at once when it never does", function()
    for looks, want in pairs {["true"] = "ended well", ["false"] = "Terminated"} do
      local program = folder .. "/script.lua"
      files.put(program, ([[
        local ai = require "aijit"
        local Script = ai.class("WaitScript", ai.Script)
        function Script:set_loggers() end
        function Script:main()
          local looks = %s
          if looks then self:should_stop() end
          require("aijit.bindings.system").signal(15)
          for _ = 1, 1e9 do if looks and self:should_stop() then break end end
          print "ended well"
        end
        Script:launch {run_dir = "%s"}
      ]]):format(looks, folder))
      local result = process.run(("%s %s; echo status $?"):format(aijit, program), {limit = 60})
      assert.matches("status 143", result.out)
      assert.equal(want == "ended well", result.out:match("ended well") ~= nil)
    end
  end)

  it("that crashes leaves a status, a traceback and its last checkpoint", function()
    local dir = folder .. "/crash"
    assert.equal(0, train(dir, "max_steps=9").status)
    local program = folder .. "/crash.lua"
    files.put(program, [[
      package.path = "spec/torture/?.lua;" .. package.path
      local Torture = require "train"
      function Torture:on_step_end(state) if state.num_steps == 13 then error "the crash of step 13" end end
      Torture:launch {batch_size = 8, save_every_n_steps = 3, max_steps = 20, tensorboard = false}
    ]])
    local result = process.run(("%s %s exp_dir=%s"):format(aijit, program, dir), {limit = 60})
    assert.equal(1, result.status)
    assert.matches("the crash of step 13.*stack traceback:.*crash.lua:3: in function 'on_step_end'", result.err)
    assert.matches("the config differs from the checkpoint's:\n  %- batches_per_step: 2\n  %+ batches_per_step: 1", result.out)
    assert.matches("step%-12$", checkpoint.latest(dir))
  end)

  it("passes over a damaged checkpoint, says so, and comes to the same bits", function()
    train(folder .. "/whole", "max_steps=30")
    local dir = folder .. "/damaged"
    train(dir, "max_steps=30", "timeout -s KILL 60")
    damage(dir .. "/checkpoints/step-30/model.safetensors", "flip")
    local result = train(dir, "max_steps=30")
    assert.matches("step%-30' is passed over: its model.safetensors is not what was written %(SHA%-256%)", result.out)
    assert.matches("resumed at step 2%d", result.out)
    assert.equal(lines(folder .. "/whole"), lines(dir))
  end)

  it("is run again by `aijit rerun`, from the code that it had", function()
    local program = folder .. "/part.lua"
    files.put(program, files.get "spec/torture/train.lua")
    local first = process.run(("cd %s && %s part.lua run_dir=runs hidden=8 max_steps=8 +note=mine"):format(folder, aijit), {limit = 60})
    assert.equal(0, first.status, first.err)
    files.put(program, "error 'changed since'")
    local run = folder .. "/runs/torture_task/run_"
    local again = process.run(("%s rerun %s1"):format(aijit, run), {limit = 60})
    assert.equal(0, again.status, again.err)
    local file = "/checkpoints/step-8/model.safetensors"
    assert.equal(files.get(run .. "1" .. file), files.get(run .. "2" .. file))
    assert.matches("note: mine", files.get(run .. "2/config.yaml"))
    assert.equal(2, process.run(("%s rerun %s"):format(aijit, folder)).status)
  end)
end)

describe("a disk that is full", function()
  it("ends a training with the reason, and the checkpoint before can be read", function()
    local place = folder .. "/small"
    system.make_directory(place)
    local _, mounted = files.run(("mount -t tmpfs -o size=400k tmpfs %s"):format(place))
    if not mounted then return pending "no right to mount a small file system" end
    local dir = place .. "/run"
    local ok, problem = pcall(function()
      assert.equal(0, train(dir, "max_steps=6 valid_every_n_steps=1000 keep_best=0").status)
      files.run(("dd if=/dev/zero of=%s/filler bs=1k count=400"):format(place))
      local result = train(dir, "max_steps=30 valid_every_n_steps=1000 keep_best=0")
      assert.equal(1, result.status)
      assert.matches("No space left on device", result.err)
      assert.matches("step%-6$", checkpoint.latest(dir))
      os.remove(place .. "/filler")
      result = train(dir, "max_steps=9 valid_every_n_steps=1000 keep_best=0")
      assert.equal(0, result.status, result.err)
      assert.matches("resumed at step 6", result.out)
    end)
    files.run("umount " .. place)
    if not ok then error(problem, 0) end
  end)
end)
