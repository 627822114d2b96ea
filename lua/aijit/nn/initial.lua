--- nn.init: first values for parameters. Each function fills a tensor in place, outside any graph, and returns it.
---
--- Fan in and fan out are those of a weight laid out as (out, in, kernel...), as Linear and Conv have it.

local ai = require "aijit"
local raise = require("aijit.bindings.lib").raise

local init = {}

--- Inputs and outputs of one unit of a weight.
---@param t aijit.Tensor of two dimensions or more
---@return integer fan_in
---@return integer fan_out
function init.fans(t)
  local shape = t.shape
  if #shape < 2 then
    raise(("nn.init: a tensor of %d dimension%s has no fan in or out; fill it with uniform_, normal_ or constant_"):format(
      #shape, #shape == 1 and "" or "s"))
  end
  local field = 1
  for i = 3, #shape do field = field * shape[i] end
  return shape[2] * field, shape[1] * field
end

--- How much an activation shrinks what passes it: the factor that keeps the variance.
---@param nonlinearity string "linear", "relu", "leaky_relu", "tanh", "sigmoid", "selu", or the name of a convolution
---@param param? number the slope of leaky_relu, 0.01 by default
---@return number
function init.gain(nonlinearity, param)
  if nonlinearity == "tanh" then return 5 / 3 end
  if nonlinearity == "relu" then return math.sqrt(2) end
  if nonlinearity == "leaky_relu" then return math.sqrt(2 / (1 + (param or 0.01) ^ 2)) end
  if nonlinearity == "selu" then return 3 / 4 end
  if nonlinearity == "linear" or nonlinearity == "sigmoid" or nonlinearity:find "^conv" then return 1 end
  raise(("nn.init: no gain is known for '%s'; give a number"):format(tostring(nonlinearity)))
end

local function fill(t, method, a, b)
  ai.no_grad(function() t[method](t, a, b) end)
  return t
end

--- Uniform between a and b, 0 and 1 by default.
function init.uniform_(t, a, b)
  return fill(t, "uniform_", a or 0, b or 1)
end

--- Normal, with mean 0 and standard deviation 1 by default.
function init.normal_(t, mean, std)
  return fill(t, "normal_", mean or 0, std or 1)
end

--- Every element becomes `value`.
function init.constant_(t, value)
  return fill(t, "fill_", value)
end

--- Every element becomes 0.
function init.zeros_(t)
  return fill(t, "fill_", 0)
end

--- Every element becomes 1.
function init.ones_(t)
  return fill(t, "fill_", 1)
end

--- Normal, drawn again wherever it falls outside a .. b.
---@param options? {mean: number, std: number, a: number, b: number} 0, 1, -2, 2; a and b are values, not deviations
function init.trunc_normal_(t, options)
  local o = options or {}
  local mean, std, a, b = o.mean or 0, o.std or 1, o.a or -2, o.b or 2
  if a >= b or mean + 6 * std < a or mean - 6 * std > b then
    raise(("nn.init.trunc_normal_: nothing of normal(%g, %g) lies between %g and %g"):format(mean, std, a, b))
  end
  ai.no_grad(function()
    ai.scope(function()
      t:normal_(mean, std)
      while true do
        local outside = t:lt(a):logical_or(t:gt(b))
        if not outside:any():item() then break end
        local again = ai.empty(t.shape, {dtype = t.dtype, device = t.device})
        again:normal_(mean, std)
        t:copy_(ai.f.where(outside, again, t))
      end
    end)
  end)
  return t
end

--- Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).
---@param options? {gain: number}
function init.xavier_uniform_(t, options)
  local fan_in, fan_out = init.fans(t)
  local bound = (options and options.gain or 1) * math.sqrt(6 / (fan_in + fan_out))
  return init.uniform_(t, -bound, bound)
end

--- Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).
---@param options? {gain: number}
function init.xavier_normal_(t, options)
  local fan_in, fan_out = init.fans(t)
  return init.normal_(t, 0, (options and options.gain or 1) * math.sqrt(2 / (fan_in + fan_out)))
end

local function kaiming_std(t, options)
  local o = options or {}
  local fan_in, fan_out = init.fans(t)
  return init.gain(o.nonlinearity or "leaky_relu", o.a or 0) / math.sqrt(o.mode == "fan_out" and fan_out or fan_in)
end

--- Uniform with variance gain^2 / fan_in (He and others, 2015).
---@param options? {a: number, mode: "fan_in"|"fan_out", nonlinearity: string} a: the slope of leaky_relu, 0
function init.kaiming_uniform_(t, options)
  local bound = math.sqrt(3) * kaiming_std(t, options)
  return init.uniform_(t, -bound, bound)
end

--- Normal with variance gain^2 / fan_in (He and others, 2015).
---@param options? {a: number, mode: "fan_in"|"fan_out", nonlinearity: string}
function init.kaiming_normal_(t, options)
  return init.normal_(t, 0, kaiming_std(t, options))
end

--- A random (semi-)orthogonal matrix, trailing dimensions taken together (Saxe and others, 2014). Gram and Schmidt's method,
--- each row made orthogonal twice, which is enough in double (Giraud and others, 2005).
---@param options? {gain: number}
function init.orthogonal_(t, options)
  local fan_in = init.fans(t)
  local shape = t.shape
  local rows, cols = shape[1], fan_in
  local gain = options and options.gain or 1
  if rows * cols == 0 then return t end
  ai.no_grad(function()
    ai.scope(function()
      local short, long = math.min(rows, cols), math.max(rows, cols)
      local q = ai.empty({short, long}, {dtype = "f64", device = t.device})
      q:normal_(0, 1)
      for i = 1, short do
        local row = q[i]
        for _ = 1, 2 do
          if i > 1 then
            local before = q:slice(1, 1, i - 1)
            row:copy_(row - before:t():matmul(before:matmul(row)))
          end
          row:div_(row:square():sum():sqrt():item())
        end
      end
      if rows > cols then q = q:t() end
      t:copy_((q * gain):reshape(shape))
    end)
  end)
  return t
end

--- The identity matrix, as far as the sizes go.
function init.eye_(t)
  ai.no_grad(function()
    t:fill_(0)
    for i = 1, math.min(t:size(1), t:size(2)) do t[{i, i}] = 1 end
  end)
  return t
end

--- A convolution's weight that hands its input on: 1 in the middle of the kernel from channel i to channel i, within each
--- group; channels without a partner give 0.
---@param t aijit.Tensor (out, in / groups, *kernel), with 1 to 3 dimensions of kernel
---@param options? {groups: integer} 1
function init.dirac_(t, options)
  if not ai.is_tensor(t) then raise(("nn.init.dirac_: a tensor is wanted, not a %s"):format(type(t))) end
  local shape, groups = t.shape, options and options.groups or 1
  if #shape < 3 or #shape > 5 then
    raise(("nn.init.dirac_: the weight of a convolution is wanted, (out, in, *kernel), not (%s)"):format(table.concat(shape, ", ")))
  end
  if type(groups) ~= "number" or groups < 1 or shape[1] % groups ~= 0 then
    raise(("nn.init.dirac_: groups is %s, which does not divide %d channels"):format(tostring(groups), shape[1]))
  end
  local out = shape[1] / groups
  ai.no_grad(function()
    t:fill_(0)
    for first = 0, shape[1] - out, out do
      for i = 1, math.min(out, shape[2]) do
        local place = {first + i, i}
        for d = 3, #shape do place[d] = math.floor(shape[d] / 2) + 1 end
        t[place] = 1
      end
    end
  end)
  return t
end

--- PyTorch's first values for Linear and Conv: weight and bias uniform within 1 / sqrt(fan_in); for the weight that is
--- kaiming_uniform_ with a = sqrt(5).
---@param weight aijit.Tensor
---@param bias? aijit.Tensor
function init.default_(weight, bias)
  init.kaiming_uniform_(weight, {a = math.sqrt(5)})
  if ai.is_tensor(bias) then
    local fan_in = init.fans(weight)
    if fan_in > 0 then init.uniform_(bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in)) end
  end
end

return init
