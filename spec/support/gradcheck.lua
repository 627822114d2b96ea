--- Gradients against central differences, to first and second order.
--
-- The outputs are weighted by fixed numbers and summed, so that one backward pass checks every element; in double,
-- a difference of step 1e-6 is right to about 1e-8.

local ai = require "aijit"

local gradcheck = {}

local function weights(y, k)
  local w, n = {}, y:numel()
  for i = 1, n do w[i] = math.sin(i * 1.7 + k) + 0.3 end
  return ai.tensor(w, {dtype = "f64"}):reshape(y:size()):to(y.dtype):to(y.device)
end

--- The weighted sum of the float results among `results`.
local function total(results)
  local sum
  for k, y in ipairs(results) do
    if ai.is_tensor(y) and y:is_floating_point() and y:numel() > 0 then
      local s = (y * weights(y, k)):sum()
      sum = sum and sum + s or s
    end
  end
  return sum
end
gradcheck.total = total

local function difference(f, x, i, step)
  local flat = x:detach():view(-1)
  local keep = flat[i]:item()
  local function at(v)
    return ai.no_grad(function()
      flat[i] = v
      return f():item()
    end)
  end
  local hi, lo = at(keep + step), at(keep - step)
  at(keep)
  return (hi - lo) / (2 * step)
end

--- Checks the gradient of f (which returns a one-element tensor computed from xs) with respect to each of xs
-- (contiguous f64 leaves). Returns the worst error, relative to 1 + |difference|, and where it is.
---@param f fun(): aijit.Tensor
---@param xs aijit.Tensor[]
---@param o {step: number?, gradients: (fun(): (aijit.Tensor|false)[])?, sample: integer?}?
---@return number worst
---@return string? where
function gradcheck.first(f, xs, o)
  o = o or {}
  return ai.scope(function()
    local grads = o.gradients and o.gradients() or ai.grad(f(), xs, {allow_unused = true})
    local worst, where = 0, nil
    for k, x in ipairs(xs) do
      local g = grads[k]
      local flat = g and g:contiguous():view(-1):totable()
      local n = x:numel()
      local stride = o.sample and math.max(1, math.floor(n / o.sample)) or 1
      for i = 1, n, stride do
        local d = difference(f, x, i, o.step or 1e-6)
        local have = flat and flat[i] or 0
        local e = math.abs(have - d) / (1 + math.abs(d))
        if not (e <= worst) then
          worst, where = e, ("input %d, element %d: gradient %.10g, difference %.10g"):format(k, i, have, d)
        end
      end
    end
    return worst, where
  end)
end

--- Checks the gradient of the gradient: of the sum of the first gradients, weighted, by differences of it.
---@param f fun(): aijit.Tensor
---@param xs aijit.Tensor[]
---@return number worst
---@return string? where
function gradcheck.second(f, xs, o)
  local function g()
    local before = ai.set_grad_enabled(true)
    local ok, result = pcall(function()
      local grads, tied = ai.grad(f(), xs, {create_graph = true, allow_unused = true}), {}
      for _, v in ipairs(grads) do if v then tied[#tied + 1] = v end end
      return total(tied) or ai.zeros({}, {dtype = "f64", device = xs[1].device})
    end)
    ai.set_grad_enabled(before)
    if not ok then error(result, 0) end
    return result
  end
  return ai.scope(function()
    local s = g()
    local gradients
    if not s.requires_grad then                          -- the first gradient is a constant, and must be one
      gradients = function() local none = {} for i = 1, #xs do none[i] = false end return none end
    end
    return gradcheck.first(g, xs, {step = 1e-5, gradients = gradients, sample = o and o.sample})
  end)
end

return gradcheck
