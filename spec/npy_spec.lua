local aio = require "aijit.io"
require "support.like"
local files = require "support.files"
local make = files.npy

local function load(bytes) return aio.decode(bytes, {format = "npy"}) end
local function header(descr, order, shape)
  return ("{'descr': %s, 'fortran_order': %s, 'shape': %s, }"):format(descr, order, shape)
end
local f4 = header("'<f4'", "False", "(1,)")

describe("npy", function()
  it("gives back every dtype and shape, bit for bit", function()
    files.each_kind(function(dtype, shape, data, tensor)
      if dtype == "BF16" then return end
      local what, bytes = files.describe(aio.decode(aio.encode(tensor, {format = "npy"})))
      assert.are.equal(("%s [%s]"):format(dtype, table.concat(shape, ",")), what)
      assert.are.equal(data, bytes)
    end)
  end)

  it("writes the header as NumPy does, padded to 64 bytes", function()
    local bytes = aio.encode(files.tensor("F32", {2, 3}, ("x"):rep(24)), {format = "npy"})
    assert.are.equal("\147NUMPY\1\0", bytes:sub(1, 8))
    assert.are.equal("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", bytes:match "{.*}")
    assert.are.equal(24, #bytes % 64)
    assert.is_truthy(aio.encode(files.tensor("F32", {3}, ("x"):rep(12)), {format = "npy"}):find("(3,)", 1, true))
    assert.is_truthy(aio.encode(files.tensor("BOOL", {}, "\1"), {format = "npy"}):find("'|b1', 'fortran_order': False, 'shape': (), ", 1, true))
  end)

  it("reads versions 1.0, 2.0 and 3.0", function()
    for version = 1, 3 do assert.are.equal("F32 [1]", (files.describe(load(make(f4, "abcd", version))))) end
  end)

  it("honours fortran_order", function()
    local _, data = files.describe(load(make(header("'|u1'", "True", "(2, 3)"), "adbecf")))
    assert.are.equal("abcdef", data)
    local what, deep = files.describe(load(make(header("'<i2'", "True", "(2, 1, 2)"), "AaCcBbDd")))
    assert.are.equal("I16 [2,1,2]", what)
    assert.are.equal("AaBbCcDd", deep)
    assert.are.equal("U8 [0,3]", (files.describe(load(make(header("'|u1'", "True", "(0, 3)"), "")))))
  end)

  it("turns big-endian items round", function()
    for descr, size in pairs{i2 = 2, i4 = 4, i8 = 8, f2 = 2, f4 = 4, f8 = 8} do
      local _, data = files.describe(load(make(header("'>" .. descr .. "'", "False", "(2,)"), ("12345678"):sub(1, size):rep(2))))
      assert.are.equal(("12345678"):sub(1, size):reverse():rep(2), data)
    end
    local _, both = files.describe(load(make(header("'>i2'", "True", "(2, 2)"), "aAcCbBdD")))
    assert.are.equal("AaBbCcDd", both)
  end)

  it("reads what Python may write in other ways", function()
    for _, text in ipairs{
      '{"shape": (1,), "fortran_order": False, "descr": "<f4"}', "{'descr':'<f4','fortran_order':False,'shape':(1,)}",
      "{'descr': '=f4', 'fortran_order': False, 'shape': (1L,), }", "  { 'descr' : '<f4' , 'fortran_order' : True , 'shape' : ( 1 , ) , }  ",
    } do
      assert.are.equal("F32 [1]", (files.describe(load(make(text, "abcd")))))
    end
  end)

  describe("refuses, saying why:", function()
    local bad = {
      {"an empty file", "", "does not begin as"},
      {"another file", "NUMPY\147" .. ("x"):rep(100), "does not begin as"},
      {"the magic alone", "\147NUMPY", "the header is cut short"},
      {"version 4", make(f4, "abcd"):gsub("\1%z", "\4\0", 1), "version 4%.0 is unknown"},
      {"version 1.1", make(f4, "abcd"):gsub("\1%z", "\1\1", 1), "version 1%.1 is unknown"},
      {"no length", "\147NUMPY\1\0\5", "the header is cut short"},
      {"a header cut short", make(f4, ""):sub(1, 40), "the header is cut short"},
      {"a header of 4 GB", "\147NUMPY\2\0\255\255\255\255{}", "header too large: 4294967295"},
      {"an empty header", "\147NUMPY\1\0\0\0", "not a dict"},
      {"a list", make("[]"), "not a dict"},
      {"an unfinished dict", make("{'descr': '<f4',"), "malformed"},
      {"no comma", make("{'descr': '<f4' 'shape': (1,)}"), "malformed"},
      {"code in place of a dict", make("__import__('os').system('true')"), "not a dict"},
      {"code in place of a value", make("{'descr': str(1), 'fortran_order': False, 'shape': (1,)}"), "'descr' is not a string"},
      {"text after the dict", make(f4 .. " + 1", "abcd"), "text follows"},
      {"a foreign key", make("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", "abcd"), "a foreign key 'x'"},
      {"a key twice", make("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "abcd"), "'descr' twice"},
      {"no descr", make("{'fortran_order': False, 'shape': (1,)}", "abcd"), "lacks 'descr'"},
      {"no order", make("{'descr': '<f4', 'shape': (1,)}", "abcd"), "lacks 'fortran_order'"},
      {"no shape", make("{'descr': '<f4', 'fortran_order': False}", "abcd"), "lacks 'shape'"},
      {"an order that is a number", make(header("'<f4'", "0", "(1,)"), "abcd"), "not True or False"},
      {"Python objects", make(header("'|O'", "False", "(1,)"), "\128\3K\1."), "Python objects"},
      {"Python objects of a size", make(header("'|O8'", "False", "(1,)"), "12345678"), "Python objects"},
      {"records", make(header("[('a', '<f4')]", "False", "(1,)"), "abcd"), "arrays of records"},
      {"strings", make(header("'<U4'", "False", "(1,)"), ("x"):rep(16)), "dtype '<U4' is not supported"},
      {"complex numbers", make(header("'<c8'", "False", "(1,)"), ("x"):rep(8)), "dtype '<c8' is not supported"},
      {"u2", make(header("'<u2'", "False", "(1,)"), "xx"), "dtype '<u2' is not supported"},
      {"f16", make(header("'<f16'", "False", "(1,)"), ("x"):rep(16)), "dtype '<f16' is not supported"},
      {"dates", make(header("'<M8[ns]'", "False", "(1,)"), ("x"):rep(8)), "is not supported"},
      {"an item of two bytes in no order", make(header("'|i2'", "False", "(1,)"), "xx"), "is not supported"},
      {"an escape in a string", make(header("'\\x3cf4'", "False", "(1,)"), "abcd"), "'descr' is not a string"},
      {"a list as shape", make(header("'<f4'", "False", "[1]"), "abcd"), "'shape' is not a tuple"},
      {"a number as shape", make(header("'<f4'", "False", "1"), "abcd"), "'shape' is not a tuple"},
      {"(1), which is a number", make(header("'<f4'", "False", "(1)"), "abcd"), "'shape' is not a tuple"},
      {"a negative size", make(header("'<f4'", "False", "(-1,)"), "abcd"), "not a whole number"},
      {"a size with a point", make(header("'<f4'", "False", "(1.0,)"), "abcd"), "a comma is missing"},
      {"a size past 2^64", make(header("'<f4'", "False", "(99999999999999999999,)"), "abcd"), "overflow"},
      {"sizes that overflow", make(header("'<f4'", "False", "(4294967296, 4294967296)"), ""), "overflow"},
      {"sizes that overflow beside a zero", make(header("'<f4'", "False", "(0, 9223372036854775807, 4)"), ""), "overflow"},
      {"nine dimensions", make(header("'|u1'", "False", "(1, 1, 1, 1, 1, 1, 1, 1, 1)"), "x"), "more than 8 dimensions"},
      {"too few bytes", make(f4, "abc"), "1 bytes short: the header asks for 4"},
      {"too many bytes", make(f4, "abcde"), "1 bytes too many: the header asks for 4"},
      {"a terabyte that is not there", make(header("'<f8'", "False", "(137438953472,)"), "x"), "1099511627775 bytes short"},
      {"a bool that is 7", make(header("'|b1'", "False", "(2,)"), "\1\7"), "byte 1 of a bool tensor is 7"},
      {"a bool that is 7, column by column", make(header("'|b1'", "True", "(1, 2)"), "\1\7"), "byte 1 of a bool tensor is 7"},
    }
    for _, case in ipairs(bad) do
      it(case[1], function() assert.has_error_like(function() load(case[2]) end, "npy: %(string%): .*" .. case[3]) end)
    end
  end)

  it("has no dtype for bf16, and keeps one tensor", function()
    local t = files.tensor("BF16", {1}, "xx")
    assert.has_error_like(function() aio.encode(t, {format = "npy"}) end, "no NumPy dtype for bf16")
    assert.has_error_like(function() aio.encode({t}, {format = "npy"}) end, "keeps one tensor, got a table")
  end)

  local python = files.python "numpy"
  local oracle = python and it or pending
  oracle("agrees with NumPy, both ways", function()
    local folder = files.folder()
    local script = files.put(folder .. "/o.py", [[
import sys, glob, numpy as np
for path in glob.glob(sys.argv[1] + "/a*.npy"):
    x = np.load(path)
    np.save(path.replace("/a", "/b"), x)
    np.save(path.replace("/a", "/c"), x.copy(order="F"))
    np.save(path.replace("/a", "/d"), x.astype(x.dtype.newbyteorder(">")))
]])
    local tensors = {}
    files.each_kind(function(dtype, shape, _, tensor)
      if dtype == "BF16" then return end
      local name = dtype .. table.concat(shape, "_") .. ".npy"
      tensors[name] = tensor
      aio.save(tensor, folder .. "/a" .. name)
    end)
    local output, ok = files.run(("%s %s %s"):format(python, script, folder))
    assert.are.same({"", true}, {output, ok})
    for name, tensor in pairs(tensors) do
      for _, kind in ipairs{"b", "c", "d"} do
        local back = aio.load(folder .. "/" .. kind .. name)
        assert.are.same({name, kind, files.describe(tensor)}, {name, kind, files.describe(back)})
      end
    end
    files.remove(folder)
  end)
end)
