--- Loaders with threads, and what they promise: the same batches whatever their number.

local class = require "aijit.class"
local paths = require "aijit.tree"
local process = require "spec.support.process"

local ai = require "aijit"
local data = ai.data

local message = require "spec.support.raises"

--- Runs f with what it writes to stderr collected.
local function quietly(f)
  local stderr, said = io.stderr, {}
  rawset(io, "stderr", {write = function(_, ...) said[#said + 1] = table.concat {...} end})
  local ok, problem = pcall(f)
  rawset(io, "stderr", stderr)
  if not ok then error(problem, 0) end
  return table.concat(said)
end

--- Samples that draw both kinds of random numbers.
local Noisy = class("Noisy", data.Dataset)
function Noisy:__init(n) self.n = n end
function Noisy:size() return self.n end
function Noisy:get(index) return index, ai.randn(3), math.random(), "name " .. index end

local function list_of(loader)
  local list = {}
  for index, tensor, number, names in loader do
    list[#list + 1] = {index:totable(), tensor:totable(), number:totable(), names}
  end
  return list
end

describe("batches are the same to the bit whoever makes them:", function()
  for _, workers in ipairs {1, 2, 4} do
    it(workers .. " threads", function()
      local o = {batch_size = 3, shuffle = true, seed = 11}
      local here = data.Loader(Noisy(10), o)
      o.workers = workers
      local there = data.Loader(Noisy(10), o)
      for _ = 1, 4 do assert.same(list_of(here), list_of(there)) end
      there:close()
    end)
  end

  it("in another order of epochs, and from the midst of one", function()
    local o = {batch_size = 2, shuffle = true, seed = 3, workers = 2}
    local loader = data.Loader(Noisy(9), o)
    list_of(loader)
    local second = list_of(loader)
    local place
    local other = data.Loader(Noisy(9), o)
    other:seek(2)
    for _ = 1, 2 do other:next_batch() end
    place = ai.json.decode(ai.json.encode(other:state_dict()))
    local resumed = data.Loader(Noisy(9), {batch_size = 2, shuffle = true, seed = 3}):load_state_dict(place)
    local rest = list_of(resumed)
    assert.same({unpack(second, 3)}, rest)
    assert.same({unpack(second, 3)}, list_of(data.Loader(Noisy(9), o):load_state_dict(place)))
  end)

  it("with the random numbers of a batch's transform", function()
    local function of(workers)
      local loader = data.Loader(Noisy(8), {batch_size = 4, workers = workers, batch_transform = function(index, x)
        return index, x * math.random(), ai.rand(1), {"a"}
      end})
      local list = {}
      for index, x, r in loader do list[#list + 1] = {index:totable(), x:totable(), r:totable()} end
      return list
    end
    assert.same(of(0), of(2))
  end)

  it("and the program's own random numbers go on as if nothing had been loaded", function()
    for _, workers in ipairs {0, 2} do
      ai.manual_seed(5)
      math.randomseed(5)
      local want = {ai.rand(1):item(), math.random(), math.random()}
      ai.manual_seed(5)
      math.randomseed(5)
      local got = {ai.rand(1):item(), math.random()}
      list_of(data.Loader(Noisy(4), {batch_size = 2, workers = workers}))
      got[3] = math.random()
      assert.same(want, got)
    end
  end)
end)

describe("a loader with threads", function()
  it("takes datasets whose classes are the program's own, transformed, joined and cut", function()
    local scale = 10
    local Mine = class("Mine", data.Dataset)
    function Mine:size() return 6 end
    function Mine:get(i) return {x = ai.full({2}, i * scale)}, i end
    local ds = data.Transformed(data.ConcatDataset {Mine(), Mine()}, function(a, b) return a, -b end)
    local sum, n = 0, 0
    for a, b in data.Loader(data.Subset(ds, {1, 7, 12, 3}), {batch_size = 2, workers = 2}) do
      sum = sum + a.x:sum():item() + b:sum():item()
      n = n + 1
    end
    assert.equal(2 * 10 * (1 + 1 + 6 + 3) - 11, sum)
    assert.equal(2, n)
  end)

  it("loads ahead, but no more than asked", function()
    local folder = process.folder()
    local ds = Noisy(40)
    function ds:get(i)
      io.open(folder .. "/" .. i, "w"):close()
      return i
    end
    local loader = data.Loader(ds, {workers = 2, prefetch = 3})
    loader:next_batch()
    local count
    for _ = 1, 100 do
      count = tonumber(process.run("ls " .. folder .. " | wc -l").out)
      if count == 7 then break end
    end
    assert.equal(7, count)                               -- the one that was taken, and 2 * 3
    os.execute("rm -r " .. folder)
  end)

  it("begins the next epoch before this one ends, once it went on to another", function()
    local folder = process.folder()
    local ds = Noisy(6)
    function ds:get(i)
      local file = io.open(folder .. "/log", "a")
      file:write(i, "\n")
      file:close()
      return i
    end
    local function made()
      for _ = 1, 20 do os.execute "sleep 0.01" end
      return select(2, io.open(folder .. "/log"):read("*a"):gsub("\n", ""))
    end
    local loader = data.Loader(ds, {workers = 1, prefetch = 2})
    local function pass() for _ = 1, 6 do loader:next_batch() end return made() end
    assert.equal(6, pass())                              -- it may be the only one
    assert.is_nil(loader:next_batch())
    assert.equal(14, pass())
    assert.is_nil(loader:next_batch())
    assert.equal(20, pass())
    os.execute("rm -r " .. folder)
  end)

  it("may be left by a break and gone through again", function()
    local loader = data.Loader(Noisy(20), {batch_size = 2, workers = 2})
    local n = 0
    for _ in loader do
      n = n + 1
      if n == 3 then break end
    end
    n = 0
    for _ in loader do n = n + 1 end
    assert.equal(10, n)
    assert.equal(3, loader.epoch)
  end)

  it("leaves no tensors and no threads when it is let go of in the midst", function()
    local function tasks() return tonumber(process.run("ls /proc/" .. assert(io.open("/proc/self/stat")):read "*n" .. "/task | wc -l").out) end
    local function go()
      local loader = data.Loader(Noisy(1000), {batch_size = 50, workers = 2})
      loader:next_batch()
    end
    go()
    for _ = 1, 3 do collectgarbage() end
    os.execute "sleep 0.2"
    local before, memory = tasks(), ai.memory().cpu.tensors
    for _ = 1, 3 do go() end
    for _ = 1, 3 do collectgarbage() end
    for _ = 1, 50 do
      if tasks() <= before then break end
      os.execute "sleep 0.1"
    end
    assert.is_true(tasks() <= before)
    assert.equal(memory, ai.memory().cpu.tensors)
  end)

  it("gives batches to the scope in which they are taken", function()
    local loader = data.Loader(Noisy(8), {batch_size = 2, workers = 2})
    for _ = 1, 3 do
      local t = ai.scope(function()
        local batch = loader:next_batch()
        assert.same({2, 3}, batch[2].shape)
        return batch[2]
      end)
      assert.is_true(t:sum():item() ~= 0)
    end
  end)

  it("names the sample that failed, its file, and the place in the worker", function()
    local ds = Noisy(5)
    function ds:get(i)
      if i == 4 then error "torn" end
      return i
    end
    function ds:describe(i) return "pictures/" .. i .. ".png" end
    local text = message(function() for _ in data.Loader(ds, {batch_size = 2, workers = 2}) do end end)
    assert.matches("data.Loader: sample 4 %(pictures/4.png%): .*torn\nin a loader's thread:\n", text)
    assert.matches("loader_spec.lua:%d+: in function", text)
    assert.matches("data.Loader: sample 4 %(pictures/4.png%): .*torn$", message(function() for _ in data.Loader(ds, {batch_size = 2}) do end end))
  end)

  it("can be asked again for a batch that failed", function()
    local folder = process.folder()
    local ds = Noisy(3)
    function ds:get(i)
      if i == 2 and not io.open(folder .. "/there") then error("not yet", 0) end
      return i
    end
    local loader = data.Loader(ds, {workers = 2})
    assert.equal(1, loader:next_batch()[1]:item())
    assert.matches("sample 2: not yet", message(loader.next_batch, loader))
    io.open(folder .. "/there", "w"):close()
    assert.equal(2, loader:next_batch()[1]:item())
    assert.equal(3, loader:next_batch()[1]:item())
    assert.is_nil(loader:next_batch())
    os.execute("rm -r " .. folder)
  end)

  it("says what of a dataset cannot cross, and what to do", function()
    local ds = Noisy(2)
    ds.file = io.stderr
    assert.matches("data.Loader: the source.dataset.file: a userdata cannot cross to another thread: make it where the worker needs it",
      message(function() data.Loader(ds, {workers = 1}):next_batch() end))
  end)

  it("says when a thread is gone", function()
    local ds = Noisy(4)
    function ds:worker_init(id, count) error(("no device %d of %d"):format(id, count), 0) end
    assert.matches("data.Loader: thread %d of 2 ended: no device %d of 2", message(function() data.Loader(ds, {workers = 2}):next_batch() end))
  end)

  it("names the field of a batch that cannot cross", function()
    local loader = data.Loader(Noisy(2), {workers = 1, collate = function() return {1, {f = print}} end})
    assert.matches("data.Loader: field 2.f: the function of .* cannot cross", message(loader.next_batch, loader))
  end)

  it("is ended by Ctrl-C, though a sample takes long", function()
    local ran = process.run("timeout --foreground --preserve-status -s INT 1 " .. process.quote(paths.exe) .. [[ -e 'local ai = require "aijit"
      local Slow = ai.class("Slow", ai.data.Dataset)
      function Slow:size() return 100 end
      function Slow:get(i) local t = ai.ones(1) while true do t:add_(1) end end
      for _ in ai.data.Loader(Slow(), {workers = 2}) do end']])
    assert.equal(130, ran.status)
    assert.matches("interrupted", ran.err)
  end)

  it("is made with sensible numbers", function()
    assert.matches("workers must be a whole number from 0 to 256, not %-1", message(data.Loader, Noisy(1), {workers = -1}))
    assert.matches("prefetch must be a whole number from 1 on, not 0", message(data.Loader, Noisy(1), {prefetch = 0}))
    assert.matches('on_error must be "raise" or "skip", not ignore', message(data.Loader, Noisy(1), {on_error = "ignore"}))
  end)
end)

describe("on_error = \"skip\"", function()
  local function torn(bad)
    local ds = Noisy(12)
    function ds:get(i)
      if bad[i] then error("torn file", 0) end
      return i, ai.rand(1)
    end
    return ds
  end

  it("leaves out what cannot be had, the same with threads and without", function()
    local function of(workers)
      local loader, list = data.Loader(torn {[2] = true, [5] = true, [6] = true}, {batch_size = 2, on_error = "skip", workers = workers}), {}
      local text = quietly(function()
        for index, x in loader do list[#list + 1] = {index:totable(), x:totable()} end
      end)
      return list, text, loader
    end
    local list, text, loader = of(0)
    assert.same({{1}, {3, 4}, {7, 8}, {9, 10}, {11, 12}}, {list[1][1], list[2][1], list[3][1], list[4][1], list[5][1]})
    assert.matches("data.Loader: left out: sample 2: torn file\n", text)
    assert.equal(3, #loader.last_errors)
    assert.same({index = 5, epoch = 1, problem = "sample 5: torn file"}, loader.last_errors[2])
    assert.same(list, (of(2)))
  end)

  it("ends when too many are bad", function()
    local bad = {}
    for i = 1, 12 do bad[i] = true end
    local loader = data.Loader(torn(bad), {on_error = "skip", max_errors = 5})
    quietly(function()
      assert.matches("6 samples of epoch 1 could not be had, which is more than max_errors; the last one: sample 6: torn file",
        message(loader.next_batch, loader))
    end)
  end)

  it("gives no batch where no sample is left", function()
    local bad = {}
    for i = 1, 12 do bad[i] = true end
    quietly(function() assert.is_nil(data.Loader(torn(bad), {on_error = "skip", batch_size = 5}):next_batch()) end)
  end)

  it("takes samples one by one where a dataset's get_batch fails", function()
    local ds = torn {[2] = true}
    function ds:get_batch(indices) for _, i in ipairs(indices) do self:get(i) end return indices end
    quietly(function()
      local first = data.Loader(ds, {batch_size = 3, on_error = "skip"})()
      assert.same({1, 3}, first:totable())
    end)
    assert.matches("the batch of samples 1, 2, 3: torn file", message(data.Loader(ds, {batch_size = 3})))
  end)
end)

--- Counts up to n, in parts.
local Counter = class("Counter", data.IterableDataset)
function Counter:__init(n, parts) self.n, self.count = n, parts or 1 end
function Counter:parts() return self.count end
function Counter:iterate(o)
  local i = 0
  return function()
    i = i + 1
    if i <= self.n - (o.part - 1) then return o.part * 100 + i, math.random(), o.epoch end
  end
end

describe("a dataset that is iterated", function()
  local function all(loader)
    local list = {}
    for x, r, epoch in loader do list[#list + 1] = {x:totable(), r:totable(), epoch:totable()} end
    return list
  end

  it("is given in batches to its end, and begun anew in the next epoch", function()
    local loader = data.Loader(Counter(5), {batch_size = 2})
    local first, second = all(loader), all(loader)
    assert.same({{101, 102}, {103, 104}, {105}}, {first[1][1], first[2][1], first[3][1]})
    assert.same({105}, second[3][1])
    assert.same({2}, second[3][3])
    assert.equal(2, #all(data.Loader(Counter(5), {batch_size = 2, drop_last = true})))
    assert.is_nil(loader:size())
  end)

  it("gives a batch of each part in turn, the same with any number of threads", function()
    local want = all(data.Loader(Counter(5, 3), {batch_size = 2}))
    local heads = {}
    for i, batch in ipairs(want) do heads[i] = batch[1][1] end
    assert.same({101, 201, 301, 103, 203, 303, 105}, heads)
    for _, workers in ipairs {1, 2, 4} do
      local loader = data.Loader(Counter(5, 3), {batch_size = 2, workers = workers})
      assert.same(want, all(loader))
      loader:close()
    end
  end)

  it("is taken up in the midst of an epoch", function()
    local o = {batch_size = 2}
    local want = all(data.Loader(Counter(9, 2), o))
    for _, workers in ipairs {0, 2} do
      local loader = data.Loader(Counter(9, 2), {batch_size = 2, workers = workers})
      for _ = 1, 3 do loader:next_batch() end
      local other = data.Loader(Counter(9, 2), {batch_size = 2, workers = workers}):load_state_dict(loader:state_dict())
      assert.same({unpack(want, 4)}, all(other))
    end
  end)

  it("may be no more than a next(), and never end", function()
    local Endless = class("Endless", data.IterableDataset)
    function Endless:__init() self.at = 0 end
    function Endless:next()
      self.at = self.at + 1
      return self.at
    end
    local loader, seen = data.Loader(Endless(), {batch_size = 3, workers = 1}), {}
    for x in loader do
      seen[#seen + 1] = x[1]:item()
      if #seen == 4 then break end
    end
    assert.same({1, 4, 7, 10}, seen)
  end)

  it("is transformed, chained and shuffled", function()
    local chain = data.ChainDataset {Counter(2), Counter(2, 2)}
    local seen = {}
    for x in data.Loader(data.Transformed(chain, function(x) return x * 2 end)) do seen[#seen + 1] = x:item() end
    assert.same({202, 204, 202, 204, 402}, seen)
    local function order(o, epoch)
      local list = {}
      for x in data.Loader(data.Shuffled(Counter(30), {buffer = 10}), o):seek(epoch) do list[#list + 1] = x:item() end
      return list
    end
    local one = order({}, 1)
    assert.not_same(one, order({}, 2))
    assert.same(one, order({workers = 2}, 1))
    assert.is_true(one[1] <= 110)
    table.sort(one)
    assert.equal(30, #one)
    assert.equal(130, one[30])
  end)

  it("names the sample that failed, and goes on past it with skip", function()
    local ds = Counter(4)
    function ds:iterate()
      local i = 0
      return function()
        i = i + 1
        if i == 2 then error("torn", 0) end
        if i < 5 then return i end
      end
    end
    assert.matches("data.Loader: sample 2: torn", message(data.Loader(ds, {batch_size = 4})))
    quietly(function() assert.same({1, 3, 4}, (data.Loader(ds, {batch_size = 4, on_error = "skip"})():totable())) end)
  end)

  it("takes no sampler and no shuffle", function()
    assert.matches("shuffle it by data.Shuffled", message(data.Loader, Counter(3), {shuffle = true}))
    assert.matches("takes no sampler", message(data.Loader, Counter(3), {sampler = data.SequentialSampler(3)}))
    assert.matches("it is iterated, and has no sample of a number", message(function() Counter(3):get(1) end))
    assert.matches("Half has no method 'next'", message(function()
      local Half = class("Half", data.IterableDataset)
      for _ in data.Loader(Half()) do end
    end))
  end)
end)
