--- The arguments of a factory: sizes, then one table of options.

local nearest = require "aijit.nearest"
local raise = require("aijit.bindings.lib").raise

--- Checks a table of options against those there are.
---@param who string
---@param options table?
---@param defaults table<string, any> `false` where there is no default
---@return table # options and defaults
return function(who, options, defaults)
  local out = {}
  for key, value in pairs(defaults) do if value ~= false then out[key] = value end end
  for key, value in pairs(options or {}) do
    if defaults[key] == nil then
      local names = {}
      for name in pairs(defaults) do names[#names + 1] = name end
      raise(("%s: there is no option '%s': %s"):format(who, tostring(key), nearest.hint(tostring(key), names)))
    end
    out[key] = value
  end
  return out
end
