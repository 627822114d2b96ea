local ai = require "aijit"
local image = require "aijit.image"
local aio = require "aijit.io"
require "support.like"
local files = require "support.files"

local function picture(shape, data) return files.tensor("U8", shape, data) end

--- A smooth picture, of which a JPEG loses little.
local function smooth(height, width, channels)
  local bytes = {}
  for y = 1, height do
    for x = 1, width do
      for c = 1, channels do bytes[#bytes + 1] = string.char(math.floor(128 + 100 * math.sin(y / 19 + c) * math.cos(x / 23))) end
    end
  end
  return picture({height, width, channels}, table.concat(bytes))
end

local function far(a, b) return a:to("f32"):sub(b:to "f32"):abs():max():item() end
local function encode(t, opts)
  opts = opts or {}
  opts.format = "jpeg"
  return image.encode(t, opts)
end

describe("jpeg", function()
  it("gives back pictures of 1 and 3 channels, closely", function()
    for _, channels in ipairs{1, 3} do
      for _, size in ipairs{{1, 1}, {7, 9}, {64, 64}, {33, 130}} do
        local x = smooth(size[1], size[2], channels)
        local y = image.decode(encode(x, {quality = 95}))
        assert.are.same({size[1], size[2], channels}, y.shape)
        assert.is_true(far(x, y) <= 6)
      end
    end
  end)

  it("is smaller when its quality is lower, 75 unless told", function()
    local x = smooth(100, 100, 3)
    local sizes = {}
    for i, q in ipairs{10, 50, 75, 95} do sizes[i] = #encode(x, {quality = q}) end
    assert.is_true(sizes[1] < sizes[2] and sizes[2] < sizes[3] and sizes[3] < sizes[4])
    assert.are.equal(sizes[3], #encode(x))
  end)

  it("takes and gives (C, H, W) when told so, and views of any stride", function()
    local x = smooth(20, 30, 3)
    local planes = x:permute(3, 1, 2)
    assert.are.equal(encode(x), encode(planes, {layout = "chw"}))
    assert.are.equal(encode(x), encode(planes:clone(), {layout = "chw"}))
    local y = image.decode(encode(x), {layout = "chw"})
    assert.are.same({3, 20, 30}, y.shape)
    assert.are.equal(0, far(y:permute(2, 3, 1), image.decode(encode(x))))
    assert.are.equal(encode(x[{{}, {}, {1, 1}}]), encode(x[{{}, {}, 1}]))
  end)

  it("converts to the channels asked for", function()
    local grey = encode(smooth(8, 8, 1))
    assert.are.same({8, 8, 3}, image.decode(grey, {channels = 3}).shape)
    assert.are.same({8, 8, 1}, image.decode(encode(smooth(8, 8, 3)), {channels = 1}).shape)
    assert.are.equal(255, image.decode(grey, {channels = 4})[{1, 1, 4}]:item())
  end)

  it("is written and read by ai.save and ai.load; the content decides, not the name", function()
    local folder = files.folder()
    local x = smooth(16, 16, 3)
    ai.save(x, folder .. "/x.jpg", {quality = 90})
    image.write(x, folder .. "/y.JPEG", {quality = 90})
    assert.is_true(files.get(folder .. "/x.jpg") == files.get(folder .. "/y.JPEG"))
    files.put(folder .. "/x.png", files.get(folder .. "/x.jpg"))
    files.put(folder .. "/blank", files.get(folder .. "/x.jpg"))
    files.put(folder .. "/z.jpg", image.encode(x))
    local want = image.decode(files.get(folder .. "/x.jpg"))
    for _, name in ipairs{"x.jpg", "y.JPEG", "x.png", "blank"} do assert.are.equal(0, far(want, ai.load(folder .. "/" .. name))) end
    assert.are.equal(0, far(x, ai.load(folder .. "/z.jpg")))
    assert.are.equal(0, far(want, aio.decode(aio.encode(x, {format = "jpeg", quality = 90}))))
    assert.are.same({4, 5, 3}, ai.load(folder .. "/x.jpg", {size = {4, 5}}).shape)
    files.remove(folder)
  end)

  it("is decoded smaller where it is to be small, and looks the same", function()
    local x = smooth(256, 200, 3)
    local bytes = encode(x, {quality = 95})
    for _, size in ipairs{{256, 200}, {200, 150}, {100, 100}, {64, 50}, {30, 25}, {8, 6}} do
      local y = image.decode(bytes, {size = size})
      assert.are.same({size[1], size[2], 3}, y.shape)
      assert.is_true(far(y, image.resize(x, size[1], size[2])) <= 8)
    end
    assert.are.same({3, 9, 300}, image.decode(bytes, {size = {9, 300}, layout = "chw"}).shape)
  end)

  describe("refuses, saying why:", function()
    local good = encode(smooth(40, 40, 3))
    local at = good:find("\255\192", 1, true)      -- the frame: marker, length, depth, height, width
    local function sized(h, w) return good:sub(1, at + 4) .. files.be(h, 2) .. files.be(w, 2) .. good:sub(at + 9) end
    local scan = good:find("\255\218", 1, true)
    for _, case in ipairs{
      {"a beginning alone", "\255\216\255", "does not begin as a JPEG"},
      {"two bytes", "\255\216", "does not begin as a JPEG"},
      {"another marker", "\255\216\0\0" .. good, "does not begin as a JPEG"},
      {"an end after the beginning", "\255\216\255\217", "."},
      {"zeros after the beginning", "\255\216\255" .. ("\0"):rep(100), "."},
      {"a header cut short", good:sub(1, at + 3), "."},
      {"a header without a scan", good:sub(1, scan - 1), "."},
      {"data cut short", good:sub(1, scan + 30), "[Pp]remature end"},
      {"the last bytes missing", good:sub(1, -20), "[Pp]remature end"},
      {"tables without a picture", good:sub(1, at - 1) .. "\255\217", "no picture in it"},
      {"no height", sized(0, 40), "."},
      {"no width", sized(40, 0), "."},
      {"a bomb", sized(65000, 65000), "too large: 65000 x 65000"},
      {"more pixels than the bytes can hold", sized(10000, 10000), "cannot hold 10000 x 10000 pixels"},
      {"more rows than there are", sized(400, 40), "."},
      {"twelve bits", good:sub(1, at + 3) .. "\12" .. good:sub(at + 5), "[Uu]nsupported JPEG data precision 12"},
      {"a lossless frame", good:sub(1, at) .. "\195" .. good:sub(at + 2), "[Uu]nsupported"},
      {"no components", good:sub(1, at + 8) .. "\0" .. good:sub(at + 10), "."},
      {"two frames", good:sub(1, scan - 1) .. good:sub(at, scan - 1) .. good:sub(scan), "SOF"},
      {"a Huffman table that is none", (good:gsub("\255\196..%z.", "\255\196\0\31\0\255", 1)), "."},
      {"noise as data", good:sub(1, scan + 13) .. files.noise(500):gsub("\255", "a"), "."},
    } do
      it(case[1], function() assert.has_error_like(function() image.decode(case[2]) end, "jpeg: %(string%): .*" .. case[3]) end)
    end

    it("options that make no sense", function()
      local x = smooth(4, 4, 3)
      for _, q in ipairs{0, 101, -5} do assert.has_error_like(function() encode(x, {quality = q}) end, "quality is from 1 to 100") end
      for _, q in ipairs{1.5, "high"} do assert.has_error_like(function() encode(x, {quality = q}) end, "quality must be a whole number") end
      assert.has_error_like(function() image.encode(x, {format = "gif"}) end, 'format must be "png" or "jpeg", got "gif"')
      for _, size in ipairs{{1}, {0, 5}, {2, 1.5}, {"a", 1}, {2, -1}} do
        assert.has_error_like(function() image.decode(good, {size = size}) end, "size must be {height, width}")
      end
      assert.has_error_like(function() image.decode(good, {size = 5}) end, "size must be {height, width}")
      assert.has_error_like(function() image.decode(good, {size = {5, 5}, filter = "magic"}) end, 'filter must be .* got "magic"')
      assert.has_error_like(function() image.decode(good, {channels = 2}) end, "channels can be 1, 3 or 4")
    end)

    it("to write what is no picture", function()
      assert.has_error_like(function() encode(picture({1, 1, 4}, "abcd")) end, "there is no alpha in a JPEG")
      assert.has_error_like(function() encode(picture({1, 70000, 1}, ("a"):rep(70000))) end, "at most 65500")
      assert.has_error_like(function() encode(picture({0, 3}, "")) end, "jpeg: .*the picture is empty")
      assert.has_error_like(function() encode(ai.zeros(2, 2)) end, "jpeg: .*needs u8, got f32")
    end)
  end)
end)

describe("resizing pictures", function()
  it("gives the means of what a pixel covers, and leaves what has the size", function()
    local x = picture({2, 4}, string.char(0, 10, 20, 30, 40, 50, 60, 70))
    assert.are.same({{35}}, image.resize(x, 1, 1):to("i64"):tolist())
    assert.are.same(x:to("i64"):tolist(), image.resize(x, 2, 4):to("i64"):tolist())
    assert.are.same({{0, 0, 20, 20}, {40, 40, 60, 60}}, image.resize(x[{{}, {1, 3, 2}}], 2, 4, {filter = "nearest"}):to("i64"):tolist())
    assert.are.same({2, 4}, image.resize(x, 2, 4).shape)
  end)

  it("keeps to its layout", function()
    local x = smooth(20, 30, 3)
    local y = image.resize(x, 7, 50)
    assert.are.equal(0, far(y, image.resize(x:permute(3, 1, 2), 7, 50, {layout = "chw"}):permute(2, 3, 1)))
  end)

  it("refuses sizes and tensors that are none", function()
    local x = smooth(4, 4, 3)
    assert.has_error_like(function() image.resize(x, 0, 4) end, "size must be")
    assert.has_error_like(function() image.resize(x, 4) end, "size must be")
    assert.has_error_like(function() image.resize(x, 100000, 100000) end, "the new size cannot be 100000 x 100000")
    assert.has_error_like(function() image.resize(7, 4, 4) end, "needs a tensor, got number")
    assert.has_error_like(function() image.resize(ai.zeros(2, 2), 4, 4) end, "needs u8")
  end)

  local python = files.python "PIL"
  local oracle = python and it or pending
  oracle("agrees with Pillow to the bit; so do JPEGs", function()
    local folder = files.folder()
    local script = files.put(folder .. "/o.py", [==[
import sys
from PIL import Image
d = sys.argv[1]
for mode in ["L", "RGB"]:
    x = Image.open(d + "/" + mode + ".png")
    assert x.mode == mode, x.mode
    for name, f in [("nearest", Image.NEAREST), ("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)]:
        for h, w in [(37, 53), (10, 10), (100, 20), (5, 200), (1, 1), (74, 106)]:
            open("%s/%s-%s-%d-%d.raw" % (d, mode, name, h, w), "wb").write(x.resize((w, h), f).tobytes())
    x.save(d + "/" + mode + ".jpg", quality=85)
    x.save(d + "/" + mode + "p.jpg", quality=60, progressive=True)
    for n in ["", "p"]: Image.open(d + "/" + mode + n + ".jpg").save(d + "/" + mode + n + "2.png")
    ours = Image.open(d + "/" + mode + "3.jpg")
    assert ours.mode == mode and ours.size == x.size
x.convert("CMYK").save(d + "/cmyk.jpg", quality=95)
]==])
    -- Pillow 9 rounds between its two passes as aijit does; later ones (13 is one) do not, which may show in the last bits.
    local newer = tonumber((files.run(python .. " -c 'import PIL; print(PIL.__version__.split(\".\")[0])'"))) > 9
    local function almost(a, b)
      for i = 1, #a do if math.abs(a:byte(i) - b:byte(i)) > 4 then return false end end
      return #a == #b
    end
    local x = {L = files.noise(37 * 53), RGB = files.noise(37 * 53 * 3)}
    local shape = {L = {37, 53, 1}, RGB = {37, 53, 3}}
    for mode, data in pairs(x) do
      image.write(picture(shape[mode], data), folder .. "/" .. mode .. ".png")
      image.write(picture(shape[mode], data), folder .. "/" .. mode .. "3.jpg")
    end
    local output, ok = files.run(("%s -W ignore %s %s"):format(python, script, folder))
    assert.are.same({"", true}, {output, ok})
    for mode, data in pairs(x) do
      for _, filter in ipairs{"nearest", "bilinear", "bicubic"} do
        for _, size in ipairs{{37, 53}, {10, 10}, {100, 20}, {5, 200}, {1, 1}, {74, 106}} do
          local got = select(2, files.describe(image.resize(picture(shape[mode], data), size[1], size[2], {filter = filter})))
          local wanted = files.get(("%s/%s-%s-%d-%d.raw"):format(folder, mode, filter, size[1], size[2]))
          assert.is_true(got == wanted or (newer and almost(got, wanted)), filter .. size[1])
        end
      end
      for _, n in ipairs{"", "p"} do
        assert.is_true(far(image.read(("%s/%s%s.jpg"):format(folder, mode, n)), image.read(("%s/%s%s2.png"):format(folder, mode, n))) <= 2)
      end
    end
    assert.are.same({37, 53, 3}, image.read(folder .. "/cmyk.jpg").shape)
    assert.has_error_like(function() image.read(folder .. "/cmyk.jpg", {channels = 1}) end, "CMYK")
    files.remove(folder)
  end)
end)
