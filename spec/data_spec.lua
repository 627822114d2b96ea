local class = require "aijit.class"
local order = require "aijit.data.order"
local get_data_dir = require "aijit.data.directory"

local ai = require "aijit"
local data = ai.data

local message = require "spec.support.raises"

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
    assert.is_true(label:item() >= 1 and label:item() <= 10)
    local labels = data.Mnist({root = "/nonexistent", train = false}).labels
    assert.same({1, 10}, {labels:amin():item(), labels:amax():item()})
  end)

  it("gives the same in batches as one by one", function()
    local set = data.Mnist {root = "/nonexistent", train = false}
    local images, labels = set:get_batch {5, 2}
    local image, label = set:get(5)
    assert.equal(label:item(), labels[1]:item())
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

describe("datasets made of others", function()
  local function all(ds)
    local list = {}
    for i = 1, ds:size() do list[i] = (ds:get(i)) end
    return list
  end

  it("of tensors have their rows, one by one and many at once", function()
    local ds = data.TensorDataset(ai.arange(1, 6):reshape(3, 2), ai.tensor({7, 8, 9}, {dtype = "i64"}))
    assert.equal(3, ds:size())
    local x, y = ds:get(2)
    assert.same({{3, 4}, 8}, {x:totable(), y:item()})
    local rows, labels = data.Loader(ds, {batch_size = 3})()
    assert.same({{1, 2}, {3, 4}, {5, 6}}, rows:totable())
    assert.same({7, 8, 9}, labels:totable())
    assert.matches("argument 2 has 2 rows where the first has 3", message(data.TensorDataset, ai.ones(3), ai.ones(2)))
    assert.matches("argument 1 is a number, not a tensor", message(data.TensorDataset, 5))
    assert.matches("there is no sample 4; they count from 1 to 3", message(ds.get, ds, 4))
  end)

  it("joined have each one's samples in turn, their names and their versions", function()
    local first, second = numbers(2), numbers(3)
    function second.describe(_, i) return "second " .. i end
    local both = data.ConcatDataset {first, second}
    assert.same({1, 2, 1, 2, 3}, all(both))
    assert.equal("second 2", both:describe(4))
    local before = both:version()
    function second.version() return 2 end
    assert.not_equal(before, both:version())
    assert.matches("there is no sample 6", message(both.get, both, 6))
    assert.matches("a table where a dataset is wanted", message(data.ConcatDataset, {{}}))
    assert.matches("write data.ConcatDataset", message(data.ConcatDataset, numbers(1)))
  end)

  it("cut have the samples that were named", function()
    local some = data.Subset(numbers(5), {5, 1, 1})
    assert.same({5, 1, 1}, all(some))
    assert.matches("index 2 of the list is 6; the dataset's samples count from 1 to 5", message(data.Subset, numbers(5), {1, 6}))
    local rows = data.Subset(data.TensorDataset(ai.arange(1, 6)), {6, 2})
    assert.same({6, 2}, (data.Loader(rows, {batch_size = 2})():totable()))
  end)

  it("split have all samples once: in order, or at random by a seed", function()
    local train, test = data.split(numbers(10), {0.75, 0.25})
    assert.same({8, 2}, {train:size(), test:size()})
    assert.same({9, 10}, all(test))
    local a, b = data.random_split(numbers(10), {7, 3}, {seed = 4})
    local again = data.random_split(numbers(10), {7, 3}, {seed = 4})
    assert.same(all(a), all(again))
    assert.not_same(all(a), all((data.random_split(numbers(10), {7, 3}, {seed = 5}))))
    local whole = all(a)
    for _, v in ipairs(all(b)) do whole[#whole + 1] = v end
    table.sort(whole)
    assert.same(all(numbers(10)), whole)
    assert.matches("the sizes add up to 9, and the dataset has 10 samples", message(data.split, numbers(10), {5, 4}))
    assert.matches("%-1 is no share and no number of samples", message(data.split, numbers(10), {11, -1}))
  end)
end)

describe("a sampler", function()
  local function counts(list)
    local count = {}
    for _, i in ipairs(list) do count[i] = (count[i] or 0) + 1 end
    return count
  end

  it("says the order of a loader's samples", function()
    local sampler = {size = function() return 3 end, order = function() return {4, 4, 2} end}
    local loader = data.Loader(numbers(5), {batch_size = 2, sampler = sampler})
    assert.equal(2, loader:size())
    assert.same({4, 4}, values((loader())))
    assert.same({2}, values((loader(nil, true))))
    assert.matches("shuffle and sampler both say the order", message(data.Loader, numbers(5), {shuffle = true, sampler = sampler}))
    assert.matches("sampler must be one, with size", message(data.Loader, numbers(5), {sampler = {}}))
  end)

  it("at random draws each once, or more with replacement", function()
    for _, n in ipairs(counts(data.RandomSampler(20):order(1, 1))) do assert.equal(1, n) end
    assert.equal(20, #data.RandomSampler(20):order(1, 1))
    assert.equal(50, #data.RandomSampler(20, {num_samples = 50}):order(1, 1))
    local repeated = data.RandomSampler(20, {replacement = true}):order(1, 1)
    local most = 0
    for _, n in pairs(counts(repeated)) do most = math.max(most, n) end
    assert.is_true(most > 1)
    assert.same(repeated, data.RandomSampler(20, {replacement = true}):order(1, 1))
    assert.not_same(repeated, data.RandomSampler(20, {replacement = true}):order(1, 2))
    local some = data.SubsetRandomSampler({3, 9, 12}):order(5, 1)
    table.sort(some)
    assert.same({3, 9, 12}, some)
  end)

  it("with weights draws as often as they say", function()
    local count = counts(data.WeightedRandomSampler({1, 0, 3, 6}, 20000):order(7, 1))
    assert.is_nil(count[2])
    assert.near(2000, count[1], 200)
    assert.near(6000, count[3], 300)
    assert.near(12000, count[4], 300)
    local once = data.WeightedRandomSampler(ai.tensor {1, 0, 3, 6}, 3, {replacement = false}):order(7, 1)
    table.sort(once)
    assert.same({1, 3, 4}, once)
    local first = 0
    for epoch = 1, 2000 do
      if data.WeightedRandomSampler({1, 3}, 1, {replacement = false}):order(1, epoch)[1] == 2 then first = first + 1 end
    end
    assert.near(1500, first, 100)
  end)

  it("with weights refuses those that make no sense", function()
    assert.matches("weight 2 is %-1; weights are finite and not negative", message(data.WeightedRandomSampler, {1, -1}, 1))
    assert.matches("weight 1 is nan", (message(data.WeightedRandomSampler, {0 / 0}, 1):gsub("%-nan", "nan")))
    assert.matches("no weight is above 0", message(data.WeightedRandomSampler, {0, 0}, 1))
    assert.matches("3 samples without replacement, where 2 have a weight above 0",
      message(data.WeightedRandomSampler, {1, 2, 0}, 3, {replacement = false}))
  end)

  it("of one process among several has its share", function()
    local seen = {}
    for rank = 0, 2 do
      local sampler = data.DistributedSampler(10, {rank = rank, world_size = 3})
      assert.equal(4, sampler:size())
      for _, i in ipairs(sampler:order(1, 1)) do seen[#seen + 1] = i end
    end
    assert.equal(12, #seen)
    assert.equal(10, #counts(seen))
    assert.same({2, 5, 8}, data.DistributedSampler(10, {rank = 1, world_size = 3, shuffle = false, drop_last = true}):order(1, 1))
    assert.same({1, 2, 3}, data.DistributedSampler(3, {shuffle = false}):order(1, 1))
    local weighted = data.DistributedSampler(data.WeightedRandomSampler({0, 1}, 4), {rank = 1, world_size = 2})
    assert.same({2, 2}, weighted:order(1, 1))
    assert.matches("rank must be a whole number from 0 to 2, not 3", message(data.DistributedSampler, 10, {rank = 3, world_size = 3}))
  end)
end)

describe("samples of different sizes", function()
  it("are padded to the largest, and their lengths kept", function()
    local ds = Listed {{ai.tensor {1, 2, 3}, "a", {1}}, {ai.tensor {4}, "b", {2, 3}}}
    local x, names, y, lengths = data.Loader(ds, {batch_size = 2, collate = data.pad_collate {value = -1, lengths = true}})()
    assert.same({{1, 2, 3}, {4, -1, -1}}, x:totable())
    assert.same({"a", "b"}, names)
    assert.same({{1, -1}, {2, 3}}, y:totable())
    assert.same({3, 1}, lengths:totable())
    local images = Listed {{ai.ones(1, 2, {dtype = "u8"})}, {ai.ones(3, 1, {dtype = "u8"})}}
    local z = data.Loader(images, {batch_size = 2, workers = 1, collate = data.pad_collate()})()
    assert.equal("u8", z.dtype)
    assert.same({{{1, 1}, {0, 0}, {0, 0}}, {{1, 0}, {1, 0}, {1, 0}}}, z:totable())
  end)

  it("are padded in the fields that are named alone, and only where they may be", function()
    local ds = Listed {{ai.ones(2), ai.ones(2)}, {ai.ones(3), ai.ones(3)}}
    assert.matches("field 2: sample 2 of the batch is a tensor %(3%)",
      message(data.Loader(ds, {batch_size = 2, collate = data.pad_collate {fields = {1}}})))
    local mixed = Listed {{ai.ones(2)}, {ai.ones(2, 2)}}
    assert.matches("sample 2 of the batch is a tensor %(2, 2%) of f32 where the first is a tensor %(2%)",
      message(data.Loader(mixed, {batch_size = 2, collate = data.pad_collate()})))
  end)
end)
