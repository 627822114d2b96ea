--- Convolutions: large batches go in slices, in ways that are chosen by time; the numbers are the same.

local ai = require "aijit"
local process = require "spec.support.process"
local f = ai.f

--- Result and gradients of a convolution.
local function conv(x, w, b, options, g)
  local leaf, weight, bias = x:detach():requires_grad_(), w:detach():requires_grad_(), b:detach():requires_grad_()
  local y = f.conv2d(leaf, weight, bias, options)
  y:backward(g or ai.ones_like(y))
  return y:detach(), leaf.grad, weight.grad, bias.grad
end

local function distance(a, b) return ((a:double() - b:double()):abs():max() / (b:double():abs():max() + 1e-9)):item() end

local shapes = {
  {"3 x 3", {37, 32, 11, 13}, {48, 32, 3, 3}, {padding = 1}},
  {"3 x 3 of one channel", {70, 1, 20, 20}, {32, 1, 3, 3}, {padding = 1}},
  {"1 x 1", {65, 64, 9, 9}, {32, 64, 1, 1}, {}},
  {"5 x 5 with a stride", {33, 16, 30, 26}, {32, 16, 5, 5}, {stride = 2, padding = 2}},
  {"3 x 3 in groups, dilated", {40, 32, 15, 15}, {64, 8, 3, 3}, {groups = 4, dilation = 2}},
}

describe("a convolution of many images", function()
  for _, s in ipairs(shapes) do
    local name, x_size, w_size, options = unpack(s)
    for _, dtype in ipairs {"f32", "bf16"} do
      it(("gives what each image gives alone: %s, %s"):format(name, dtype), function()
        ai.manual_seed(1)
        local x, w, b = ai.randn(x_size):to(dtype), (ai.randn(w_size) / 10):to(dtype), ai.randn(w_size[1]):to(dtype)
        local y, gx, gw, gb = conv(x, w, b, options)
        local ys, gxs, gws, gbs = {}, {}, ai.zeros(w_size, {dtype = "f64"}), ai.zeros({w_size[1]}, {dtype = "f64"})
        for i = 1, x_size[1] do
          local yi, gxi, gwi, gbi = conv(x:slice(1, i, i):double(), w:double(), b:double(), options)
          ys[i], gxs[i] = yi, gxi
          gws, gbs = gws + gwi, gbs + gbi
        end
        local near = dtype == "f32" and 2e-5 or 2e-2
        assert.is_true(distance(y, ai.cat(ys, 1)) < near)
        assert.is_true(distance(gx, ai.cat(gxs, 1)) < near)
        assert.is_true(distance(gw, gws) < near)
        assert.is_true(distance(gb, gbs) < near)
      end)
    end
  end

  it("gives the same bits on one, two and three threads, where it is to be deterministic", function()
    ai.manual_seed(2)
    local x, w, b = ai.randn(30, 32, 28, 28), ai.randn(32, 32, 3, 3), ai.randn(32)
    local g, first = ai.randn(30, 32, 28, 28), nil
    ai.deterministic(true)
    for threads = 1, 3 do
      ai.set_num_threads(threads)
      local results = {conv(x, w, b, {padding = 1}, g)}
      first = first or results
      for i = 1, 4 do assert.is_true(results[i]:equal(first[i]):item()) end
    end
    ai.deterministic(false)
    ai.set_num_threads(tonumber(os.getenv "OMP_NUM_THREADS") or 2)
  end)

  it("goes in the ways that AIJIT_CONV names, to the same numbers", function()
    local program = [[
      local ai = require "aijit"
      ai.manual_seed(3)
      local x, w = ai.randn(24, 32, 28, 28):requires_grad_(), (ai.randn(32, 32, 3, 3) / 10):requires_grad_()
      local y = ai.f.conv2d(x, w, nil, {padding = 1})
      y:square():sum():backward()
      for _, t in ipairs {y, x.grad, w.grad} do io.write(("%.4e "):format(t:detach():double():square():sum():item())) end]]
    local file = os.tmpname()
    local out = assert(io.open(file, "w"))
    out:write(program)
    out:close()
    local first
    for _, way in ipairs {"auto", "direct", "winograd", "nhwc,whole"} do
      local ran = process.run(("AIJIT_CONV=%s %s %s"):format(way, process.quote(process.aijit()), process.quote(file)))
      assert.are.equal(0, ran.status, ran.err)
      first = first or ran.out
      assert.are.equal(first, ran.out)
    end
    os.remove(file)
  end)
end)
