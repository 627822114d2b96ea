--- Values made fit to cross into another Lua state: as bytes, and beside them the tensors and channels that cross as they are.
--
-- Data: nil, booleans, numbers, strings, tensors, channels, tables of these (shared and circular ones too). For the start of a
-- thread functions and objects cross as well: what a module holds, by the module's name, which the other state requires;
-- other functions as their bytecode with copies of their upvalues; objects with their classes. What cannot cross is an
-- error that names its place: "upvalue log of function get (train.lua:12): a userdata".

local buffer = require "string.buffer"
local class = require "aijit.class"
local lib = require "aijit.bindings.lib"
local raw = require "aijit.bindings.thread"

local portable = {}

local standard = {}
for name in ("_G string table math io os debug coroutine bit jit ffi package string.buffer"):gmatch "%S+" do standard[name] = true end

local private = {["aijit.host"] = true, ["aijit.paths"] = true}

local function can_be_required(name)
  if standard[name] then return true end
  if private[name] then return false end
  if name:match "^aijit%.bindings%." then return true end
  return (package.searchpath(name, package.path) or package.searchpath(name, package.cpath)) ~= nil
end

local function is_named(value) return type(value) == "table" or type(value) == "function" end

-- What can be had by requiring a module: the module, its fields, and the methods of its classes. value -> {module, key, key}.
local function find_names()
  local names, modules = {}, {}
  for name, module in pairs(package.loaded) do
    if type(name) == "string" and is_named(module) and can_be_required(name) then modules[#modules + 1] = name end
  end
  table.sort(modules, function(a, b)                     -- the standard ones first: string.format is string's, whoever keeps it too
    if standard[a] ~= standard[b] then return standard[a] == true end
    return a < b
  end)
  for _, name in ipairs(modules) do
    local module = package.loaded[name]
    names[module] = names[module] or {name}
  end
  for _, name in ipairs(modules) do
    local module = package.loaded[name]
    for key, value in next, type(module) == "table" and module or {} do
      if type(key) == "string" and is_named(value) and not names[value] then
        names[value] = {name, key}
        if class.is_class(value) then
          for method, f in next, value do
            if type(f) == "function" and not names[f] then names[f] = {name, key, method} end
          end
        end
      end
    end
  end
  local op = package.loaded["aijit.bindings.op"]
  for name, f in pairs(op and op.functions or {}) do names[f] = names[f] or {"aijit.bindings.op", "functions", name} end
  names[getmetatable(class.define "Any")] = {"aijit.class", "meta"}
  return names
end

local function where(path)
  local text = ""
  for _, step in ipairs(path) do
    if step.label then
      text = step.label
    elseif step.upvalue then
      text = ("upvalue %s of %s"):format(step.upvalue, step.of)
    elseif type(step.key) == "string" and step.key:match "^[%a_][%w_]*$" then
      text = text == "" and step.key or text .. "." .. step.key
    else
      text = text .. "[" .. tostring(step.key) .. "]"
    end
  end
  return text
end

local function fail(state, what)
  local place = where(state.path)
  lib.raise(("%s: %s%s cannot cross to another thread%s"):format(state.who, place == "" and "" or place .. ": ", what, state.hint or ""))
end

local function describe_function(f)
  local info = debug.getinfo(f, "S")
  return ("the function of %s:%d"):format(info.short_src, info.linedefined)
end

local encode

local function inside(state, step, value)
  local path = state.path
  path[#path + 1] = step
  local coded = encode(state, value)
  path[#path] = nil
  return coded
end

local function encode_function(state, f, node)
  if not pcall(string.dump, f) then fail(state, "a function of C") end
  local of = describe_function(f)
  node[1], node[2], node[3], node[4] = "function", string.dump(f), {}, {}
  for i = 1, math.huge do
    local name, value = debug.getupvalue(f, i)
    if not name then break end
    local id = tostring(debug.upvalueid(f, i))
    node[3][i] = id
    if state.upvalues[id] == nil then
      state.upvalues[id] = true
      node[4][i] = inside(state, {upvalue = name, of = of}, value)
    end
  end
end

local function is_flat(t)
  for key, value in next, t do
    local k, v = type(key), type(value)
    if k ~= "number" and k ~= "string" or v ~= "number" and v ~= "string" and v ~= "boolean" then return false end
  end
  return true
end

local function encode_table(state, t, node)
  local meta = getmetatable(t)
  if meta ~= nil and not state.code then
    fail(state, ("an object (%s): send what it is made of; an object"):format(type(meta) == "table" and rawget(meta, "__name") or "with a metatable"))
  end
  if meta == nil and is_flat(t) then
    node[1], node[2] = "flat", t
    return
  end
  local content, n = {}, 0
  node[1], node[2] = "table", content
  if meta ~= nil then
    if type(meta) ~= "table" then fail(state, "an object with a hidden metatable") end
    node[3] = inside(state, {key = "(metatable)"}, meta)
  end
  for key, value in next, t do
    content[n + 1] = inside(state, {key = "(key)"}, key)
    content[n + 2] = inside(state, {key = key}, value)
    n = n + 2
  end
end

-- The coded form of a value: itself, or {number of its node}.
function encode(state, value)
  local kind = type(value)
  if kind == "number" or kind == "string" or kind == "boolean" or kind == "nil" then return value end
  if state.seen[value] then return {state.seen[value]} end
  local id = #state.nodes + 1
  local node = {}
  state.nodes[id] = node
  if lib.is_tensor(value) then
    state.tensors[#state.tensors + 1] = value
    node[1], node[2] = "tensor", #state.tensors
    return {id}                                          -- a cdata is no key: each mention of a tensor is one more header
  end
  if raw.is_channel(value) then
    state.channels[#state.channels + 1] = value
    node[1], node[2] = "channel", #state.channels
    return {id}
  end
  if kind ~= "table" and kind ~= "function" then fail(state, kind == "thread" and "a coroutine" or kind == "cdata" and "a C object" or "a " .. kind) end
  state.seen[value] = id
  if type(value) == "table" and rawget(value, "__channel") then
    node[1], node[2] = "queue", encode(state, value.__channel)
    return {id}
  end
  if state.code then
    state.names = state.names or find_names()
    local name = state.names[value]
    if name then
      node[1], node[2] = "name", name
      return {id}
    end
  end
  if kind == "table" then encode_table(state, value, node)
  elseif state.code then encode_function(state, value, node)
  else fail(state, describe_function(value)) end
  return {id}
end

--- A list of values as a message.
---@param values any[] with n, their number
---@param who string for errors
---@param o? {code: boolean, hint: string} code: functions and objects too
---@return string text
---@return aijit.Tensor[] tensors
---@return ffi.cdata*[] channels
function portable.pack(values, who, o)
  local state = {who = who, path = {}, nodes = {}, seen = {}, tensors = {}, channels = {}, upvalues = {}, code = o and o.code, hint = o and o.hint}
  local coded = {}
  for i = 1, values.n do
    coded[i] = inside(state, {label = values.names and values.names[i] or "argument " .. i}, values[i])
  end
  return buffer.encode {n = values.n, coded = coded, nodes = state.nodes}, state.tensors, state.channels
end

local function named(path)
  local value = require(path[1])
  for i = 2, #path do value = value[path[i]] end
  return value
end

--- The values of a message.
---@param text string
---@param tensors aijit.Tensor[]
---@param channels ffi.cdata*[]
---@return any[] values with n
function portable.unpack(text, tensors, channels)
  local message = buffer.decode(text)
  local nodes, made, upvalues = message.nodes, {}, {}
  local decode
  local function build(id)
    local node = nodes[id]
    local kind = node[1]
    if kind == "tensor" then made[id] = tensors[node[2]]
    elseif kind == "channel" then made[id] = channels[node[2]]
    elseif kind == "flat" then made[id] = node[2]
    elseif kind == "name" then made[id] = named(node[2])
    elseif kind == "queue" then made[id] = require("aijit.thread.channel").of(decode(node[2]))
    elseif kind == "table" then
      local t = {}
      made[id] = t
      for i = 1, #node[2], 2 do t[decode(node[2][i])] = decode(node[2][i + 1]) end
      if node[3] then setmetatable(t, decode(node[3])) end
    else
      local f = assert(loadstring(node[2]))
      made[id] = f
      for i, name in ipairs(node[3]) do
        local first = upvalues[name]
        if first then
          debug.upvaluejoin(f, i, first[1], first[2])
        else
          upvalues[name] = {f, i}
        end
        if node[4][i] ~= nil then debug.setupvalue(f, i, decode(node[4][i])) end
      end
    end
    return made[id]
  end
  function decode(coded)
    if type(coded) ~= "table" then return coded end
    local value = made[coded[1]]
    if value ~= nil then return value end
    return build(coded[1])
  end
  local values = {n = message.n}
  for i = 1, message.n do values[i] = decode(message.coded[i]) end
  return values
end

return portable
