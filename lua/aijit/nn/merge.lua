--- Layers that make one tensor of several: nn.Add()(a, b, c) or nn.Add(){a, b, c}. Sizes broadcast, but for Concat's.

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- The inputs as a list, however they were given.
local function list_of(self, first, ...)
  local list = type(first) == "table" and getmetatable(first) == nil and first or {first, ...}
  if #list == 0 then raise(("%s: there is no input"):format(self:title())) end
  for i, x in ipairs(list) do
    if not ai.is_tensor(x) then raise(("%s: input %d is a %s, not a tensor"):format(self:title(), i, type(x))) end
  end
  return list
end

--- class, other name, function of two. Several are taken from the left.
local rows = {
  {"Add", nil, function(a, b) return a + b end},
  {"Subtract", nil, function(a, b) return a - b end},
  {"Multiply", "Mul", function(a, b) return a * b end},
  {"Divide", nil, function(a, b) return a / b end},
  {"Maximum", nil, f.maximum},
  {"Minimum", nil, f.minimum},
}

for _, row in ipairs(rows) do
  local Merge = layer(row[1], "")
  local pair = row[3]
  nn[row[1]] = Merge
  if row[2] then nn[row[2]] = Merge end

  function Merge:forward(...)
    local list = list_of(self, ...)
    local y = list[1]
    for i = 2, #list do y = pair(y, list[i]) end
    return y
  end
end

--- The mean of the inputs.
local Average = layer("Average", "")
nn.Average = Average

function Average:forward(...)
  local list = list_of(self, ...)
  local y = list[1]
  for i = 2, #list do y = y + list[i] end
  return y / #list
end

--- The inputs one after another along a dimension, the last by default.
local Concat = layer("Concat", "dim=-1")
nn.Concat = Concat
function Concat:forward(...) return f.cat(list_of(self, ...), self.dim) end

return nn
