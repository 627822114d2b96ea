--- The sets that come with aijit: folders of pictures, CIFAR, CSV, tokens, tar shards, made ones; and files that are not what
-- they should be.

local files = require "spec.support.files"

local ai = require "aijit"
local data, image = ai.data, ai.image

local message = require "spec.support.raises"

local folder
before_each(function() folder = files.folder() end)
after_each(function() files.remove(folder) end)

local function put(name, bytes)
  local path = folder .. "/" .. name
  os.execute("mkdir -p " .. path:match "^(.*)/")
  return files.put(path, bytes)
end

local function png(value, height, width) return image.encode(ai.full({height or 4, width or 6, 3}, value, {dtype = "u8"})) end

describe("a folder of pictures", function()
  it("has a class for each folder in it, and pictures of any depth", function()
    put("cats/1.png", png(10))
    put("cats/more/2.PNG", png(20, 8, 8))
    put("dogs/3.jpg", image.encode(ai.full({4, 4, 3}, 30, {dtype = "u8"}), {format = "jpeg"}))
    put("dogs/notes.txt", "x")
    put("dogs/.hidden.png", "x")
    local ds = data.ImageFolder(folder)
    assert.same({"cats", "dogs"}, ds.classes)
    assert.same({"cats/1.png", "cats/more/2.PNG", "dogs/3.jpg"}, ds.paths)
    local x, label = ds:get(1)
    assert.same({"u8", 1, 10}, {x.dtype, label:item(), x[{3, 4, 6}]:item()})
    assert.same({3, 4, 6}, x.shape)
    assert.equal(2, select(2, ds:get(3)):item())
    assert.equal(folder .. "/dogs/3.jpg", ds:describe(3))
    local small = data.ImageFolder(folder .. "/", {size = 5, channels = 1})
    local pictures, labels = data.Loader(small, {batch_size = 3, workers = 2})()
    assert.same({3, 1, 5, 5}, pictures.shape)
    assert.same({1, 1, 2}, labels:totable())
    assert.equal("i64", labels.dtype)
    local before = ds:version()
    assert.not_equal(before, small:version())
    put("dogs/4.png", png(1))
    assert.not_equal(before, data.ImageFolder(folder):version())
  end)

  it("without folders has pictures alone, and what a transform makes of them", function()
    put("b.png", png(1))
    put("a.png", png(2))
    local ds = data.ImageFolder(folder)
    assert.equal(1, select("#", ds:get(1)))
    local changed = data.ImageFolder(folder, {transform = function(x, label) return x:to "f32" + 0.5, tostring(label) end})
    local x, label = changed:get(1)
    assert.same({2.5, "nil"}, {x[{1, 1, 1}]:item(), label})
  end)

  it("names the picture that cannot be read", function()
    put("cats/1.png", png(1))
    put("cats/2.png", png(2):sub(1, 50))
    put("cats/3.png", "")
    local ds = data.ImageFolder(folder)
    for _, workers in ipairs {0, 2} do
      local loader = data.Loader(ds, {workers = workers})
      loader:next_batch()
      assert.matches("data.Loader: sample 2 %(.*/cats/2.png%): .*png: .*cats/2.png", message(loader.next_batch, loader))
    end
    assert.matches("3.png", message(ds.get, ds, 3))
  end)

  it("says what is missing", function()
    assert.matches("there is no folder '.*/nowhere'", message(data.ImageFolder, folder .. "/nowhere"))
    assert.matches("there is no picture %(.png, .jpg, .jpeg%) in", message(data.ImageFolder, folder))
    put("empty/x.txt", "")
    assert.matches("there is no picture .* in '.*/empty'", message(data.ImageFolder, folder))
    assert.matches("no option 'sise'; did you mean 'size'", message(data.ImageFolder, folder, {sise = 1}))
    assert.matches("the size is a whole number, or {height, width}", message(data.ImageFolder, folder, {size = "big"}))
  end)

  it("is cached by its version", function()
    put("in/a.png", png(7))
    local function first() return data.ImageFolder(folder .. "/in"):cache(folder .. "/cache"):get(1)[{1, 1, 1}]:item() end
    assert.equal(7, first())
    put("in/a.png", png(8))
    assert.equal(7, first())                             -- the names are the same
    put("in/0.png", png(9))
    assert.equal(9, first())
  end)
end)

describe("CIFAR", function()
  local function record(label, value, coarse)
    return (coarse and string.char(coarse) or "") .. string.char(label) .. string.char(value):rep(1024) .. string.char(value + 1):rep(1024)
      .. string.char(value + 2):rep(1024)
  end

  it("10 is read from its five files, and the test from one", function()
    for i = 1, 5 do put("cifar-10-batches-bin/data_batch_" .. i .. ".bin", record(i, 10 * i) .. record(0, 1)) end
    put("cifar-10-batches-bin/test_batch.bin", record(9, 7))
    put("cifar-10-batches-bin/batches.meta.txt", "airplane\nautomobile\n\n")
    local train = data.Cifar10 {root = folder}
    assert.equal(10, train:size())
    local x, label = train:get(3)
    assert.same({"u8", 3, 20, 21, 22}, {x.dtype, label:item(), x[{1, 1, 1}]:item(), x[{2, 32, 32}]:item(), x[{3, 5, 5}]:item()})
    assert.same({3, 32, 32}, x.shape)
    assert.same({"airplane", "automobile"}, train.classes)
    local test = data.Cifar10 {root = folder .. "/cifar-10-batches-bin", train = false}
    assert.same({1, 10}, {test:size(), select(2, test:get(1)):item()})
    local images, labels = train:get_batch {10, 9}
    assert.same({2, 3, 32, 32}, images.shape)
    assert.same({1, 6}, labels:totable())
  end)

  it("100 has fine and coarse classes", function()
    put("train.bin", record(99, 5, 19) .. record(0, 5, 0))
    put("test.bin", record(0, 5, 0))
    assert.same({100, 1}, data.Cifar100({root = folder}).labels:totable())
    assert.same({20, 1}, data.Cifar100({root = folder, coarse = true}).labels:totable())
  end)

  it("of wrong length or labels is refused", function()
    put("test_batch.bin", record(1, 1):sub(1, 3000))
    assert.matches("data.Cifar10: .*test_batch.bin: 3000 bytes are no whole number of samples of 3073", message(data.Cifar10, {root = folder, train = false}))
    put("test_batch.bin", record(10, 1))
    assert.matches("a label of 10, where there are 10 classes", message(data.Cifar10, {root = folder, train = false}))
    put("test_batch.bin", "")
    assert.matches("0 bytes are no whole number", message(data.Cifar10, {root = folder, train = false}))
    assert.matches("no data_batch_1.bin in .*download = true", message(data.Cifar10, {root = folder}))
    assert.matches("no option 'corse'", message(data.Cifar100, {corse = true}))
  end)
end)

describe("a CSV file", function()
  it("has features, and a target of texts as classes", function()
    local path = put("iris.csv", "length,width,kind\n5.1,3,setosa\n6,2.5,virginica\n7,,setosa\n")
    local ds = data.CsvDataset(path, {target = "kind"})
    assert.same({"length", "width"}, ds.columns)
    assert.same({"setosa", "virginica"}, ds.classes)
    local x, y = ds:get(2)
    assert.same({"f32", 2, 6}, {x.dtype, y:item(), x[1]:item()})
    local missing = ds:get(3)[2]:item()
    assert.is_true(missing ~= missing)
    local batch, labels = data.Loader(ds, {batch_size = 3})()
    assert.same({3, 2}, batch.shape)
    assert.same({1, 2, 1}, labels:totable())
    assert.equal(path .. ", row 2", ds:describe(2))
  end)

  it("has a target of numbers as they are, or as classes", function()
    local path = put("a.csv", "x;y\n1;10\n2;-5\n")
    local ds = data.CsvDataset(path, {target = "y", delimiter = ";"})
    assert.same({10, -5}, ds.targets:totable())
    ds = data.CsvDataset(path, {target = "y", delimiter = ";", classes = true})
    assert.same({2, 1}, ds.targets:totable())
    assert.same({"-5", "10"}, ds.classes)
    assert.equal(1, select("#", data.CsvDataset(path, {delimiter = ";"}):get(1)))
    local bare = data.CsvDataset(put("b.csv", "1,2,3\n4,5,6\n"), {header = false, features = {3, 1}, target = 2})
    assert.same({3, 1}, bare:get(1):totable())
    local version = ds:version()
    put("a.csv", "x;y\n1;10\n2;-6\n")
    assert.not_equal(version, data.CsvDataset(path, {target = "y", delimiter = ";"}):version())
  end)

  it("without the columns that were named is refused", function()
    local path = put("a.csv", "length,width,kind\n1,2,a\n")
    assert.matches("a.csv: target 'kin' is no column; did you mean 'kind'", message(data.CsvDataset, path, {target = "kin"}))
    assert.matches("feature 'lenght' is no column; did you mean 'length'", message(data.CsvDataset, path, {features = {"lenght"}}))
    assert.matches("column 'kind' holds texts, such as \"a\"; name the columns of numbers", message(data.CsvDataset, path))
    assert.matches("csv: .*a.csv", message(data.CsvDataset, put("a.csv", "a,b\n1\n")))
    assert.matches("lacks a value", message(data.CsvDataset, put("b.csv", "a,b\n1,\n2,3\n"), {target = "b", classes = true}))
    assert.matches("nowhere.csv", message(data.CsvDataset, folder .. "/nowhere.csv"))
  end)
end)

describe("a file of tokens", function()
  it("is cut into samples, and what follows each", function()
    local path = put("t.bin", "\0\0\1\0\2\0\3\0\4\0\5\0\255\255")
    local ds = data.TokenDataset(path, {length = 3})
    assert.equal(2, ds:size())
    local x, y = ds:get(2)
    assert.same({{4, 5, 6}, {5, 6, 65536}}, {x:totable(), y:totable()})
    assert.equal("i64", x.dtype)
    assert.equal(4, data.TokenDataset(path, {length = 3, stride = 1}):size())
    assert.equal(path .. ", from token 3", ds:describe(2))
    local batch = data.Loader(ds, {batch_size = 2, workers = 1})()
    assert.same({{1, 2, 3}, {4, 5, 6}}, batch:totable())
  end)

  it("may have other dtypes, be .npy, or a tensor", function()
    assert.same({256, 1}, (data.TokenDataset(put("u8", "\255\0\7"), {length = 2, dtype = "u8"}):get(1):totable()))
    assert.same({4294967296, 1}, (data.TokenDataset(put("u32", "\255\255\255\255" .. ("\0"):rep(8)), {length = 2, dtype = "u32"}):get(1):totable()))
    ai.save(ai.tensor({4, 5, 6}, {dtype = "i32"}), folder .. "/t.npy")
    assert.same({5, 6}, (data.TokenDataset(folder .. "/t.npy", {length = 2}):get(1):totable()))
    assert.same({4, 5}, (data.TokenDataset(ai.tensor({4, 5, 6}, {dtype = "i64"}), {length = 2}):get(1):totable()))
  end)

  it("of odd length, too short, or of other numbers is refused", function()
    assert.matches("data.TokenDataset: raw: .*odd.bin: 3 bytes are no whole number of i16", message(data.TokenDataset, put("odd.bin", "abc"), {length = 1}))
    assert.matches("1 tokens are too few for a sample of 1", message(data.TokenDataset, put("short.bin", "ab"), {length = 1}))
    assert.matches("0 tokens are too few", message(data.TokenDataset, put("empty.bin", ""), {length = 1}))
    assert.matches("dtype is u8, i8, u16, i16, u32, i32 or i64, not f32", message(data.TokenDataset, put("a.bin", "abcd"), {length = 1, dtype = "f32"}))
    assert.matches("tokens are whole numbers %(N%), not f32", message(data.TokenDataset, ai.ones(3), {length = 1}))
    assert.matches("no file|No such file", (message(data.TokenDataset, folder .. "/none.bin", {length = 1}):gsub("No such file", "no file|No such file")))
  end)
end)

describe("tar shards", function()
  local function shard(name, first, n)
    local samples = {}
    for i = 1, n do
      samples[i] = {__key__ = ("%04d"):format(first + i - 1), png = png(first + i), cls = tostring(i - 1), json = '{"n": ' .. i .. "}", txt = "t" .. i}
    end
    data.TarShards.write(folder .. "/" .. name, samples)
  end

  it("have the files of one name as a sample's fields", function()
    shard("train-000.tar", 0, 3)
    shard("train-001.tar", 3, 2)
    local ds = data.TarShards(folder .. "/train-{000..001}.tar")
    assert.equal(5, ds:size())
    local sample = ds:get(5)
    assert.same({"0004", 2, {n = 2}, "t2"}, {sample.__key__, sample.cls:item(), sample.json, sample.txt})
    assert.same({3, 4, 6}, sample.png.shape)
    assert.equal(5, sample.png[{1, 1, 1}]:item())
    local pairs_of = data.TarShards({folder .. "/train-000.tar", folder .. "/train-001.tar"}, {fields = {"jpg;png", "cls"}, size = {2, 3}})
    local seen = {}
    for x, label in data.Loader(pairs_of, {batch_size = 2, shuffle = true, workers = 2}) do
      assert.same({3, 2, 3}, {x:size(2), x:size(3), x:size(4)})
      for i = 1, x:size(1) do seen[x[{i, 1, 1, 1}]:item()] = label[i]:item() end
    end
    assert.same({[1] = 1, [2] = 2, [3] = 3, [4] = 1, [5] = 2}, seen)
  end)

  it("are left as bytes, or decoded by one's own functions", function()
    shard("a.tar", 0, 1)
    assert.equal("0", data.TarShards(folder .. "/a.tar", {decode = false}):get(1).cls)
    local ds = data.TarShards(folder .. "/a.tar", {fields = {"txt", "cls"}, decode = {txt = function(bytes) return bytes:upper() end}})
    local text, label = ds:get(1)
    assert.same({"T1", 1, "i64"}, {text, label:item(), label.dtype})
  end)

  it("keep folders in the key, and endings of several parts", function()
    data.TarShards.write(folder .. "/a.tar", {{__key__ = "d.x/a", ["seg.png"] = png(1), ["Left.txt"] = "l"}, {__key__ = "e/a", txt = "m"}})
    local ds = data.TarShards(folder .. "/a.tar")
    assert.same({"d.x/a", "e/a"}, ds.keys)
    assert.same({3, 4, 6}, ds:get(1)["seg.png"].shape)
    assert.equal("l", ds:get(1)["left.txt"])
  end)

  it("that are broken are refused, with the shard, the sample and the field", function()
    put("cut.tar", "x")
    assert.matches("tar: .*cut.tar: at byte 0: the archive is cut short within a header", message(data.TarShards, folder .. "/cut.tar"))
    put("none.tar", ("\0"):rep(1024))
    assert.matches("there is no sample in .*none.tar", message(data.TarShards, folder .. "/none.tar"))
    data.TarShards.write(folder .. "/bad.tar", {{__key__ = "k", png = "no picture", cls = "seven", npy = "x", json = "{"}})
    local function bad(fields) return message(data.Loader(data.TarShards(folder .. "/bad.tar", {fields = {fields}}))) end
    assert.matches("data.Loader: sample 1 %(.*bad.tar: k%): .*bad.tar: k.png", bad "png")
    assert.matches('bad.tar: k.cls: "seven" is no class number', bad "cls")
    assert.matches("bad.tar: k.npy: ", bad "npy")
    assert.matches("bad.tar: k.json: ", bad "json")
    assert.matches("sample 'k' has no 'jpg'; it has cls, json, npy, png", bad "jpg")
    assert.matches("missing.tar", message(data.TarShards, folder .. "/missing.tar"))
  end)

  it("are named by braces", function()
    assert.same({"a08.tar", "a09.tar", "a10.tar"}, data.TarShards.expand "a{08..10}.tar")
    assert.same({"x1.tar", "x2.tar", "y1.tar", "y2.tar"}, data.TarShards.expand "{x,y}{1..2}.tar")
  end)

  it("have a version of what is in them", function()
    shard("a.tar", 0, 2)
    local one = data.TarShards(folder .. "/a.tar"):version()
    assert.equal(one, data.TarShards(folder .. "/a.tar"):version())
    shard("a.tar", 0, 3)
    assert.not_equal(one, data.TarShards(folder .. "/a.tar"):version())
  end)
end)

describe("sets that are made", function()
  it("are the same for one seed, and have their classes in turn", function()
    for _, name in ipairs {"moons", "circles", "spirals"} do
      local a, b, c = data[name](20, {seed = 1}), data[name](20, {seed = 1}), data[name](20, {seed = 2})
      assert.equal(20, a:size())
      assert.same(a.tensors[1]:totable(), b.tensors[1]:totable())
      assert.not_same(a.tensors[1]:totable(), c.tensors[1]:totable())
      local x, label = a:get(2)
      assert.same({2, 2}, {x:size(1), label:item()})
    end
    assert.equal(5, data.spirals(10, {classes = 5}):get(5) and data.spirals(10, {classes = 5}).tensors[2]:amax():item())
    local clean = data.circles(100, {noise = 0}).tensors
    local radius = clean[1]:square():sum(2):sqrt()
    for i = 1, 100 do assert.near(clean[2][i]:item() == 1 and 1 or 0.5, radius[i]:item(), 1e-5) end
    assert.matches("n must be a whole number from 1 on, not 0", message(data.moons, 0))
    assert.matches("no option 'turn'; did you mean 'turns'", message(data.spirals, 5, {turn = 2}))
  end)

  it("of pictures give the same picture for one index, and leave the random numbers alone", function()
    local ds = data.FakeData(4, {shape = {3, 5, 5}, classes = 3})
    ai.manual_seed(9)
    local want = ai.rand(1):item()
    ai.manual_seed(9)
    local a, label = ds:get(3)
    assert.equal(want, ai.rand(1):item())
    local b, again = ds:get(3)
    assert.same({a:totable(), label:item()}, {b:totable(), again:item()})
    assert.not_same(a:totable(), ds:get(2):totable())
    assert.matches("there is no sample 5", message(ds.get, ds, 5))
  end)
end)
