local ai = require "aijit"
local aio = require "aijit.io"
require "support.like"
local files = require "support.files"
local make = files.safetensors

local folder, path
local function entry(dtype, shape, first, last) return ('{"dtype":"%s","shape":%s,"data_offsets":[%s,%s]}'):format(dtype, shape, first, last) end
local function one(dtype, shape, first, last, data) return make('{"a":' .. entry(dtype, shape, first, last) .. "}", data) end

describe("safetensors", function()
  setup(function()
    folder = files.folder()
    path = folder .. "/x.safetensors"
  end)
  teardown(function() files.remove(folder) end)

  it("gives back every dtype and shape, bit for bit", function()
    files.each_kind(function(dtype, shape, data, tensor)
      aio.save({x = tensor}, path)
      local what, bytes = files.describe(aio.load(path).x)
      assert.are.equal(("%s [%s]"):format(dtype, table.concat(shape, ",")), what)
      assert.are.equal(data, bytes)
    end)
  end)

  it("keeps many tensors of mixed dtypes apart, whatever their names", function()
    local tensors, n = {}, 0
    local odd = {'a"b', "back\\slash", "new\nline", "\1", "größe", "日本", "", " ", "a.b.c", "__meta__", ("x"):rep(300), "\127", "/", "tab\t"}
    files.each_kind(function(_, _, _, tensor)
      n = n + 1
      tensors[odd[n] or "t" .. n] = tensor
    end)
    aio.save(tensors, path)
    local back = aio.load(path)
    for name, tensor in pairs(tensors) do
      local what, bytes = files.describe(tensor)
      local what2, bytes2 = files.describe(back[name])
      assert.are.same({name, what, bytes}, {name, what2, bytes2})
      back[name] = nil
    end
    assert.is_nil(next(back))
  end)

  it("flattens nested tables with dots", function()
    local t = files.tensor("U8", {1}, "x")
    local back = aio.decode(aio.encode({encoder = {{weight = t}, {weight = t}}, head = t}, {format = "safetensors"}))
    local names = {}
    for name in pairs(back) do names[#names + 1] = name end
    table.sort(names)
    assert.are.same({"encoder.1.weight", "encoder.2.weight", "head"}, names)
  end)

  it("keeps metadata", function()
    local t = files.tensor("U8", {1}, "x")
    aio.save({t = t}, path, {metadata = {format = "pt", note = 'quotes " and ü\n'}})
    local _, metadata = aio.load(path)
    assert.are.same({format = "pt", note = 'quotes " and ü\n'}, metadata)
    assert.are.same({}, select(2, aio.decode(aio.encode({t}, {format = "safetensors"}))))
  end)

  it("holds no tensors at all if that is what was saved", function()
    aio.save({}, path)
    assert.are.equal(make "{}      ", files.get(path))
    assert.is_nil(next((aio.load(path))))
  end)

  it("puts each tensor where its items are aligned", function()
    local t8, t1 = files.tensor("F64", {1}, "abcdefgh"), files.tensor("U8", {1}, "x")
    local bytes = aio.encode({a = t1, b = t8}, {format = "safetensors"})
    assert.is_truthy(bytes:find('"a":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}', 1, true))
    assert.are.equal(0, bytes:byte(1) % 8)
  end)

  it("reads tensors that are not aligned", function()
    local bytes = make('{"a":' .. entry("U8", "[1]", 0, 1) .. ',"b":' .. entry("I64", "[2]", 1, 17) .. "}", "x" .. ("12345678"):rep(2))
    local _, data = files.describe(aio.decode(bytes).b)
    assert.are.equal(("12345678"):rep(2), data)
  end)

  it("may be saved onto the file that its tensors are mapped from", function()
    local data = files.noise(300000)
    aio.save({x = files.tensor("U8", {300000}, data)}, path)
    local loaded = aio.load(path)
    for _ = 1, 3 do
      aio.save({x = loaded.x, more = loaded.x}, path)
      assert.are.equal(data, select(2, files.describe(loaded.x)))
      loaded = aio.load(path)
      assert.are.equal(data, select(2, files.describe(loaded.more)))
    end
  end)

  it("keeps the mapping while a tensor lives, also when the file is gone", function()
    aio.save({x = files.tensor("U8", {5}, "hello")}, path)
    local x = aio.load(path).x
    os.remove(path)
    collectgarbage()
    collectgarbage()
    assert.are.equal("hello", select(2, files.describe(x)))
  end)

  it("saves views as what they show", function()
    local x = ai.arange(3000 * 200):reshape(3000, 200)
    local views = {
      turned = x:t(), part = x[{{7, 2900}, {3, 5}}], column = x[{{}, 9}], row = x[2], permuted = x:reshape(300, 10, 200):permute(3, 1, 2),
      spread = x[{{}, {1, 1}}]:expand(3000, 90), long = x:t():reshape(-1),
      wide = ai.arange(2 * 600 * 500):reshape(2, 600, 500):transpose(2, 3),      -- rows larger than the writer's block
    }
    aio.save(views, path)
    local back = aio.load(path)
    for name, view in pairs(views) do
      assert.are.same(view.shape, back[name].shape)
      assert.is_true(select(2, files.describe(back[name])) == select(2, files.describe(view:contiguous())), name)
    end
  end)

  it("loads tensors that can be written to, and the file stays as it is", function()
    aio.save({x = ai.arange(10)}, path)
    local before = files.get(path)
    local x = aio.load(path).x
    x:add_(1)
    assert.are.equal(11, x[10]:item())
    assert.is_true(files.get(path) == before)
    assert.are.equal(10, aio.load(path).x[10]:item())
  end)

  it("gives what it loads to the scope that is open", function()
    aio.save({x = ai.arange(10), y = ai.arange(5)}, path)
    local kept, dropped
    kept = ai.scope(function()
      local all = aio.load(path)
      dropped = all.y
      return all.x
    end)
    collectgarbage()
    assert.are.equal(10, kept[10]:item())
    assert.has_error_like(function() aio.save({dropped}, path) end, "freed when its scope ended")
  end)

  it("loads the tensors asked for", function()
    local t = files.tensor("U8", {1}, "x")
    aio.save({encoder = {t}, decoder = {t}}, path)
    assert.is_nil(aio.load(path, {only = "^encoder"})["decoder.1"])
    assert.is_truthy(aio.load(path, {only = function(name) return name == "decoder.1" end})["decoder.1"])
    assert.is_truthy(aio.load(path, {mmap = false})["decoder.1"])
  end)

  it("accepts spaces after the header, and unknown keys of a tensor", function()
    assert.is_truthy(aio.decode(make('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"new":7}}     ', "x")).a)
  end)

  it("loads shards by their index", function()
    local t = files.tensor("U8", {1}, "x")
    aio.save({a = t}, folder .. "/model-00001-of-00002.safetensors")
    aio.save({b = t, c = t}, folder .. "/model-00002-of-00002.safetensors")
    local index = folder .. "/model.safetensors.index.json"
    local function save_index(map) aio.save({metadata = {total_size = 2}, weight_map = map}, index) end
    save_index{a = "model-00001-of-00002.safetensors", b = "model-00002-of-00002.safetensors"}
    local all = aio.load(index)
    assert.is_truthy(all.a and all.b)
    assert.is_nil(all.c)
    save_index{z = "model-00001-of-00002.safetensors"}
    assert.has_error_like(function() aio.load(index) end, 'no tensor "z"')
    save_index{a = "../x.safetensors"}
    assert.has_error_like(function() aio.load(index) end, "no plain file name")
  end)

  describe("refuses, saying why:", function()
    local u8 = entry("U8", "[1]", 0, 1)
    local bad = {
      {"an empty file", "", "header too small: 0 bytes"},
      {"seven bytes", ("\0"):rep(7), "header too small: 7 bytes"},
      {"a length of zero", make("", ""), "does not begin with {"},
      {"a length past the limit", make("{}", "", 100000001), "header too large: 100000001"},
      {"a length near 2^63", ("\255"):rep(7) .. "\127{}", "header too large"},
      {"a length of all ones", ("\255"):rep(8) .. "{}", "header too large"},
      {"a header cut short", make("{}", "", 3), "cut short"},
      {"a header of one byte", make("{", ""), "does not begin with {"},
      {"a space before the header", make(" {}", ""), "does not begin with {"},
      {"an array as header", make("[]", ""), "does not begin with {"},
      {"a header that is not UTF-8", make('{"\255":1}', ""), "not UTF%-8 at byte 2"},
      {"a lone surrogate", make('{"\\ud800":1}', ""), "not good JSON"},
      {"a zero in a name", make('{"a\\u0000":' .. u8 .. "}", "x"), "not good JSON"},
      {"text after the header", make("{}x", ""), "not good JSON"},
      {"zeros after the header", make("{}\0\0", ""), "not good JSON"},
      {"an unfinished header", make('{"a":', ""), "not good JSON"},
      {"a duplicate name", make('{"a":' .. u8 .. ',"a":' .. u8 .. "}", "x"), "duplicate"},
      {"a duplicate name behind an escape", make('{"a":' .. u8 .. ',"\\u0061":' .. u8 .. "}", "x"), "duplicate"},
      {"a duplicate key of a tensor", make('{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', "x"), "duplicate"},
      {"an entry that is a number", make('{"a":1}', ""), "not an object"},
      {"no dtype", make('{"a":{"shape":[1],"data_offsets":[0,1]}}', "x"), '"dtype" is missing'},
      {"a dtype that is a number", make('{"a":{"dtype":5,"shape":[1],"data_offsets":[0,1]}}', "x"), '"dtype" is missing or not a string'},
      {"an unknown dtype", one("F33", "[1]", 0, 1, "x"), "dtype F33 is unknown"},
      {"no shape", make('{"a":{"dtype":"U8","data_offsets":[0,1]}}', "x"), '"shape" is missing'},
      {"a shape that is a number", one("U8", "1", 0, 1, "x"), '"shape" is missing or not an array'},
      {"a negative size", one("U8", "[-1]", 0, 1, "x"), "not a whole number"},
      {"a size with a fraction", one("U8", "[1.0]", 0, 1, "x"), "not a whole number"},
      {"a size in quotes", one("U8", '["1"]', 0, 1, "x"), "not a whole number"},
      {"a size past 2^63", one("U8", "[9223372036854775808]", 0, 1, "x"), "too big integer"},
      {"sizes whose product overflows", one("F32", "[4294967296,4294967296]", 0, 0), "overflow"},
      {"sizes whose product wraps to the right number", one("U8", "[9223372036854775807,2,2]", 0, 1, "x"), "overflow"},
      {"sizes that overflow beside a zero", one("U8", "[0,9223372036854775807,9223372036854775807]", 0, 0), "overflow"},
      {"no offsets", make('{"a":{"dtype":"U8","shape":[1]}}', "x"), '"data_offsets" is missing'},
      {"one offset", make('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}', "x"), "not two whole numbers"},
      {"three offsets", make('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}', "x"), "not two whole numbers"},
      {"a negative offset", one("U8", "[1]", -1, 0, "x"), "not two whole numbers"},
      {"offsets that run backwards", one("U8", "[1]", 1, 0, "x"), "end before they begin"},
      {"bytes past the end", one("U8", "[2]", 0, 2, "x"), "its bytes end at 2, but there are 1: the file is cut short"},
      {"offsets near 2^63", one("U8", "[9223372036854775807]", 0, "9223372036854775807", "x"), "cut short"},
      {"fewer bytes than the shape asks for", one("F32", "[2]", 0, 4, "xxxx"), "ask for 8 bytes, data_offsets give 4"},
      {"more bytes than the shape asks for", one("F32", "[1]", 0, 8, ("x"):rep(8)), "ask for 4 bytes, data_offsets give 8"},
      {"a scalar without bytes", one("F32", "[]", 0, 0), "ask for 4 bytes, data_offsets give 0"},
      {"half a byte", one("F4", "[1]", 0, 1, "x"), "whole bytes %(alignment%)"},
      {"a hole before the first tensor", one("U8", "[1]", 1, 2, "xx"), "a hole"},
      {"a hole between tensors", make('{"a":' .. u8 .. ',"b":' .. entry("U8", "[1]", 2, 3) .. "}", "xxx"), 'tensor "b".*a hole'},
      {"tensors that overlap", make('{"a":' .. entry("U8", "[2]", 0, 2) .. ',"b":' .. entry("U8", "[2]", 1, 3) .. "}", "xxx"), "an overlap"},
      {"two tensors in one place", make('{"a":' .. u8 .. ',"b":' .. u8 .. "}", "x"), "an overlap"},
      {"bytes after the last tensor", one("U8", "[1]", 0, 1, "xy"), "1 bytes after the last tensor belong to none"},
      {"bytes without any tensor", make("{}", "x"), "1 bytes after the last tensor"},
      {"metadata that is a list", make('{"__metadata__":[]}', ""), "__metadata__ is not an object"},
      {"metadata that holds a number", make('{"__metadata__":{"a":1}}', ""), 'value of "a" is not a string'},
      {"metadata that nests", make('{"__metadata__":{"a":{}}}', ""), 'value of "a" is not a string'},
      {"a bool that is 2", one("BOOL", "[2]", 0, 2, "\1\2"), "byte 1 of a bool tensor is 2"},
      {"nine dimensions", one("U8", "[1,1,1,1,1,1,1,1,1]", 0, 1, "x"), "9 dimensions: at most 8"},
      {"deep nesting", make('{"a":' .. ("["):rep(5000) .. ("]"):rep(5000) .. "}", ""), "not good JSON"},
      {"a terminal's escape codes in a name", make('{"\\u001b[31m":1}', ""), 'tensor "%?%[31m"'},
    }
    for _, dtype in ipairs{"U16", "U32", "U64", "C64", "F8_E4M3", "F8_E5M2"} do
      local size = dtype:find "64" and 8 or dtype:find "32" and 4 or dtype:find "16" and 2 or 1
      bad[#bad + 1] = {"dtype " .. dtype, one(dtype, "[1]", 0, size, ("x"):rep(size)), 'tensor "a" has dtype ' .. dtype .. ", which aijit does not have"}
    end
    for _, case in ipairs(bad) do
      it(case[1], function()
        assert.has_error_like(function() aio.decode(case[2], {format = "safetensors"}) end, case[3])
        files.put(path, case[2])
        assert.has_error_like(function() aio.load(path) end, "safetensors: .*x%.safetensors: .*" .. case[3])
      end)
    end

    it("every file that was cut, whatever the place", function()
      local whole = aio.encode({a = files.tensor("F32", {2}, "12345678"), b = files.tensor("U8", {3}, "abc")}, {format = "safetensors"})
      for n = 0, #whole - 1 do assert.has_error_like(function() aio.decode(whole:sub(1, n), {format = "safetensors"}) end, "safetensors: ") end
    end)

    it("or reads in peace every file with one wrong bit", function()
      local whole = aio.encode({a = files.tensor("F32", {2}, "12345678"), b = files.tensor("BOOL", {3}, "\0\1\0")}, {format = "safetensors"})
      local read = 0
      for i = 1, #whole do
        for k = 0, 7 do
          local bytes = whole:sub(1, i - 1) .. string.char(bit.bxor(whole:byte(i), 2 ^ k)) .. whole:sub(i + 1)
          local ok, tensors = pcall(aio.decode, bytes, {format = "safetensors"})
          if ok then
            read = read + 1
            for _, t in pairs(tensors) do files.describe(t) end
          else
            assert.is_truthy(tostring(tensors):find("safetensors: ", 1, true))
          end
        end
      end
      assert.is_true(read >= 64)
    end)
  end)

  describe("refuses to save", function()
    local t
    setup(function() t = files.tensor("U8", {1}, "x") end)
    local function fails(value, why, opts) assert.has_error_like(function() aio.save(value, path, opts) end, why) end

    it("what is not a table of tensors", function()
      fails(t, "pass {name = tensor}")
      fails(7, "needs a table of tensors, got a number")
      fails({a = {b = 1}}, "a%.b is a number")
      fails({[t] = t}, "names are strings or numbers")
      fails({[true] = t}, "names are strings or numbers")
      fails(setmetatable({state_dict = function() end}, {}), "model:state_dict")
    end)
    it("two tensors of one name", function() fails({["a.b"] = t, a = {b = t}}, 'two tensors would be named "a%.b"') end)
    it("a table that holds itself", function()
      local tree = {}
      tree.tree = tree
      fails(tree, "contain itself")
    end)
    it("names that the format has no room for", function()
      fails({__metadata__ = t}, "cannot be named __metadata__")
      fails({["a\255"] = t}, "not UTF%-8")
      fails({["a\0b"] = t}, "zero byte")
    end)
    it("metadata that are not strings", function()
      fails({t}, "metadata%.n is a number", {metadata = {n = 1}})
      fails({t}, "must be strings", {metadata = {"x"}})
      fails({t}, "not UTF%-8", {metadata = {n = "\255"}})
    end)
    it("under a name that does not tell the format", function()
      assert.has_error_like(function() aio.save({t}, folder .. "/x.pt") end, "must end in")
    end)
  end)

describe("are written in shards", function()
    local place
    before_each(function() place = files.folder() end)
    after_each(function() files.remove(place) end)
    local function parts(n)
      local t = {}
      for i = 1, n do t[("t%02d"):format(i)] = files.tensor("U8", {100}, string.char(64 + i):rep(100)) end
      return t
    end
    local function back(t, n)
      for i = 1, n do assert.are.equal(string.char(64 + i):rep(100), select(2, files.describe(t[("t%02d"):format(i)]))) end
    end

    it("with an index, under the names that others know", function()
      local target = place .. "/model.safetensors"
      aio.save(parts(7), target, {max_shard_size = 250, metadata = {a = "b"}})
      local names = files.list(place)
      table.sort(names)
      assert.are.same({"model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors", "model-00003-of-00004.safetensors",
        "model-00004-of-00004.safetensors", "model.safetensors.index.json"}, names)
      local index = aio.load(target .. ".index.json", {format = "json"})
      assert.are.equal(700, index.metadata.total_size)
      assert.are.equal("model-00002-of-00004.safetensors", index.weight_map.t03)
      back(aio.load(target), 7)
      back(aio.load(target .. ".index.json"), 7)
      assert.are.equal("b", select(2, aio.load(place .. "/model-00001-of-00004.safetensors")).a)
      local few = aio.load(target, {only = "5$"})
      assert.is_truthy(few.t05)
      assert.is_nil(few.t01)
    end)

    it("or whole when all of it fits; what an earlier save left goes away", function()
      local target = place .. "/model.safetensors"
      aio.save(parts(3), target, {max_shard_size = "1KB"})
      assert.are.same({"model.safetensors"}, files.list(place))
      aio.save(parts(4), target, {max_shard_size = 100})
      assert.are.equal(5, #files.list(place))
      aio.save(parts(4), target, {max_shard_size = "0.2KB"})
      assert.are.equal(3, #files.list(place))
      back(aio.load(target), 4)
      aio.save(parts(5), target, {max_shard_size = "5GB"})
      assert.are.same({"model.safetensors"}, files.list(place))
      back(aio.load(target), 5)
    end)

    it("but not with a size that is none", function()
      for _, size in ipairs{0, -1, "5XB", "big", true, 0 / 0} do
        assert.has_error_like(function() aio.save(parts(1), place .. "/x.safetensors", {max_shard_size = size}) end, "max_shard_size must be")
      end
      assert.has_error_like(function() aio.encode(parts(1), {format = "safetensors", max_shard_size = 1}) end, "shards are files")
    end)
  end)

  local python = files.python "safetensors, numpy"
  local oracle = python and it or pending
  oracle("writes the very bytes of the reference, and reads them", function()
    local script = files.put(folder .. "/o.py", [[
import sys, numpy as np
from safetensors.numpy import load_file, save_file
tensors = load_file(sys.argv[1])
save_file(tensors, sys.argv[2], metadata={"format": "pt"})
]])
    local tensors = {}
    files.each_kind(function(dtype, shape, _, tensor)
      if dtype ~= "BF16" then tensors["t" .. dtype .. table.concat(shape, "_") .. '"ü\n'] = tensor end
    end)
    aio.save(tensors, path, {metadata = {format = "pt"}})
    local output, ok = files.run(("%s %s %s %s/y.safetensors"):format(python, script, path, folder))
    assert.are.same({"", true}, {output, ok})
    assert.is_true(files.get(path) == files.get(folder .. "/y.safetensors"))
    for name, tensor in pairs((aio.load(folder .. "/y.safetensors"))) do
      assert.are.same({files.describe(tensors[name])}, {files.describe(tensor)})
    end
  end)
end)
