--- Sweeps and studies: spaces, samplers, pruning, what survives a crash, and both over the runs of a task.

local ai = require "aijit"
local lab = ai.lab
local process = require "spec.support.process"
local tree = require "aijit.tree"

local folder

before_each(function()
  folder = os.tmpname()
  os.remove(folder)
end)
after_each(function() os.execute("rm -rf " .. process.quote(folder)) end)

local function message(f, ...)
  local ok, problem = pcall(f, ...)
  assert.is_false(ok)
  return (tostring(problem):gsub("^[^\n:]+%.lua:%d+: ", ""))
end

local function has(part, text) assert.is_truthy(text:find(part, 1, true), text) end

local count = 0
local function study(o)
  count = count + 1
  o.folder = o.folder or folder .. "/" .. count
  return lab.Study(o)
end

describe("a space", function()
  it("has numbers, whole numbers and choices, of which every one comes up", function()
    local s = study{space = {x = lab.uniform(-2, 3), r = lab.loguniform(1e-4, 1), n = lab.int(1, 3), c = lab.choice{"a", "b", true}}, sampler = "random"}
    local n, c, small = {}, {}, 0
    s:run(function(trial)
      local p = trial.params
      assert.is_true(p.x >= -2 and p.x <= 3 and p.r >= 1e-4 and p.r <= 1)
      n[p.n], c[tostring(p.c)] = true, true
      small = small + (p.r < 1e-2 and 1 or 0)
      return p.x
    end, {trials = 40})
    assert.are.same({true, true, true}, n)
    assert.are.same({a = true, b = true, ["true"] = true}, c)
    assert.is_true(small > 8 and small < 32, small)        -- half of the decades
  end)

  it("has dimensions that only count beside a value of another", function()
    local s = study{space = {kind = lab.choice{"sgd", "adam"}, momentum = lab.uniform(0, 1):when("kind", "sgd")}, sampler = "tpe"}
    s:run(function(trial)
      assert.are.equal(trial.params.kind == "sgd", trial.params.momentum ~= nil)
      return trial.params.kind == "sgd" and trial.params.momentum or 0.5
    end, {trials = 30})
    assert.is_true(s:best().value < 0.2)
  end)

  it("that is wrong is an error with the reason", function()
    has("the least, 3, is above the largest, 1", message(lab.uniform, 3, 1))
    has("0 is not positive", message(lab.loguniform, 0, 1))
    has("must be whole", message(lab.int, 0.5, 2))
    has("a list with something in it", message(lab.choice, {}))
    has("entry 1 is a table", message(lab.choice, {{}}))
    has("at least one dimension", message(study, {space = {}}))
    has("there is no such name: did you mean 'kind'?", message(study, {space = {kind = lab.choice{1}, m = lab.uniform(0, 1):when("kimd", 1)}}))
    has("ask for each other", message(study, {space = {a = lab.uniform(0, 1):when("b", 1), b = lab.uniform(0, 1):when("a", 1)}}))
    has("there is no 'lognormal'", message(study, {space = {a = {lognormal = {0, 1}}}}))
    has("says neither", message(study, {space = {a = {}}}))
    has("there is no 'spacee': did you mean 'space'?", message(study, {spacee = {}}))
    has("the sampler is 'tpa': did you mean 'tpe'?", message(study, {space = {a = lab.uniform(0, 1)}, sampler = "tpa"}))
  end)
end)

describe("TPE", function()
  local targets = {
    bowl = {{x = lab.uniform(-5, 5), y = lab.uniform(-5, 5)}, function(p) return (p.x - 2) ^ 2 + (p.y + 1) ^ 2 end},
    mixed = {{rate = lab.loguniform(1e-5, 1), width = lab.int(1, 100), kind = lab.choice{"a", "b", "c", "d"}}, function(p)
      return (math.log(p.rate) - math.log(3e-3)) ^ 2 + (p.width / 20 - 2) ^ 2 + (p.kind == "c" and 0 or 4)
    end},
  }
  for name, target in pairs(targets) do
    it("finds better values than chance in most of 20 searches: " .. name, function()
      local wins = 0
      for seed = 1, 20 do
        local best = {}
        for _, sampler in ipairs{"random", "tpe"} do
          -- In memory: 3,200 trials need no disk.
          local dims, history = require("aijit.lab.space").from(target[1]), {}
          local way = sampler == "tpe" and lab.TPE() or lab.Random()
          for i = 1, 80 do
            local p = way:suggest(dims, history, require("aijit.lab.sampler").random(seed, i))
            history[i] = {params = p, value = target[2](p)}
            best[sampler] = math.min(best[sampler] or math.huge, history[i].value)
          end
        end
        if best.tpe < best.random then wins = wins + 1 end
      end
      assert.is_true(wins >= 15, wins .. " of 20")         -- by chance, 15 or more: 2 %
    end)
  end

  it("gives the same trials from the same seed, and others from another", function()
    local function values(seed)
      local s, list = study{space = {x = lab.uniform(0, 1)}, seed = seed}, {}
      s:run(function(trial) list[#list + 1] = trial.params.x return trial.params.x end, {trials = 15})
      return list
    end
    assert.are.same(values(3), values(3))
    assert.are_not.same(values(3), values(4))
  end)

  it("maximizes as well", function()
    local s = study{space = {x = lab.uniform(0, 1)}, direction = "maximize"}
    s:run(function(trial) return trial.params.x end, {trials = 25})
    assert.is_true(s:best().value > 0.9)
  end)
end)

describe("ASHA", function()
  local asha = lab.ASHA{min = 1, factor = 3, max = 100}
  local function reports(...)
    local list = {}
    for i, v in ipairs{...} do list[i] = {step = i, value = v} end
    return list
  end

  it("has rungs at min, min factor, min factor squared", function()
    assert.are.same({}, asha:rungs(0))
    assert.are.same({1, 3, 9, 27, 81}, asha:rungs(500))
  end)

  it("lets the first pass, and of those that come later the best third", function()
    assert.is_false(asha:stops(reports(5), {}))
    assert.is_true(asha:stops(reports(6), {reports(5)}))
    assert.is_false(asha:stops(reports(4), {reports(5)}))
    local others = {reports(1), reports(2), reports(3), reports(4), reports(5)}
    assert.is_false(asha:stops(reports(1.5), others))       -- second of six
    assert.is_true(asha:stops(reports(2.5), others))        -- third of six
  end)

  it("decides at rungs only, each by what was reported there", function()
    assert.is_false(asha:stops(reports(1, 9), {reports(2, 3)}))
    assert.is_true(asha:stops(reports(1, 9, 9), {reports(2, 3, 4)}))
    assert.is_false(asha:stops(reports(1, 9, 3), {reports(2, 3, 4)}))
  end)

  it("ends a trial whose value is NaN", function()
    local s = study{space = {x = lab.uniform(0, 1)}, pruner = {min = 1}}
    s:run(function(trial)
      if trial:report(trial.number == 1 and 1 or 0 / 0, 1) then return end
      return 1
    end, {trials = 3})
    assert.are.same({"done", "pruned", "pruned"}, {s.trials[1].state, s.trials[2].state, s.trials[3].state})
  end)

  it("prunes most of the bad trials of a study and none of the best", function()
    local s, steps = study{space = {x = lab.uniform(0, 1)}, sampler = "random", pruner = lab.ASHA{min = 1, factor = 3}}, 0
    s:run(function(trial)
      for step = 1, 27 do
        steps = steps + 1
        if trial:report(trial.params.x + 1 / step, step) then return end
      end
      return trial.params.x
    end, {trials = 40})
    local least = math.huge
    for _, t in ipairs(s.trials) do least = math.min(least, t.params.x) end
    assert.are.equal(least, s:best().params.x)
    assert.is_true(steps < 40 * 27 / 2, steps)
    has("min is the number of steps", message(lab.ASHA, {}))
    has("factor must be above 1", message(lab.ASHA, {min = 1, factor = 1}))
  end)
end)

describe("a study's file", function()
  it("lets it go on, and refuses another space", function()
    local s = study{folder = folder, space = {x = lab.uniform(0, 1)}}
    s:run(function(trial) return trial.params.x end, {trials = 4})
    local t = lab.Study{folder = folder}
    t:run(function(trial) return trial.params.x end, {trials = 6})
    assert.are.equal(6, #t.trials)
    assert.are.equal(s.trials[2].params.x, t.trials[2].params.x)
    has("holds a study of another space", message(lab.Study, {folder = folder, space = {y = lab.uniform(0, 1)}}))
    has("holds no study", message(lab.Study, {folder = folder .. "/empty"}))
  end)

  it("keeps failed trials with their reason, and goes on", function()
    local s = study{space = {x = lab.uniform(0, 1)}}
    s:run(function(trial)
      if trial.number == 2 then error("no luck", 0) end
      if trial.number == 3 then return 0 / 0 end
      return 1
    end, {trials = 4})
    assert.are.same({"done", "failed", "failed", "done"}, {s.trials[1].state, s.trials[2].state, s.trials[3].state, s.trials[4].state})
    assert.are.equal("no luck", s.trials[2].problem)
    has("no luck", tostring(s))
  end)

  it("survives a torn last line, and trials that nobody does any more are done again with the same values", function()
    local s = study{folder = folder, space = {x = lab.uniform(0, 1)}}
    s:run(function(trial) return trial.params.x end, {trials = 3})
    local f = io.open(folder .. "/study.jsonl", "a")
    f:write('{"trial":4,"params":{"x":0.25},"pid":999999999,"host":"' .. require("aijit.bindings.system").hostname() .. '"}\n{"trial":4,"st')
    f:close()
    local seen = {}
    lab.Study{folder = folder}:run(function(trial) seen[trial.number] = trial.params.x return 0 end, {trials = 5})
    assert.are.equal(0.25, seen[4])
    assert.is_truthy(seen[5])
    for line in io.lines(folder .. "/study.jsonl") do if line ~= '{"trial":4,"st' then ai.json.decode(line) end end
  end)

  it("after kill -9 in the middle gives the trials that it gives without one", function()
    local program = folder .. ".lua"
    local f = io.open(program, "w")
    f:write(([[
      local ai = require "aijit"
      local s = ai.lab.Study{folder = arg[1], space = {x = ai.lab.uniform(-1, 1)}, seed = 5}
      s:run(function(trial)
        if arg[2] == tostring(trial.number) then os.execute("kill -9 %s") end
        return trial.params.x ^ 2
      end, {trials = 16})
    ]]):format("$PPID"))
    f:close()
    local run = ("%s %s %s"):format(tree.exe, program, folder)
    assert.are.equal(137, process.run(run .. "/broken 7").status)
    assert.are.equal(137, process.run(run .. "/broken 13").status)
    assert.are.equal(0, process.run(run .. "/broken").status)
    assert.are.equal(0, process.run(run .. "/whole").status)
    os.remove(program)
    local a, b = lab.Study{folder = folder .. "/broken"}, lab.Study{folder = folder .. "/whole"}
    for i = 1, 16 do assert.are.same({b.trials[i].params, b.trials[i].value}, {a.trials[i].params, a.trials[i].value}) end
  end)

  it("is drawn, and shown by aijit study", function()
    local s = study{folder = folder, space = {x = lab.uniform(0, 1), c = lab.choice{"a", "b"}}}
    has("no trial has ended", message(s.plot, s, folder .. "/p.png"))
    has("v.kind is 'dots', and must be line or scatter", message(function() return ai.plot({v = {y = {1, 2}, kind = "dots"}}):image() end))
    s:run(function(trial) return trial.params.x end, {trials = 5})
    s:plot(folder .. "/p.png")
    assert.are.same({400, 1200, 3}, ai.load(folder .. "/p.png"):size())
    local shown = process.run(("%s study %s -o %s/q.png"):format(tree.exe, folder, folder))
    assert.are.equal(0, shown.status, shown.err)
    has("trial", shown.out)
    assert.are.equal(6, select(2, process.run(("%s study %s --csv"):format(tree.exe, folder)).out:gsub("\n", "")))
    local wrong = process.run(("%s study /tmp"):format(tree.exe))
    assert.are.equal(2, wrong.status)
    has("is no study's folder", wrong.err)
  end)
end)

-- -- Over a task ------------------------------------------------------------------------------------------------------------

local line_task = [[
local ai = require "aijit"
local nn = ai.nn
local Config = ai.Config.extend("LineConfig", {
  lr = ai.field(0.1, {help = "learning rate"}), hidden = ai.field(4), act = ai.field("relu", {choices = {"relu", "tanh"}}),
  max_steps = 20, batch_size = 10, valid_every_n_steps = 5,
})
local Line = ai.class("Line", ai.Task)
Line.Config = Config
function Line:__init(config)
  ai.Task.__init(self, config)
  if config.hidden == 13 then error("thirteen is not allowed", 0) end
  self.net = nn.Sequential{nn.Linear(1, config.hidden), config.act == "relu" and nn.ReLU() or nn.Tanh(), nn.Linear(config.hidden, 1)}
end
function Line:get_dataset()
  local x = ai.linspace(-1, 1, 100):unsqueeze(2)
  return ai.data.TensorDataset(x, x * 2 + 1)
end
function Line:set_loggers() end
function Line:build_optimizer() return ai.optim.SGD(self:parameters(), {lr = self.config.lr}) end
function Line:get_loss(batch) return ai.mse_loss(self.net(batch[1]), batch[2]) end
if ai.main(...) then Line:launch(Config{}) end
return Line
]]

local function program(words, opts)
  local path = folder .. "/line.lua"
  os.execute("mkdir -p " .. folder)
  local f = io.open(path, "w")
  f:write(line_task)
  f:close()
  return process.run(("cd %s && %s line.lua run_dir=runs %s"):format(folder, tree.exe, words), opts)
end

local function lines_of(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

describe("a sweep of a task", function()
  for _, jobs in ipairs{"", " --jobs 2"} do
    it("runs every combination, keeps those that fail with their reason, and writes a table, the best first" .. jobs, function()
      local result = program("-m lr=0.01,0.1 hidden=4,13" .. jobs)
      assert.are.equal(1, result.status)
      has("2 of 4 runs failed", result.err)
      has("failed: thirteen is not allowed", result.out)
      local rows = {}
      for line in io.lines(folder .. "/runs/line/sweep_1/results.csv") do rows[#rows + 1] = line end
      assert.are.equal("run,lr,hidden,loss,steps,seconds,status", rows[1])
      assert.is_truthy(rows[2]:match "^3,0.1%d*,4,0%.%d+,20,[%d.]+,done$", rows[2])
      assert.is_truthy(rows[3]:match "^1,0.01%d*,4,0%.%d+,20,[%d.]+,done$", rows[3])
      assert.are.equal("2,0.01,13,,,,failed: thirteen is not allowed", (rows[4]:gsub("0%.01%d+", "0.01")))
      assert.are.equal(5, #rows)
      local records = ai.json.decode(require("aijit.io.file").read(folder .. "/runs/line/sweep_1/results.json"))
      assert.are.equal(4, #records)
      assert.are.same({3, 0.1, "done"}, {records[1].run, records[1].lr, records[1].status})
    end)
  end

  it("whose launcher is killed saves its runs and ends them, and a restart at once resumes them", function()
    program "--help"                                       -- writes the program
    local script = [[cd %s
      sweep() { %s line.lua run_dir=runs max_steps=10000000 -m lr=0.01,0.1 --jobs 2 --sweep s >$1 2>&1 & P=$!; }
      until_there() { for i in $(seq 300); do grep -qs . s/1/lock && grep -qs . s/2/lock && break; sleep 0.1; done; }
      sweep a; until_there; sleep 1; A=$(cut -d' ' -f2 s/1/lock); kill -9 $P
      sweep b; for i in $(seq 300); do grep -qs "^process $A " s/1/lock || break; sleep 0.1; done; echo first $(ls s/1/checkpoints); sleep 1
      B=$(cut -d' ' -f2 s/1/lock); C=$(cut -d' ' -f2 s/2/lock); kill -9 $P
      for i in $(seq 300); do kill -0 $B 2>/dev/null || kill -0 $C 2>/dev/null || break; sleep 0.1; done
      kill -0 $A 2>/dev/null && echo first runs on; kill -0 $B 2>/dev/null && echo second runs on; cat b s/*.txt; echo second $(ls s/1/checkpoints)]]
    local result = process.run(script:format(folder, tree.exe))
    assert.is_nil(result.out:find("runs on", 1, true), result.out)
    assert.is_nil(result.out:find("in use", 1, true), result.out)
    local function newest(when)
      local step = 0
      for n in result.out:match(when .. "([^\n]*)"):gmatch "step%-(%d+)" do step = math.max(step, tonumber(n)) end
      return step
    end
    assert.is_true(newest "first" > 0 and newest "second" > newest "first", result.out)
  end)

  it("goes on in its folder, where what is done is not done again", function()
    program "-m lr=0.01,0.1 --sweep s"
    os.execute(("rm -r %s/s/2"):format(folder))
    local result = program "-m lr=0.01,0.1 --sweep s"
    assert.are.equal(0, result.status, result.err)
    assert.is_nil(result.out:find("run 1 of 2", 1, true))
    has("run 2 of 2", result.out)
    has("holds another sweep, of 2 runs", program("-m lr=0.01,0.2 --sweep s").err)
  end)

  it("finds what is wrong before the first run", function()
    has("run 2 (run_dir=runs lr=x): lr must be a number", program("-m lr=1,x").err)
    has("exp_dir is one folder", program("-m lr=1,2 exp_dir=e").err)
    has("--jobs belongs to -m", program("--jobs 2").err)
    has("--jobs is '0'", program("-m --jobs 0 lr=1,2").err)
    has("--sweep belongs to -m", program("--sweep s").err)
    assert.is_nil(io.open(folder .. "/runs/line"))
  end)

  it("takes a launcher, by which runs get elsewhere", function()
    local chunk = assert(loadstring(line_task))
    local Line, seen = chunk "as a module", {}
    local there = {}
    function there:run(next_job, ended)                                        -- luacheck: no unused args
      for job in next_job do
        seen[#seen + 1] = job.words
        ended(job, 0)
      end
    end
    Line:launch({run_dir = folder}, {"-m", "lr=1,2"}, {launcher = there})
    assert.are.same({"lr=1", "exp_dir=" .. folder .. "/line/sweep_1/1"}, seen[1])
    assert.are.equal(2, #seen)
  end)
end)

describe("a study of a task", function()
  local function file(text)
    os.execute("mkdir -p " .. folder)
    local f = io.open(folder .. "/find.yaml", "w")
    f:write(text)
    f:close()
  end
  local text = "space:\n  lr: {loguniform: [1e-3, 0.5]}\n  act: {choice: [relu, tanh]}\nasha: {min: 5, factor: 2}\n"

  for _, jobs in ipairs{"", " --jobs 2"} do
    it("runs trials, prunes, and goes on later" .. jobs, function()
      file(text)
      local first = program("--study find.yaml --trials 6" .. jobs)
      assert.are.equal(0, first.status, first.err)
      local s = lab.Study{folder = folder .. "/runs/line/find"}
      assert.are.equal(6, s:ended())
      local states = {}
      for _, t in ipairs(s.trials) do states[t.state] = (states[t.state] or 0) + 1 end
      assert.is_true(states.done >= 1 and (states.pruned or 0) >= 1, first.out)
      assert.is_truthy(io.open(folder .. "/runs/line/find/trial_1/result.json"))
      assert.are.equal(0, program("--study find.yaml --trials 8" .. jobs).status)
      assert.are.equal(8, lab.Study{folder = folder .. "/runs/line/find"}:ended())
    end)
  end

  it("says what is wrong with its file before the first run", function()
    file((text:gsub("lr:", "lrr:")))
    local wrong = program "--study find.yaml --trials 2"
    has("has no field 'lrr'; did you mean 'lr'?", wrong.err)
    assert.are.equal(2, wrong.status)
    file(text .. "metrik: loss\n")
    has("there is no 'metrik': did you mean 'metric'?", program("--study find.yaml --trials 2").err)
    file(text)
    has("how many trials?", program("--study find.yaml").err)
    local missing = program "--study nothing.yaml --trials 2"
    has("cannot be opened", missing.err)
    assert.are.equal(2, missing.status)
    has("--trials belongs to --study", program("--trials 2").err)
    file(text .. "metric: accuracy\nfolder: other\n")
    local failed = program "--study find.yaml --trials 1"
    has("the study's metric 'accuracy' is no result of the validation: there is loss", failed.out)
    assert.are.equal("failed", lab.Study{folder = folder .. "/other"}.trials[1].state)
  end)

  it("is told in --help, with the other words about runs", function()
    local help = program("--help").out
    for _, word in ipairs{"--study FILE", "--jobs N", "--sweep DIR", "--evaluate PHASE"} do has(word, help) end
    assert.is_true(#lines_of(help) > 10)
  end)
end)
