-- Values as text a person can read and, where that is possible, paste back: `{1, 2, x = {y = "z"}}`. Cycles, depth, length and
-- width are limited. A value whose metatable has __tostring (tensors, modules) is shown by it.

local M = {}

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch("%a+") do
  keywords[word] = true
end

---@class aijit.InspectOptions
---@field depth integer?   tables nested deeper are shown as {...}; default 4
---@field width integer?   a table longer than this is laid out one entry a line; default 80
---@field items integer?   entries shown of one table; default 100
---@field chars integer?   bytes shown of a string inside a table; default 1000

local defaults = {depth = 4, width = 80, items = 100, chars = 1000}

local escapes = {["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"', ["\0"] = "\\0"}

local function quote(text, limit)
  local rest = #text - limit
  if rest > 0 then text = text:sub(1, limit) end
  text = text:gsub('[%z\n\r\t\\"]', escapes):gsub("[%c\127]", function(c) return ("\\%03d"):format(c:byte()) end)
  return '"' .. text .. '"' .. (rest > 0 and (" .. %d more bytes"):format(rest) or "")
end

local function number(n)
  if n ~= n then return "nan" end
  if n == math.huge then return "inf" end
  if n == -math.huge then return "-inf" end
  if n == math.floor(n) and math.abs(n) < 2 ^ 53 then return ("%d"):format(n) end
  local short = ("%.14g"):format(n)
  return tonumber(short) == n and short or ("%.17g"):format(n)
end

local function func(f)
  local info = debug.getinfo(f, "S")
  if info.what == "C" then return (tostring(f)) end
  return ("function <%s:%d>"):format(info.short_src, info.linedefined)
end

-- Numbers by value before strings by letter before everything else, so that the same table always looks the same.
local rank = {number = 1, string = 2, boolean = 3}
local function before(a, b)
  local ra, rb = rank[type(a)] or 4, rank[type(b)] or 4
  if ra ~= rb then return ra < rb end
  if ra <= 2 then return a < b end
  return tostring(a) < tostring(b)
end

local show

local function key(k, state, depth)
  if type(k) == "string" and k:match("^[%a_][%w_]*$") and not keywords[k] then return k end
  return "[" .. show(k, state, depth, "") .. "]"
end

local function indented(text, indent)
  return (text:gsub("\n", "\n" .. indent))
end

-- The length of the array part, without __len or __index.
local function array_length(t)
  local n = 0
  while rawget(t, n + 1) ~= nil do n = n + 1 end
  return n
end

local function show_table(t, state, depth, indent)
  local meta = debug.getmetatable(t)
  local name = meta and rawget(meta, "__name")
  local prefix = type(name) == "string" and name .. " " or ""
  if state.open[t] then return prefix .. "<cycle>" end
  if next(t) == nil then return prefix .. "{}" end
  if depth >= state.depth then return prefix .. "{...}" end
  state.open[t] = true

  local inner, entries, n = indent .. "  ", {}, array_length(t)
  for i = 1, math.min(n, state.items) do entries[i] = show(rawget(t, i), state, depth + 1, inner) end
  local keys = {}
  for k in next, t do
    if not (type(k) == "number" and k >= 1 and k <= n and k == math.floor(k)) then keys[#keys + 1] = k end
  end
  table.sort(keys, before)
  for i = 1, math.min(#keys, state.items - #entries) do
    local k = keys[i]
    entries[#entries + 1] = key(k, state, depth + 1) .. " = " .. show(rawget(t, k), state, depth + 1, inner)
  end
  local left = n + #keys - #entries
  if left > 0 then entries[#entries + 1] = ("... %d more"):format(left) end
  state.open[t] = nil

  local line = prefix .. "{" .. table.concat(entries, ", ") .. "}"
  if #line + #indent <= state.width and not line:find("\n", 1, true) then return line end
  if #keys == 0 and not line:find("\n", 1, true) and n > 0 and type(t[1]) ~= "table" then
    -- A plain list fills its lines.
    local lines, current = {}, inner
    for i, entry in ipairs(entries) do
      local piece = entry .. (i < #entries and ", " or "")
      if #current > #inner and #current + #piece > state.width then
        lines[#lines + 1] = current:gsub(" $", "")
        current = inner
      end
      current = current .. piece
    end
    lines[#lines + 1] = current
    return prefix .. "{\n" .. table.concat(lines, "\n") .. "\n" .. indent .. "}"
  end
  return prefix .. "{\n" .. inner .. table.concat(entries, ",\n" .. inner) .. "\n" .. indent .. "}"
end

function show(value, state, depth, indent)
  local kind = type(value)
  if kind == "string" then return quote(value, state.chars) end
  if kind == "number" then return number(value) end
  if kind == "nil" or kind == "boolean" then return tostring(value) end
  local meta = debug.getmetatable(value)
  if kind == "cdata" or (type(meta) == "table" and rawget(meta, "__tostring")) then
    local ok, text = pcall(tostring, value)
    if not ok then return ("<error in __tostring: %s>"):format(tostring(text)) end
    return indented(text, indent)
  end
  if kind == "table" then return show_table(value, state, depth, indent) end
  if kind == "function" then return func(value) end
  return tostring(value)
end

--- Text that shows `value`. Reads tables without calling __index, __pairs or __len; calls only __tostring.
---@param value any
---@param opts aijit.InspectOptions?
---@return string
function M.inspect(value, opts)
  local state = {open = {}}
  for name, default in pairs(defaults) do state[name] = opts and opts[name] or default end
  return show(value, state, 0, "")
end

return setmetatable(M, {__call = function(_, value, opts) return M.inspect(value, opts) end})
