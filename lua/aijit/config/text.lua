--- Configs as text: YAML for people and files, and the lines of --help.

local schema = require "aijit.config.schema"

local text = {}

-- Words that YAML would read as something else than text.
local reserved = {["true"] = 1, ["false"] = 1, null = 1, yes = 1, no = 1, on = 1, off = 1, ["~"] = 1, y = 1, n = 1}

local function yaml_string(value)
  local plain = value:match("^[%a_/%.][%w_/%.%- ]*$") and not value:match("%s$") and not reserved[value:lower()]
    and not tonumber(value) and not value:match("^%.")
  if plain then return value end
  return '"' .. value:gsub('[%c"\\]', function(c)
    if c == "\n" then return "\\n" elseif c == "\t" then return "\\t" elseif c == '"' or c == "\\" then return "\\" .. c end
    return ("\\x%02x"):format(c:byte())
  end) .. '"'
end

local function yaml_number(value)
  if value ~= value then return ".nan" end
  if value == math.huge then return ".inf" elseif value == -math.huge then return "-.inf" end
  local short = ("%.14g"):format(value)
  if tonumber(short) ~= value then short = ("%.17g"):format(value) end
  -- YAML 1.1 takes 1e-05 for a string.
  return (short:gsub("^(%-?%d+)e", "%1.0e"))
end

local function yaml_flow(value)
  local kind = type(value)
  if kind == "string" then return yaml_string(value) end
  if kind == "number" then return yaml_number(value) end
  if kind == "boolean" then return tostring(value) end
  if kind ~= "table" or getmetatable(value) ~= nil then return yaml_string(tostring(value)) end
  local parts = {}
  if schema.is_list(value) then
    for i, item in ipairs(value) do parts[i] = yaml_flow(item) end
    return "[" .. table.concat(parts, ", ") .. "]"
  end
  local names = {}
  for name in pairs(value) do names[#names + 1] = tostring(name) end
  table.sort(names)
  for i, name in ipairs(names) do parts[i] = yaml_string(name) .. ": " .. yaml_flow(value[name]) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

--- A table as YAML: values before sections, by name; lists on one line.
---@param value table
---@param indent? string
---@return string
function text.yaml(value, indent)
  indent = indent or ""
  local plain, sections, lines = {}, {}, {}
  for name, inner in pairs(value) do
    local section = type(inner) == "table" and getmetatable(inner) == nil and not schema.is_list(inner)
    local to = section and sections or plain
    to[#to + 1] = tostring(name)
  end
  table.sort(plain)
  table.sort(sections)
  for _, name in ipairs(plain) do lines[#lines + 1] = ("%s%s: %s\n"):format(indent, yaml_string(name), yaml_flow(value[name])) end
  for _, name in ipairs(sections) do
    lines[#lines + 1] = ("%s%s:\n%s"):format(indent, yaml_string(name), text.yaml(value[name], indent .. "  "))
  end
  return table.concat(lines)
end

local function describe(field)
  local kind = field.type
  if kind == "list" and field.item then kind = "list of " .. field.item end
  if field.choices then
    local shown = {}
    for i, choice in ipairs(field.choices) do shown[i] = tostring(choice) end
    kind = table.concat(shown, "|")
  end
  return kind
end

--- What --help prints: every field with its type, default, help, and, where it is another, its value and that value's origin.
---@param config aijit.ConfigSection
---@param program string as it is called
---@return string
function text.help(config, program)
  local groups, order, width, kinds = {}, {}, 0, 0
  config:each(function(path, field, value, origin)
    local owner = field.owner or "fields"
    if not groups[owner] then
      groups[owner] = {}
      order[#order + 1] = owner
    end
    width, kinds = math.max(width, #path), math.max(kinds, math.min(#describe(field), 20))
    table.insert(groups[owner], {path, field, value, origin})
  end)
  local mine = getmetatable(config).__name
  table.sort(order, function(x, y)
    if (x == mine) ~= (y == mine) then return x == mine end
    return x < y
  end)

  local lines = {
    ("usage: %s [field=value ...] [config.yaml|.json|.lua ...] [--help] [--print-config]"):format(program),
    "  a.b=1 sets a field, +a.b=1 adds one, ++a.b=1 does either, ~a deletes one. Lists: [1,2]. Tables: {a: 1}.",
    "  Precedence: default, program, file, environment (AIJIT__A__B), command line.",
  }
  for _, owner in ipairs(order) do
    lines[#lines + 1] = ""
    lines[#lines + 1] = owner
    for _, row in ipairs(groups[owner]) do
      local path, field, value, origin = row[1], row[2], row[3], row[4]
      local default = field.required and "(must be given)" or schema.show(field.default)
      lines[#lines + 1] = (("  %%-%ds  %%-%ds  %%-14s  %%s"):format(width, kinds)
        :format(path, describe(field), default, field.help or ""):gsub("%s+$", ""))
      if origin ~= "default" then
        lines[#lines + 1] = ("  %s  = %s  (%s)"):format((" "):rep(width), schema.show(value), origin)
      end
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

--- What --print-config prints: the whole config as YAML, each line with its value's origin.
---@param config aijit.ConfigSection
---@return string
function text.annotated(config)
  local rows, width, section = {}, 0, {}
  config:each(function(path, _, value, origin)
    local parts = {}
    for part in path:gmatch("[^%.]+") do parts[#parts + 1] = part end
    for depth = 1, #parts - 1 do
      if section[depth] ~= parts[depth] then
        rows[#rows + 1] = {("  "):rep(depth - 1) .. parts[depth] .. ":"}
        section[depth], section[depth + 1] = parts[depth], nil
      end
    end
    for depth = #parts, #section do section[depth] = nil end
    local line = ("  "):rep(#parts - 1) .. parts[#parts] .. ": " .. (value == nil and "null" or yaml_flow(value))
    width = math.max(width, math.min(#line, 60))
    rows[#rows + 1] = {line, origin}
  end)
  local lines = {}
  for i, row in ipairs(rows) do
    lines[i] = row[2] and ("%-" .. width .. "s  # %s"):format(row[1], row[2]) or row[1]
  end
  return table.concat(lines, "\n") .. "\n"
end

return text
