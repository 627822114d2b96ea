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

-- The lines of a source, up to one.
local function lines_of(info, last)
  local file = info.source:sub(1, 1) == "@" and io.open(info.source:sub(2))
  if not file then return nil end
  local lines = {}
  for line in file:lines() do
    lines[#lines + 1] = line
    if #lines >= last then break end
  end
  file:close()
  return lines
end

-- The comment block above a line.
local function comment_above(lines, at)
  local text = {}
  at = at - 1
  while at >= 1 and lines[at] and lines[at]:match "^%s*%-%-" do
    table.insert(text, 1, (lines[at]:gsub("^%s*%-+@?%s?", "")))
    at = at - 1
  end
  return text
end

-- The comment block above a function, read from its source.
local function comment_of(fn)
  local info = debug.getinfo(fn, "S")
  local lines = lines_of(info, info.linedefined)
  if not lines then return nil end
  local head = lines[info.linedefined] and lines[info.linedefined]:gsub("^%s*", "") or ""
  return table.concat({head, unpack(comment_above(lines, info.linedefined))}, "\n  "), ("%s:%d"):format(info.short_src, info.linedefined)
end

-- Where a class is made, and the comment block above: nn.layer notes it; of others it is looked for above the constructor.
local function comment_of_class(cls)
  local info = rawget(cls, "declared_at")
  local own = rawget(cls, "__init")
  if not info and type(own) ~= "function" then return {} end
  info = info or debug.getinfo(own, "S")
  local last = info.currentline or info.linedefined
  local lines = lines_of(info, last)
  for at = lines and math.min(last, #lines) or 0, 1, -1 do
    local line = lines[at]
    if info.currentline and line:find("layer(", 1, true) or line:find(('class("%s"'):format(cls.__name), 1, true) then
      return comment_above(lines, at), ("%s:%d"):format(info.short_src, at)
    end
  end
  return {}
end

-- What a class is, how it is made, and what its objects are called with.
local function describe_class(cls)
  local comment, where = comment_of_class(cls)
  local declared = cls.declaration
  local lines = {declared and declared:usage() or "class " .. cls.__name}
  for _, line in ipairs(comment) do if not line:find "^class " and not line:find "^overload " then lines[#lines + 1] = "  " .. line end end
  for _, one in ipairs(declared and declared.list or {}) do
    local wanted = declared:wanted(one, io.stdout, cls.argument_rules)       -- which no argument is
    local default = one.default ~= nil and " = " .. require("aijit.argument").described(one.default) or one.inferred and ", inferred when left out"
      or one.required and "" or ", may be left out"
    lines[#lines + 1] = ("    %s%s%s"):format(one.name, wanted and ": " .. wanted:gsub(",$", "") or "", default)
  end
  for _, name in ipairs{declared and "" or "__init", "forward"} do
    local method = rawget(cls, name)
    local text = type(method) == "function" and comment_of(method)
    if text then lines[#lines + 1] = "  " .. text:gsub("\n", "\n  ") end
  end
  if where then lines[#lines + 1] = "  " .. where end
  return table.concat(lines, "\n")
end

-- A page that lies beside this file.
local function page(name)
  local file = io.open((debug.getinfo(1, "S").source:gsub("^@", ""):gsub("help%.lua$", name)))
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

--- The text of help on a name ("softmax", "nn.Linear", "Tensor.item"), an op, a method, a function, a class or an object of one.
---@param what string|function|table|nil
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
  local class = require "aijit.class"
  if type(what) == "table" and class.is_class(what) then return describe_class(what) end
  if type(what) == "table" and class.is_class(getmetatable(what)) then return describe_class(getmetatable(what)) end
  if type(what) ~= "string" then return tostring(what) end
  if what == "differences" then return page "differences.md" or "differences.md is not where aijit's modules are" end
  local name = what:gsub("^ai%.", ""):gsub("^f%.", ""):gsub("^Tensor[.:]", ""):gsub("^m%.", "model.")
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
  local v, hint = face, nil
  if v == nil then
    v = ai
    for part in name:gmatch "[^.:]+" do
      local ok, next_value = pcall(function() return v[part] end)
      hint = not ok and tostring(next_value):match "did you mean.*"
      v = ok and next_value or nil
      if v == nil then break end
    end
  end
  if type(v) == "function" then return help.text(v) end
  if type(v) == "table" and v ~= ai then
    if class.is_class(v) then return describe_class(v) end
    local names = {}
    for k in pairs(v) do if type(k) == "string" and k:sub(1, 1) ~= "_" then names[#names + 1] = k end end
    table.sort(names)
    return name .. ": " .. table.concat(names, " ")
  end
  if hint then return ("no help on %q; %s"):format(what, hint) end
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
