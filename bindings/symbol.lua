--- Values that stand for tensors without being any: placeholders of a graph, batched tensors, parameters that are traced, holes.
---
--- They are userdata, since LuaJIT asks the metatable of a table for no length: # of a table would be 0, silently. Of userdata
--- it asks, and ipairs, pairs, < and arithmetic are errors where no metamethod says otherwise. What a symbol is, is kept in a
--- weak table beside it, and must not lead back to the symbol itself, which would then never be collected.

local symbol = {}

-- symbol -> {kind = its metatable, ...}
local states = setmetatable({}, {__mode = "k"})
symbol.states = states

--- A kind of symbols. `meta` has metamethods, of which __record(name, ...) is called in the place of an op that meets one, and
--- __whole, if functions that are made of ops in Lua are one op to them.
---@param meta table
---@return fun(state: table): userdata make
function symbol.kind(meta)
  local first = newproxy(true)
  local shared = getmetatable(first)
  for name, value in pairs(meta) do shared[name] = value end
  if not shared.__concat then shared.__concat = function(a, b) return tostring(a) .. tostring(b) end end
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
  local state = states[value]
  if state and (meta == nil or state.kind == meta) then return state end
end

--- Whether a value stands for a tensor.
---@param value any
---@return boolean
function symbol.is(value) return type(value) == "userdata" and states[value] ~= nil end

return symbol
