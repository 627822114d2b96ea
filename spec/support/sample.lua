--- The sample column of ops.def as arguments: "3x4+ 4; dim" into tensors and values.
--
-- Inputs, separated by spaces: sizes joined by x, `()` for rank 0, `-` for an optional tensor that is left out. A suffix
-- says which numbers: none: in (-1, 1); + in (0.5, 1.5); ~ away from 0; % in (-0.9, 0.9); ^ in (1.2, 3); p in (0.05, 0.95);
-- c in (1.2, 3) and without a gradient; b bools;
-- iN whole numbers 1..N (N 5 when left out); u all different, well apart; s symmetric matrices, positive-definite. After `;`
-- the other parameters in order: numbers, true, false, nil, {2,3} lists, words.

local ai = require "aijit"

local sample = {}

--- Where tensors of samples are made: "cpu", or what AIJIT_TEST_DEVICE names.
sample.device = os.getenv "AIJIT_TEST_DEVICE" or "cpu"

local state = 1
--- Starts the numbers anew, so that a case is the same in every run.
function sample.seed(n) state = n % 2147483647 + 1 end
local function random()
  state = state * 16807 % 2147483647
  return state / 2147483647
end
sample.random = random

local function fill(kind, top, i, n)
  local r = random()
  if kind == "+" then return 0.5 + r end
  if kind == "~" then return (random() < 0.5 and -1 or 1) * (0.25 + r) end
  if kind == "%" then return 1.8 * r - 0.9 end
  if kind == "^" or kind == "c" then return 1.2 + 1.8 * r end
  if kind == "p" then return 0.05 + 0.9 * r end
  if kind == "b" then return r < 0.5 and 0 or 1 end
  if kind == "i" then return math.floor(r * top) + 1 end
  if kind == "u" then return ((i * 7919) % (n * 13 + 1)) / (n * 3) + 0.1 * r / n - 2 end
  return 2 * r - 1
end

---@class aijit.SampleInput
---@field sizes integer[]
---@field kind string
---@field values number[]  flat

-- Matrices of n rows become symmetric, with a diagonal that makes them positive-definite and their eigenvalues differ.
local function symmetric(values, n)
  for at = 0, #values - 1, n * n do
    for r = 1, n do
      for c = 1, r - 1 do values[at + (c - 1) * n + r] = values[at + (r - 1) * n + c] end
      values[at + (r - 1) * n + r] = n + r + values[at + (r - 1) * n + r]
    end
  end
end

--- The inputs (a false entry is a tensor left out) and the other arguments of a sample text.
---@param text string
---@return (aijit.SampleInput|false)[] inputs
---@return any[] rest
---@return integer n  how many there are in rest, nils counted
function sample.read(text)
  local head, tail = text:match "^([^;]*);?(.*)$"
  local inputs = {}
  for word in head:gmatch "%S+" do
    if word == "-" then inputs[#inputs + 1] = false
    else
      local sizes, n = {}, 1
      local body, kind, top = word:match "^([%dx()]*)([+~%%^bciups]?)(%d*)$"
      assert(body, "sample: cannot read " .. word)
      for d in body:gmatch "%d+" do sizes[#sizes + 1] = tonumber(d) n = n * tonumber(d) end
      local values = {}
      for i = 1, n do values[i] = fill(kind, tonumber(top) or 5, i, n) end
      if kind == "s" then symmetric(values, sizes[#sizes]) end
      inputs[#inputs + 1] = {sizes = sizes, kind = kind, values = values}
    end
  end
  local rest, n = {}, 0
  for word in tail:gsub("{[^}]*}", function(list) return (list:gsub("%s", "")) end):gmatch "%S+" do
    n = n + 1
    if word == "true" or word == "false" then rest[n] = word == "true"
    elseif word == "nil" then rest[n] = nil
    elseif tonumber(word) then rest[n] = tonumber(word)
    elseif word:sub(1, 1) == "{" then
      local list = {}
      for v in word:gmatch "-?[%d.]+" do list[#list + 1] = tonumber(v) end
      rest[n] = list
    else rest[n] = word end
  end
  return inputs, rest, n
end

--- A tensor of a sample input. Layouts: "contiguous", "transposed" (strides exchanged), "sliced" (every second element of
-- a larger one), "expanded" is not among them: it would change the values.
---@param input aijit.SampleInput
---@param dtype string?   f64 by default; bool and index inputs keep their own
---@param layout string?
---@return aijit.Tensor
function sample.tensor(input, dtype, layout)
  local own = input.kind == "b" and "bool" or input.kind == "i" and "i64" or dtype or "f64"
  local flat = ai.tensor(input.values[1] and input.values or {}, {dtype = "f64"}):reshape(input.sizes):to(own):to(sample.device)
  if layout == "transposed" and #input.sizes >= 2 then
    local n = #input.sizes
    return flat:transpose(1, n):contiguous():transpose(1, n)
  elseif layout == "sliced" and #input.sizes >= 1 then
    local wide = {}
    for i, s in ipairs(input.sizes) do wide[i] = s end
    wide[#wide] = 2 * wide[#wide] + 1
    local room = ai.zeros(wide, {dtype = own, device = sample.device})
    local key = {}
    for i = 1, #wide do key[i] = {} end
    if input.sizes[#input.sizes] > 0 then key[#wide] = {2, wide[#wide], 2} else key[#wide] = {1, 0} end
    local window = room[key]
    window:copy_(flat)
    return window
  end
  return flat
end

--- Whether gradients flow to an input of this kind.
function sample.is_differentiable(input) return input and input.kind ~= "b" and input.kind ~= "i" and input.kind ~= "c" end

--- The arguments of an op, tensors made by `make(input, i)`, in the order of its Lua parameters.
---@param row aijit.Op
---@param make fun(input: aijit.SampleInput, i: integer): aijit.Tensor
---@return any[] args
---@return integer n
---@return aijit.Tensor[] tensors  the made ones, by input
function sample.arguments(row, make)
  local inputs, rest, n_rest = sample.read(row.sample)
  local args, n, tensors, at_input, at_rest = {}, 0, {}, 0, 0
  for _, p in ipairs(row.params) do
    if p.type == "aj_tensor *" then
      at_input = at_input + 1
      n = n + 1
      local input = inputs[at_input]
      if input then
        tensors[at_input] = make(input, at_input)
        args[n] = tensors[at_input]
      end
    elseif p.type == "aj_tensors" then
      n = n + 1
      args[n] = {}
      for i, input in ipairs(inputs) do
        tensors[i] = make(input, i)
        args[n][i] = tensors[i]
      end
    elseif p.type ~= "aj_base" then
      at_rest = at_rest + 1
      n = n + 1
      if at_rest <= n_rest then args[n] = rest[at_rest] end
    end
  end
  return args, n, tensors
end

return sample
