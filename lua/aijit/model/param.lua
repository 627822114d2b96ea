--- First values for the parameters of a model: what Model:init() does to each module.

local ai = require "aijit"
local argument = require "aijit.argument"
local init = ai.nn.init

local param = {}

local function each(module, weight, bias)
  if ai.is_tensor(module.weight) then weight(module.weight) end
  if ai.is_tensor(module.bias) then bias(module.bias) end
end

local function normal(t) init.normal_(t) end

--- Weight xavier_normal, bias N(0, 1).
local function xavier(module) each(module, init.xavier_normal_, normal) end

--- Weight and bias N(0, 1).
local function all_normal(module) each(module, normal, normal) end

--- Weight N(1, 0.02), bias 0.
local function batch_norm(module) each(module, function(t) init.normal_(t, 1, 0.02) end, init.zeros_) end

--- Matrices orthogonal, vectors N(0, 1).
local function recurrent(module)
  for _, slot in ipairs(module:slots("parameter")) do
    if slot.value:dim() >= 2 then init.orthogonal_(slot.value) else init.normal_(slot.value) end
  end
end

--- Uniform between -1 and 1.
local function embedding(module) init.uniform_(module.weight, -1, 1) end

local rules = {
  Linear = xavier, Conv2d = xavier, Conv3d = xavier, ConvTranspose2d = xavier, ConvTranspose3d = xavier,
  Conv1d = all_normal, ConvTranspose1d = all_normal,
  BatchNorm1d = batch_norm, BatchNorm2d = batch_norm, BatchNorm3d = batch_norm,
  LSTM = recurrent, GRU = recurrent, LSTMCell = recurrent, GRUCell = recurrent, RNN = recurrent,
  Embedding = embedding,
}

--- That of a class, or of the nearest class it is derived from.
local function rule_of(cls)
  if rules[cls.__name] then return rules[cls.__name] end
  for _, parent in ipairs(cls.__parents) do
    local rule = rule_of(parent)
    if rule then return rule end
  end
end

--- A module's own init_params() comes before every rule. A module that no rule names keeps its values. A layer that has no
--- parameters yet gets its values by the same rule when it does.
---@param module aijit.nn.Module
function param.init(module)
  if type(module.init_params) == "function" then
    if rawget(module, "_unbuilt") then rawset(module, "_first_values", module.init_params) else module:init_params() end
    return
  end
  local rule = rule_of(getmetatable(module))
  if not rule then return end
  if rawget(module, "_unbuilt") then rawset(module, "_first_values", rule) else rule(module) end
end

--- A parameter of the given sizes, N(0, 1).
---@param ... integer
---@return aijit.Tensor
function param.new(...)
  for i = 1, select("#", ...) do argument.check("param", "size " .. i, "size", (select(i, ...))) end
  return ai.nn.Parameter(ai.randn(...))
end

return param
