local aio = require "aijit.io"
require "support.like"
local files = require "support.files"
local zip = files.zip

local function load(bytes, opts)
  opts = opts or {}
  opts.format = "npz"
  return aio.decode(bytes, opts)
end
local x = files.npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "abcd")

describe("npz", function()
  it("gives back tensors by name, stored and deflated, whatever their layout", function()
    for _, compress in ipairs{false, true} do
      local t = {a = files.tensor("F32", {2, 3}, ("x"):rep(24)), deep = {files.tensor("I64", {}, "12345678")},
        turned = files.tensor("U8", {2, 3}, "abcdef"):t(), none = files.tensor("F64", {0, 2}, "")}
      local bytes = aio.encode(t, {format = "npz", compress = compress})
      local back = aio.decode(bytes)
      assert.are.same({"F32 [2,3]", ("x"):rep(24)}, {files.describe(back.a)})
      assert.are.same({"I64 []", "12345678"}, {files.describe(back["deep.1"])})
      assert.are.same({"U8 [3,2]", "adbecf"}, {files.describe(back.turned)})
      assert.are.same({"F64 [0,2]", ""}, {files.describe(back.none)})
    end
  end)

  it("gives back every dtype and shape, bit for bit", function()
    files.each_kind(function(dtype, shape, data, tensor)
      if dtype == "BF16" then return end
      local what, bytes = files.describe(load(aio.encode({x = tensor}, {format = "npz", compress = #shape % 2 == 0})).x)
      assert.are.equal(("%s [%s]"):format(dtype, table.concat(shape, ",")), what)
      assert.are.equal(data, bytes)
    end)
  end)

  it("writes equal bytes for equal tensors, and compresses when asked", function()
    local t = {x = files.tensor("U8", {100000}, ("a"):rep(100000)), y = files.tensor("I8", {1}, "b")}
    local plain, small = aio.encode(t, {format = "npz"}), aio.encode(t, {format = "npz", compress = true})
    assert.are.equal(plain, aio.encode({y = t.y, x = t.x}, {format = "npz"}))
    assert.is_true(#plain > 100000 and #small < 1000)
    assert.are.equal(("a"):rep(100000), select(2, files.describe(load(small).x)))
  end)

  it("can be without a single tensor", function()
    assert.are.same({}, load(aio.encode({}, {format = "npz"})))
    assert.are.same({}, load(zip{}))
  end)

  it("loads only what is wanted", function()
    local bytes = zip{{"a.npy", x}, {"b.npy", "broken"}}
    assert.are.equal("F32 [1]", (files.describe(load(bytes, {only = "^a$"}).a)))
    assert.is_nil(load(bytes, {only = "^a$"}).b)
    assert.is_nil(next(load(bytes, {only = function() return false end})))
  end)

  it("reads folders, comments, bytes in front and deflated entries", function()
    assert.is_truthy(load(zip{{"d/"}, {"d/a.npy", x}, comment = "hello"})["d/a"])
    assert.is_truthy(load(zip{{"a.npy", x, method = 8}}).a)
  end)

  it("uses a stored entry's bytes in place, and leaves the file as it is", function()
    local folder = files.folder()
    local path = folder .. "/x.npz"
    aio.save({x = files.tensor("U8", {4}, "abcd")}, path)
    local before = files.get(path)
    local t = aio.load(path)
    t.x:fill_(0)
    assert.is_true(files.get(path) == before)
    files.remove(folder)
  end)

  it("replaces a file only when all of it is written", function()
    local folder = files.folder()
    local path = folder .. "/x.npz"
    local t = {x = files.tensor("U8", {100000}, ("a"):rep(100000))}
    aio.save(t, path)
    local before, file = files.get(path), require "aijit.bindings.file"
    for n = 1, 20 do
      file.fail(n)
      local ok, message = pcall(aio.save, {x = files.tensor("U8", {2}, "zz"), y = t.x}, path)
      file.fail(0)
      if ok then break end
      assert.is_truthy(message:find "Input/output error")
      if message:find "folder cannot be synced" then break end
      assert.is_true(files.get(path) == before)
      assert.are.equal(1, #files.list(folder))
    end
    assert.is_truthy(aio.load(path).y)
    files.remove(folder)
  end)

  describe("refuses, saying why:", function()
    local good = zip{{"a.npy", x}, {"b.npy", x}}
    for _, case in ipairs{
      {"an empty file", "", "not a zip archive, or is cut short"},
      {"another file", ("x"):rep(1000), "not a zip archive"},
      {"a file without its end", good:sub(1, -23), "not a zip archive, or is cut short"},
      {"a file without its beginning", good:sub(100), "."},
      {"half a file", good:sub(1, #good / 2), "cut short"},
      {"more entries than there are", zip{{"a.npy", x}, count = 2}, "."},
      {"65535 entries that are not there", zip{{"a.npy", x}, count = 65535}, "."},
      {"a directory that begins elsewhere", zip{{"a.npy", x}, start = 5}, "."},
      {"a directory that begins past the end", zip{{"a.npy", x}, start = 2 ^ 31}, "."},
      {"an entry that begins past the end", zip{{"a.npy", x, at = 2 ^ 31}}, "a%.npy"},
      {"an entry that begins elsewhere", zip{{"a.npy", x, at = 7}}, "a%.npy"},
      {"a wrong checksum", zip{{"a.npy", x, crc = 1}}, 'entry "a.npy": it is damaged'},
      {"a wrong checksum of a deflated entry", zip{{"a.npy", x, crc = 1, method = 8}}, 'entry "a.npy": .*CRC'},
      {"a changed byte", (good:gsub("abcd", "abcx", 1)), 'entry "a.npy": it is damaged'},
      {"a stored size that does not fit", zip{{"a.npy", x, size = 5}}, "5 bytes cannot come out of " .. #x},
      {"a deflated size that is too small", zip{{"a.npy", x, method = 8, size = 5}}, "."},
      {"a deflated size that is too large", zip{{"a.npy", x, method = 8, size = #x + 1}}, "."},
      {"a size past belief", zip{{"a.npy", x, method = 8, size = 2 ^ 31}}, "2147483648 bytes cannot come out of"},
      {"more packed bytes than the file has", zip{{"a.npy", x, packed = 2 ^ 20, size = 2 ^ 20}}, "cannot come out of 1048576"},
      {"deflated data that are damaged", zip{{"a.npy", x, method = 8, body = "\255\255\255\255"}}, 'entry "a.npy"'},
      {"deflated data that are cut short", zip{{"a.npy", x, method = 8, body = "\0\100\0\155\255abc"}}, 'entry "a.npy"'},
      {"no deflated data", zip{{"a.npy", x, method = 8, body = ""}}, "cannot come out of 0"},
      {"bzip2", zip{{"a.npy", x, method = 12}}, "compression method 12"},
      {"a method that there is not", zip{{"a.npy", x, method = 77}}, "compression method 77"},
      {"an encrypted entry", zip{{"a.npy", x, flags = 1}}, "encrypted"},
      {"two entries of one name", zip{{"a.npy", x}, {"a.npy", x}}, 'entry "a.npy": it is there twice'},
      {"a name from the root", zip{{"/etc/a.npy", x}}, "path from the root"},
      {"a name on a drive", zip{{"c:a.npy", x}}, "path from the root"},
      {"a name with a backslash", zip{{"a\\b.npy", x}}, "path from the root"},
      {"a name that leads out", zip{{"a/../../b.npy", x}}, "leads out of the archive"},
      {"the name ..", zip{{"..", x}}, "leads out of the archive"},
      {"a name with a line break", zip{{"a\nb.npy", x}}, "control characters"},
      {"a name that is not UTF-8", zip{{"a\255.npy", x}}, "not UTF%-8"},
      {"an empty name", zip{{"", x}}, "its name is empty"},
      {"a name of 2000 bytes", zip{{("n"):rep(2000), x}}, "its name is too long"},
      {"another name in front of the data", zip{{"a.npy", x, here = "b.npy"}}, "another name stands in front"},
      {"a longer name in front of the data", zip{{"a.npy", x, here = "a.npyy", method = 8}}, "another name stands in front"},
      {"an entry that is no .npy", zip{{"a.txt", "hello"}}, "a%.txt: does not begin as"},
      {"an .npy that is cut short", zip{{"a.npy", x:sub(1, -2)}}, "a%.npy: 1 bytes short"},
      {"an .npy of objects", zip{{"a.npy", files.npy("{'descr': '|O', 'fortran_order': False, 'shape': (), }", "x")}}, "Python objects"},
    } do
      it(case[1], function()
        assert.has_error_like(function() load(case[2]) end, "np[yz]: %(string%).*" .. case[3])
      end)
    end

    it("more than the limit, unless that is raised", function()
      local bytes = aio.encode({x = files.tensor("U8", {70000000}, ("a"):rep(70000000))}, {format = "npz", compress = true})
      assert.is_true(#bytes < 100000)
      assert.has_error_like(function() load(bytes) end, "npz: %(string%): its entries hold more than 67108864 bytes in all: max_bytes raises")
      assert.are.equal(70000000, load(bytes, {max_bytes = 2 ^ 27}).x:numel())
    end)

    it("entries that use the same bytes again and again", function()
      local data = ("a"):rep(1000000)
      local entries = {{"0.npy", data}}
      for i = 1, 100 do
        entries[i + 1] = {i .. ".npy", "", at = 0, size = #data, packed = #data, crc = files.crc32(data)}
      end
      assert.has_error_like(function() load(zip(entries)) end, "hold more than")
    end)

    it("to write what cannot be kept", function()
      local t = files.tensor("U8", {1}, "a")
      local function fails(value, why) assert.has_error_like(function() aio.encode(value, {format = "npz"}) end, why) end
      fails(t, "keeps tensors by name")
      fails(7, "needs a table of tensors")
      fails({["/a"] = t}, 'npz: "/a" cannot be the name')
      fails({["a/../b"] = t}, "cannot be the name")
      fails({["a\\b"] = t}, "cannot be the name")
      fails({[""] = t}, "cannot be the name")
      fails({["a\255"] = t}, "cannot be the name")
      fails({x = files.tensor("BF16", {1}, "ab")}, "no NumPy dtype for bf16")
      fails({x = "text"}, "x is a string, not a tensor")
    end)
  end)

  local python = files.python "numpy"
  local oracle = python and it or pending
  oracle("agrees with NumPy, both ways", function()
    local folder = files.folder()
    local script = files.put(folder .. "/o.py", [==[
import sys, numpy as np
d = sys.argv[1]
for name in ["stored", "deflated"]:
    z = np.load(d + "/" + name + ".npz")
    assert sorted(z.files) == ["a.1", "b", "n"], z.files
    assert z["a.1"].dtype == np.float32 and z["a.1"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert z["b"].dtype == np.bool_ and z["b"].tolist() == True
    assert z["n"].shape == (0, 3)
    save = np.savez if name == "stored" else np.savez_compressed
    save(d + "/" + name + "2.npz", f=np.asfortranarray(z["a.1"]), big=np.arange(3, dtype=">i4"), **{"x/y": np.float64(7)})
]==])
    local ai = require "aijit"
    local t = {a = {ai.arange(0, 5):to("f32"):reshape(3, 2)}, b = ai.full({}, true), n = ai.empty(0, 3)}
    aio.save(t, folder .. "/stored.npz")
    aio.save(t, folder .. "/deflated.npz", {compress = true})
    local output, ok = files.run(("%s %s %s"):format(python, script, folder))
    assert.are.same({"", true}, {output, ok})
    for _, name in ipairs{"stored", "deflated"} do
      local back = aio.load(folder .. "/" .. name .. "2.npz")
      assert.is_true(back.f:equal(t.a[1]):item())
      assert.is_true(back.big:equal(ai.tensor({0, 1, 2}, {dtype = "i32"})):item())
      assert.are.equal(7, back["x/y"]:item())
    end
    files.remove(folder)
  end)
end)
