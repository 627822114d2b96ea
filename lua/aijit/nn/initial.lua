--- nn.init: first values for parameters. Each function fills a tensor in place, outside any graph, and returns it.
---
--- Fan in and fan out are those of a weight laid out as (out, in, kernel...), as Linear and Conv have it.

local ai = require "aijit"
local nearest = require "aijit.nearest"
local registry = require "aijit.nn.registry"
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

-- -- By name -----------------------------------------------------------------------------------------------------

--- name -> function(t, options).
local by_name = {
  orthogonal = init.orthogonal_, kaiming_uniform = init.kaiming_uniform_, kaiming_normal = init.kaiming_normal_,
  xavier_uniform = init.xavier_uniform_, xavier_normal = init.xavier_normal_, trunc_normal = init.trunc_normal_, dirac = init.dirac_,
  eye = init.eye_, zeros = init.zeros_, ones = init.ones_,
  default = function(t) init.default_(t) return t end,
  uniform = function(t, o) return init.uniform_(t, o.a, o.b) end,
  normal = function(t, o) return init.normal_(t, o.mean, o.std) end,
  constant = function(t, o)
    if type(o.value) ~= "number" then raise "nn.init: constant wants a value, as in {\"constant\", value = 0.1}" end
    return init.constant_(t, o.value)
  end,
}
by_name.zero, by_name.one, by_name.glorot_uniform, by_name.glorot_normal = by_name.zeros, by_name.ones, by_name.xavier_uniform, by_name.xavier_normal
by_name.he_uniform, by_name.he_normal = by_name.kaiming_uniform, by_name.kaiming_normal

local options_of = {
  orthogonal = {"gain"}, xavier_uniform = {"gain"}, xavier_normal = {"gain"}, glorot_uniform = {"gain"}, glorot_normal = {"gain"},
  kaiming_uniform = {"a", "mode", "nonlinearity"}, kaiming_normal = {"a", "mode", "nonlinearity"}, he_uniform = {"a", "mode", "nonlinearity"},
  he_normal = {"a", "mode", "nonlinearity"}, trunc_normal = {"mean", "std", "a", "b"}, dirac = {"groups"}, uniform = {"a", "b"},
  normal = {"mean", "std"}, constant = {"value"},
}

--- What a name of first values means: "xavier_uniform", with PyTorch's underscore or without, in any case; {"normal", std = 0.02}, or
--- {method = "normal", std = 0.02}; a number for all elements; or a function of the tensor.
---@param kind string|table|number|function
---@return fun(t: aijit.Tensor): aijit.Tensor
function init.named(kind)
  if type(kind) == "function" then return kind end
  if type(kind) == "number" then return function(t) return init.constant_(t, kind) end end
  local o = type(kind) == "table" and kind or {}
  local name = type(kind) == "string" and kind or o.method or o[1]
  local key = type(name) == "string" and name:lower():gsub("_$", "") or ""
  local f = by_name[key]
  if not f then
    local names = {}
    for known in pairs(by_name) do names[#names + 1] = known end
    raise(("nn.init: there are no first values '%s': %s"):format(tostring(name), nearest.hint(tostring(name), names)))
  end
  for option in pairs(o) do
    local allowed, known = options_of[key] or {}, option == "method" or option == 1
    for _, other in ipairs(allowed) do known = known or option == other end
    if not known then
      raise(("nn.init: %s has no option '%s'%s"):format(key, tostring(option), #allowed > 0 and ": " .. nearest.hint(tostring(option), allowed) or ""))
    end
  end
  return function(t) return f(t, o) end
end

--- First values by name for the weight and bias of a layer: those of the kind for the weight, zeros for the bias. "biased_normal" is
--- "normal" for both.
---@param weight aijit.Tensor
---@param bias? aijit.Tensor
---@param kind string|table|number|function as for nn.init.named
---@return aijit.Tensor weight
---@return aijit.Tensor? bias
function init.init_(weight, bias, kind)
  if not ai.is_tensor(weight) then raise(("nn.init.init_: the weight is a %s, not a tensor"):format(type(weight))) end
  if bias ~= nil and not ai.is_tensor(bias) then raise(("nn.init.init_: the bias is a %s, not a tensor"):format(type(bias))) end
  local both = false
  if kind == "biased_normal" then kind, both = "normal", true
  elseif type(kind) == "table" and (kind.method or kind[1]) == "biased_normal" then
    both, kind = true, {method = "normal", mean = kind.mean, std = kind.std}
  end
  local first_values = init.named(kind)
  first_values(weight)
  if bias then if both then first_values(bias) else init.zeros_(bias) end end
  return weight, bias
end

--- First values by name for a model's layers: of linear layers, convolutions and attention the weights, of recurrent layers those of inputs and of
--- states, and all biases of these. Norms, embeddings and modules of one's own keep their values.
---@generic M: aijit.nn.Module
---@param module M with its sizes known
---@param weight_init? string|table|number|function "xavier_uniform"
---@param bias_init? string|table|number|function "zeros"
---@return M module
function init.module_(module, weight_init, bias_init)
  if not registry.is_module(module) then raise(("nn.init.module_: a module is wanted, not a %s"):format(type(module))) end
  local fill_weight, fill_bias = init.named(weight_init or "xavier_uniform"), init.named(bias_init or "zeros")
  local filled = 0
  for _, inner in ipairs(module:modules()) do
    local name = getmetatable(inner).__name
    local wanted = name:find "Linear$" or name:find "^Conv%u?%a*%dd$" or name:find "^StreamingConv" or name:find "^RNN" or name:find "^GRU"
      or name:find "^LSTM" or name:find "Attention$" or name == "Bilinear"
    for _, slot in ipairs(wanted and inner:slots "parameter" or {}) do
      filled = filled + 1
      if slot.name:find "bias" then fill_bias(slot.value) elseif slot.value:dim() >= 2 then fill_weight(slot.value) end
    end
  end
  if filled == 0 then raise "nn.init.module_: no layer has weights to fill; layers that wait for their sizes have none yet" end
  return module
end

return init
