--- Multiplications with an addition that a module itself needs, besides those of the modules in it: those of its matrix
-- products and convolutions. A class may say so itself by a method `macs(x, y)`; x is the first input, y what it returned.

local function numel(t) return type(t) == "cdata" and t:numel() or 0 end

--- Every output is a sum over the inputs of one unit.
local function by_output(module, _, y)
  local w = module.weight
  return numel(y) * (w:numel() / w:size(1))
end

--- Every input is spread over the outputs of one unit.
local function by_input(module, x)
  local w = module.weight
  return numel(x) * (w:numel() / w:size(1))
end

local rules = {
  Linear = by_output, Conv1d = by_output, Conv2d = by_output, Conv3d = by_output,
  ConvTranspose1d = by_input, ConvTranspose2d = by_input, ConvTranspose3d = by_input,
}

--- Matrices applied at every step of a sequence: (N, T, *) or (T, N, *).
local function recurrent(module, x)
  local n = 0
  for _, slot in ipairs(module:slots("parameter")) do
    if slot.value:dim() == 2 then n = n + slot.value:numel() end
  end
  if type(x) ~= "cdata" then return 0 end
  return n * x:numel() / x:size(-1)
end
for _, name in ipairs {"RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"} do rules[name] = recurrent end

---@param module aijit.nn.Module
---@param x any
---@param y any
---@return number
return function(module, x, y)
  if module.macs then return module:macs(x, y) end
  local rule = rules[getmetatable(module).__name]
  return rule and rule(module, x, y) or 0
end
