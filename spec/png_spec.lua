local image = require "aijit.image"
local aio = require "aijit.io"
require "support.like"
local files = require "support.files"
local png, chunk = files.png, files.png_chunk

local function pixels(bytes, opts) return select(2, files.describe(image.decode(bytes, opts))) end
local function picture(shape, data) return files.tensor("U8", shape, data) end
local GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6

describe("image", function()
  it("gives back pictures of 1, 3 and 4 channels, byte for byte", function()
    for _, channels in ipairs{1, 3, 4} do
      for _, size in ipairs{{1, 1}, {1, 7}, {7, 1}, {5, 3}, {33, 64}} do
        local shape = {size[1], size[2], channels}
        local data = files.noise(size[1] * size[2] * channels)
        local what, bytes = files.describe(image.decode(image.encode(picture(shape, data))))
        assert.are.equal(("U8 [%s]"):format(table.concat(shape, ",")), what)
        assert.are.equal(data, bytes)
      end
    end
  end)

  it("writes (H, W), and (C, H, W) when told so", function()
    assert.are.equal("U8 [2,3,1]", (files.describe(image.decode(image.encode(picture({2, 3}, "abcdef"))))))
    local bytes = image.encode(picture({3, 1, 2}, "RrGgBb"), {layout = "chw"})
    assert.are.equal("RGBrgb", pixels(bytes))
    assert.are.same({"U8 [3,1,2]", "RrGgBb"}, {files.describe(image.decode(bytes, {layout = "chw"}))})
    assert.are.equal("abcd", pixels(image.encode(picture({1, 2, 2}, "abcd"), {layout = "chw"})))
  end)

  it("reads and writes files, and through ai.load and ai.save", function()
    local folder = files.folder()
    local x = picture({2, 1, 3}, "abcdef")
    image.write(x, folder .. "/x.png")
    aio.save(x, folder .. "/y.png")
    assert.is_true(files.get(folder .. "/x.png") == files.get(folder .. "/y.png"))
    assert.are.equal(image.encode(x), files.get(folder .. "/x.png"))
    for _, t in ipairs{image.read(folder .. "/x.png"), aio.load(folder .. "/x.png"), aio.decode(image.encode(x))} do
      assert.are.same({"U8 [2,1,3]", "abcdef"}, {files.describe(t)})
    end
    files.remove(folder)
  end)

  it("reads every kind of PNG as 1, 3 or 4 channels", function()
    assert.are.equal("\10\20", pixels(png(2, 1, 8, GREY, "\0\10\20")))
    assert.are.equal("\255\0\255", pixels(png(3, 1, 1, GREY, "\0\160")))
    assert.are.equal("\1\2\3", pixels(png(1, 1, 8, RGB, "\0\1\2\3")))
    assert.are.equal("\1\2\3\4", pixels(png(1, 1, 8, RGBA, "\0\1\2\3\4")))
    assert.are.equal("\9\9\9\4", pixels(png(1, 1, 8, GREY_ALPHA, "\0\9\4")))
    local colours = chunk("PLTE", "\1\2\3\4\5\6")
    assert.are.equal("\4\5\6\1\2\3", pixels(png(2, 1, 8, PALETTE, "\0\1\0", colours)))
    assert.are.equal("\1\2\3\7", pixels(png(1, 1, 8, PALETTE, "\0\0", colours .. chunk("tRNS", "\7"))))
  end)

  it("takes the upper eight bits of sixteen", function()
    assert.are.equal("\18\128\255", pixels(png(1, 1, 16, RGB, "\0\18\18\128\128\255\255")))
    assert.are.equal("\128", pixels(png(1, 1, 16, GREY, "\0\128\128")))
  end)

  it("converts to the channels asked for, over a background", function()
    assert.are.equal("\5\5\5", pixels(png(1, 1, 8, GREY, "\0\5"), {channels = 3}))
    assert.are.equal("\5\5\5\255", pixels(png(1, 1, 8, GREY, "\0\5"), {channels = 4}))
    assert.are.equal("\7", pixels(png(1, 1, 8, RGB, "\0\7\7\7"), {channels = 1}))
    local clear = png(1, 1, 8, RGBA, "\0\9\9\9\0")
    assert.are.equal("\255\255\255", pixels(clear, {channels = 3}))
    assert.are.equal("\1\2\3", pixels(clear, {channels = 3, background = {1, 2, 3}}))
  end)

  describe("refuses, saying why:", function()
    local good = png(2, 2, 8, GREY, "\0\1\2\0\3\4")
    local function header(w, h, depth, kind) return png(w, h, depth or 8, kind or GREY, "\0\1\2\0\3\4") end
    local function changed(at, byte) return good:sub(1, at - 1) .. string.char(byte) .. good:sub(at + 1) end
    for _, case in ipairs{
      {"an empty file", "", "does not begin as a PNG"},
      {"text", ("x"):rep(100), "does not begin as a PNG"},
      {"the signature alone", good:sub(1, 8), "header is cut short"},
      {"a header cut short", good:sub(1, 20), "header is cut short"},
      {"another first chunk", good:gsub("IHDR", "IDAT", 1), "header is cut short or missing"},
      {"no width", header(0, 2), "picture is empty"},
      {"no height", header(2, 0), "picture is empty"},
      {"a bomb", header(20000, 20000), "too large: 20000 x 20000 pixels"},
      {"a bomb that overflows", header(2 ^ 31, 2 ^ 31, 16, RGBA), "too large"},
      {"more pixels than the bytes can hold", header(10000, 10000), "cannot hold 10000 x 10000 pixels"},
      {"a depth that there is not", header(2, 2, 99), "no known kind of picture"},
      {"depth zero", header(2, 2, 0), "no known kind of picture"},
      {"a depth of 3", header(2, 2, 3), "Invalid IHDR"},
      {"a kind that there is not", header(2, 2, 8, 5), "no known kind of picture"},
      {"kind 99", header(2, 2, 8, 99), "no known kind of picture"},
      {"a header with a wrong checksum", changed(33, 1), "CRC error"},
      {"data with a wrong checksum", changed(#good - 12, 1), "CRC error"},
      {"data with a wrong byte", changed(50, 77), "."},
      {"data cut short", good:sub(1, 50), "read beyond end of data"},
      {"no data", good:sub(1, 33) .. chunk("IEND", ""), "."},
      {"too few rows", png(2, 4, 8, GREY, "\0\1\2\0\3\4"), "[Nn]ot enough"},
      {"a palette that is missing", png(1, 1, 8, PALETTE, "\0\0"), "PLTE"},
    } do
      it(case[1], function() assert.has_error_like(function() image.decode(case[2]) end, "png: %(string%): .*" .. case[3]) end)
    end

    it("options that make no sense", function()
      assert.has_error_like(function() image.decode(good, {channels = 2}) end, "channels can be 1, 3 or 4")
      assert.has_error_like(function() image.decode(good, {channels = "rgb"}) end, "channels must be a number")
      assert.has_error_like(function() image.decode(good, {layout = "bgr"}) end, 'layout must be "hwc" or "chw", got "bgr"')
      assert.has_error_like(function() image.decode(good, {background = {1, 2}}) end, "background must be")
      assert.has_error_like(function() image.decode(good, {background = {1, 2, 256}}) end, "background must be")
      assert.has_error_like(function() image.read(7) end, "the path must be a string, got number")
    end)

    it("to write what is no picture", function()
      local function fails(t, why, opts) assert.has_error_like(function() image.encode(t, opts) end, why) end
      fails("x", "needs a tensor, got string")
      fails(files.tensor("F32", {1, 1}, "abcd"), 'needs u8, got f32: .*to "u8"')
      fails(picture({4}, "abcd"), "got 1 dimensions")
      fails(picture({1, 1, 1, 1}, "a"), "got 4 dimensions")
      fails(picture({2, 2, 2}, "abcdefgh"), 'needs 1, 3 or 4 channels, got 2 in %(H, W, C%): layout = "chw"')
      fails(picture({2, 1, 3}, "abcdef"), "got 2 in %(C, H, W%)", {layout = "chw"})
      fails(picture({0, 3}, ""), "the picture is empty")
    end)
  end)

  local python = files.python "PIL"
  local oracle = python and it or pending
  oracle("agrees with Pillow, both ways", function()
    local folder = files.folder()
    local script = files.put(folder .. "/o.py", [[
import sys
from PIL import Image
for mode in ["L", "RGB", "RGBA"]:
    x = Image.open(sys.argv[1] + "/" + mode + ".png")
    assert x.mode == mode
    open(sys.argv[1] + "/" + mode + ".raw", "wb").write(x.tobytes())
    x.save(sys.argv[1] + "/" + mode + "2.png", optimize=True)
]])
    local data = {}
    for mode, channels in pairs{L = 1, RGB = 3, RGBA = 4} do
      data[mode] = files.noise(17 * 13 * channels)
      image.write(picture({17, 13, channels}, data[mode]), folder .. "/" .. mode .. ".png")
    end
    local output, ok = files.run(("%s %s %s"):format(python, script, folder))
    assert.are.same({"", true}, {output, ok})
    for mode in pairs(data) do
      assert.is_true(files.get(folder .. "/" .. mode .. ".raw") == data[mode])
      assert.is_true(select(2, files.describe(image.read(folder .. "/" .. mode .. "2.png"))) == data[mode])
    end
    files.remove(folder)
  end)
end)
