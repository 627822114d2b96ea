--- Transforms of images: each does what its name says, random ones by the loader's numbers; Pillow and PyTorch say the same.

local files = require "spec.support.files"

local ai = require "aijit"
local data = ai.data
local T = data.transforms

local message = require "spec.support.raises"

local function bytes(...) return ai.randint(0, 255, {...}, {dtype = "u8"}) end

local function close(a, b, most)
  assert.same(a.shape, b.shape)
  local d = (a:to "f64" - b:to "f64"):abs():amax():item()
  assert.is_true(d <= most, ("differs by %g"):format(d))
end

describe("a transform", function()
  before_each(function()
    ai.manual_seed(1)
    math.randomseed(1)
  end)

  it("changes a sample's first field and hands the others on", function()
    local x, label, more = T.CenterCrop(2)(bytes(3, 4, 4), 7, "a")
    assert.same({3, 2, 2}, x.shape)
    assert.same({7, "a"}, {label, more})
    local both = T.Compose {T.CenterCrop(2), T.ToFloat(), function(image, y) return image * 2, y + 1 end}
    x, label = both(bytes(4, 4), 1)
    assert.same({"f32", 2}, {x.dtype, label})
  end)

  it("crops the middle, and puts zeros around what is too small", function()
    local x = ai.arange(1, 25):reshape(5, 5)
    assert.same({{7, 8, 9}, {12, 13, 14}, {17, 18, 19}}, T.CenterCrop(3):apply(x):totable())
    assert.same({{0, 1, 1, 0}, {0, 0, 0, 0}}, T.CenterCrop({2, 4}):apply(ai.ones(1, 2)):totable())
  end)

  it("crops at random places, all of them", function()
    local seen, x = {}, ai.arange(1, 9):reshape(3, 3)
    for _ = 1, 200 do seen[T.RandomCrop(2):apply(x)[{1, 1}]:item()] = true end
    assert.same({[1] = true, [2] = true, [4] = true, [5] = true}, seen)
    assert.same({1, 5, 5}, T.RandomCrop(5, {padding = 1}):apply(ai.ones(1, 3, 3)).shape)
    assert.same({3, 5, 5}, T.RandomCrop(5, {pad_if_needed = true, mode = "reflect"}):apply(bytes(3, 3, 4)).shape)
    assert.matches("a part of 5 x 5 of an image of 3 x 3; with pad_if_needed", message(function() T.RandomCrop(5):apply(x) end))
  end)

  it("pads by a value, by the edge, by reflection", function()
    local x = ai.tensor({{1, 2, 3}}, {dtype = "u8"})
    assert.same({{9, 9, 1, 2, 3, 9}, {9, 9, 9, 9, 9, 9}}, T.Pad({2, 0, 1, 1}, {fill = 9}):apply(x):totable())
    assert.same({{1, 1, 2, 3, 3}}, T.Pad({1, 0}, {mode = "edge"}):apply(x):totable())
    assert.same({{3, 2, 1, 2, 3, 2, 1}}, T.Pad({2, 0}, {mode = "reflect"}):apply(x):totable())
    assert.matches("padding is a number", message(T.Pad, {1, 2, 3}))
  end)

  it("mirrors with its probability", function()
    local x, flipped = ai.arange(1, 4):reshape(2, 2), 0
    for _ = 1, 1000 do
      if T.RandomHorizontalFlip(0.3):apply(x)[{1, 1}]:item() == 2 then flipped = flipped + 1 end
    end
    assert.near(300, flipped, 60)
    assert.same({{2, 1}, {4, 3}}, T.RandomHorizontalFlip(1):apply(x):totable())
    assert.same({{3, 4}, {1, 2}}, T.RandomVerticalFlip(1):apply(x):totable())
    assert.matches("a number from 0 to 1, not 2", message(T.RandomVerticalFlip, 2))
  end)

  it("resizes to a size, or to a shorter side", function()
    assert.same({3, 5, 7}, T.Resize({5, 7}):apply(bytes(3, 10, 8)).shape)
    assert.same({3, 4, 8}, T.Resize(4):apply(bytes(3, 10, 20)).shape)
    assert.same({3, 8, 4}, T.Resize(4):apply(bytes(3, 20, 10)).shape)
    assert.same({3, 3, 6}, T.Resize(4, {max_size = 6}):apply(bytes(3, 10, 20)).shape)
    assert.same({2, 5, 3, 4}, T.Resize({3, 4}):apply(bytes(2, 5, 6, 8)).shape)
    assert.same({{1, 1, 3, 3}}, T.Resize({1, 4}, {filter = "nearest"}):apply(ai.tensor {{1, 3}}):totable())
    assert.matches('filter must be "nearest" or "bilinear" or "bicubic", not area', message(T.Resize, 3, {filter = "area"}))
    assert.matches("an image has rows and columns", message(function() T.Resize(3):apply(ai.ones(3)) end))
  end)

  it("takes random parts of the sizes and shapes that were asked for", function()
    local x = ai.ones(1, 40, 60)
    for _ = 1, 20 do assert.same({1, 8, 9}, T.RandomResizedCrop({8, 9}):apply(x).shape) end
    assert.same({3, 4, 4}, T.RandomResizedCrop(4, {ratio = {3, 4}}):apply(bytes(3, 30, 2)).shape)      -- no such part: the middle
    assert.matches("scale is {least, most}, above 0", message(T.RandomResizedCrop, 4, {scale = {0, 1}}))
  end)

  it("turns by an angle, counter-clockwise", function()
    local x = ai.zeros(1, 5, 5)
    x[{1, 1, 3}] = 1                                     -- above the middle
    local y = T.RandomRotation({90, 90}):apply(x)
    assert.near(1, y[{1, 3, 1}]:item(), 1e-5)            -- left of it
    assert.equal("u8", T.RandomRotation(10):apply(bytes(3, 8, 6)).dtype)
    close(T.RandomRotation({0, 0}):apply(x), x, 1e-6)
  end)

  it("erases a rectangle, and leaves the image given as it was", function()
    local x = ai.ones(3, 20, 20)
    local y = T.RandomErasing({p = 1, value = 5}):apply(x)
    local erased = y:eq(5):to("f32"):sum():item() / 3
    assert.is_true(erased >= 1 and erased <= 0.4 * 400)
    assert.equal(1200, x:sum():item())
    assert.equal(x, T.RandomErasing({p = 0}):apply(x))
  end)

  it("scales and normalises", function()
    local x = ai.tensor({{{0, 255}}, {{51, 102}}}, {dtype = "u8"})
    close(T.ToFloat():apply(x), ai.tensor {{{0, 1}}, {{0.2, 0.4}}}, 1e-7)
    close(T.Normalize({0.5, 0.2}, {0.5, 0.1}):apply(T.ToFloat():apply(x)), ai.tensor {{{-1, 1}}, {{0, 2}}}, 1e-6)
    close(T.Normalize(1, 2):apply(ai.tensor {{3, 5}}), ai.tensor {{1, 2}}, 1e-7)
    assert.matches("the image is of u8; put transforms.ToFloat%(%) in front", message(function() T.Normalize(0, 1):apply(x) end))
    assert.matches("3 channels, and an image %(2, 1, 2%)", message(function() T.Normalize({0, 0, 0}, {1, 1, 1}):apply(T.ToFloat():apply(x)) end))
    assert.matches("std of channel 2 is 0", message(T.Normalize, {0, 0}, {1, 0}))
    assert.matches("2 means and 1 standard deviations", message(T.Normalize, {0, 0}, {1}))
  end)

  it("changes colours: at 1 (hue 0) nothing, at 0 all", function()
    for _, x in ipairs {bytes(3, 6, 5), ai.rand(3, 6, 5)} do
      for _, name in ipairs {"brightness", "contrast", "saturation"} do close(T["adjust_" .. name](x, 1), x, 0) end
      close(T.adjust_hue(x, 0), x, x.dtype == "u8" and 1 or 1e-5)
      assert.equal(0, T.adjust_brightness(x, 0):amax():item())
      local grey = T.adjust_saturation(x, 0)
      close(grey[1], grey[3], 0)
      close(T.Grayscale():apply(x)[1], grey[1], 1e-6)
      assert.same({3, 6, 5}, T.Grayscale(3):apply(x).shape)
      assert.equal(x.dtype, T.ColorJitter({brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.1}):apply(x).dtype)
    end
    close(T.adjust_hue(ai.tensor {{{1}}, {{0}}, {{0}}}, 1 / 3), ai.tensor {{{0}}, {{1}}, {{0}}}, 1e-5)
    assert.matches("hue is a number from 0 on, or {least, most} from %-0.5 to 0.5", message(T.ColorJitter, {hue = 0.7}))
    assert.matches("the turn is a number from %-0.5 to 0.5, not 1", message(T.adjust_hue, ai.ones(3, 1, 1), 1))
    assert.matches("an image has 1 or 3 channels, and this one is %(2, 1, 1%)", message(T.adjust_hue, ai.ones(2, 1, 1), 0.1))
  end)

  it("is applied at random, or one of several is", function()
    local add, count = function(x) return x + 1 end, 0
    for _ = 1, 500 do count = count + T.RandomApply({add, add}, 0.4)(0) end
    assert.near(400, count, 80)
    count = 0
    for _ = 1, 500 do count = count + T.RandomChoice {add, function(x) return x end}(0) end
    assert.near(250, count, 50)
    assert.matches("entry 2 is a number, not a transform", message(T.Compose, {add, 5}))
  end)
end)

describe("a batch is mixed", function()
  it("by MixUp: images and labels by the same weight", function()
    math.randomseed(3)
    local x = ai.tensor {{{0}}, {{10}}, {{20}}}
    local images, labels, more = T.MixUp({classes = 3, alpha = 0.4})(x, ai.tensor({1, 2, 3}, {dtype = "i64"}), "more")
    assert.equal("more", more)
    close(labels:sum(2), ai.ones(3), 1e-6)
    local lambda = labels[{2, 2}]:item()
    assert.is_true(lambda > 0 and lambda < 1)
    close(images[2], ai.tensor {{10 * lambda}}, 1e-4)
    close(images[1], ai.tensor {{20 * (1 - lambda)}}, 1e-4)
    local mean = 0
    for _ = 1, 400 do mean = mean + select(2, T.MixUp({classes = 3})(x, ai.tensor({1, 2, 3}, {dtype = "i64"})))[{2, 2}]:item() / 400 end
    assert.near(0.5, mean, 0.06)
  end)

  it("by CutMix: labels count by the areas", function()
    math.randomseed(4)
    local x = ai.cat({ai.zeros(1, 1, 10, 10), ai.ones(1, 1, 10, 10)}, 1)
    for _ = 1, 20 do
      local images, labels = T.CutMix({classes = 2})(x, ai.tensor({1, 2}, {dtype = "i64"}))
      assert.near(images[1]:mean():item(), labels[{1, 2}]:item(), 1e-6)
      assert.near(1 - images[2]:mean():item(), labels[{2, 1}]:item(), 1e-6)
    end
  end)

  it("for a loss that takes shares, from a loader", function()
    local ds = data.Transformed(data.FakeData(8, {shape = {3, 8, 8}, classes = 5}), T.ToFloat())
    for images, labels in data.Loader(ds, {batch_size = 4, workers = 1, batch_transform = T.MixUp {classes = 5}}) do
      assert.same({4, 3, 8, 8}, images.shape)
      assert.is_true(ai.cross_entropy(ai.randn(4, 5), labels):item() > 0)
    end
    assert.matches("classes, their number, is wanted", message(T.MixUp, {}))
    assert.matches("must be a tensor of floats; put transforms.ToFloat", message(function() T.CutMix({classes = 2})(bytes(2, 1, 2, 2), ai.ones(2)) end))
  end)
end)

local python = files.python "torch, PIL"
local oracle = python and it or pending
oracle("PyTorch's interpolate with antialias, and Pillow's colours, are the same", function()
  local folder = files.folder()
  ai.manual_seed(5)
  local x, picture = ai.rand(3, 17, 23), bytes(3, 9, 11)
  ai.save({x = x, picture = picture:permute(2, 3, 1):contiguous()}, folder .. "/in.npz")
  local script = files.put(folder .. "/peer.py", [[
import sys, numpy, torch
from PIL import Image, ImageEnhance
d = numpy.load(sys.argv[1] + "/in.npz")
x, p = torch.from_numpy(d["x"])[None], Image.fromarray(d["picture"], "RGB")
out = {}
for mode in ["bilinear", "bicubic"]:
    for h, w in [(8, 9), (17, 40), (5, 23), (30, 11)]:
        out["%s_%d_%d" % (mode, h, w)] = torch.nn.functional.interpolate(x, (h, w), mode=mode, antialias=True)[0].numpy()
for name, enhance in [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)]:
    for f in [0.3, 1.7]:
        out["%s_%d" % (name, 10 * f)] = numpy.asarray(enhance(p).enhance(f)).transpose(2, 0, 1).copy()
numpy.savez(sys.argv[1] + "/out.npz", **out)
]])
  local output, ok = files.run(("%s %s %s"):format(python, script, folder))
  assert.is_true(ok, output)
  local seen = 0
  for name, want in pairs(ai.load(folder .. "/out.npz")) do
    local what, a, b = name:match "^(%a+)_(%d+)_?(%d*)$"
    if b ~= "" then close(T.Resize({tonumber(a), tonumber(b)}, {filter = what}):apply(x), want, 2e-6)
    else close(T["adjust_" .. what](picture, tonumber(a) / 10), want, 2) end           -- Pillow rounds its greys otherwise
    seen = seen + 1
  end
  assert.equal(14, seen)
  files.remove(folder)
end)
