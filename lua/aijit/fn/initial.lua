--- First values of traced parameters: functions of a key, a shape and options, pure as all of fn.
--
-- options: fan_in and fan_out, dtype. Without fans, a matrix is (in, out) and a kernel (out, in / groups, *size).

local ai = require "aijit"
local key = require "aijit.fn.key"
local nearest = require "aijit.nearest"
local fill = require "aijit.nn.initial"
local raise = require("aijit.bindings.lib").raise

local initial = {}

local function fans(shape, o)
  local field = 1
  for i = 3, #shape do field = field * shape[i] end
  local fan_in, fan_out = o.fan_in, o.fan_out
  if not fan_in then fan_in = #shape <= 2 and shape[1] or shape[2] * field end
  if not fan_out then fan_out = #shape <= 2 and shape[#shape] or shape[1] * field end
  return fan_in, fan_out
end

local function empty(shape, o) return ai.empty(shape, {dtype = o and o.dtype}) end

local function filled(k, shape, o, method, ...)
  return key.with_key(k, fill[method], empty(shape, o), ...)
end

---@param _ aijit.fn.Key
---@param shape integer[]
---@param o? table
---@return aijit.Tensor
function initial.zeros(_, shape, o) return fill.zeros_(empty(shape, o)) end

---@return aijit.Tensor
function initial.ones(_, shape, o) return fill.ones_(empty(shape, o)) end

--- Uniform in [from, to), 0 and 1 by default.
---@return aijit.Tensor
function initial.uniform(k, shape, o)
  o = o or {}
  return filled(k, shape, o, "uniform_", o.from or 0, o.to or 1)
end

--- Normal, with mean 0 and deviation 1 by default.
---@return aijit.Tensor
function initial.normal(k, shape, o)
  o = o or {}
  return filled(k, shape, o, "normal_", o.mean or 0, o.std or 1)
end

--- Normal, drawn again outside two deviations; std 1 by default.
---@return aijit.Tensor
function initial.truncated_normal(k, shape, o)
  o = o or {}
  local std = o.std or 1
  return filled(k, shape, o, "trunc_normal_", {std = std, a = -2 * std, b = 2 * std})
end

--- What a parameter has unless it says otherwise: truncated normal of deviation 1 / sqrt(fan_in), vectors zeros.
---@return aijit.Tensor
function initial.base(k, shape, o)
  o = o or {}
  if #shape < 2 then return initial.zeros(k, shape, o) end
  local fan_in = fans(shape, o)
  return initial.truncated_normal(k, shape, {std = 1 / math.sqrt(math.max(fan_in, 1)), dtype = o.dtype})
end

--- Normal of deviation 1 / sqrt(last size).
---@return aijit.Tensor
function initial.normal_scaled_by_rsqrt(k, shape, o)
  return initial.normal(k, shape, {std = 1 / math.sqrt(shape[#shape] or 1), dtype = o and o.dtype})
end

--- name, variance, as of two fans; Glorot and Bengio (2010), He and others (2015), LeCun and others (1998).
for name, variance in pairs {
  xavier = function(fan_in, fan_out) return 2 / (fan_in + fan_out) end,
  kaiming = function(fan_in) return 2 / fan_in end,
  lecun = function(fan_in) return 1 / fan_in end,
} do
  initial[name .. "_normal"] = function(k, shape, o)
    o = o or {}
    return initial.normal(k, shape, {std = math.sqrt(variance(fans(shape, o))) * (o.gain or 1), dtype = o.dtype})
  end
  initial[name .. "_uniform"] = function(k, shape, o)
    o = o or {}
    local bound = math.sqrt(3 * variance(fans(shape, o))) * (o.gain or 1)
    return initial.uniform(k, shape, {from = -bound, to = bound, dtype = o.dtype})
  end
end
initial.glorot_normal, initial.glorot_uniform = initial.xavier_normal, initial.xavier_uniform
initial.he_normal, initial.he_uniform = initial.kaiming_normal, initial.kaiming_uniform

--- A random orthogonal matrix (Saxe and others, 2014).
---@return aijit.Tensor
function initial.orthogonal(k, shape, o)
  return filled(k, shape, o, "orthogonal_", {gain = o and o.gain})
end

--- The function that a parameter's `init` means: a function (key, shape, options) -> tensor, a name, {name, option = value},
--- a number for all elements, or a tensor to start from.
---@param init any
---@return fun(k: aijit.fn.Key, shape: integer[], o: table): aijit.Tensor
function initial.of(init)
  if init == nil then return initial.base end
  if type(init) == "function" then return init end
  if type(init) == "number" then return function(_, shape, o) return fill.constant_(empty(shape, o), init) end end
  if ai.is_tensor(init) then return function(_, _, o) return init:detach():clone():to(o.dtype or init.dtype) end end
  local options
  if type(init) == "table" then init, options = init[1], init end
  local f = type(init) == "string" and init ~= "of" and initial[init]
  if not f then
    local names = {}
    for name in pairs(initial) do if name ~= "of" then names[#names + 1] = name end end
    raise(("fn.validate: there is no initialiser '%s': %s"):format(tostring(init), nearest.hint(tostring(init), names)))
  end
  if not options then return f end
  return function(k, shape, o)
    local all = {}
    for name, value in pairs(o) do all[name] = value end
    for name, value in pairs(options) do if type(name) == "string" then all[name] = value end end
    return f(k, shape, all)
  end
end

return initial
