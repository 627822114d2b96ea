--- Help from the op table and from the annotations above public functions: `ai.help "softmax"`, `ai.help.reference()`.

local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local alias = require "aijit.bindings.alias"
local nearest = require "aijit.nearest"

local help = {}

local KIND = {
  UNARY = "elementwise, also in place as %s_", BINARY = "elementwise, broadcast, either may be a number; also in place as %s_",
  BINARY_S = "elementwise, broadcast; also in place as %s_", COMPARE = "elementwise, broadcast, gives bools", TEST = "elementwise, gives bools",
  REDUCE = "reduction", VIEW = "a view: no copy", OP = "", COMPOSE = "composed of other ops", UPDATE = "in place",
}
local AUTOCAST = {LOW = "in bf16 or f16 under ai.autocast", FULL = "in f32 under ai.autocast"}
local DOMAIN = {NUM = "not for bools", FLOAT = "integers become f32", INT = "for integers and bools"}

--- What an op does and takes, as text.
---@param row aijit.Op
---@return string
local function describe(row)
  local lines = {("%s -> %s"):format(op.signature(row), table.concat(row.returns, ", ")), "  " .. row.doc}
  local notes = {}
  local kind = KIND[row.kind]:format(row.name)
  if kind ~= "" then notes[#notes + 1] = kind end
  if DOMAIN[row.domain] then notes[#notes + 1] = DOMAIN[row.domain] end
  if AUTOCAST[row.autocast] then notes[#notes + 1] = AUTOCAST[row.autocast] end
  if #notes > 0 then lines[#lines + 1] = "  (" .. table.concat(notes, "; ") .. ")" end
  local first = row.params[1]
  local call = first and first.type == "aj_tensor *" and ("x:%s(...) or ai.f.%s(x, ...)"):format(row.name, row.name) or ("ai.f.%s(...)"):format(row.name)
  lines[#lines + 1] = "  " .. call
  return table.concat(lines, "\n")
end

-- The comment block above a function, read from its source.
local function comment_of(fn)
  local info = debug.getinfo(fn, "S")
  if info.source:sub(1, 1) ~= "@" then return nil end
  local file = io.open(info.source:sub(2))
  if not file then return nil end
  local lines, n = {}, 0
  for line in file:lines() do
    n = n + 1
    lines[n] = line
    if n >= info.linedefined then break end
  end
  file:close()
  local text, at = {}, info.linedefined - 1
  while at >= 1 and lines[at] and lines[at]:match "^%s*%-%-" do
    table.insert(text, 1, (lines[at]:gsub("^%s*%-+@?%s?", "")))
    at = at - 1
  end
  local head = lines[info.linedefined] and lines[info.linedefined]:gsub("^%s*", "") or ""
  return table.concat({head, unpack(text)}, "\n  "), ("%s:%d"):format(info.short_src, info.linedefined)
end

-- A page that lies beside this file.
local function page(name)
  local file = io.open((debug.getinfo(1, "S").source:gsub("^@", ""):gsub("help%.lua$", name)))
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

--- The text of help on a name ("softmax", "nn.Linear", "Tensor.item"), an op, a method or a function.
---@param what string|function|nil
---@return string
function help.text(what)
  if what == nil then
    return "ai.help \"name\" tells about an op or a function; ai.help.reference() is the page of all ops; "
      .. "ai.help \"differences\" tells those to PyTorch."
  end
  if type(what) == "function" then
    local text, where = comment_of(what)
    return text and text .. "\n  " .. where or tostring(what)
  end
  if type(what) ~= "string" then return tostring(what) end
  if what == "differences" then return page "differences.md" or "differences.md is not where aijit's modules are" end
  local name = what:gsub("^ai%.", ""):gsub("^f%.", ""):gsub("^Tensor[.:]", "")
  local of = alias[name] or alias[(name:gsub("_$", ""))]
  if of then return ("%s is another name of %s\n"):format(name, of) .. help.text(of) end
  local row = op.named[name] or op.named[(name:gsub("_$", ""))]
  local face = Tensor[name]
  if row then
    local text = describe(row)
    if type(face) == "function" and face ~= op.functions[name] then
      local more = comment_of(face)
      if more then text = text .. "\n  " .. more:gsub("\n", "\n  ") end
    end
    return text
  end
  local ai = require "aijit"
  local v = face
  if v == nil then
    v = ai
    for part in name:gmatch "[^.:]+" do
      local ok, next_value = pcall(function() return v[part] end)
      v = ok and next_value or nil
      if v == nil then break end
    end
  end
  if type(v) == "function" then return help.text(v) end
  if type(v) == "table" and v ~= ai then
    if type(rawget(v, "__init")) == "function" then return name .. ": class\n  " .. help.text(v.__init) end
    local names = {}
    for k in pairs(v) do if type(k) == "string" and k:sub(1, 1) ~= "_" then names[#names + 1] = k end end
    table.sort(names)
    return name .. ": " .. table.concat(names, " ")
  end
  local near = nearest.find(name, Tensor.names())
  return ("no help on %q%s"):format(what, #near > 0 and "; did you mean " .. table.concat(near, " or ") .. "?" or "")
end

--- The reference page of all ops, in Markdown.
---@return string
function help.reference()
  local lines = {"# Ops", "", "Every op is a function `ai.f.name` and, where its first argument is a tensor, a method.",
    "Dimensions and indices count from 1.", ""}
  for _, row in ipairs(op.rows) do
    local notes = DOMAIN[row.domain] and " (" .. DOMAIN[row.domain] .. ")" or ""
    lines[#lines + 1] = ("- `%s` → %s: %s%s"):format(op.signature(row), table.concat(row.returns, ", "), row.doc, notes)
  end
  return table.concat(lines, "\n") .. "\n"
end

--- Stubs for editors that read LuaCATS annotations: one `---@meta` file for all ops.
---@return string
function help.stubs()
  local types = {["aj_tensor *"] = "aijit.Tensor", aj_tensors = "aijit.Tensor[]", double = "number", bool = "boolean", ["const char *"] = "string",
    aj_dims = "integer|integer[]", aj_shape = "integer[]", aj_window = "integer|integer[]", aj_dtype = "string", aj_dtype_or_none = "string"}
  local lines = {"---@meta", "", "---@class aijit.Tensor", "local Tensor = {}", ""}
  for _, row in ipairs(op.rows) do
    lines[#lines + 1] = "--- " .. row.doc
    local names = {}
    for i, p in ipairs(row.params) do
      if p.type ~= "aj_base" then
        local name = p.name
        if i > 1 or p.type ~= "aj_tensor *" then
          names[#names + 1] = name
          lines[#lines + 1] = ("---@param %s%s %s"):format(name, p.default and "?" or "", types[p.type] or "integer")
        end
      end
    end
    for _ = 1, #row.returns do lines[#lines + 1] = "---@return aijit.Tensor" end
    lines[#lines + 1] = ("function Tensor:%s(%s) end"):format(row.name, table.concat(names, ", "))
    lines[#lines + 1] = ""
  end
  return table.concat(lines, "\n")
end

return setmetatable(help, {__call = function(_, what)
  local text = help.text(what)
  print(text)
end})
