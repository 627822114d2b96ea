--- Which parameters belong together: by name, by pattern, by tag, by whether they are to decay.
--
--     AdamW(model, {lr = 1e-3, groups = {{match = "bias$", weight_decay = 0}, {tag = "encoder", lr = 1e-4}}})
--
-- The first entry that fits a parameter has it; what fits none is a last group with the options of all. A module's tag is
-- its field `tag`, and counts for everything below it too; in a tree of parameters the keys on the way are tags.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local nearest = require "aijit.nearest"
local raise = require("aijit.bindings.lib").raise

local group = {}

---@class aijit.optim.Entry
---@field tensor aijit.Tensor
---@field name string?   as in state_dict; nil in a plain list
---@field module table?  whose own parameter it is
---@field tags table<string, boolean>?

local function is_module(value)
  return type(value) == "table" and type(value.parameters) == "function" and type(value.named_modules) == "function"
end

local function entries_of_module(model)
  model:parameters()                                     -- refuses layers that wait for their sizes
  local list, seen, tags = {}, {}, {}
  for prefix, module in model:named_modules() do
    local own, parent = {}, prefix:match "^(.*)%.[^.]*$" or (prefix ~= "" and "" or nil)
    -- A list of modules is no module of its own: the nearest one above counts.
    while parent and parent ~= "" and not tags[parent] do parent = parent:match "^(.*)%.[^.]*$" or "" end
    for tag in pairs(parent and tags[parent] or {}) do own[tag] = true end
    local tag = rawget(module, "tag")
    if type(tag) == "string" then own[tag] = true end
    tags[prefix] = own
    for _, slot in ipairs(module:slots "parameter") do
      if not seen[slot.value] then
        seen[slot.value] = true
        list[#list + 1] = {tensor = slot.value, name = prefix == "" and slot.name or prefix .. "." .. slot.name, module = module, tags = own}
      end
    end
  end
  return list
end

local function sorted_keys(tree)
  local keys = {}
  for key in pairs(tree) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) == type(b) then return a < b end
    return type(a) == "number"
  end)
  return keys
end

local function entries_of_tree(tree, prefix, above, list)
  for _, key in ipairs(sorted_keys(tree)) do
    local value, name = tree[key], prefix .. tostring(key)
    if ai.is_tensor(value) then
      list[#list + 1] = {tensor = value, name = name, tags = above}
    elseif type(value) == "table" then
      local own = {[tostring(key)] = true}
      for tag in pairs(above) do own[tag] = true end
      entries_of_tree(value, name .. ".", own, list)
    else
      list[#list + 1] = {tensor = value, name = name}
    end
  end
  return list
end

--- The parameters of a module, a list, or a tree of tables.
---@param params aijit.nn.Module|aijit.Tensor[]|table
---@return aijit.optim.Entry[]
function group.entries(params)
  if is_module(params) then return entries_of_module(params) end
  if type(params) == "table" and type(params.parameters) == "function" then params = params:parameters() end
  local list = {}
  if params[1] ~= nil or next(params) == nil then
    for i, p in ipairs(params) do
      if type(p) == "table" then return entries_of_tree(params, "", {}, {}) end
      list[i] = {tensor = p}
    end
    return list
  end
  return entries_of_tree(params, "", {}, list)
end

local function as_list(value)
  return type(value) == "table" and value or {value}
end

local function matches(selector, entry)
  for _, name in ipairs(as_list(selector.name)) do if entry.name == name then return true end end
  for _, tag in ipairs(as_list(selector.tag)) do if entry.tags and entry.tags[tag] then return true end end
  for _, pattern in ipairs(as_list(selector.match)) do
    if type(pattern) == "function" then
      if pattern(entry) then return true end
    elseif entry.name and entry.name:find(pattern) then
      return true
    end
  end
  return false
end

local selecting = {match = {"string", "function"}, name = {"string"}, tag = {"string"}}

local function check_selector(selector, i, who)
  if type(selector) ~= "table" then raise(("%s: groups[%d] is a %s; a table such as {match = \"bias$\", weight_decay = 0} is wanted"):format(
    who, i, type(selector))) end
  local any = false
  for key, types in pairs(selecting) do
    if selector[key] ~= nil then
      any = true
      for _, value in ipairs(as_list(selector[key])) do
        if type(value) ~= types[1] and type(value) ~= types[2] then
          raise(("%s: groups[%d].%s is a %s; a %s is wanted"):format(who, i, key, type(value), types[1]))
        end
        if key == "match" and type(value) == "string" then
          local ok, problem = pcall(string.find, "", value)
          if not ok then raise(("%s: groups[%d].match, '%s', is no Lua pattern: %s"):format(who, i, value, problem)) end
        end
      end
    end
  end
  if not any then raise(("%s: groups[%d] says neither match nor name nor tag"):format(who, i)) end
end

local function describe_miss(selector, i, list, who)
  local names, tags, seen = {}, {}, {}
  for _, entry in ipairs(list) do
    names[#names + 1] = entry.name
    for tag in pairs(entry.tags or {}) do if not seen[tag] then seen[tag] = true; tags[#tags + 1] = tag end end
  end
  local what = selector.name or selector.match or selector.tag
  what = type(what) == "table" and what[1] or what
  if #names == 0 then
    raise(("%s: groups[%d] goes by names, and a plain list of parameters has none: give the model, or {params = ...} groups"):format(who, i))
  end
  raise(("%s: groups[%d] fits no parameter that is left for it (%s): %s"):format(
    who, i, tostring(what), nearest.hint(tostring(what), selector.tag and tags or names)))
end

--- Entries sorted into groups: those of `selectors`, then the rest.
---@param list aijit.optim.Entry[]
---@param selectors table[]?
---@param who string for messages
---@return {options: table, entries: aijit.optim.Entry[]}[]
function group.sort(list, selectors, who)
  local groups, rest = {}, {options = {}, entries = {}}
  for i, selector in ipairs(selectors or {}) do
    check_selector(selector, i, who)
    local options = {}
    for key, value in pairs(selector) do if not selecting[key] then options[key] = value end end
    groups[i] = {options = options, entries = {}}
  end
  for _, entry in ipairs(list) do
    local home = rest
    for i, selector in ipairs(selectors or {}) do
      if matches(selector, entry) then home = groups[i] break end
    end
    home.entries[#home.entries + 1] = entry
  end
  for i, one in ipairs(groups) do if #one.entries == 0 then describe_miss(selectors[i], i, list, who) end end
  if #rest.entries > 0 or #groups == 0 then groups[#groups + 1] = rest end
  return groups
end

--- Classes whose parameters do not decay, by what their names or those of their parents are.
local function is_of_kind(module, pattern)
  for ancestor in pairs(getmetatable(module).__ancestors or {}) do
    local name = ancestor.__name
    if name:find(pattern) and not name:find "^WeightNorm" and not name:find "^SpectralNorm" then return true end
  end
  return false
end

--- Whether a parameter is a table of embeddings.
---@param entry aijit.optim.Entry
---@return boolean
function group.is_embedding(entry)
  return entry.module ~= nil and is_of_kind(entry.module, "Embedding")
end

--- Whether a parameter is better left without weight decay: biases, gains and all else of fewer than two dimensions, and
--- what belongs to a norm or an embedding. As a selector: {match = ai.optim.is_undecayed, weight_decay = 0}.
---@param entry aijit.optim.Entry
---@return boolean
function group.is_undecayed(entry)
  if entry.tensor:dim() < 2 then return true end
  return entry.module ~= nil and (class.is_class(getmetatable(entry.module)))
    and (is_of_kind(entry.module, "Norm%d?d?$") or group.is_embedding(entry))
end

local separate_arguments = argument.declare("optim.separate_decay", "weight_decay=0.01 no_decay:patterns=none", nil, "params")

--- Two groups, for any optimizer: matrices and kernels, which decay, and the rest, which does not.
---     AdamW(ai.optim.separate_decay(model, {weight_decay = 0.1}), {lr = 3e-4})
---@param params aijit.nn.Module|aijit.Tensor[]|table
---@param options? {weight_decay: number, no_decay: string[]|string} 0.01 by default; further patterns of names that do not decay
---@return {params: aijit.Tensor[], weight_decay: number}[]
function group.separate_decay(params, options)
  options = separate_arguments:options(options)
  if type(params) ~= "table" then raise(("separate_decay: a model or its parameters are wanted, got a %s"):format(type(params))) end
  local groups = {{params = {}, weight_decay = options.weight_decay}, {params = {}, weight_decay = 0}}
  local more = {match = options.no_decay or {}}
  for _, entry in ipairs(group.entries(params)) do
    local to = groups[(group.is_undecayed(entry) or matches(more, entry)) and 2 or 1].params
    to[#to + 1] = entry.tensor
  end
  for i = 2, 1, -1 do if #groups[i].params == 0 then table.remove(groups, i) end end
  return groups
end

return group
