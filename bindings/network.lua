--- Functions of networks that draw random numbers, pool by p-norms, or take a distance as a function.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local construct = require "aijit.bindings.construct"
local random = require "aijit.bindings.random"
local autograd = require "aijit.bindings.autograd"
local f = op.functions

local network = {}

local function wanted(name, x, i, param)
  if not op.is_operand(x) then op.helper.bad(name, i or 1, param or "x", "a tensor", x) end
end

local function options(name, o, ...)
  local known, names = {}, {...}
  for _, key in ipairs(names) do known[key] = true end
  op.helper.read_options(name, o, known, names)
  local values = {}
  for i, key in ipairs(names) do values[i] = o[key] end
  return unpack(values, 1, #names)
end

--- A softmax of noisy logits, which falls on a class with the probability that softmax(logits) gives it (Jang and others, 2016).
---@param logits aijit.Tensor
---@param tau number|table?   the temperature, 1; or a table of what follows by name
---@param hard boolean?       1 for the largest and 0 for the others, with the gradient of what is not hard
---@param dim integer?        -1
---@return aijit.Tensor
function network.gumbel_softmax(logits, tau, hard, dim)
  wanted("gumbel_softmax", logits, 1, "logits")
  if type(tau) == "table" then tau, hard, dim = options("gumbel_softmax", tau, "tau", "hard", "dim") end
  tau, dim = tau or 1, dim or -1
  if type(tau) ~= "number" or tau <= 0 then lib.raise(("gumbel_softmax: tau is %s, and must be above 0"):format(lib.describe(tau))) end
  local noise = autograd.no_grad(function() return f.neg(f.log(f.exponential_(construct.empty_like(logits)))) end)
  local soft = f.softmax(f.div(f.add(logits, noise), tau), dim)
  if not hard then return soft end
  local picked = autograd.no_grad(function()
    return f.scatter(construct.zeros_like(soft), dim, f.argmax(soft, dim, true), construct.ones({}, {dtype = soft.dtype, device = soft.device}))
  end)
  return f.add(f.sub(picked, Tensor.detach(soft)), soft)
end

--- x where positive, else x times a slope, random from lower to upper for each element, or their mean when not training.
---@param x aijit.Tensor
---@param lower number|table?  1/8; or a table of what follows by name
---@param upper number?        1/3
---@param training boolean?    false
---@return aijit.Tensor
function network.rrelu(x, lower, upper, training)
  wanted("rrelu", x)
  if type(lower) == "table" then lower, upper, training = options("rrelu", lower, "lower", "upper", "training") end
  lower, upper = lower or 1 / 8, upper or 1 / 3
  if type(lower) ~= "number" or type(upper) ~= "number" or lower > upper then
    lib.raise(("rrelu: slopes from %s to %s; lower must not be above upper"):format(lib.describe(lower), lib.describe(upper)))
  end
  if not training then return f.leaky_relu(x, (lower + upper) / 2) end
  local slope = autograd.no_grad(function() return f.uniform_(construct.empty_like(x), lower, upper) end)
  return Tensor.where(f.gt(x, 0), x, f.mul(x, slope))
end

local MASKED = -1.7580993408473766                      -- what selu tends to

--- alpha_dropout of whole channels of (N, C, ...).
---@param x aijit.Tensor
---@param p number|table?     0.5; or a table of what follows by name
---@param training boolean?   true
---@return aijit.Tensor
function network.feature_alpha_dropout(x, p, training)
  wanted("feature_alpha_dropout", x)
  if type(p) == "table" then p, training = options("feature_alpha_dropout", p, "p", "training") end
  p = p or 0.5
  if type(p) ~= "number" or p < 0 or p > 1 then lib.raise(("feature_alpha_dropout: p is %s, and must be from 0 to 1"):format(lib.describe(p))) end
  if training == false or p == 0 then return x end
  if Tensor.dim(x) < 2 then lib.raise(("feature_alpha_dropout: a tensor of %d dimensions, where at least 2 are wanted"):format(Tensor.dim(x))) end
  if p == 1 then return f.mul(x, 0) end
  local sizes = Tensor.size(x)
  for d = 3, #sizes do sizes[d] = 1 end
  local keep = f.ge(random.rand(sizes, {device = x.device}), p)
  local scale = ((1 - p) * (1 + p * MASKED ^ 2)) ^ -0.5
  return f.add(f.mul(Tensor.where(keep, x, MASKED), scale), -scale * MASKED * p)
end

local function lp_pool(n)
  local name, pool = ("lp_pool%dd"):format(n), f[("avg_pool%dd"):format(n)]
  return function(x, norm_type, kernel_size, stride, ceil_mode)
    wanted(name, x)
    if type(kernel_size) ~= "number" and type(kernel_size) ~= "table" then
      op.helper.bad(name, 3, "kernel_size", "a number or a table of numbers", kernel_size)
    end
    if type(stride) == "table" and stride[1] == nil then stride, ceil_mode = options(name, stride, "stride", "ceil_mode") end
    if type(norm_type) ~= "number" or norm_type == 0 then
      lib.raise(("%s: norm_type is %s, and must be a number other than 0"):format(name, lib.describe(norm_type)))
    end
    local count = 1
    for d = 1, n do count = count * (type(kernel_size) == "table" and (kernel_size[d] or kernel_size[1]) or kernel_size) end
    local mean = pool(Tensor.pow(x, norm_type), kernel_size, {stride = stride, ceil_mode = ceil_mode})
    return Tensor.pow(f.mul(f.mul(f.sign(mean), f.relu(f.abs(mean))), count), 1 / norm_type)
  end
end
--- The p-norms of windows of (N, C, L): the norm_type-th root of sums of powers.
---@type fun(x: aijit.Tensor, norm_type: number, kernel_size: integer|integer[], stride: integer|integer[]|table?, ceil_mode: boolean?): aijit.Tensor
network.lp_pool1d = lp_pool(1)
--- The same of (N, C, H, W).
---@type fun(x: aijit.Tensor, norm_type: number, kernel_size: integer|integer[], stride: integer|integer[]|table?, ceil_mode: boolean?): aijit.Tensor
network.lp_pool2d = lp_pool(2)
--- The same of (N, C, D, H, W).
---@type fun(x: aijit.Tensor, norm_type: number, kernel_size: integer|integer[], stride: integer|integer[]|table?, ceil_mode: boolean?): aijit.Tensor
network.lp_pool3d = lp_pool(3)

--- triplet_margin_loss with any distance.
---@param anchor aijit.Tensor
---@param positive aijit.Tensor
---@param negative aijit.Tensor
---@param o {distance_function: function?, margin: number?, swap: boolean?, reduction: string?}?  pairwise_distance, 1, false, mean
---@return aijit.Tensor
function network.triplet_margin_with_distance_loss(anchor, positive, negative, o)
  wanted("triplet_margin_with_distance_loss", anchor, 1, "anchor")
  wanted("triplet_margin_with_distance_loss", positive, 2, "positive")
  wanted("triplet_margin_with_distance_loss", negative, 3, "negative")
  local distance, margin, swap, reduction = options("triplet_margin_with_distance_loss", o or {}, "distance_function", "margin", "swap", "reduction")
  distance, margin, reduction = distance or f.pairwise_distance, margin or 1, reduction or "mean"
  if reduction ~= "mean" and reduction ~= "sum" and reduction ~= "none" then
    lib.raise(("triplet_margin_with_distance_loss: the reduction is \"mean\", \"sum\" or \"none\", not %s"):format(lib.describe(reduction)))
  end
  local near, far = distance(anchor, positive), distance(anchor, negative)
  if swap then far = f.minimum(far, distance(positive, negative)) end
  local loss = f.clamp_min(f.add(f.sub(near, far), margin), 0)
  if reduction == "none" then return loss end
  return f[reduction](loss)
end

for name, fn in pairs(network) do
  Tensor[name] = op.whole_list(name, fn)
  op.faces[name] = true
end

return network
