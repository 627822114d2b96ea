--- Lookups in images, resizing, windows as columns: what the op table's own cases do not show.

local ai = require "aijit"
local gradcheck = require "spec.support.gradcheck"
local f = ai.f
local f64 = {dtype = "f64"}

local function largest(x) return x:abs():max():item() end
local function near(a, b, tolerance)
  assert.are.same(b:size(), a:size())
  assert.is_true(largest(a - b) <= (tolerance or 1e-12))
end

before_each(function() ai.manual_seed(4) end)

describe("grid_sample", function()
  it("gives the image back on the grid of the identity", function()
    local x = ai.randn(2, 3, 5, 4, f64)
    local theta = ai.tensor({{1, 0, 0}, {0, 1, 0}}, f64):expand {2, 2, 3}
    for _, corners in ipairs {true, false} do
      local grid = f.affine_grid(theta, {2, 3, 5, 4}, corners)
      for _, mode in ipairs {"nearest", "bilinear", "bicubic"} do
        near(f.grid_sample(x, grid, {mode = mode, align_corners = corners, padding_mode = "border"}), x)
      end
    end
    local volume = ai.randn(1, 2, 3, 2, 4, f64)
    local grid = f.affine_grid(ai.tensor({{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}}, f64), {1, 2, 3, 2, 4})
    near(f.grid_sample(volume, grid), volume)
  end)
  it("treats what is outside as padding_mode says", function()
    local x, grid = ai.tensor({{{{1, 2, 3}}}}, f64), ai.tensor({{{{-5 / 3, 0}, {5 / 3, 0}, {7, 0}}}}, f64)
    local function at(padding) return f.grid_sample(x, grid, {padding_mode = padding}):view(-1):totable() end
    assert.are.same({0, 0, 0}, at "zeros")
    assert.are.same({1, 3, 3}, at "border")
    local reflected = at "reflection"
    assert.is_true(math.abs(reflected[1] - 1.5) < 0.51 and math.abs(reflected[2] - 2.5) < 0.51)
    local nan = ai.full({1, 1, 1, 2}, 0 / 0, f64)
    for _, padding in ipairs {"zeros", "border", "reflection"} do
      for _, mode in ipairs {"nearest", "bilinear", "bicubic"} do f.grid_sample(x, nan, mode, padding) end
    end
  end)
  it("has gradients to second order in every mode, of images and volumes", function()
    for _, mode in ipairs {"nearest", "bilinear", "bicubic"} do
      for _, padding in ipairs {"zeros", "border", "reflection"} do
        for nd = 2, mode == "bicubic" and 2 or 3 do
          local x = nd == 2 and ai.randn(1, 2, 3, 4, f64) or ai.randn(1, 2, 3, 2, 4, f64)
          local grid = nd == 2 and ai.rand(1, 2, 3, 2, f64) or ai.rand(1, 2, 1, 3, 3, f64)
          grid = (grid * 3 - 1.5):requires_grad_()
          x:requires_grad_()
          local function loss() return gradcheck.total {f.grid_sample(x, grid, mode, padding)} end
          local worst, where = gradcheck.first(loss, {x, grid})
          assert.is_true(worst < 1e-6, where)
          worst, where = gradcheck.second(loss, {x, grid})
          assert.is_true(worst < 1e-5, where)
        end
      end
    end
  end)
  it("says what is wrong", function()
    assert.has_error(function() f.grid_sample(ai.zeros(1, 1, 2, 2), ai.zeros(1, 2, 2, 3)) end)
    assert.has_error(function() f.grid_sample(ai.zeros(1, 1, 2, 2), ai.zeros(2, 2, 2, 2)) end)
    assert.has_error(function() f.grid_sample(ai.zeros(1, 1, 2, 2), ai.zeros(1, 2, 2, 2), "linear") end)
    assert.has_error(function() f.grid_sample(ai.zeros(1, 1, 2, 2, 2), ai.zeros(1, 2, 2, 2, 3), "bicubic") end)
    assert.has_error(function() f.affine_grid(ai.zeros(1, 2, 2), {1, 1, 2, 2}) end)
  end)
end)

describe("interpolate", function()
  it("keeps straight lines in cubic mode, and the ends with align_corners", function()
    local x = ai.arange(1, 8, 1, f64):reshape(1, 1, 1, 8)
    local y = f.interpolate(x, {size = {1, 15}, mode = "bicubic", align_corners = true})
    near(y[{1, 1, 1, {4, 12}}], ai.arange(2.5, 6.5, 0.5, f64), 1e-12)
    assert.are.equal(8, y[{1, 1, 1, 15}]:item())
    near(f.interpolate(x, {size = {1, 8}, mode = "bicubic"}), x)
    assert.has_error(function() f.interpolate(ai.zeros(1, 1, 4), {size = 3, mode = "bicubic"}) end)
  end)
end)

describe("rearrangements", function()
  it("are undone by their opposites", function()
    local x = ai.randn(2, 12, 3, 4, f64)
    near(f.pixel_unshuffle(f.pixel_shuffle(x, 2), 2), x)
    near(f.channel_shuffle(f.channel_shuffle(x, 3), 4), x)
    assert.are.same({3, 6, 8}, f.pixel_shuffle(x[1], 2):size())
    assert.has_error(function() f.pixel_shuffle(x, 5) end)
    assert.has_error(function() f.pixel_unshuffle(x, 2) end)
    assert.has_error(function() f.channel_shuffle(x, 5) end)
  end)
  it("make convolutions products of columns", function()
    local x, w = ai.randn(2, 3, 6, 5, f64), ai.randn(4, 3, 3, 2, f64)
    local o = {padding = 1, stride = {2, 1}, dilation = {1, 2}}
    local columns = f.im2col(x, {3, 2}, o)
    local y = f.conv2d(x, w, nil, o)
    near(w:reshape(4, 18):matmul(columns):reshape(y:size()), y, 1e-11)
    near(f.im2col(x[1], {3, 2}, o), columns[1])
  end)
  it("add up in col2im what im2col took, as often as it was taken", function()
    local x = ai.randn(2, 3, 6, 5, f64)
    local o = {padding = {1, 0}, stride = 2}
    local counts = f.col2im(f.im2col(ai.ones_like(x), {3, 2}, o), {6, 5}, {3, 2}, o)
    near(f.fold(f.im2col(x, {3, 2}, o), {6, 5}, {3, 2}, o), x * counts)
    assert.has_error(function() f.col2im(ai.zeros(1, 6, 7), {6, 5}, {3, 2}) end)
    assert.has_error(function() f.im2col(ai.zeros(1, 1, 2, 2), 3) end)
  end)
end)
