--- Random numbers of further distributions, made of uniform and normal ones, so that a seed fixes them on every device.
-- They are not differentiated.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local random = require "aijit.bindings.random"
local autograd = require "aijit.bindings.autograd"
local f = op.functions

local distribution = {}

local function uniform(x) return random.rand(Tensor.size(x), {dtype = "f64", device = x.device}) end
local function number(name, i, what, v)
  if type(v) ~= "number" then op.helper.bad(name, i, what, "a number", v) end
  return v
end
local function floats(name, x)
  if not lib.is_tensor(x) then op.helper.bad(name, 1, "x", "a tensor", x) end
  if not Tensor.is_floating_point(x) then lib.raise(name .. ": a tensor of floats is wanted, not of " .. x.dtype) end
end

--- x becomes random numbers whose logarithms are normal.
---@param x aijit.Tensor
---@param mean number?  of the logarithm, 1
---@param std number?   of the logarithm, 2
---@return aijit.Tensor x
function distribution.log_normal_(x, mean, std)
  floats("log_normal_", x)
  if type(mean) == "table" then mean, std = mean.mean, mean.std end
  return f.exp_(f.normal_(x, mean or 1, std or 2))
end

--- x becomes random numbers of Cauchy's distribution.
---@param x aijit.Tensor
---@param median number?  0
---@param sigma number?   half the distance of the quartiles, 1
---@return aijit.Tensor x
function distribution.cauchy_(x, median, sigma)
  floats("cauchy_", x)
  if type(median) == "table" then median, sigma = median.median, median.sigma end
  if number("cauchy_", 3, "sigma", sigma or 1) <= 0 then lib.raise(("cauchy_: sigma is %g, and must be above 0"):format(sigma)) end
  return f.copy_(x, f.add(f.mul(f.tan(f.mul(f.sub(uniform(x), 0.5), math.pi)), sigma or 1), median or 0))
end

--- x becomes random numbers of trials until the first success.
---@param x aijit.Tensor
---@param p number  the probability of a success
---@return aijit.Tensor x
function distribution.geometric_(x, p)
  if not lib.is_tensor(x) then op.helper.bad("geometric_", 1, "x", "a tensor", x) end
  if number("geometric_", 2, "p", p) <= 0 or p >= 1 then lib.raise(("geometric_: p is %g, and must be between 0 and 1"):format(p)) end
  local log_fail = p < 1e-5 and -p - p * p / 2 - p * p * p / 3 or math.log(1 - p)
  return f.copy_(x, f.clamp_min(f.ceil(f.div(f.log1p(f.neg(uniform(x))), log_fail)), 1))
end

--- Normally distributed random numbers, each of its own mean and standard deviation.
---@param mean aijit.Tensor|number
---@param std aijit.Tensor|number?  1
---@param ... any  if both are numbers: sizes, then options
---@return aijit.Tensor
function distribution.normal(mean, std, ...)
  std = std or 1
  if type(mean) == "number" and type(std) == "number" then
    local y = random.randn(...)
    return autograd.no_grad(function() return f.add_(f.mul_(y, std), mean) end)
  end
  for i, v in ipairs {mean, std} do
    if type(v) ~= "number" and not lib.is_tensor(v) then op.helper.bad("normal", i, i == 1 and "mean" or "std", "a number or a tensor", v) end
  end
  return autograd.no_grad(function()
    local y = type(mean) == "number" and f.mul(std, 0) or type(std) == "number" and mean or f.add(mean, std)
    if not Tensor.is_floating_point(y) then y = Tensor.float(y) end
    local known = type(std) ~= "number" and Tensor.numel(std) > 0 and std.device ~= "meta"
    if known and Tensor.item(f.any(f.lt(std, 0))) then lib.raise "normal: a standard deviation is below 0" end
    return f.add(f.mul(random.randn_like(y), std), mean)
  end)
end

-- Draws until every element is accepted: propose() gives a tensor and which of its elements hold.
local function rejection(like, propose)
  local y, open = f.mul(like, 0), f.eq(like, like)
  for _ = 1, 1000 do
    local k, good = propose()
    local take = f.logical_and(open, good)
    y = Tensor.where(take, k, y)
    open = f.logical_and(open, f.logical_not(good))
    if not Tensor.item(f.any(open)) then break end
  end
  return y
end

-- W. Hoermann, "The transformed rejection method for generating Poisson random variables" (1993), algorithm PTRS.
local function poisson_large(rate)
  local log_rate = f.log(rate)
  local b = f.add(f.mul(f.sqrt(rate), 2.53), 0.931)
  local a = f.sub(f.mul(b, 0.02483), 0.059)
  local log_alpha = f.log(f.add(f.div(1.1328, f.sub(b, 3.4)), 1.1239))
  local accept = f.sub(0.9277, f.div(3.6224, f.sub(b, 2)))
  return rejection(rate, function()
    local u, v = f.sub(uniform(rate), 0.5), uniform(rate)
    local us = f.sub(0.5, f.abs(u))
    local k = f.floor(f.add(f.mul(f.add(f.div(f.mul(a, 2), us), b), u), f.add(rate, 0.43)))
    local quick = f.logical_and(f.ge(us, 0.07), f.le(v, accept))
    local left = f.sub(f.add(f.log(v), log_alpha), f.log(f.add(f.div(a, f.square(us)), b)))
    local right = f.sub(f.sub(f.mul(k, log_rate), rate), f.lgamma(f.add(k, 1)))
    return k, f.logical_or(quick, f.logical_and(f.ge(k, 0), f.le(left, right)))
  end)
end

-- Uniform numbers are multiplied until the product falls below exp(-rate) (Knuth, volume 2, 3.4.1).
local function poisson_small(rate)
  local least, product, k = f.exp(f.neg(rate)), f.add(f.mul(rate, 0), 1), f.mul(rate, 0)
  while true do
    product = f.mul(product, uniform(rate))
    local more = f.gt(product, least)
    if not Tensor.item(f.any(more)) then return k end
    k = f.add(k, more)
  end
end

-- Both ways over all elements, each with a rate that is good for it in place of those that are the other's.
local function either(large, x, harmless_large, harmless_small, way_large, way_small)
  local some_large, all_large = Tensor.item(f.any(large)), Tensor.item(f.all(large))
  if all_large then return way_large(x) end
  if not some_large then return way_small(x) end
  return Tensor.where(large, way_large(Tensor.where(large, x, harmless_large)), way_small(Tensor.where(large, harmless_small, x)))
end

--- Random counts of Poisson's distribution, each of its own rate.
---@param x aijit.Tensor  rates from 0 up, floats
---@return aijit.Tensor  of x's dtype
function distribution.poisson(x)
  floats("poisson", x)
  if Tensor.numel(x) == 0 or x.device == "meta" then return f.clone(x) end
  return autograd.no_grad(function()
    local rate = Tensor.double(x)
    if not Tensor.item(f.all(f.ge(rate, 0))) then lib.raise "poisson: a rate is below 0, or NaN" end
    if Tensor.item(f.amax(rate)) > 2 ^ 52 then lib.raise "poisson: a rate is above 2^52, where counts are no longer exact" end
    return Tensor.to(either(f.ge(rate, 10), rate, 10, 0, poisson_large, poisson_small), x)
  end)
end

-- W. Hoermann, "The generation of binomial random variates" (1993), algorithm BTRS, with the exact ratio of probabilities.
local function binomial_large(n, p)
  local q = f.sub(1, p)
  local spread = f.sqrt(f.mul(f.mul(n, p), q))
  local b = f.add(f.mul(spread, 2.53), 1.15)
  local a = f.add(f.add(f.mul(b, 0.0248), -0.0873), f.mul(p, 0.01))
  local c, accept = f.add(f.mul(n, p), 0.5), f.sub(0.92, f.div(4.2, b))
  local alpha, odds = f.mul(f.add(f.div(5.1, b), 2.83), spread), f.log(f.div(p, q))
  local mode = f.floor(f.mul(f.add(n, 1), p))
  local at_mode = f.add(f.lgamma(f.add(mode, 1)), f.lgamma(f.add(f.sub(n, mode), 1)))
  return rejection(n, function()
    local u, v = f.sub(uniform(n), 0.5), uniform(n)
    local us = f.sub(0.5, f.abs(u))
    local k = f.floor(f.add(f.mul(f.add(f.div(f.mul(a, 2), us), b), u), c))
    local inside = f.logical_and(f.ge(k, 0), f.le(k, n))
    local quick = f.logical_and(f.ge(us, 0.07), f.le(v, accept))
    local left = f.log(f.div(f.mul(v, alpha), f.add(f.div(a, f.square(us)), b)))
    local kept = f.maximum(f.minimum(k, n), 0)
    local right = f.add(f.sub(at_mode, f.add(f.lgamma(f.add(kept, 1)), f.lgamma(f.add(f.sub(n, kept), 1)))), f.mul(f.sub(kept, mode), odds))
    return k, f.logical_and(inside, f.logical_or(quick, f.le(left, right)))
  end)
end

-- Trials until each success, added up while they fit in n (Devroye, Non-Uniform Random Variate Generation, X.4.3).
local function binomial_small(n, p)
  local log_fail, trials, k = f.log1p(f.neg(p)), f.mul(n, 0), f.mul(n, 0)
  while true do
    trials = f.add(trials, f.clamp_min(f.ceil(f.div(f.log1p(f.neg(uniform(n))), log_fail)), 1))
    local more = f.le(trials, n)
    if not Tensor.item(f.any(more)) then return k end
    k = f.add(k, more)
  end
end

--- Random counts of successes.
---@param count aijit.Tensor  how many trials, floats
---@param prob aijit.Tensor   of a success, from 0 to 1; broadcast with count
---@return aijit.Tensor  of count's dtype
function distribution.binomial(count, prob)
  floats("binomial", count)
  if not lib.is_tensor(prob) then op.helper.bad("binomial", 2, "prob", "a tensor", prob) end
  return autograd.no_grad(function()
    local n, p = Tensor.double(count), Tensor.double(prob)
    local none = f.mul(f.add(n, p), 0)
    n, p = f.add(f.floor(n), none), f.add(p, none)
    if Tensor.numel(n) == 0 or n.device == "meta" then return Tensor.to(n, count) end
    if not Tensor.item(f.all(f.ge(n, 0))) then lib.raise "binomial: a count is below 0, or NaN" end
    if not Tensor.item(f.all(f.logical_and(f.ge(p, 0), f.le(p, 1)))) then lib.raise "binomial: a probability is not from 0 to 1" end
    local flipped = f.gt(p, 0.5)
    local less = Tensor.where(flipped, f.sub(1, p), p)
    local large = f.ge(f.mul(n, less), 10)
    local some, all = Tensor.item(f.any(large)), Tensor.item(f.all(large))
    local k
    if all then k = binomial_large(n, less)
    elseif not some then k = binomial_small(n, less)
    else
      local big = binomial_large(Tensor.where(large, n, 100), Tensor.where(large, less, 0.5))
      k = Tensor.where(large, big, binomial_small(Tensor.where(large, 0, n), Tensor.where(large, 0.5, less)))
    end
    return Tensor.to(Tensor.where(flipped, f.sub(n, k), k), count)
  end)
end

for name, fn in pairs(distribution) do
  Tensor[name] = op.whole_list(name, fn)
  op.faces[name] = true
end

return distribution
