local aio = require "aijit.io"
local core = require "aijit.bindings.file"
require "support.like"
local files = require "support.files"
local make, gzip = files.idx, files.gzip

local function load(bytes) return aio.decode(bytes, {format = "idx"}) end
local U8, I8, I16, I32, F32, F64 = 8, 9, 11, 12, 13, 14

describe("idx", function()
  it("reads every type, and turns its bytes round", function()
    for kind, case in pairs{
      [U8] = {"U8", "a", "a"}, [I8] = {"I8", "a", "a"}, [I16] = {"I16", "ab", "ba"}, [I32] = {"I32", "abcd", "dcba"},
      [F32] = {"F32", "abcd", "dcba"}, [F64] = {"F64", "abcdefgh", "hgfedcba"},
    } do
      for _, bytes in ipairs{make(kind, {2, 1}, case[2]:rep(2)), gzip(make(kind, {2, 1}, case[2]:rep(2)))} do
        assert.are.same({case[1] .. " [2,1]", case[3]:rep(2)}, {files.describe(load(bytes))})
      end
    end
  end)

  it("reads rank 0 and sizes of 0", function()
    assert.are.same({"U8 []", "x"}, {files.describe(load(make(U8, {}, "x")))})
    assert.are.same({"U8 [0,28]", ""}, {files.describe(load(gzip(make(U8, {0, 28}, ""))))})
  end)

  it("reads gzip of several members, and skips zeros that fill it up", function()
    local bytes = make(U8, {6}, "abcdef")
    assert.are.equal("abcdef", select(2, files.describe(load(gzip(bytes:sub(1, 9)) .. gzip(bytes:sub(10)) .. ("\0"):rep(512)))))
  end)

  it("is known by its name and by its first bytes", function()
    local folder = files.folder()
    local bytes = make(U8, {3}, "abc")
    for _, name in ipairs{"t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte", "plain", "x.idx"} do
      assert.are.equal("U8 [3]", (files.describe(aio.load(files.put(folder .. "/" .. name, bytes)))))
    end
    for _, name in ipairs{"train-labels-idx1-ubyte.gz", "x.idx.gz"} do
      assert.are.equal("U8 [3]", (files.describe(aio.load(files.put(folder .. "/" .. name, gzip(bytes))))))
    end
    files.remove(folder)
  end)

  describe("refuses, saying why:", function()
    local whole = gzip(make(U8, {40, 50}, ("x"):rep(2000)))
    local function changed(at, byte) return whole:sub(1, at - 1) .. string.char(byte) .. whole:sub(at + 1) end
    for _, case in ipairs{
      {"an empty file", "", "the header is cut short"},
      {"three bytes", "\0\0\8", "the header is cut short"},
      {"another file", "\137PNG\r\n", "begins with 89 50 4e 47"},
      {"a type that there is not", make(10, {1}, "x"), "begins with 00 00 0a 01"},
      {"type zero", make(0, {1}, "x"), "begins with 00 00 00 01"},
      {"nine dimensions", make(U8, {1, 1, 1, 1, 1, 1, 1, 1, 1}, "x"), "9 dimensions: at most 8"},
      {"a size cut short", make(U8, {1}, ""):sub(1, 7), "the header is cut short"},
      {"sizes that are not there", make(U8, {1, 1}, ""):sub(1, 8), "the header is cut short"},
      {"too few items", make(U8, {3}, "ab"), "1 bytes short: the header says %(3%) u8"},
      {"half an item", make(I16, {2}, "abc"), "1 bytes short: the header says %(2%) i16"},
      {"too many items", make(U8, {3}, "abcde"), "2 bytes too many: the header says %(3%) u8"},
      {"18 exabytes that are not there", make(U8, {2 ^ 31, 2 ^ 31}, "x"), "4611686018427387903 bytes short"},
      {"sizes that overflow", make(F64, {2 ^ 31, 2 ^ 31, 2}, "x"), "overflow"},
      {"gzip cut in its header", whole:sub(1, 8), "cannot be read: the compressed data are cut short"},
      {"gzip cut in its data", whole:sub(1, 1000), "1027 bytes short: the header says %(40, 50%) u8: the compressed data are cut short"},
      {"gzip cut in its checksum", whole:sub(1, -2), "the compressed data are cut short"},
      {"gzip with other bytes behind", whole .. "more", "foreign bytes follow"},
      {"gzip with a wrong checksum", changed(#whole - 5, 1), "incorrect data check"},
      {"gzip with a wrong length", changed(#whole, 7), "incorrect length check"},
      {"gzip with a wrong bit", changed(500, 121), "incorrect data check"},
      {"gzip of a kind that there is not", changed(3, 9), "unknown compression method"},
      {"too few items in gzip", gzip(make(U8, {60000, 28, 28}, ("x"):rep(1000000))), "46040000 bytes short: the header says %(60000, 28, 28%) u8"},
      {"too many items in gzip", gzip(make(U8, {3}, ("x"):rep(10))), "7 bytes too many: the header says %(3%) u8"},
      {"a bomb in gzip", gzip(make(U8, {2 ^ 30, 4}, "x")), "bytes short: the header says %(1073741824, 4%) u8"},
    } do
      it(case[1], function() assert.has_error_like(function() load(case[2]) end, "idx: %(string%): .*" .. case[3]) end)
    end

    it("gzip that was cut, whatever the place", function()
      local bytes = gzip(make(U8, {6}, "abcdef"))
      for n = 0, #bytes - 1 do assert.has_error_like(function() load(bytes:sub(1, n)) end, "idx: ") end
    end)
  end)
end)

describe("gunzip", function()
  it("gives the bytes back, up to a limit", function()
    local data = files.noise(300000)
    assert.is_true(core.gunzip(gzip(data)) == data)
    assert.are.equal("", core.gunzip(gzip ""))
    assert.is_true(core.gunzip(gzip(data), 300000) == data)
    assert.has_error_like(function() core.gunzip(gzip(data), 299999) end, "more than 299999 bytes")
  end)
  it("refuses what is not whole", function()
    assert.has_error_like(function() core.gunzip "hello" end, "is not gzipped")
    assert.has_error_like(function() core.gunzip "" end, "is not gzipped")
    assert.has_error_like(function() core.gunzip(gzip(("x"):rep(100)):sub(1, 60)) end, "cut short, after")
  end)
end)
