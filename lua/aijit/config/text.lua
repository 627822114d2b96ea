--- Configs as text: YAML for people and files, and the lines of --help.

local schema = require "aijit.config.schema"
local yaml = require "aijit.yaml"

local text = {}

-- A copy in which what no file can hold (a function, a tensor) is its text.
local function plain(value)
  local kind = type(value)
  if kind == "table" and (getmetatable(value) == nil or yaml.is_list(value)) then
    local result = setmetatable({}, getmetatable(value))
    for key, inner in pairs(value) do result[type(key) == "number" and key or tostring(key)] = plain(inner) end
    return result
  end
  if kind == "string" or kind == "number" or kind == "boolean" or value == yaml.null then return value end
  return value == nil and yaml.null or tostring(value)
end

--- A table as YAML: values before sections, by name; short lists on one line.
---@param value table
---@return string
function text.yaml(value) return next(value) == nil and "" or yaml.encode(plain(value)) end

local WIDE = 24          -- a type that is wider stands on a line of its own

local function describe(field)
  local kind = field.type
  if kind == "list" and field.item then kind = "list of " .. field.item end
  if field.choices then
    local shown = {}
    for i, choice in ipairs(field.choices) do shown[i] = tostring(choice) end
    kind = table.concat(shown, "|")
  end
  if field.min and field.max then kind = ("%s %s..%s"):format(kind, schema.show(field.min), schema.show(field.max))
  elseif field.min then kind = ("%s >= %s"):format(kind, schema.show(field.min))
  elseif field.max then kind = ("%s <= %s"):format(kind, schema.show(field.max)) end
  return kind
end

--- What --help prints: every field with its type, default, help, and, where it is another, its value and that value's origin.
---@param config aijit.ConfigSection
---@param program string as it is called
---@return string
function text.help(config, program)
  local groups, order, width, kinds = {}, {}, 0, 0
  config:each(function(path, field, value, origin, raw)
    local owner = field.owner or "fields"
    if not groups[owner] then
      groups[owner] = {}
      order[#order + 1] = owner
    end
    width, kinds = math.max(width, #path), #describe(field) > WIDE and math.max(kinds, 6) or math.max(kinds, #describe(field))
    table.insert(groups[owner], {path, field, value, origin, raw})
  end)
  local mine = getmetatable(config).__name
  table.sort(order, function(x, y)
    if (x == mine) ~= (y == mine) then return x == mine end
    return x < y
  end)

  local lines = {
    ("usage: %s [field=value ...] [config.yaml|.json|.lua ...] [--help] [--print-config]"):format(program),
    "  a.b=1 sets a field, +a.b=1 adds one, ++a.b=1 does either, ~a deletes one. Lists: [1,2]. Tables: {a: 1}. No value: null.",
    "  ${a.b} stands for another field, ${env:NAME,default} for a variable of the environment.",
    "  Of several values the later counts: default, user file, program, files, environment (AIJIT__A__B for a.b), command line.",
    "  -m a=1,2 b=range(0,8,2) c=choice(x,y) runs every combination: --jobs N of them at a time, --sweep DIR in that folder (or on in it).",
    "  --study FILE --trials N [--jobs N] searches as FILE says; --evaluate PHASE [--checkpoint latest|best|PATH] measures only.",
  }
  for _, owner in ipairs(order) do
    lines[#lines + 1] = ""
    lines[#lines + 1] = owner
    for _, row in ipairs(groups[owner]) do
      local path, field, value, origin = row[1], row[2], row[3], row[4]
      local kind = describe(field)
      local default = field.required and "(must be given)" or schema.show(field.default)
      lines[#lines + 1] = (("  %%-%ds  %%-%ds  %%-14s  %%s"):format(width, kinds)
        :format(path, #kind > WIDE and "choice" or kind, default, field.help or ""):gsub("%s+$", ""))
      if #kind > WIDE then lines[#lines + 1] = ("  %s  %s"):format((" "):rep(width), kind) end
      if origin ~= "default" or row[5] then
        local from = row[5] and ("%s: %s"):format(origin, schema.show(row[5])) or origin
        lines[#lines + 1] = ("  %s  = %s  (%s)"):format((" "):rep(width), schema.show(value), from)
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
  config:each(function(path, _, value, origin, raw)
    local parts = {}
    for part in path:gmatch("[^%.]+") do parts[#parts + 1] = part end
    for depth = 1, #parts - 1 do
      if section[depth] ~= parts[depth] then
        rows[#rows + 1] = {("  "):rep(depth - 1) .. parts[depth] .. ":"}
        section[depth], section[depth + 1] = parts[depth], nil
      end
    end
    for depth = #parts, #section do section[depth] = nil end
    local line = ("  "):rep(#parts - 1) .. parts[#parts] .. ": " .. yaml.flow(plain(value))
    width = math.max(width, math.min(#line, 60))
    rows[#rows + 1] = {line, raw and ("%s: %s"):format(origin, schema.show(raw)) or origin}
  end)
  local lines = {}
  for i, row in ipairs(rows) do
    lines[i] = row[2] and ("%-" .. width .. "s  # %s"):format(row[1], row[2]) or row[1]
  end
  return table.concat(lines, "\n") .. "\n"
end

return text
