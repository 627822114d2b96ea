--- What the fields of a config are: their types, defaults, help and limits; and the check of one value against one field.
--
-- A schema is {name=, fields = {key -> field}}. A field is either a leaf {type=, default=, help=, choices=, min=, max=,
-- item=, required=, owner=} or a section {type="section", schema=, owner=}.

local class = require "aijit.class"
local nearest = require "aijit.nearest"
local reference = require "aijit.config.reference"

local schema = {}

local Field = {__name = "aijit.Field"}

local types = {number = true, integer = true, boolean = true, string = true, list = true, table = true, any = true}
local options = {help = true, choices = true, min = true, max = true, type = true, item = true}

local function keys(t)
  local list = {}
  for key in pairs(t) do list[#list + 1] = tostring(key) end
  return list
end

--- Whether a table has only the keys 1..n.
---@param t table
---@return boolean
function schema.is_list(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n == #t
end

--- A copy of plain data, tables within tables included.
function schema.copy(value)
  if type(value) ~= "table" or getmetatable(value) ~= nil then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = schema.copy(inner) end
  return result
end

local function type_of_default(default)
  local kind = type(default)
  if kind == "number" or kind == "boolean" or kind == "string" then return kind end
  if kind == "table" and getmetatable(default) == nil then
    return next(default) ~= nil and schema.is_list(default) and "list" or "table"
  end
  return "any"
end

local function type_of_items(list)
  local kind = type(list[1])
  for i = 2, #list do
    if type(list[i]) ~= kind then return nil end
  end
  return (kind == "number" or kind == "string" or kind == "boolean") and kind or nil
end

--- One field of a config.
---@param default any nil: the field may stay without a value
---@param o? {help?: string, choices?: any[], min?: number, max?: number, type?: string, item?: string}
---  `type` is number, integer, boolean, string, list, table or any; without it the default's type. `item`: type of a list's items
---@return table field for `ai.Config.extend`
function schema.field(default, o)
  o = o or {}
  if type(o) ~= "table" then
    error(('ai.field: options go in a table: ai.field(%s, {help = "..."})'):format(tostring(default)), 2)
  end
  for key in pairs(o) do
    if not options[key] then
      error(("ai.field: no option '%s'; %s"):format(tostring(key), nearest.hint(tostring(key), keys(options))), 2)
    end
  end
  if o.type ~= nil and not types[o.type] then
    error(("ai.field: no type '%s'; %s"):format(tostring(o.type), nearest.hint(tostring(o.type), keys(types))), 2)
  end
  local field = setmetatable({
    default = default, help = o.help, choices = o.choices, min = o.min, max = o.max,
    type = o.type or type_of_default(default), optional = default == nil or nil,
  }, Field)
  if field.type == "list" then field.item = o.item or (type(default) == "table" and type_of_items(default)) or nil end
  local problem = default ~= nil and schema.problem(field, default)
  if problem then error(("ai.field: the default %s"):format(problem), 2) end
  return field
end

--- A field that has no default and must be given before the config is complete.
---@param o? table the options of `ai.field`
---@return table field
function schema.required(o)
  local field = schema.field(nil, o)
  field.required, field.optional = true, nil
  return field
end

---@param value any
---@return boolean
function schema.is_field(value) return getmetatable(value) == Field end

--- A value as a person would write it, for messages.
---@param value any
---@return string
function schema.show(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "number" then
    return ("%.14g"):format(value)
  end
  if value == nil then return "null" end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return tostring(value) end
  local parts = {}
  if schema.is_list(value) then
    for i, item in ipairs(value) do parts[i] = schema.show(item) end
    return "[" .. table.concat(parts, ", ") .. "]"
  end
  local names = keys(value)
  table.sort(names)
  for i, name in ipairs(names) do parts[i] = name .. ": " .. schema.show(value[name]) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function is_integer(value) return value == math.floor(value) and value - value == 0 end

--- What is wrong with a value for a field; nil when nothing is. Reads as the end of "learning_rate ...".
---@param field table
---@param value any not nil; one with a `${...}` in it is let through
---@return string?
function schema.problem(field, value)
  if reference.is(value) then return nil end          -- what it stands for is checked when it is read
  local want, kind = field.type, type(value)
  local right = want == "any" or want == kind
    or want == "integer" and kind == "number" and is_integer(value)
    or want == "list" and kind == "table" and schema.is_list(value)
  if not right then
    local article = want == "integer" and "an integer" or want == "list" and "a list" or "a " .. want
    return ("must be %s, not %s"):format(article, schema.show(value))
  end
  if want == "list" and field.item then
    for i, item in ipairs(value) do
      if type(item) ~= field.item then
        return ("must be a list of %ss: its item %d is %s"):format(field.item, i, schema.show(item))
      end
    end
  end
  if field.choices then
    local among = false
    for _, choice in ipairs(field.choices) do among = among or choice == value end
    if not among then
      local shown = {}
      for i, choice in ipairs(field.choices) do shown[i] = schema.show(choice) end
      return ("must be one of %s, not %s"):format(table.concat(shown, ", "), schema.show(value))
    end
  end
  if kind == "number" then
    if field.min and (value < field.min or value ~= value) then
      return ("must be at least %s, not %s"):format(schema.show(field.min), schema.show(value))
    end
    if field.max and (value > field.max or value ~= value) then
      return ("must be at most %s, not %s"):format(schema.show(field.max), schema.show(value))
    end
  end
  return nil
end

--- The schema of a class derived from `parent`.
-- A field's plain value that the parent's field of that name can hold is a new default for it: help and limits stay.
---@param name string the class's name
---@param parent table? its parent's schema
---@param fields table name -> ai.field(...), ai.required(...), a plain default, or a table of fields: a section
---@param reserved table<string, any> names that fields may not have
---@param path? string where the fields stand, for errors
---@return table schema
function schema.derive(name, parent, fields, reserved, path)
  local result = {name = name, fields = {}}
  for key, field in pairs(parent and parent.fields or {}) do result.fields[key] = field end
  for key, given in pairs(fields) do
    local where = (path and path .. "." or "") .. tostring(key)
    if type(key) ~= "string" or not key:match("^[%a_][%w_%-]*$") then
      error(("%s: '%s' cannot be a field's name: letters, digits, '_' and '-', a letter first"):format(name, where), 0)
    end
    if reserved[key] ~= nil then
      error(("%s: a field cannot be called '%s': configs have a method of that name"):format(name, where), 0)
    end
    local old = result.fields[key]
    local field
    if schema.is_field(given) then
      field = setmetatable(schema.copy_field(given), Field)
    elseif class.is_class(given) and given.schema then                    -- another config class
      field = {type = "section", schema = given.schema}
    elseif type(given) == "table" and getmetatable(given) == nil and not (schema.is_list(given)) then
      local inner = old and old.type == "section" and old.schema or nil
      field = {type = "section", schema = schema.derive(name, inner, given, reserved, where)}
    elseif old and old.type ~= "section" then
      local problem = schema.problem(old, given)
      if problem then error(("%s: the new default of %s %s"):format(name, where, problem), 0) end
      field = setmetatable(schema.copy_field(old), Field)
      field.default, field.required, field.optional = given, nil, nil
    else
      field = schema.field(given)
    end
    field.owner = (old and not schema.is_field(given) and old.owner) or name
    result.fields[key] = field
  end
  return result
end

--- A field of its own with the same contents.
function schema.copy_field(field)
  local copy = {}
  for key, value in pairs(field) do copy[key] = value end
  return copy
end

--- The names of a schema's fields, sorted, values before sections.
---@param fields table
---@return string[]
function schema.names(fields)
  local names = keys(fields)
  table.sort(names, function(x, y)
    local section_x, section_y = fields[x].type == "section", fields[y].type == "section"
    if section_x ~= section_y then return section_y end
    return x < y
  end)
  return names
end

return schema
