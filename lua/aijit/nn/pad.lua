--- Layers that pad: (N, C, *size) -> (N, C, *size'), by a number on all sides, or by a list from the last dimension
--- backwards: {left, right}, {left, right, top, bottom}, {left, right, top, bottom, front, back}. Below 0 they cut.

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer

local f = ai.f
local nn = {}

local function wanted_of(n)
  local names = {"left", "right", "top", "bottom", "front", "back"}
  local text = "a whole number, or a list {" .. table.concat(names, ", ", 1, 2 * n) .. "} of them"
  local function whole(value) return type(value) == "number" and value % 1 == 0 end
  return function(value)
    if whole(value) then return end
    local fits = type(value) == "table" and #value == 2 * n
    for i = 1, fits and 2 * n or 0 do fits = fits and whole(value[i]) end
    if not fits then return text end
  end
end

--- class, mode of f.pad, arguments. Reflection leaves the border out, replication repeats it, circular goes on at the other end.
local rows = {
  {"ZeroPad", "constant", "padding"},
  {"ConstantPad", "constant", "padding value"},
  {"ReflectionPad", "reflect", "padding"},
  {"ReplicationPad", "replicate", "padding"},
  {"CircularPad", "circular", "padding"},
}

for n = 1, 3 do
  for _, row in ipairs(rows) do
    local mode = row[2]
    local Pad = layer(("%s%dd"):format(row[1], n), row[3])
    Pad.argument_rules = {padding = wanted_of(n)}
    nn[Pad.__name] = Pad

    function Pad:build()
      local list = self.padding
      if type(list) == "number" then
        list = {}
        for i = 1, 2 * n do list[i] = self.padding end
      end
      self._pad = list
      self._options = {mode = mode, value = self.value}
    end

    function Pad:forward(x) return f.pad(x, self._pad, self._options) end
  end
end

return nn
