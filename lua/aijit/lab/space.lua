--- What a study searches: for each name a dimension, `lab.uniform(0, 1)`, `lab.loguniform(1e-4, 1e-1)`, `lab.int(1, 64)`,
--- `lab.choice{"relu", "gelu"}`. One that only counts when another has certain values says so: `lab.uniform(0, 1):when("optimizer",
--- "sgd")`. Within, a number of a dimension is a place u from 0 to 1; a choice is its position.

local class = require "aijit.class"
local nearest = require "aijit.nearest"

local space = {}

---@class aijit.lab.Dimension
---@field kind "real"|"int"|"choice"
---@field low number?
---@field high number?
---@field log boolean?
---@field list any[]?
local Dimension = class("Dimension")

local function dimension(values)
  local d = Dimension()
  for k, v in pairs(values) do d[k] = v end
  return d
end

local function bounds(name, low, high, positive)
  for _, v in ipairs {low, high} do
    if type(v) ~= "number" or v - v ~= 0 then error(("lab.%s: %s is no number"):format(name, tostring(v)), 3) end
  end
  if type(low) ~= "number" or type(high) ~= "number" then error(("lab.%s: two numbers are wanted, the least and the largest"):format(name), 3) end
  if low > high then error(("lab.%s: the least, %g, is above the largest, %g"):format(name, low, high), 3) end
  if positive and low <= 0 then error(("lab.%s: %g is not positive, and has no logarithm"):format(name, low), 3) end
end

--- A number from low to high, each as likely.
---@param low number
---@param high number
---@return aijit.lab.Dimension
function space.uniform(low, high)
  bounds("uniform", low, high)
  return dimension {kind = "real", low = low, high = high}
end

--- A positive number whose logarithm is uniform.
---@param low number
---@param high number
---@return aijit.lab.Dimension
function space.loguniform(low, high)
  bounds("loguniform", low, high, true)
  return dimension {kind = "real", low = low, high = high, log = true}
end

--- A whole number from low to high, both in it.
---@param low integer
---@param high integer
---@param o? {log: boolean} log: its logarithm is uniform
---@return aijit.lab.Dimension
function space.int(low, high, o)
  bounds("int", low, high, o and o.log)
  if low ~= math.floor(low) or high ~= math.floor(high) then error(("lab.int: %g and %g must be whole"):format(low, high), 2) end
  return dimension {kind = "int", low = low, high = high, log = o and o.log or nil}
end

--- One of a list of numbers, texts or booleans.
---@param list any[]
---@return aijit.lab.Dimension
function space.choice(list)
  if type(list) ~= "table" or #list == 0 then error("lab.choice: a list with something in it is wanted", 2) end
  for i, v in ipairs(list) do
    if type(v) ~= "number" and type(v) ~= "string" and type(v) ~= "boolean" then
      error(("lab.choice: entry %d is a %s, and must be a number, a text or a boolean"):format(i, type(v)), 2)
    end
  end
  return dimension {kind = "choice", list = list}
end

--- The same, which only counts when another dimension has one of these values.
---@param name string of the other
---@param ... any values
---@return aijit.lab.Dimension
function Dimension:when(name, ...)
  local d = dimension {}
  for k, v in pairs(self) do d[k] = v end
  d.condition = {name = name, values = {...}}
  return d
end

--- From a place u, 0 to 1, to a value; of a choice from its position.
---@param u number
---@return any
function Dimension:value(u)
  if self.kind == "choice" then return self.list[u] end
  local low, high = self.low, self.high
  if self.kind == "int" then low, high = low - 0.5, high + 0.5 end
  local v
  if self.log then
    if self.kind == "int" then low = math.max(low, 0.5) end
    v = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
  else v = low + u * (high - low) end
  if self.kind == "int" then v = math.floor(v + 0.5) end
  return math.max(self.low, math.min(self.high, v))
end

--- From a value to its place; nil for what is no choice of it.
---@param value any
---@return number?
function Dimension:place(value)
  if self.kind == "choice" then
    for i, v in ipairs(self.list) do if v == value then return i end end
    return nil
  end
  if type(value) ~= "number" then return nil end
  local low, high = self.low, self.high
  if self.kind == "int" then low, high = low - 0.5, high + 0.5 end
  if high == low then return 0.5 end
  if self.log then
    if self.kind == "int" then low = math.max(low, 0.5) end
    return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
  end
  return (value - low) / (high - low)
end

--- Plain data that `from` reads.
function Dimension:describe()
  local t = self.kind == "choice" and {choice = self.list} or self.kind == "int" and {int = {self.low, self.high}, log = self.log or nil}
    or self.log and {loguniform = {self.low, self.high}} or {uniform = {self.low, self.high}}
  if self.condition then t.when = {self.condition.name, self.condition.values} end
  return t
end

local kinds = {"uniform", "loguniform", "int", "choice"}

local function read(name, t)
  if class.is(t, Dimension) then return t end
  if type(t) ~= "table" then error(("the space of '%s' is a %s: write {uniform: [0, 1]}, loguniform, int or choice"):format(name, type(t)), 0) end
  local made
  for key, value in pairs(t) do
    local ok, d
    if key == "choice" then ok, d = pcall(space.choice, value)
    elseif key == "uniform" or key == "loguniform" or key == "int" then
      if type(value) ~= "table" then error(("the space of '%s': %s wants [least, largest]"):format(name, key), 0) end
      ok, d = pcall(space[key], value[1], value[2], {log = t.log})
    elseif key ~= "when" and key ~= "log" then
      error(("the space of '%s': there is no '%s': %s"):format(name, tostring(key), nearest.hint(tostring(key), kinds)), 0)
    end
    if ok == false then error(("the space of '%s': %s"):format(name, (tostring(d):gsub("^[^ ]+:%d+: ", ""))), 0) end
    made = d or made
  end
  if not made then error(("the space of '%s' says neither uniform, loguniform, int nor choice"):format(name), 0) end
  if t.when then
    local values = type(t.when[2]) == "table" and t.when[2] or {t.when[2]}
    made = made:when(t.when[1], unpack(values))
  end
  return made
end

--- A space from dimensions or plain tables by name: dimensions in an order in which conditions come after what they ask for.
---@param t table<string, aijit.lab.Dimension|table>
---@return {name: string, dimension: aijit.lab.Dimension}[]
function space.from(t)
  if type(t) ~= "table" or next(t) == nil then error("a space names at least one dimension", 0) end
  local names, dims, list, placed = {}, {}, {}, {}
  for name, d in pairs(t) do
    if type(name) ~= "string" then error(("a space has names, and not %s"):format(tostring(name)), 0) end
    names[#names + 1] = name
    dims[name] = read(name, d)
  end
  table.sort(names)
  local function place(name, from)
    if placed[name] == "done" then return end
    if placed[name] then error(("the conditions of '%s' and '%s' ask for each other"):format(name, from), 0) end
    placed[name] = "now"
    local condition = dims[name].condition
    if condition then
      if not dims[condition.name] then
        error(("'%s' counts when '%s' has a value, and there is no such name: %s"):format(name, condition.name, nearest.hint(condition.name, names)), 0)
      end
      place(condition.name, name)
    end
    placed[name] = "done"
    list[#list + 1] = {name = name, dimension = dims[name]}
  end
  for _, name in ipairs(names) do place(name, name) end
  return list
end

--- Whether a dimension counts beside the values chosen so far.
---@param d aijit.lab.Dimension
---@param params table<string, any>
---@return boolean
function space.counts(d, params)
  if not d.condition then return true end
  for _, v in ipairs(d.condition.values) do if params[d.condition.name] == v then return true end end
  return false
end

return space
