--- Multiplications with an addition that a module itself needs, besides those of the modules in it: those of its matrix
-- products and convolutions. A class may say so itself by a method `macs(y, ...)`: what it returned first, and its inputs.

local function numel(t) return type(t) == "cdata" and t:numel() or 0 end

--- Every output is a sum over the inputs of one unit.
local function by_output(module, y)
  local w = module.weight
  return numel(y) * (w:numel() / w:size(1))
end

--- Every input is spread over the outputs of one unit.
local function by_input(module, _, x)
  local w = module.weight
  return numel(x) * (w:numel() / w:size(1))
end

local rules = {
  Linear = by_output, Conv1d = by_output, Conv2d = by_output, Conv3d = by_output,
  StreamingConv1d = by_output, StreamingConvTranspose1d = by_input, ConvTranspose1d = by_input, ConvTranspose2d = by_input, ConvTranspose3d = by_input,
}

for _, name in ipairs {"EqualLinear", "EqualConv2d"} do rules[name] = by_output end

--- A stride below 1 spreads every input, as a transposed convolution does.
function rules.ModulatedConv2d(module, y, x)
  if module.stride >= 1 then return by_output(module, y) end
  return numel(x) * module.weight:numel() / module.weight:size(2)
end

--- Every output is a sum over all pairs of features.
function rules.Bilinear(module, y) return numel(y) * module.in1_features * (module.in2_features + 1) end

--- Matrices applied at every step of a sequence: (N, T, *) or (T, N, *).
local function recurrent(module, _, x)
  local n = 0
  for _, slot in ipairs(module:slots("parameter")) do
    if slot.value:dim() == 2 then n = n + slot.value:numel() end
  end
  if type(x) ~= "cdata" then return 0 end
  return n * x:numel() / x:size(-1)
end
for _, name in ipairs {"RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"} do rules[name] = recurrent end

--- The three projections in, and every query by every key, twice: for the scores and for the sum of values.
function rules.MultiheadAttention(module, _, query, key, value)
  key = type(key) == "cdata" and key or query
  value = type(value) == "cdata" and value or key
  local time = module.batch_first and -2 or 1
  local keys, width = key:size(time), module.embed_dim
  if query:dim() == 2 then keys = key:size(1) end
  local rows = query:numel() / query:size(-1)
  local n = 2 * rows * keys * width
  local inputs = {query, key, value}
  for i, name in ipairs {"q_proj_weight", "k_proj_weight", "v_proj_weight"} do
    local w, x = module[name], inputs[i]
    n = n + numel(x) / x:size(-1) * (w and w:numel() or module.in_proj_weight and module.in_proj_weight:numel() / 3 or 0)
  end
  return n
end

rules.MonotonicAttention = rules.MultiheadAttention

---@param module aijit.nn.Module
---@param y any what it returned first
---@param ... any its inputs
---@return number
return function(module, y, ...)
  if module.macs then return module:macs(y, ...) end
  local rule = rules[getmetatable(module).__name]
  return rule and rule(module, y, ...) or 0
end
