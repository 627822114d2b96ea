--- Trees: nested plain tables with tensors, or other values, as leaves. Keys go in order: numbers, then strings.

local ai = require "aijit"
local nearest = require "aijit.nearest"
local raise = require("aijit.bindings.lib").raise

local tree = {}

--- Whether a value is an inner node of a tree.
---@param value any
---@return boolean
function tree.is_node(value) return type(value) == "table" and getmetatable(value) == nil end
local is_node = tree.is_node

--- The keys of a node in order.
---@param node table
---@return any[]
function tree.keys(node)
  local keys = {}
  for k in pairs(node) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then return a < b end
    return type(a) == "number" and type(b) ~= "number" or tostring(a) < tostring(b) and type(b) ~= "number"
  end)
  return keys
end

local function join(path, k) return path == "" and tostring(k) or path .. "." .. tostring(k) end

local function describe(v)
  if ai.is_tensor(v) then return "a tensor" end
  return is_node(v) and "a table" or v == nil and "nothing" or "a " .. type(v)
end

local function map(f, path, who, first, ...)
  local n = select("#", ...)
  if not is_node(first) then
    for i = 1, n do
      local other = select(i, ...)
      if other == nil or is_node(other) then
        raise(("%s: the trees differ at %s: %s in the first, %s in tree %d"):format(who, path == "" and "the top" or path, describe(first),
          describe(other), i + 1))
      end
    end
    return f(first, ...)
  end
  local out = {}
  for i = 1, n do
    local other = select(i, ...)
    if not is_node(other) then
      raise(("%s: the trees differ at %s: a table in the first, %s in tree %d"):format(who, path == "" and "the top" or path, describe(other), i + 1))
    end
    for _, k in ipairs(tree.keys(other)) do
      if first[k] == nil then raise(("%s: tree %d has %s, and the first has not"):format(who, i + 1, join(path, k))) end
    end
  end
  for _, k in ipairs(tree.keys(first)) do
    local others = {}
    for i = 1, n do others[i] = (select(i, ...))[k] end
    out[k] = map(f, join(path, k), who, first[k], unpack(others, 1, n))
  end
  return out
end

--- A tree of what f makes of the leaves of one or several trees of the same structure.
---@param f fun(leaf: any, ...): any
---@param first table
---@param ... table
---@return table
function tree.tree_map(f, first, ...)
  if type(f) ~= "function" then raise(("fn.tree_map: argument 1 is a %s, where a function is wanted"):format(type(f))) end
  return map(f, "", "fn.tree_map", first, ...)
end

local function walk(node, visit, path, keys)
  if not is_node(node) then return visit(node, path, keys) end
  for _, k in ipairs(tree.keys(node)) do
    local lineage = {unpack(keys)}
    lineage[#lineage + 1] = k
    walk(node[k], visit, join(path, k), lineage)
  end
end

--- The same with the leaf's path, "encoder.1.weights", and the list of its keys: f(path, leaf, keys).
---@param f fun(path: string, leaf: any, keys: any[]): any
---@param t table
---@return table
function tree.tree_map_with_path(f, t)
  local function build(node, path, keys)
    if not is_node(node) then return f(path, node, keys) end
    local out = {}
    for _, k in ipairs(tree.keys(node)) do
      local lineage = {unpack(keys)}
      lineage[#lineage + 1] = k
      out[k] = build(node[k], join(path, k), lineage)
    end
    return out
  end
  return build(t, "", {})
end

--- A tree as a list of n trees, whose tensors are the chunks along a dimension; other leaves are in each. A size that n does not divide
--- gives shorter chunks last, and fewer than n where there are fewer elements.
---@param t any
---@param n integer
---@param dim? integer 1
---@return any[]
function tree.tree_chunk(t, n, dim)
  if type(n) ~= "number" or n < 1 or n % 1 ~= 0 then raise(("fn.tree_chunk: n is %s; a whole number from 1 is wanted"):format(tostring(n))) end
  local chunks, made, least = {}, {}, n
  for _, leaf in ipairs((tree.tree_leaves(t))) do
    if ai.is_tensor(leaf) then
      made[leaf] = made[leaf] or leaf:chunk(n, dim or 1)
      least = math.min(least, #made[leaf])
    end
  end
  for i = 1, least do
    chunks[i] = map(function(leaf) return ai.is_tensor(leaf) and made[leaf][i] or leaf end, "", "fn.tree_chunk", t)
  end
  return chunks
end

--- The leaves in order, and their paths.
---@param t table
---@return any[] leaves
---@return string[] paths
function tree.tree_leaves(t)
  local leaves, paths = {}, {}
  walk(t, function(leaf, path) leaves[#leaves + 1], paths[#paths + 1] = leaf, path end, "", {})
  return leaves, paths
end

--- A tree of the structure of another with these leaves.
---@param t table
---@param leaves any[]
---@return table
function tree.tree_unflatten(t, leaves)
  local i = 0
  local function build(node)
    if not is_node(node) then
      i = i + 1
      return leaves[i]
    end
    local out = {}
    for _, k in ipairs(tree.keys(node)) do out[k] = build(node[k]) end
    return out
  end
  local out = build(t)
  if i ~= #leaves then raise(("fn.tree_unflatten: %d leaves for a tree of %d"):format(#leaves, i)) end
  return out
end

--- f(f(start, leaf), leaf), and so on over all leaves.
---@generic T
---@param f fun(acc: T, leaf: any): T
---@param t table
---@param start T
---@return T
function tree.tree_reduce(f, t, start)
  for _, leaf in ipairs((tree.tree_leaves(t))) do start = f(start, leaf) end
  return start
end

--- The tensors by path, as ai.save and load_state_dict take them.
---@param t table
---@return table<string, aijit.Tensor>
function tree.to_flat(t)
  local flat = {}
  walk(t, function(leaf, path) flat[path] = leaf end, "", {})
  return flat
end

--- The tree of a flat table, as ai.load gives it: "encoder.1.weights" is encoder[1].weights.
---@param flat table<string, any>
---@return table
function tree.from_flat(flat)
  local out = {}
  for path, leaf in pairs(flat) do
    local node, last = out, nil
    for part in path:gmatch "[^.]+" do
      if last ~= nil then
        node[last] = node[last] or {}
        node = node[last]
        if not is_node(node) then raise(("fn.from_flat: %s lies below a leaf"):format(path)) end
      end
      last = tonumber(part) or part
    end
    node[last] = leaf
  end
  return out
end

-- -- Tags ------------------------------------------------------------------------------------------------------

--- A tree whose leaves are the last key of each leaf.
---@param t table
---@return table
function tree.immediate_tags(t)
  return tree.tree_map_with_path(function(_, _, keys) return setmetatable({keys[#keys]}, {__name = "aijit.fn.Tags"}) end, t)
end

--- A tree whose leaves are all keys on the way to each leaf.
---@param t table
---@return table
function tree.lineage_tags(t)
  return tree.tree_map_with_path(function(_, _, keys) return setmetatable(keys, {__name = "aijit.fn.Tags"}) end, t)
end

local Rule = {__name = "aijit.fn.Rule"}

--- The rule of a leaf: that of its path, or of the longest beginning of it, or of the key nearest to it, or the default.
local function rule_of(rules, keys, known)
  local path = {}
  for i, k in ipairs(keys) do path[i] = tostring(k) end
  local found
  for last = #path, 2, -1 do
    local name = table.concat(path, ".", 1, last)
    known[name] = true
    if found == nil then found = rules[name] end
  end
  for i = #keys, 1, -1 do
    known[path[i]] = true
    if found == nil then found = rules[keys[i]] end
    if found == nil and path[i] ~= "default" then found = rules[path[i]] end
  end
  if found == nil then found = rules.default end
  return found
end

--- New parameters, each by the rule of its tag: {encoder = 1e-4, ["head.1"] = function(p, g) return p - g end, bias = false,
--- default = 1e-3}. A number is a step of gradient descent, a function makes the new value of parameter and gradient (and
--- of what else is given), false leaves it. A tag is a key on the way to the parameter, or a path from the top; the one that
--- says most counts, else the one nearest to the parameter.
---@param params table
---@param grads table
---@param rules table<any, number|false|fun(p: aijit.Tensor, g: aijit.Tensor, ...): aijit.Tensor>
---@param ... table more trees, for the functions
---@return table
function tree.update_tagged(params, grads, rules, ...)
  if type(rules) ~= "table" then raise("fn.update_tagged: usage: fn.update_tagged(params, grads, {encoder = 1e-4, default = 1e-3})") end
  local known, missing = {default = true}, nil
  local choice = tree.tree_map_with_path(function(path, _, keys)
    local rule = rule_of(rules, keys, known)
    if rule == nil then missing = missing or path end
    return setmetatable({rule}, Rule)
  end, params)
  for name in pairs(rules) do
    if not known[tostring(name)] then
      local names = {}
      for k in pairs(known) do names[#names + 1] = k end
      raise(("fn.update_tagged: no parameter has the tag '%s': %s"):format(tostring(name), nearest.hint(tostring(name), names)))
    end
  end
  if missing then raise(("fn.update_tagged: %s has none of the tags, and there is no default"):format(missing)) end
  return ai.no_grad(map, function(p, g, r, ...)
    local rule = r[1]
    if rule == false then return p end
    if type(rule) == "number" then return p - rule * g end
    if type(rule) == "function" then return rule(p, g, ...) end
    raise(("fn.update_tagged: a rule is a %s; a number, false or a function is wanted"):format(type(rule)))
  end, "", "fn.update_tagged", params, grads, choice, ...)
end

return tree
