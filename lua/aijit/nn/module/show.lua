--- What print(model) shows: each module as the call that makes it, with the sizes it has, and counts of parameters.

local show = {}

local function quoted(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" then
    if type(value) == "number" then return ("%.14g"):format(value) end
    return tostring(value)
  end
  local parts, keys = {}, {}
  for i = 1, #value do parts[i] = quoted(value[i]) end
  for key in pairs(value) do if type(key) == "string" then keys[#keys + 1] = key end end
  table.sort(keys)
  for _, key in ipairs(keys) do parts[#parts + 1] = key .. " = " .. quoted(value[key]) end
  return "{" .. table.concat(parts, ", ") .. "}"
end
show.quoted = quoted

local function commas(n)
  local text = tostring(n)
  local digits = text:reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (digits:gsub("^,", ""))
end

--- The call that makes this module, without its children: "nn.Linear(784, 10)". A layer gives its arguments.
---@return string
function show:call_text()
  return getmetatable(self).__name .. "()"
end

--- How an error names this module: "Linear 784 -> 10".
---@return string
function show:title()
  return (self:call_text():gsub("^nn%.", ""))
end

--- With an input's sizes, a table of the model: each module's path, layer, output shape, parameters, multiply-accumulates and
--- bytes, as module/shape.lua tells; print shows it. Without, the title.
---@param ... any m:summary(8, 3, 32, 32), m:summary{8, 3, 32, 32}
---@return string|aijit.nn.Summary
function show:summary(...)
  if select("#", ...) == 0 then return self:title() end
  return self:shape_summary(...)
end

--- The opening and closing of a module with children; a container has its own.
function show:brackets()
  return getmetatable(self).__name .. "{", "}"
end

local function lines_of(self, indent, label, lines, comments)
  local parts = self:slots("module")
  if #parts == 0 then
    local n = self:num_parameters()
    lines[#lines + 1] = indent .. label .. self:call_text()
    comments[#lines] = n > 0 and commas(n) or rawget(self, "_unbuilt") and "sizes from the first input" or nil
    return
  end
  local open, close = self:brackets()
  lines[#lines + 1] = indent .. label .. open
  comments[#lines] = commas(self:num_parameters())
  local list
  for _, part in ipairs(parts) do
    local this = part.index:match("^%.([^%[]+)%[") -- a plain list of modules
    if list and this ~= list then
      lines[#lines + 1] = indent .. "  },"
      list = nil
    end
    local inner = indent .. "  "
    if this and not list then
      lines[#lines + 1] = inner .. this .. " = {"
      list = this
    end
    local name = part.index:match("^%.([%a_][%w_]*)$")
    lines_of(part.value, list and inner .. "  " or inner, name and name .. " = " or "", lines, comments)
    lines[#lines] = lines[#lines] .. ","
  end
  if list then lines[#lines + 1] = indent .. "  }," end
  lines[#lines + 1] = indent .. close
end

--- Several lines for a module with children; numbers of parameters stand at the right.
function show:__tostring()
  local lines, comments, width = {}, {}, 0
  lines_of(self, "", "", lines, comments)
  for i, line in ipairs(lines) do if comments[i] then width = math.max(width, #line) end end
  for i, comment in pairs(comments) do
    local unit = i == 1 and comment:match("^[%d,]+$") and (comment == "1" and " parameter" or " parameters") or ""
    lines[i] = ("%s%s  -- %s%s"):format(lines[i], (" "):rep(width - #lines[i]), comment, unit)
  end
  return table.concat(lines, "\n")
end

return show
