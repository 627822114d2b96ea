local class = require "aijit.class"
local order = require "aijit.data.order"
local get_data_dir = require "aijit.data.directory"

local ai = require "aijit"
local data = ai.data

local function message(f, ...)
  local ok, problem = pcall(f, ...)
  assert.is_false(ok)
  return tostring(problem)
end

--- A dataset over a list of samples.
local Listed = class("Listed", data.Dataset)
function Listed:__init(samples) self.samples = samples end
function Listed:size() return #self.samples end
function Listed:get(index) return unpack(self.samples[index]) end

local function numbers(n)
  local samples = {}
  for i = 1, n do samples[i] = {i, -i} end
  return Listed(samples)
end

local function values(t)
  local list = {}
  for i = 1, #t do list[i] = t[i]:item() end
  return list
end

describe("an order of samples", function()
  it("holds each number once", function()
    local list, seen = order.shuffled(1000, 7, 1), {}
    for _, i in ipairs(list) do seen[i] = (seen[i] or 0) + 1 end
    assert.equal(1000, #list)
    for i = 1, 1000 do assert.equal(1, seen[i]) end
  end)

  it("is the same for one seed and epoch, and another for others", function()
    assert.same(order.shuffled(50, 7, 1), order.shuffled(50, 7, 1))
    assert.not_same(order.shuffled(50, 7, 1), order.shuffled(50, 7, 2))
    assert.not_same(order.shuffled(50, 7, 1), order.shuffled(50, 8, 1))
  end)

  it("puts each number in each place about equally often", function()
    local count = {0, 0, 0, 0}
    for epoch = 1, 4000 do
      local place = order.shuffled(4, 1, epoch)[1]
      count[place] = count[place] + 1
    end
    for place = 1, 4 do assert.near(1000, count[place], 120) end
  end)

  it("comes from a generator that fills its 32 bits evenly", function()
    local draw, sum, low = order.generator(1, 1), 0, 0
    for _ = 1, 10000 do
      local x = draw()
      assert.is_true(x >= 0 and x < 2 ^ 32 and x == math.floor(x))
      sum, low = sum + x / 2 ^ 32, low + x % 2
    end
    assert.near(0.5, sum / 10000, 0.02)
    assert.near(0.5, low / 10000, 0.03)
  end)
end)

describe("a dataset", function()
  it("must have size and get", function()
    local Half = class("Half", data.Dataset)
    assert.matches("Half has no method 'size'", message(function() return Half():size() end))
    assert.matches("Half has no method 'get'", message(function() return Half():get(1) end))
  end)

  it("has version 1 unless it says otherwise", function() assert.equal(1, numbers(1):version()) end)

  it("is transformed sample by sample", function()
    local double = data.Transformed(numbers(3), {transformer = function(a, b) return a * 2, b, "more" end})
    assert.equal(3, double:size())
    assert.same({4, -2, "more"}, {double:get(2)})
  end)

  it("is transformed by several functions in turn", function()
    local both = data.compose {function(a, b) return a + 1, b end, function(a, b) return a * 10, b end}
    assert.same({20, -1}, {data.Transformed(numbers(1), {transformer = both}):get(1)})
  end)

  it("is not transformed by what is no function, nor made of what is no dataset", function()
    assert.matches("write data.Transformed", message(data.Transformed, numbers(1), {}))
    assert.matches("the first argument is a table, not a dataset", message(data.Transformed, {}, print))
  end)
end)

describe("a cached dataset", function()
  local folder
  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
  end)
  after_each(function() os.execute("rm -rf " .. folder) end)

  local function counted(version)
    local ds = Listed {{ai.tensor {1, 2}, {name = "a", n = {1, 2}}, 5}, {1, true, "text"}}
    local get, calls = ds.get, {0, 0}
    function ds.get(_, i)
      calls[i] = calls[i] + 1
      return get(ds, i)
    end
    function ds.version() return version end
    return ds, calls
  end

  it("makes each sample once, in later programs too", function()
    local ds, calls = counted(1)
    for _ = 1, 2 do
      local cached = ds:cache(folder)
      local t, map, n = cached:get(1)
      assert.same({1, 2}, values(t))
      assert.same({name = "a", n = {1, 2}}, map)
      assert.equal(5, n)
      assert.same({1, true, "text"}, {cached:get(2)})
    end
    assert.same({1, 1}, calls)
    assert.equal(2, ds:cache(folder):size())
  end)

  it("makes all anew for another version", function()
    counted(1):cache(folder):get(1)
    local ds, calls = counted(2)
    ds:cache(folder):get(1)
    ds:cache(folder):get(1)
    assert.same({1, 0}, calls)
  end)

  it("wants a folder", function() assert.matches("the folder is a nil", message(counted(1).cache, (counted(1)))) end)
end)

describe("a loader", function()
  it("gives batches of fields in the order get gives them, the last one as it comes", function()
    local seen = {}
    for a, b in data.Loader(numbers(5), {batch_size = 2}) do
      seen[#seen + 1] = values(a)
      for i = 1, #a do assert.equal(-a[i]:item(), b[i]:item()) end
    end
    assert.same({{1, 2}, {3, 4}, {5}}, seen)
  end)

  it("leaves out a last batch that is not full with drop_last", function()
    local loader, n = data.Loader(numbers(5), {batch_size = 2, drop_last = true}), 0
    for _ in loader do n = n + 1 end
    assert.equal(2, n)
    assert.equal(2, loader:size())
  end)

  it("gives every sample once an epoch when it shuffles, in another order each epoch", function()
    local loader, epochs = data.Loader(numbers(20), {batch_size = 6, shuffle = true}), {}
    for epoch = 1, 2 do
      local list = {}
      for a in loader do
        for _, x in ipairs(values(a)) do list[#list + 1] = x end
      end
      epochs[epoch] = list
    end
    assert.not_same(epochs[1], epochs[2])
    for epoch = 1, 2 do
      table.sort(epochs[epoch])
      assert.equal(20, #epochs[epoch])
      for i = 1, 20 do assert.equal(i, epochs[epoch][i]) end
    end
  end)

  it("takes nothing from the random numbers of the model", function()
    ai.manual_seed(3)
    local first = ai.randn(1):item()
    ai.manual_seed(3)
    for _ in data.Loader(numbers(5), {shuffle = true}) do end
    assert.equal(first, ai.randn(1):item())
  end)

  it("begins anew after a break", function()
    local loader = data.Loader(numbers(6), {batch_size = 2})
    loader()
    local n = 0
    for _ in loader do n = n + 1 end
    assert.equal(3, n)
  end)

  it("goes on from a place that was sought", function()
    local function rest(loader)
      local list = {}
      local batch = loader:next_batch()
      while batch do
        list[#list + 1] = values(batch[1])
        batch = loader:next_batch()
      end
      return list
    end
    local o = {batch_size = 2, shuffle = true, seed = 5}
    local whole = rest(data.Loader(numbers(7), o):seek(3))
    table.remove(whole, 1)
    table.remove(whole, 1)
    assert.same(whole, rest(data.Loader(numbers(7), o):seek(3, 3)))
  end)

  it("stacks numbers, booleans, lists, tensors and tables of these", function()
    local ds = Listed {
      {1, true, {1, 2, 3}, ai.ones(2, 2), {a = 5, b = {7, 8}}},
      {2, false, {4, 5, 6}, ai.zeros(2, 2), {a = 6, b = {9, 10}}},
    }
    local x, flag, list, t, map = data.Loader(ds, {batch_size = 2})()
    assert.same({1, 2}, values(x))
    assert.equal("bool", flag.dtype)
    assert.same({2, 3}, {list:size(1), list:size(2)})
    assert.same({2, 2, 2}, {t:size(1), t:size(2), t:size(3)})
    assert.same({5, 6}, values(map.a))
    assert.equal(10, map.b[{2, 2}]:item())
  end)

  it("keeps texts as a list, and the dtype of tensors", function()
    local ds = Listed {{"a", ai.zeros(1, {dtype = "u8"})}, {"b", ai.zeros(1, {dtype = "u8"})}}
    local names, t = data.Loader(ds, {batch_size = 2})()
    assert.same({"a", "b"}, names)
    assert.equal("u8", t.dtype)
  end)

  it("loads the samples of tables that the README shows", function()
    local Mine = ai.class("Mine", data.Dataset)
    function Mine:size() return 42 end
    function Mine:get(index) return {foo = {1, 2, 3}}, {bar = {3, 2, 1}, baz = {4, 5, 6}} end
    local ds = data.Transformed(Mine(), {transformer = function(features, labels) return features, labels end})
    local n = 0
    for features, labels in data.Loader(ds, {batch_size = 8, shuffle = true}) do
      n = n + #features.foo
      assert.equal(5, labels.baz[{1, 2}]:item())
    end
    assert.equal(42, n)
  end)

  it("takes a collate function", function()
    local loader = data.Loader(numbers(4), {batch_size = 2, collate = function(samples)
      return {samples[1][1] + samples[2][1]}
    end})
    assert.equal(3, (loader()))
  end)

  it("asks for whole batches where the dataset has them", function()
    local Whole = class("Whole", Listed)
    function Whole:get_batch(indices) return #indices, indices[1] end
    local ds = Whole(numbers(5).samples)
    assert.same({3, 1}, {data.Loader(ds, {batch_size = 3})()})
  end)

  it("names the sample whose get fails", function()
    local ds = numbers(5)
    function ds.get(_, i) if i == 4 then error("torn file", 0) end return i end
    local loader = data.Loader(ds, {batch_size = 2})
    assert.matches("data.Loader: sample 4: torn file", message(function() for _ in loader do end end))
  end)

  it("names the sample that gives nothing", function()
    local ds = numbers(3)
    function ds.get() end
    assert.matches("sample 1: Listed:get gave nothing", message(data.Loader(ds)))
  end)

  it("names field and sample that do not fit the others", function()
    local function problem(a, b) return message(data.Loader(Listed {{a}, {b}}, {batch_size = 2})) end
    assert.matches("the batch of samples 1, 2: field 1: sample 2 of the batch is a list of 3 where the first is a list of 2",
      problem({1, 2}, {1, 2, 3}))
    assert.matches("sample 2 of the batch is a tensor %(3%) of f32 where the first is a tensor %(2%) of f32",
      problem(ai.zeros(2), ai.zeros(3)))
    assert.matches("sample 2 of the batch is a string where the first is a number", problem(1, "x"))
    assert.matches("field 1.a: sample 2 of the batch is missing", problem({a = 1}, {b = 1}))
  end)

  it("refuses options it does not know, and values of another type", function()
    assert.matches("no option 'batchsize'; did you mean 'batch_size'%?", message(data.Loader, numbers(1), {batchsize = 1}))
    assert.matches("shuffle must be a boolean, not 1", message(data.Loader, numbers(1), {shuffle = 1}))
    assert.matches("batch_size must be a whole number from 1 on, not 0", message(data.Loader, numbers(1), {batch_size = 0}))
    assert.matches("not a dataset", message(data.Loader, {1, 2}))
  end)

  it("says once that threads are not there yet", function()
    local stderr, said = io.stderr, {}
    rawset(io, "stderr", {write = function(_, text) said[#said + 1] = text end})
    local sum = 0
    for a in data.Loader(numbers(3), {workers = 2, prefetch = 2}) do sum = sum + a[1]:item() end
    data.Loader(numbers(3), {workers = 2})
    rawset(io, "stderr", stderr)
    assert.equal(6, sum)
    assert.is_true(#said <= 1)
  end)
end)

describe("the data folder", function()
  it("has no slash at its end and is named by DATA_DIR where that is set", function()
    local given = os.getenv "DATA_DIR"
    assert.equal(given and given:gsub("(.)/+$", "%1") or get_data_dir(), ai.get_data_dir())
    assert.matches("[^/]$", ai.get_data_dir())
  end)
end)

describe("MNIST", function()
  it("comes with 8,000 digits to train on and 2,000 held out", function()
    local train, test = data.Mnist {root = "/nonexistent", train = true}, data.Mnist {root = "/nonexistent", train = false}
    assert.same({8000, 2000}, {train:size(), test:size()})
    assert.matches("mnist10k$", train.origin)
  end)

  it("has u8 images of 28 x 28 and labels from 1 to 10", function()
    local image, label = data.Mnist({root = "/nonexistent", train = false}):get(1)
    assert.same({"u8", 28, 28}, {image.dtype, image:size(1), image:size(2)})
    assert.is_true(label >= 1 and label <= 10)
    local labels = data.Mnist({root = "/nonexistent", train = false}).labels
    assert.same({1, 10}, {labels:amin():item(), labels:amax():item()})
  end)

  it("gives the same in batches as one by one", function()
    local set = data.Mnist {root = "/nonexistent", train = false}
    local images, labels = set:get_batch {5, 2}
    local image, label = set:get(5)
    assert.equal(label, labels[1]:item())
    assert.is_true(images[1]:eq(image):all():item() ~= 0)
  end)

  it("is read from its root where the files are", function()
    local folder = os.tmpname()
    os.remove(folder)
    local shipped = data.Mnist({root = "/nonexistent"}).origin
    os.execute(("mkdir -p %s && cp %s/t10k-* %s"):format(folder, shipped, folder))
    assert.equal(folder, data.Mnist({root = folder, train = false}).origin)
    assert.equal(shipped, data.Mnist({root = folder, train = true}).origin)
    os.execute("rm -rf " .. folder)
  end)

  it("refuses indices that are not there", function()
    local set = data.Mnist {root = "/nonexistent", train = false}
    assert.matches("there is no sample 0; they count from 1 to 2000", message(set.get, set, 0))
    assert.matches("there is no sample 2001", message(set.get, set, 2001))
  end)

  it("refuses options it does not know", function()
    assert.matches("no option 'rot'; did you mean 'root'%?", message(data.Mnist, {rot = "x"}))
    assert.matches("train must be a boolean, not train", message(data.Mnist, {train = "train"}))
  end)

  it("of fashion says where it is to be had", function()
    local ok, set = pcall(data.FashionMnist, {root = "/nonexistent"})
    if ok then
      assert.equal(60000, set:size())
    else
      assert.matches("apt install dataset%-fashion%-mnist", set)
    end
  end)
end)
