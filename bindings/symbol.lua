--- Values that stand for tensors without being any: placeholders of a graph, batched tensors, parameters that are traced, holes.
---
--- They are userdata, since LuaJIT asks the metatable of a table for no length: # of a table would be 0, silently. Of userdata
--- it asks, and ipairs, pairs, < and arithmetic are errors where no metamethod says otherwise. What a symbol is, its state, is
--- kept in a weak table beside it, or, of kinds whose symbols lead to others, in a metatable of its own: a chain in the weak
--- table would lose one link with each cycle of the collector, and a ring none.

local symbol = {}

-- symbol -> {kind = its metatable, ...}
local states = setmetatable({}, {__mode = "k"})
symbol.states = states

local function own_state(value)
  local meta = getmetatable(value)
  return type(meta) == "table" and rawget(meta, "symbol") or nil
end

--- A kind of symbols. `meta` has metamethods, of which __record(name, ...) is called in the place of an op that meets one, and
--- __whole, if functions that are made of ops in Lua are one op to them.
---@param meta table
---@param linked? boolean whether states lead to other symbols
---@return fun(state: table): userdata make
function symbol.kind(meta, linked)
  if not meta.__concat then meta.__concat = function(a, b) return tostring(a) .. tostring(b) end end
  if linked then
    return function(state)
      local new = newproxy(true)
      local own = getmetatable(new)
      for name, value in next, meta do own[name] = value end
      state.kind, own.symbol = meta, state
      return new
    end
  end
  local first = newproxy(true)
  local shared = getmetatable(first)
  for name, value in pairs(meta) do shared[name] = value end
  return function(state)
    local new = newproxy(first)
    state.kind = meta
    states[new] = state
    return new
  end
end

--- The state of a symbol, or nil: the value is none, or of another kind.
---@param value any
---@param meta? table the kind
---@return table?
function symbol.state(value, meta)
  if type(value) ~= "userdata" then return nil end
  local state = states[value] or own_state(value)
  if state and (meta == nil or state.kind == meta) then return state end
end

--- Whether a value stands for a tensor.
---@param value any
---@return boolean
function symbol.is(value) return type(value) == "userdata" and (states[value] or own_state(value)) ~= nil end

return symbol
