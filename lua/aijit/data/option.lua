--- The options of datasets, samplers and loaders: known names, and values of the right kind.

local nearest = require "aijit.nearest"

local option = {}

local function outside(text) error(text, 4) end

--- Checks a table of options: each has the name and the type of one in `known`.
---@param who string
---@param o table?
---@param known table<string, any> a value of the type, or a type's name in brackets: "[string]"
---@return table o
function option.read(who, o, known)
  if o ~= nil and type(o) ~= "table" then error(("%s: the options are a table, not %s"):format(who, tostring(o)), 4) end
  o = o or {}
  local names = {}
  for name in pairs(known) do names[#names + 1] = name end
  table.sort(names)
  for name, value in pairs(o) do
    if known[name] == nil then
      outside(("%s: no option '%s'; %s"):format(who, tostring(name), nearest.hint(tostring(name), names)))
    end
    local want = type(known[name]) == "string" and known[name]:match "^%[(.*)%]$" or type(known[name])
    local callable = want == "function" and type(value) == "table" and (getmetatable(value) or {}).__call
    if want ~= "any" and type(value) ~= want and not callable then
      outside(("%s: %s must be a %s, not %s"):format(who, name, want, tostring(value)))
    end
  end
  return o
end

--- A whole number from `least` to `most`.
---@param who string
---@param name string
---@param value any
---@param least integer
---@param most? integer
---@return integer value
function option.whole(who, name, value, least, most)
  if type(value) ~= "number" or value % 1 ~= 0 or value < least or value > (most or 2 ^ 53) then
    outside(("%s: %s must be a whole number from %d %s, not %s"):format(who, name, least, most and "to " .. most or "on", tostring(value)))
  end
  return value
end

--- One of several words.
---@param who string
---@param name string
---@param value any
---@param words string[]
function option.choice(who, name, value, words)
  for _, word in ipairs(words) do
    if value == word then return end
  end
  outside(("%s: %s must be \"%s\", not %s"):format(who, name, table.concat(words, '" or "'), tostring(value)))
end

--- A dataset.
---@param who string
---@param value any
---@return aijit.Dataset
function option.dataset(who, value)
  if not require("aijit.class").is(value, require("aijit.data.dataset").Dataset) then
    outside(("%s: a %s where a dataset is wanted"):format(who, type(value)))
  end
  return value
end

--- An index of a dataset.
---@param who string
---@param index any
---@param size integer
function option.index(who, index, size)
  if type(index) ~= "number" or index < 1 or index > size or index % 1 ~= 0 then
    error(("%s: there is no sample %s; they count from 1 to %d"):format(who, tostring(index), size), 3)
  end
end

return option
