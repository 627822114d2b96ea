local ai = require "aijit"
local checkpoint = require "aijit.task.checkpoint"
local pack = require "aijit.data.pack"
local folder_of = require "aijit.task.folder"
local State = require "aijit.task.state"
local process = require "support.process"
local system = require "aijit.bindings.system"

local nn, data = ai.nn, ai.data

local message = require "spec.support.raises"

local folder
before_each(function() folder = process.folder() end)
after_each(function() os.execute("rm -r " .. folder) end)

--- Points (x1, x2) with label 1 where x1 > x2, else 2.
local Points = ai.class("Points", data.Dataset)
function Points:__init(n, start) self.n, self.start = n, start end
function Points:size() return self.n end
function Points:get(i)
  local a, b = math.sin(12.9 * (i + self.start)), math.sin(78.2 * (i + self.start) + 1)
  return {a, b}, a > b and 1 or 2
end

--- A logger that keeps its lines and messages.
local Keeper = ai.class("Keeper", ai.log.Logger)
function Keeper:__init() self.lines, self.said, self.interval = {}, {}, 0 end
function Keeper:write(line) table.insert(self.lines, line) end
function Keeper:status(text) table.insert(self.said, text) end
function Keeper:stop() self.stopped = true end

local Config = ai.Config.extend("PointsConfig", {hidden = 8, learning_rate = 0.05})

local function points_task()
  local Task = ai.class("PointsTask", ai.Task)
  Task.Config = Config
  function Task:__init(config)
    ai.Task.__init(self, config)
    self.model = nn.Sequential {nn.Linear(2, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 2)}
    self.keeper = Keeper()
  end
  function Task:set_loggers() self:add_logger(self.keeper) end
  function Task:get_dataset(phase) return phase == "train" and Points(60, 0) or Points(50, 1000) end
  function Task:build_optimizer() return ai.optim.AdamW(self:parameters(), {lr = self.config.learning_rate}) end
  function Task:forward(x) return self.model(x) end
  function Task:get_loss(batch, state)
    local y = self:forward(batch[1])
    -- Labels made of Lua numbers are floats.
    local labels = batch[2]:to("i64")
    self:log_step({batch[1], labels}, y, state)
    return ai.cross_entropy(y, labels)
  end
  return Task
end

local function launch(Task, values)
  values.run_dir = values.run_dir or folder
  return Task:launch(Task.Config(values), {})
end

local function phase(task, name)
  local lines = {}
  for _, line in ipairs(task.keeper.lines) do
    if line.phase == name then lines[#lines + 1] = line end
  end
  return lines
end

local function scalar(line, name)
  for _, pair in ipairs(line.scalars) do
    if pair[1] == name then return pair[2] end
  end
end

describe("a task", function()
  it("learns", function()
    local task = launch(points_task(), {max_epochs = 40, batch_size = 10})
    assert.is_true(task.state.valid.accuracy > 0.9)
    assert.is_true(task.state.valid.loss < 0.4)
  end)

  it("is a module: its model's parameters are its own", function()
    assert.equal(4, #points_task()(Config()):parameters())
  end)

  it("takes a table of values for a config, and none for the defaults", function()
    local Task = points_task()
    assert.equal(3, Task({hidden = 3}).config.hidden)
    assert.matches("has no field 'hiden'; did you mean 'hidden'", message(Task, {hiden = 3}))
  end)

  it("stops after max_steps, max_epochs or max_seconds, whichever comes first", function()
    local Task = points_task()
    assert.equal(7, launch(Task, {max_steps = 7, batch_size = 10}).state.num_steps)
    local state = launch(Task, {max_epochs = 2, max_steps = 100, batch_size = 25}).state
    assert.same({6, 120, 2}, {state.num_steps, state.num_samples, state.num_epochs})
    assert.is_true(launch(Task, {max_seconds = 0.05, batch_size = 10}).state.elapsed < 2)
  end)

  it("goes through the data once when no limit is given", function()
    assert.equal(1, launch(points_task(), {batch_size = 10}).state.num_epochs)
  end)

  it("validates after each epoch, and at the end", function()
    local task = launch(points_task(), {max_epochs = 2, batch_size = 10})
    local lines = phase(task, "valid")
    assert.same({2, 1, 2}, {#lines, lines[1].epoch, lines[2].epoch})
    task = launch(points_task(), {max_steps = 8, batch_size = 10})
    local steps = {}
    for i, line in ipairs(phase(task, "valid")) do steps[i] = line.step end
    assert.same({6, 8}, steps)
  end)

  it("validates every so many steps", function()
    local task = launch(points_task(), {max_steps = 7, valid_every_n_steps = 3, batch_size = 10, valid_on_first_step = true})
    local steps = {}
    for i, line in ipairs(phase(task, "valid")) do steps[i] = line.step end
    assert.same({0, 3, 6, 7}, steps)
  end)

  it("measures the whole validation set: the mean over samples, whatever the batches", function()
    local function accuracy(size)
      local task = launch(points_task(), {max_steps = 3, batch_size = 10, valid_batch_size = size})
      return task.state.valid
    end
    local a, b = accuracy(50), accuracy(7)
    assert.near(a.accuracy, b.accuracy, 1e-6)
    assert.near(a.loss, b.loss, 1e-5)
  end)

  it("is in evaluation while it validates, and in training else", function()
    local Task, seen = points_task(), {}
    local get_loss = Task.get_loss
    function Task:get_loss(batch, state)
      seen[state.phase] = self.training
      return get_loss(self, batch, state)
    end
    launch(Task, {max_steps = 2, batch_size = 10})
    assert.same({train = true, valid = false}, seen)
  end)

  it("logs loss, rate, norm of the gradients and accuracy of a step", function()
    local line = phase(launch(points_task(), {max_steps = 2, batch_size = 10}), "train")[2]
    assert.equal(2, line.step)
    assert.equal(20, line.samples)
    assert.equal(0.05, scalar(line, "lr"))
    for _, name in ipairs {"loss", "grad_norm", "accuracy"} do assert.is_number(scalar(line, name)) end
  end)

  it("calls log_train_step and log_valid_step by phase, and for no one when no logger is there", function()
    local Task, calls = points_task(), {train = 0, valid = 0}
    function Task.log_train_step() calls.train = calls.train + 1 end
    function Task.log_valid_step() calls.valid = calls.valid + 1 end
    launch(Task, {max_steps = 2, batch_size = 10, valid_batch_size = 50})
    assert.same({train = 2, valid = 1}, calls)
    function Task.set_loggers() end
    calls.train = 0
    launch(Task, {max_steps = 2, batch_size = 10})
    assert.equal(0, calls.train)
  end)

  it("does without validation when there are no such data", function()
    local Task = points_task()
    function Task:get_dataset(name) return name == "train" and Points(20, 0) or nil end
    local task = launch(Task, {max_steps = 2, batch_size = 10})
    assert.equal(0, #phase(task, "valid"))
  end)

  it("takes a table of losses, sums them and logs each", function()
    local Task = points_task()
    function Task:get_loss(batch)
      local y = self:forward(batch[1])
      return {fit = ai.cross_entropy(y, batch[2]:to("i64")), size = (y * y):mean()}
    end
    local line = phase(launch(Task, {max_steps = 1, batch_size = 10}), "train")[1]
    assert.near(scalar(line, "loss"), scalar(line, "loss/fit") + scalar(line, "loss/size"), 1e-5)
  end)

  it("takes a schedule as a function of its state", function()
    local Task = points_task()
    function Task:build_optimizer()
      return ai.optim.SGD(self:parameters(), {lr = 0.1}), function(state) return 1 / (1 + state.num_steps) end
    end
    local lines = phase(launch(Task, {max_steps = 3, batch_size = 10}), "train")
    assert.near(0.1, scalar(lines[1], "lr"), 1e-9)
    assert.near(0.1 / 3, scalar(lines[3], "lr"), 1e-9)
  end)

  it("takes a schedule object", function()
    local Task = points_task()
    function Task:build_optimizer()
      local optimizer = ai.optim.SGD(self:parameters(), {lr = 0.1})
      return optimizer, ai.optim.LinearLR(optimizer, {total = 10})
    end
    local lines = phase(launch(Task, {max_steps = 3, batch_size = 10}), "train")
    assert.near(0.1, scalar(lines[1], "lr"), 1e-9)
    assert.near(0.08, scalar(lines[3], "lr"), 1e-9)
  end)

  it("has an optimizer of its config when it builds none", function()
    local Task = points_task()
    Task.build_optimizer = nil
    local Plain = ai.class("PlainTask", Task)
    Plain.build_optimizer = ai.Task.build_optimizer
    local task = Plain:launch(Config {run_dir = folder, max_steps = 1, batch_size = 10}, {"optim.lr=0.5"})
    assert.near(0.5, scalar(phase(task, "train")[1], "lr"), 1e-9)
  end)

  it("leaves no tensor behind, step after step", function()
    local Task, live = points_task(), {}
    function Task:log_train_step(_, _, state)
      -- What earlier specs left to the collector is not this one's.
      collectgarbage()
      collectgarbage()
      live[state.num_steps + 1] = ai.memory().cpu.live
    end
    launch(Task, {max_steps = 30, batch_size = 10})
    assert.is_true(live[10] > 0)
    assert.equal(live[10], live[30])
  end)

  it("clips the gradients: their norm is logged as it was, and the step is that of the norm allowed", function()
    local function moved(values)
      local Task, before = points_task(), nil
      function Task:build_optimizer() return ai.optim.SGD(self:parameters(), {lr = 1}) end
      function Task:on_training_start()
        before = {}
        for i, p in ipairs(self:parameters()) do before[i] = p:detach():clone() end
      end
      values.max_steps, values.batch_size = 1, 10
      local task, sum = launch(Task, values), 0
      for i, p in ipairs(task:parameters()) do sum = sum + ((p:detach() - before[i]) ^ 2):sum():item() end
      return math.sqrt(sum), scalar(phase(task, "train")[1], "grad_norm")
    end
    local free, norm = moved {clip_grad_norm = 0}
    assert.near(norm, free, 1e-4)
    local clipped, same = moved {clip_grad_norm = norm / 2}
    assert.near(norm, same, 1e-9)
    assert.near(norm / 2, clipped, 1e-4)
    assert.is_true(moved {clip_grad_value = 1e-4, clip_grad_norm = 0} < 1e-4 * 8)
  end)
end)

describe("a sweep", function()
  it("trains once for each combination, each run in a folder of its own", function()
    local Task = points_task()
    local task = Task:launch(Config {run_dir = folder, max_steps = 1, batch_size = 10}, {"-m", "hidden=2,3", "seed=1,2"})
    assert.same({3, 2}, {task.config.hidden, task.config.seed})
    assert.equal(folder .. "/points_task/sweep_1/4", task.exp_dir)
  end)
end)

describe("a task that goes wrong", function()
  it("names the step of a loss that is not finite", function()
    local Task = points_task()
    local get_loss = Task.get_loss
    function Task:get_loss(batch, state)
      local loss = get_loss(self, batch, state)
      return state.num_steps == 2 and loss * (0 / 0) or loss
    end
    local problem = message(launch, Task, {max_steps = 5, batch_size = 10})
    assert.matches("PointsTask: the loss is %-?nan in train step 3 %(epoch 1, after 20 samples%)", problem)
  end)

  it("raises what its methods raise, and ends its loggers", function()
    local Task, keeper = points_task(), nil
    function Task:get_loss()
      keeper = self.keeper
      error("broken", 0)
    end
    assert.equal("broken", message(launch, Task, {max_steps = 5}))
    assert.is_true(keeper.stopped)
  end)

  it("says what get_loss must give", function()
    local Task = points_task()
    function Task.get_loss() end
    assert.matches("PointsTask:get_loss gave nothing: it must give the loss", message(launch, Task, {max_steps = 1}))
  end)

  it("names what it must write", function()
    local Empty = ai.class("EmptyTask", ai.Task)
    assert.matches("EmptyTask has no method 'get_dataset'", message(Empty.launch, Empty, {run_dir = folder}, {}))
  end)

  it("refuses words of the command line it does not know", function()
    local Task = points_task()
    assert.matches("has no field 'max_step'; did you mean 'max_steps'", message(Task.launch, Task, nil, {"max_step=3"}))
  end)

  it("notes what was set and is read by nothing", function()
    local Task = points_task()
    local task = Task:launch(Config {run_dir = folder, max_steps = 1, batch_size = 10}, {"optim.lr=0.5"})
    assert.matches("note: optim.lr was set, but nothing has read it", table.concat(task.keeper.said, "\n"))
  end)

  it("passes on an interruption in the middle of a step, and saves no half of it", function()
    local Task, taken = points_task(), nil
    local get_loss = Task.get_loss
    function Task:get_loss(batch, state)
      taken = self
      if state.num_steps == 3 then error("interrupted", 0) end
      return get_loss(self, batch, state)
    end
    assert.equal("interrupted", message(launch, Task, {max_steps = 9, batch_size = 10, save_every_n_steps = 2}))
    assert.matches("/step%-2$", checkpoint.latest(taken.exp_dir))
  end)
end)

describe("a task that is a program", function()
  local paths = require "aijit.tree"
  local program = [[
    local ai = require "aijit"
    local Numbers = ai.class("Numbers", ai.data.Dataset)
    function Numbers:size() return 100 end
    function Numbers:get(i) return i / 100, -i / 50 end
    local Fit = ai.class("FitTask", ai.Task)
    function Fit:__init(config)
      ai.Task.__init(self, config)
      self.model = ai.nn.Linear(1, 1)
    end
    function Fit:get_dataset() return Numbers() end
    function Fit:get_loss(batch)
      local difference = self.model(batch[1]:unsqueeze(2)) - batch[2]:unsqueeze(2)
      return (difference * difference):mean()
    end
    if ai.main(...) then Fit:launch {batch_size = 10} end
  ]]

  --- Runs it, and interrupts it once after `seconds`; gives its status and output.
  local function run(words, seconds)
    local path = folder .. "/fit.lua"
    local file = assert(io.open(path, "w"))
    file:write(program)
    file:close()
    local command = ("%s %s run_dir=%s %s"):format(paths.exe, path, folder, words)
    if seconds then command = ("timeout --foreground --preserve-status -s INT %g %s"):format(seconds, command) end
    local pipe = io.popen(command .. " 2>&1; echo status $?")
    local output = pipe:read("*a")
    pipe:close()
    return tonumber(output:match("status (%d+)\n$")), output
  end

  if not paths.exe then return end

  it("trains, and ends with status 0", function()
    local status, output = run "max_steps=20"
    assert.equal(0, status)
    assert.matches("valid step 20, epoch 2: loss=", output)
    assert.matches("done at step 20; saved in " .. folder:gsub("%p", "%%%0") .. "/fit_task/run_1/checkpoints/step%-20", output)
  end)

  it("answers --help without training", function()
    local status, output = run "--help"
    assert.equal(0, status)
    assert.matches("batch_size +integer >= 1 +32 .-\n += 10  %(program%)", output)
    assert.is_false(system.is_directory(folder .. "/fit_task"))
  end)

  it("ends with status 2 for a word it does not know", function()
    local status, output = run "max_setps=1"
    assert.equal(2, status)
    assert.matches("^Config has no field 'max_setps'; did you mean 'max_steps'", output)
  end)

  it("saves and ends with status 130 after Ctrl-C, and goes on from there", function()
    local status, output = run("max_epochs=1e9", 4)         -- seconds: a sanitized program starts slowly
    assert.equal(130, status)
    local step = tonumber(output:match("interrupted at step (%d+); saved in"))
    assert.is_true(step > 0)
    status, output = run(("exp_dir=%s/fit_task/run_1 max_steps=%d"):format(folder, step + 5))
    assert.equal(0, status)
    assert.matches("resumed at step " .. step, output)
  end)
end)

describe("the folders of runs", function()
  it("are numbered under the task's name", function()
    assert.equal(folder .. "/mnist_task/run_1", folder_of.numbered(folder, "MnistTask"))
    assert.equal(folder .. "/mnist_task/run_2", folder_of.numbered(folder, "MnistTask"))
  end)

  it("write names with capitals apart", function()
    assert.equal("http_server_gan2", folder_of.snake("HTTPServerGan2"))
  end)

  it("hold config and circumstances", function()
    local task = launch(points_task(), {max_steps = 1, batch_size = 10})
    local file = assert(io.open(task.exp_dir .. "/config.yaml"))
    assert.matches("hidden: 8", file:read("*a"))
    file:close()
    assert.is_true(system.is_directory(task.exp_dir .. "/checkpoints"))
  end)
end)

describe("a checkpoint", function()
  it("lets a run go on as if it had never stopped", function()
    local function parameters(task)
      local list = {}
      for _, p in ipairs(task:parameters()) do
        local flat = p:detach():reshape(-1)
        for i = 1, #flat do list[#list + 1] = flat[i]:item() end
      end
      return list
    end
    local Task = points_task()
    local whole = launch(Task, {max_steps = 11, batch_size = 10})
    local values = {exp_dir = folder .. "/halves", batch_size = 10}
    launch(Task, {exp_dir = values.exp_dir, max_steps = 4, batch_size = 10})
    local rest = launch(Task, {exp_dir = values.exp_dir, max_steps = 11, batch_size = 10})
    assert.equal(11, rest.state.num_steps)
    assert.equal(whole.state.num_samples, rest.state.num_samples)
    assert.matches("resumed at step 4", table.concat(rest.keeper.said, "\n"))
    assert.same(parameters(whole), parameters(rest))
  end)

  it("takes the place of the one before", function()
    local Task = points_task()
    local exp_dir = folder .. "/one"
    launch(Task, {exp_dir = exp_dir, max_steps = 2, batch_size = 10, keep_last = 1})
    launch(Task, {exp_dir = exp_dir, max_steps = 3, batch_size = 10, keep_last = 1})
    assert.equal(exp_dir .. "/checkpoints/step-3", checkpoint.latest(exp_dir))
    assert.is_false(system.is_directory(exp_dir .. "/checkpoints/step-2"))
  end)

  it("is not named before it is whole", function()
    local exp_dir = folder .. "/torn"
    assert.is_false(pcall(checkpoint.save, exp_dir, {model = {w = print}, state = {num_steps = 1}}))
    assert.is_nil(checkpoint.latest(exp_dir))
  end)

  it("keeps tables of tables: tensors apart, the rest as JSON", function()
    local w, tensors = ai.ones(2), {}
    local rest = pack.split({state = {{m = w, step = 3}}, groups = {{lr = 0.1}}, none = {}}, "", tensors)
    assert.same({["state/#1/m"] = w}, tensors)
    local again = pack.join(rest, tensors)
    assert.equal(3, again.state[1].step)
    assert.equal(w, again.state[1].m)
    assert.equal(0.1, again.groups[1].lr)
    assert.same({}, again.none)
  end)
end)

describe("the state of a training", function()
  it("is done at the first limit", function()
    local state = State()
    state.num_steps, state.elapsed = 5, 10
    assert.is_true(state:is_done {steps = 5})
    assert.is_true(state:is_done {steps = 9, seconds = 10})
    assert.is_false(state:is_done {steps = 9, epochs = 1, seconds = 11})
  end)

  it("knows the part that is done", function()
    local state = State()
    state.num_steps, state.elapsed = 5, 10
    assert.same({0.25, 20}, {state:progress({steps = 20}, 100)})
    assert.same({0.05, 100}, {state:progress({epochs = 2}, 50)})
    assert.equal(0.5, (state:progress({seconds = 20}, 50)))
    assert.same({0, nil}, {state:progress({}, 50)})
  end)
end)
