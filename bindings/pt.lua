--- Walks what aj_pt_read made of a .pt file into Lua tables. Binds core/io.h.

local lib = require "aijit.bindings.lib"
local file = require "aijit.bindings.file"
local C, ffi = lib.C, lib.ffi
local NONE, FALSE, TRUE, NUMBER, INTEGER = C.AJ_PT_NONE, C.AJ_PT_FALSE, C.AJ_PT_TRUE, C.AJ_PT_NUMBER, C.AJ_PT_INTEGER
local TEXT, LIST, TUPLE, DICT, SET, TENSOR = C.AJ_PT_TEXT, C.AJ_PT_LIST, C.AJ_PT_TUPLE, C.AJ_PT_DICT, C.AJ_PT_SET, C.AJ_PT_TENSOR

local pt = {}

local function key_of(nodes, at)
  local node = nodes[at]
  local kind = node.kind
  if kind == TEXT then return ffi.string(node.text, node.n) end
  if kind == NUMBER and node.number == node.number then return node.number end
  if kind == TRUE or kind == FALSE then return kind == TRUE end
  lib.raise "pt: a dictionary has a key that is neither a text nor a number nor a boolean, and so none in Lua"
end

--- `how.null` stands for None in a list, where nil would be a hole; in a dictionary None is an absent field. `how.tensor` is what becomes
-- of each tensor; `how.wanted(name)`, if given, chooses among the tensors by their path of keys, joined with dots.
---@param blob ffi.cdata*
---@param max_bytes? integer
---@param how {null: any, tensor: (fun(t: aijit.Tensor): any), wanted: (fun(name: string): boolean)?}
---@return any value
---@return table keys  of the outermost dictionary in the file's order; keys[t] those of every dictionary t within
function pt.read(blob, max_bytes, how)
  local p = file.own(C.aj_pt_read(blob, max_bytes or 0), C.aj_pt_drop)
  local nodes, made, keys = C.aj_pt_nodes(p), {}, {}
  local value

  local function dictionary(node, prefix)
    local t, order, seen = {}, {}, {}
    for i = 0, node.n - 2, 2 do
      local key = key_of(nodes, node.items[i])
      if not seen[key] then
        seen[key] = true
        order[#order + 1] = key
      end
      t[key] = value(node.items[i + 1], prefix .. tostring(key))
    end
    keys[t] = order
    return t
  end

  local function list(node, prefix)
    local t = {}
    for i = 0, node.n - 1 do
      local v = value(node.items[i], prefix .. tostring(i + 1))
      if v == nil then v = how.null end
      t[i + 1] = v
    end
    return t
  end

  function value(at, name)
    local node = nodes[at]
    local kind = node.kind
    if kind == NONE then return nil
    elseif kind == FALSE or kind == TRUE then return kind == TRUE
    elseif kind == NUMBER then return node.number
    elseif kind == INTEGER then return node.integer
    elseif kind == TEXT then return ffi.string(node.text, node.n) end
    if kind == TENSOR and how.wanted and not how.wanted(name) then return nil end
    if made[at] == nil then
      local prefix = name == "" and "" or name .. "."
      if kind == TENSOR then made[at] = how.tensor(lib.check(C.aj_pt_tensor(p, at)))
      elseif kind == DICT then made[at] = dictionary(node, prefix)
      else
        assert(kind == LIST or kind == TUPLE or kind == SET)
        made[at] = list(node, prefix)
      end
    end
    return made[at]
  end

  local result = value(C.aj_pt_top(p), "")
  C.aj_pt_drop(ffi.gc(p, nil))
  for i, key in ipairs(keys[result] or {}) do keys[i] = key end
  return result, keys
end

return pt
