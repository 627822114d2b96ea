--- A config object: typed values under checked names, each with the place it came from. Sections nest.
--
-- Values are kept behind the object, so that every read and write is checked: a name that no field has is an error with
-- the nearest names, never a silent nil. So `pairs(config)` shows nothing; `config:pairs()` and `config:to_table()` do.

local class = require "aijit.class"
local grammar = require "aijit.config.grammar"
local nearest = require "aijit.nearest"
local reference = require "aijit.config.reference"
local schema = require "aijit.config.schema"
local text = require "aijit.config.text"

---@class aijit.ConfigSection
local Section = class("ConfigSection")

local function field_names(self)
  local names = {}
  for name in pairs(self._fields) do names[#names + 1] = name end
  return names
end

local function dotted(self, key)
  return self._path == "" and key or self._path .. "." .. key
end

local function unknown(self, key)
  local inside = self._path == "" and getmetatable(self).__name or ("section '%s'"):format(self._path)
  return ("%s has no field '%s'; %s"):format(inside, tostring(key), nearest.hint(tostring(key), field_names(self)))
end

-- A config and its sections share a table of what holds for the whole: root, frozen.
local function build(metatable, fields, path, whole)
  local self = setmetatable({
    _fields = fields, _values = {}, _origin = {}, _read = {}, _path = path, _whole = whole or {},
  }, metatable)
  self._whole.root = self._whole.root or self
  for name, field in pairs(fields) do
    if field.type == "section" then
      self._values[name] = build(Section, field.schema.fields, path == "" and name or path .. "." .. name, self._whole)
    else
      self._values[name] = schema.copy(field.default)
      self._origin[name] = "default"
    end
  end
  return self
end

--- A number written as text in a file or a variable: YAML reads 1e-3 as a string.
local function from_text(field, value)
  if type(value) ~= "string" then return value end
  if field.type == "number" or field.type == "integer" then return tonumber(value) or value end
  return value
end

local function check_open(self, name)
  if self._whole.frozen then
    error(("%s cannot be changed: the config is frozen%s; config:copy() gives one that is not"):format(name, self._whole.frozen), 0)
  end
end

-- Stores one leaf. Raises without a place in the code.
local function store(self, key, value, origin)
  check_open(self, dotted(self, key))
  local field = self._fields[key]
  local name = dotted(self, key)
  if class.is(value, Section) then value = value:to_table() end
  if value == nil or value == grammar.null then
    if not (field.optional or field.required or field.type == "any") then
      error(("%s %s"):format(name, schema.problem(field, grammar.null)), 0)
    end
    self._values[key] = nil
  else
    if origin ~= "program" then value = from_text(field, value) end
    local problem = schema.problem(field, value)
    if problem then error(("%s %s"):format(name, problem), 0) end
    self._values[key] = schema.copy(value)
  end
  self._origin[key] = origin
end

-- Merges a plain table. Raises without a place in the code.
local function merge(self, values, origin)
  local keys = {}
  for key in pairs(values) do keys[#keys + 1] = key end
  table.sort(keys, function(x, y) return tostring(x) < tostring(y) end)
  for _, key in ipairs(keys) do
    local field, value = self._fields[key], values[key]
    if not field then error(unknown(self, key), 0) end
    if field.type ~= "section" then
      store(self, key, value, origin)
    else
      if class.is(value, Section) then value = value:to_table() end
      if type(value) ~= "table" or value == grammar.null then
        error(("%s is a section: it takes a table, not %s"):format(dotted(self, key), schema.show(value)), 0)
      end
      merge(self._values[key], value, origin)
    end
  end
end

--- The section that holds the last name of a path, and that name. Raises without a place in the code.
local function find(self, path)
  local here = self
  local parent, key = path:match("^(.*)%.([^%.]+)$")
  if not parent then return here, path end
  for part in parent:gmatch("[^%.]+") do
    local field = here._fields[part]
    if not field then error(unknown(here, part), 0) end
    if field.type ~= "section" then error(("%s is a value, not a section"):format(dotted(here, part)), 0) end
    here = here._values[part]
  end
  return here, key
end

local value_of

-- The field that a reference names, from the section it stands in: ".a" is of this section, "..a" of the one above.
local function look(self, path)
  local dots, rest = path:match "^(%.*)(.*)$"
  local base = self._whole.root
  if dots ~= "" then
    local parts = {}
    for part in self._path:gmatch "[^%.]+" do parts[#parts + 1] = part end
    local depth = #parts - #dots + 1
    if depth < 0 then error(("${%s}: there is no section so far above"):format(path), 0) end
    local above = table.concat(parts, ".", 1, depth)
    if above ~= "" then rest = above .. "." .. rest end
  end
  local here, key = find(base, rest)
  if not here._fields[key] then error(("${%s}: %s"):format(path, unknown(here, key)), 0) end
  here._read[key] = true
  local value = here._fields[key].type == "section" and here._values[key]:to_table() or value_of(here, key)
  if value == nil then error(("${%s}: that field has no value"):format(path), 0) end
  return value
end

-- The value of a field, with what it refers to. Raises without a place in the code.
function value_of(self, key)
  local value = self._values[key]
  if type(value) ~= "string" and type(value) ~= "table" or not reference.is(value) then return value end
  local name, busy = dotted(self, key), self._whole.busy or {}
  if busy[name] then error(("%s refers to itself, by way of %s"):format(name, tostring(value)), 0) end
  self._whole.busy = busy
  busy[name] = true
  local ok, result = pcall(reference.resolve, value, function(path) return look(self, path) end, os.getenv)
  busy[name] = nil
  if not ok then error(("%s: %s"):format(name, result), 0) end
  if result == grammar.null then return nil end
  local field = self._fields[key]
  if field.type == "string" and type(result) ~= "string" then result = schema.show(result) end
  result = from_text(field, result)
  local problem = schema.problem(field, result)
  if problem then error(("%s %s (it is %s)"):format(name, problem, tostring(schema.show(value))), 0) end
  return result
end

local function guarded(f, ...)
  local ok, first, second = pcall(f, ...)
  if not ok then error(first, 3) end
  return first, second
end

function Section.__index(self, key)
  local value = self._values[key]
  if value ~= nil then
    self._read[key] = true
    if type(value) ~= "string" and type(value) ~= "table" then return value end
    value = guarded(value_of, self, key)
    -- What holds a frozen list may change its own copy, and not the config.
    return self._whole.frozen and not class.is(value, Section) and schema.copy(value) or value
  end
  value = getmetatable(self)[key]
  if value ~= nil then return value end
  if self._fields[key] then return nil end
  error(unknown(self, key), 2)
end

function Section.__newindex(self, key, value)
  local field = self._fields[key]
  if not field then error(unknown(self, key), 2) end
  guarded(merge, self, {[key] = value == nil and grammar.null or value}, "program")
end

function Section.__tostring(self) return text.yaml(self:to_table()) end

--- Two configs are equal when their values are.
function Section.__eq(a, b) return text.yaml(a:to_table()) == text.yaml(b:to_table()) end

--- The value at a dotted path. Raises for a path that does not exist.
---@param path string
---@return any
function Section:get(path)
  local here, key = guarded(find, self, path)
  if not here._fields[key] then error(unknown(here, key), 2) end
  return here[key]
end

--- Whether there is a field at a dotted path, with or without a value.
---@param path string
---@return boolean
function Section:has(path)
  local ok, here, key = pcall(find, self, path)
  return ok and here._fields[key] ~= nil
end

--- Sets the value at a dotted path; a table sets the fields of a section.
---@param path string
---@param value any nil: none, where the field allows it
---@param origin? string where it came from, for --help
---@return aijit.ConfigSection self
function Section:set(path, value, origin)
  local here, key = guarded(find, self, path)
  if not here._fields[key] then error(unknown(here, key), 2) end
  guarded(merge, here, {[key] = value == nil and grammar.null or value}, origin or "program")
  return self
end

--- Sets many values from a table of tables, or from another config.
---@param values table
---@param origin? string
---@return aijit.ConfigSection self
function Section:merge(values, origin)
  if class.is(values, Section) then values = values:to_table() end
  if type(values) ~= "table" then error(("merge takes a table, not %s"):format(schema.show(values)), 2) end
  guarded(merge, self, values, origin or "program")
  return self
end

-- A config's fields are its class's; one that gains or loses a field gets a table of its own.
local function own_fields(self)
  if not rawget(self, "_owned") then
    self._fields = schema.copy_field(self._fields)
    rawset(self, "_owned", true)
  end
  return self._fields
end

--- Applies `a.b=1`, `+a.b=1`, `++a.b=1` or `~a`, as `aijit.config.grammar` reads them. Raises without a place in the code.
---@param override aijit.Override
---@param origin string
function Section:apply(override, origin)
  local path, value, action = override.path, override.value, override.action
  check_open(self, path)
  if action == "set" or action == "delete" then
    local here, key = find(self, path)
    local field = here._fields[key]
    if not field then
      error(action == "set" and ("%s (+%s=%s adds it)"):format(unknown(here, key), path, override.text) or unknown(here, key), 0)
    end
    if action == "set" then
      if field.type == "string" and type(value) ~= "string" and value ~= grammar.null then value = override.text end
      merge(here, {[key] = value}, origin)
    else
      if override.text and schema.show(here._values[key]) ~= schema.show(value) then
        error(("~%s=%s: its value is %s"):format(path, override.text, schema.show(here._values[key])), 0)
      end
      own_fields(here)[key] = nil
      here._values[key], here._origin[key] = nil, nil
    end
    return
  end
  local here, sign = self, action == "add" and "+" or "++"
  local parent, last = path:match("^(.*)%.([^%.]+)$")
  for part in (parent or ""):gmatch("[^%.]+") do
    local field = here._fields[part]
    if field and field.type ~= "section" then
      error(("%s%s: %s is a value, not a section"):format(sign, path, dotted(here, part)), 0)
    elseif not field then
      own_fields(here)[part] = {type = "section", schema = {name = "added", fields = {}}, owner = "added"}
      here._values[part] = build(Section, {}, dotted(here, part), self._whole)
    end
    here = here._values[part]
  end
  last = last or path
  if here._fields[last] then
    if action == "add" then error(("+%s: it is there already; write %s=%s"):format(path, path, override.text), 0) end
    return self:apply({action = "set", path = path, text = override.text, value = value}, origin)
  end
  if getmetatable(here)[last] ~= nil then error(("%s%s: configs have a method of that name"):format(sign, path), 0) end
  own_fields(here)[last] = {type = "any", owner = "added"}
  store(here, last, value, origin)
end

--- Calls `visit(path, field, value, origin, raw)` for every leaf, values before sections, in the order of their names. `raw` is
-- the value as it was given where that refers to others; when they cannot be found, value is the same.
---@param visit function
function Section:each(visit)
  for _, name in ipairs(schema.names(self._fields)) do
    local field = self._fields[name]
    if field.type == "section" then
      self._values[name]:each(visit)
    else
      local raw = self._values[name]
      local ok, value = pcall(value_of, self, name)
      if not ok then value = raw end
      visit(dotted(self, name), field, value, self._origin[name], reference.is(raw) and raw or nil)
    end
  end
end

--- Goes through the values that are set: `for name, value in config:pairs() do`.
---@return function iterator
function Section:pairs()
  local names, i = schema.names(self._fields), 0
  return function()
    repeat i = i + 1 until names[i] == nil or self._values[names[i]] ~= nil
    return names[i], names[i] and self[names[i]]
  end
end

--- Raises one error that names every field that was to be given and was not, and every reference that leads nowhere.
---@return aijit.ConfigSection self
function Section:check_completeness()
  local missing, wrong = {}, {}
  local function visit(here)
    for _, name in ipairs(schema.names(here._fields)) do
      local field = here._fields[name]
      if field.type == "section" then
        visit(here._values[name])
      else
        local ok, value = pcall(value_of, here, name)
        if not ok then wrong[#wrong + 1] = value
        elseif field.required and value == nil then
          local path = dotted(here, name)
          missing[#missing + 1] = field.help and ("%s (%s)"):format(path, field.help) or path
        end
      end
    end
  end
  visit(self)
  if #missing > 0 then table.insert(wrong, 1, "give a value to " .. table.concat(missing, ", ")) end
  if #wrong > 0 then error(("%s is not complete: %s"):format(getmetatable(self).__name, table.concat(wrong, "; ")), 2) end
  return self
end

--- From now on nothing in it can be changed: a launched task's config is frozen. Lists that are read are copies.
---@param since? string for the error, such as " since its launch"
---@return aijit.ConfigSection self
function Section:freeze(since)
  self._whole.frozen = since or ""
  return self
end

---@return boolean
function Section:is_frozen() return self._whole.frozen ~= nil end

--- The fields in which another config differs: each with its path and both values, nil where there is none.
---@param other aijit.ConfigSection|table a config, or a plain table as of an older run
---@return {path: string, from: any, to: any}[] differences by path; `tostring` of it shows them as lines
function Section:diff(other)
  local function flat(values, prefix, into)
    for key, value in pairs(values) do
      local path = prefix .. tostring(key)
      local section = type(value) == "table" and value ~= grammar.null and not schema.is_list(value)
      if section then flat(value, path .. ".", into) elseif value ~= grammar.null then into[path] = value end
    end
    return into
  end
  if class.is(other, Section) then other = other:to_table() end
  if type(other) ~= "table" then error(("diff takes a config or a table, not %s"):format(schema.show(other)), 2) end
  local mine, theirs, paths, list = flat(self:to_table(), "", {}), flat(other, "", {}), {}, {}
  for path in pairs(mine) do paths[#paths + 1] = path end
  for path in pairs(theirs) do if mine[path] == nil then paths[#paths + 1] = path end end
  table.sort(paths)
  for _, path in ipairs(paths) do
    if schema.show(mine[path]) ~= schema.show(theirs[path]) or type(mine[path]) ~= type(theirs[path]) then
      list[#list + 1] = {path = path, from = mine[path], to = theirs[path]}
    end
  end
  return setmetatable(list, {__name = "aijit.ConfigDiff", __tostring = function(all)
    local lines = {}
    for _, one in ipairs(all) do
      if one.from ~= nil then lines[#lines + 1] = ("- %s: %s"):format(one.path, schema.show(one.from)) end
      if one.to ~= nil then lines[#lines + 1] = ("+ %s: %s"):format(one.path, schema.show(one.to)) end
    end
    return table.concat(lines, "\n")
  end})
end

--- Paths that a file, the environment or the command line set, but the program has not read.
---@return string[]
function Section:unread()
  local paths = {}
  local function visit(here)
    for _, name in ipairs(schema.names(here._fields)) do
      local origin = here._origin[name]
      if here._fields[name].type == "section" then
        visit(here._values[name])
      elseif not here._read[name] and origin ~= "default" and origin ~= "program" then
        paths[#paths + 1] = dotted(here, name)
      end
    end
  end
  visit(self)
  return paths
end

--- A plain table of the values, a copy.
---@param o? {resolve?: boolean} false: references stay as they were written, as for a file
---@return table
function Section:to_table(o)
  local result = {}
  for name, value in pairs(self._values) do
    if class.is(value, Section) then result[name] = value:to_table(o)
    elseif o and o.resolve == false then result[name] = schema.copy(value)
    else result[name] = schema.copy(guarded(value_of, self, name)) end
  end
  return result
end

--- What stands for it in JSON and YAML.
function Section.__tojson(self) return self:to_table() end

local function copied(self, whole)
  local result = setmetatable({
    _fields = self._fields, _values = {}, _origin = {}, _read = {}, _path = self._path, _whole = whole,
  }, getmetatable(self))
  whole.root = whole.root or result
  for name, value in pairs(self._values) do
    result._values[name] = class.is(value, Section) and copied(value, whole) or schema.copy(value)
  end
  for name, origin in pairs(self._origin) do result._origin[name] = origin end
  if rawget(self, "_owned") then own_fields(result) end
  return result
end

--- A config of this class with the same values, references, origins and added fields; not frozen.
---@return aijit.ConfigSection
function Section:copy() return copied(self, {}) end

Section.build = build

return Section
