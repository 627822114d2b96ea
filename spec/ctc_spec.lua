--- ctc_loss against the sum over all ways to spread labels over steps, and against differences.

local ai = require "aijit"
local f = ai.f

-- Sums the probabilities of all paths whose labels, without repeats and blanks, are the target.
local function by_hand(log_probs, target, blank)
  local steps, total = log_probs:totable(), 0
  local classes = #steps[1]
  local function go(t, path, log_p)
    if t > #steps then
      local left, before = {}, nil
      for _, c in ipairs(path) do
        if c ~= before and c ~= blank then left[#left + 1] = c end
        before = c
      end
      if table.concat(left, " ") == table.concat(target, " ") then total = total + math.exp(log_p) end
      return
    end
    for c = 1, classes do
      path[t] = c
      go(t + 1, path, log_p + steps[t][c])
    end
    path[t] = nil
  end
  go(1, {}, 0)
  return -math.log(total)
end

local function whole(t) return ai.tensor(t, {dtype = "i64"}) end
local function scores(T, N, C) return ai.randn(T, N, C, {dtype = "f64"}):log_softmax(3) end
local function refused(text, ...)
  local ok, why = pcall(f.ctc_loss, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(why):find(text, 1, true), tostring(why))
end

it("is the logarithm of the sum over all paths", function()
  ai.manual_seed(1)
  for blank = 1, 3 do
    local others = {}
    for c = 1, 3 do if c ~= blank then others[#others + 1] = c end end
    local a, b = unpack(others)
    local targets, lengths = {{a, b, a}, {a, a, b}, {b, a, a}, {a, a, a}}, {3, 2, 1, 0}
    local lp, inputs = scores(5, 4, 3), {5, 4, 3, 5}
    local loss = f.ctc_loss(lp, whole(targets), inputs, lengths, {blank = blank, reduction = "none"}):totable()
    for i = 1, 4 do
      local want = {unpack(targets[i], 1, lengths[i])}
      assert.is_true(math.abs(loss[i] - by_hand(lp:select(2, i):narrow(1, 1, inputs[i]), want, blank)) < 1e-12, "sequence " .. i)
    end
  end
end)

it("takes labels in one row, one sequence alone, tensors of lengths, and f32", function()
  local lp = scores(6, 2, 4)
  local rows, row = whole{{2, 3}, {4, 1}}, whole{2, 3, 4}
  local want = f.ctc_loss(lp, rows, {6, 5}, {2, 1})
  assert.are.equal(want:item(), f.ctc_loss(lp, row, whole{6, 5}, whole{2, 1}):item())
  local each = f.ctc_loss(lp, rows, {6, 5}, {2, 1}, {reduction = "none"})
  assert.is_true(math.abs(want:item() - (each[1]:item() / 2 + each[2]:item()) / 2) < 1e-12)
  assert.is_true(math.abs(each:sum():item() - f.ctc_loss(lp, rows, {6, 5}, {2, 1}, 1, "sum"):item()) < 1e-12)
  local alone = f.ctc_loss(lp:select(2, 1), whole{2, 3}, 6, 2, {reduction = "none"})
  assert.are.same({}, alone.shape)
  assert.are.equal(each[1]:item(), alone:item())
  local single = f.ctc_loss(lp:float(), rows, {6, 5}, {2, 1})
  assert.are.equal("f32", single.dtype)
  assert.is_true(math.abs(single:item() - want:item()) < 1e-5)
  assert.are.equal("bf16", f.ctc_loss(lp:to("bf16"), rows, {6, 5}, {2, 1}).dtype)
end)

it("has first and second gradients, at steps that are impossible too", function()
  local x = ai.randn(4, 2, 3, {dtype = "f64", requires_grad = true})
  local function loss(v) return f.ctc_loss(v:log_softmax(3), whole{{2, 2}, {3, 2}}, {4, 3}, {2, 1}) end
  local g = ai.grad(loss(x), {x}, {create_graph = true})[1]
  local gg = ai.grad(g:square():sum(), {x})[1]
  local step = 1e-5
  ai.no_grad(function()
    for _, at in ipairs {{1, 1, 1}, {2, 1, 2}, {4, 2, 3}, {3, 2, 2}} do
      local function moved(d)
        local y = x:detach():clone()
        y[at] = y[at] + d
        return y
      end
      local slope = (loss(moved(step)):item() - loss(moved(-step)):item()) / (2 * step)
      assert.is_true(math.abs(slope - g[at]:item()) < 1e-8)
      local function of_gradient(d)
        local y = moved(d)
        y.requires_grad = true
        return ai.enable_grad(function() return ai.grad(loss(y), {y})[1]:square():sum():item() end)
      end
      local bend = (of_gradient(step) - of_gradient(-step)) / (2 * step)
      assert.is_true(math.abs(bend - gg[at]:item()) < 1e-7)
    end
  end)
  assert.are.equal(0, g:select(1, 4):select(1, 2):abs():max():item())   -- after the end of the second sequence
  local sure = ai.tensor({{0, -math.huge}, {-math.huge, 0}, {0, -math.huge}}, {dtype = "f64", requires_grad = true})
  local l = f.ctc_loss(sure, whole{2}, 3, 1)
  l:backward()
  assert.are.equal(0, l:item())
  assert.is_true(sure.grad:eq(sure.grad):all():item())
end)

it("a target that does not fit has an infinite loss, or with zero_infinity none and no gradient", function()
  local lp = scores(2, 1, 3)
  lp.requires_grad = true
  assert.are.equal(math.huge, f.ctc_loss(lp, whole{{2, 2}}, {2}, {2}):item())
  local zero = f.ctc_loss(lp, whole{{2, 2}}, {2}, {2}, {zero_infinity = true})
  assert.are.equal(0, zero:item())
  zero:backward()
  assert.are.equal(0, lp.grad:abs():max():item())
  assert.are.equal(math.huge, f.ctc_loss(lp, whole{{2, 2}}, {0}, {1}):item())
  assert.are.equal(0, f.ctc_loss(lp, whole{{2, 2}}, {0}, {0}):item())
end)

it("what is wrong is named", function()
  local lp = scores(4, 2, 3)
  local targets = whole{{2, 3}, {3, 2}}
  refused("input_lengths 2 is 5, and must be from 0 to 4", lp, targets, {4, 5}, {2, 2})
  refused("target_lengths 1 is 3", lp, targets, {4, 4}, {3, 2})
  refused("1 input_lengths for 2 sequences", lp, targets, {4}, {2, 2})
  refused("label 1 is the blank", lp, whole{{1, 2}, {3, 2}}, {4, 4}, {2, 2})
  refused("label 4 of 3 classes", lp, whole{{4, 2}, {3, 2}}, {4, 4}, {2, 2})
  refused("blank is 4 of 3 classes", lp, targets, {4, 4}, {2, 2}, 4)
  refused("add up to 3, and there are 4 targets", lp, whole{2, 3, 2, 3}, {4, 4}, {2, 1})
  refused("unknown option blnk", lp, targets, {4, 4}, {2, 2}, {blnk = 1})
  refused("the reduction is", lp, targets, {4, 4}, {2, 2}, {reduction = "avg"})
  refused("targets are integers", lp, ai.ones(2, 2), {4, 4}, {2, 2})
  refused("log_probs are floats", targets, targets, {4, 4}, {2, 2})
  refused("argument 1 (log_probs) is nil", nil, targets, {4, 4}, {2, 2})
end)
