--- Dimensions moved, split, joined and repeated by a pattern (Rogozhnikov, 2022): "b (h p) w c -> b h (p w) c".
---
--- Names are dimensions; those in brackets are one dimension made of several, the last the quickest; ... stands for any that
--- are not named; 1 is a dimension of size 1. A size that the input does not tell is given by name.

local ai = require "aijit"
local raise = require("aijit.bindings.lib").raise

local rearrange = {}

local function fail(pattern, text, ...) raise(("rearrange \"%s\": %s"):format(pattern, text:format(...))) end

--- One side: a list of groups, each a list of names; "..." alone is a group of that name.
local function parse_side(pattern, text)
  local groups, open, seen = {}, nil, {}
  for token in text:gsub("%.%.%.", " _rest_ "):gsub("([()])", " %1 "):gmatch "%S+" do
    if token == "(" then
      if open then fail(pattern, "brackets within brackets") end
      open = {}
    elseif token == ")" then
      if not open then fail(pattern, "a bracket closes that was not opened") end
      groups[#groups + 1], open = open, nil
    else
      if token ~= "1" then
        if not token:match "^[%a_][%w_]*$" then fail(pattern, "'%s' is no name", token) end
        if seen[token] then fail(pattern, "'%s' stands twice on one side", token) end
        if token == "_rest_" and open then fail(pattern, "... cannot stand in brackets") end
        seen[token] = true
      end
      if open then
        if token ~= "1" then open[#open + 1] = token end
      else
        groups[#groups + 1] = token == "1" and {} or {token}
      end
    end
  end
  if open then fail(pattern, "a bracket is not closed") end
  return groups, seen
end

local parsed = {}

local function parse(pattern)
  if type(pattern) ~= "string" then raise(("rearrange: the pattern is a %s, not a string"):format(type(pattern))) end
  local p = parsed[pattern]
  if p then return p end
  local left, right = pattern:match "^(.-)%->(.*)$"
  if not left or right:find("->", 1, true) then fail(pattern, "one -> is wanted") end
  p = {}
  p.left, p.on_left = parse_side(pattern, left)
  p.right, p.on_right = parse_side(pattern, right)
  parsed[pattern] = p
  return p
end

--- The sizes of all names on the left, and the number of dimensions that ... stands for.
local function measure(pattern, p, shape, axes)
  local sizes, rest, at = {}, {}, 1
  for name, size in pairs(axes) do
    if type(size) ~= "number" or size < 1 or size % 1 ~= 0 then fail(pattern, "the size of '%s' is %s", name, tostring(size)) end
    if not p.on_left[name] and not p.on_right[name] then fail(pattern, "there is no '%s' in it", name) end
    sizes[name] = size
  end
  local named = #p.left - (p.on_left._rest_ and 1 or 0)
  local free = #shape - named
  if free < 0 or free > 0 and not p.on_left._rest_ then
    fail(pattern, "the input (%s) has %d dimensions, the left side %d", table.concat(shape, ", "), #shape, named)
  end
  for _, group in ipairs(p.left) do
    if group[1] == "_rest_" then
      for i = 1, free do rest[i] = shape[at + i - 1] end
      at = at + free
    else
      local known, unknown = 1, nil
      for _, name in ipairs(group) do
        if sizes[name] then known = known * sizes[name]
        elseif unknown then fail(pattern, "neither '%s' nor '%s' has a size; give one by name", unknown, name)
        else unknown = name end
      end
      local size = shape[at]
      if unknown then
        if size % known ~= 0 then fail(pattern, "dimension %d has %d, which %d does not divide", at, size, known) end
        sizes[unknown] = size / known
      elseif size ~= known then
        fail(pattern, "dimension %d has %d, not %d", at, size, known)
      end
      at = at + 1
    end
  end
  return sizes, rest
end

--- All names of one side in a row, ... as its dimensions: _rest_1, _rest_2.
local function flat(groups, rest)
  local names = {}
  for _, group in ipairs(groups) do
    for _, name in ipairs(group) do
      if name == "_rest_" then for i = 1, #rest do names[#names + 1] = "_rest_" .. i end
      else names[#names + 1] = name end
    end
  end
  return names
end

local function run(x, pattern, axes, repeats)
  if not ai.is_tensor(x) then raise(("rearrange: the input is a %s, not a tensor"):format(type(x))) end
  local p = parse(pattern)
  local shape = {unpack(x.shape)}
  local sizes, rest = measure(pattern, p, shape, axes or {})
  for i, size in ipairs(rest) do sizes["_rest_" .. i] = size end
  for name in pairs(p.on_left) do
    if not p.on_right[name] then fail(pattern, "'%s' is missing on the right", name == "_rest_" and "..." or name) end
  end
  local before, after, place = flat(p.left, rest), flat(p.right, rest), {}
  local elementary, order, expanded = {}, {}, {}
  for i, name in ipairs(before) do place[name], elementary[i] = i, sizes[name] end
  local n = #before
  for i, name in ipairs(after) do
    if not place[name] then
      if not repeats then fail(pattern, "'%s' is missing on the left", name) end
      if not sizes[name] then fail(pattern, "the size of '%s' is not given", name) end
      n = n + 1
      elementary[n], place[name] = 1, n
    end
    order[i], expanded[i] = place[name], sizes[name]
  end
  x = x:reshape(elementary)
  if #order > 0 then x = x:permute(order):expand(expanded) end
  local final, i = {}, 0
  for _, group in ipairs(p.right) do
    if group[1] == "_rest_" then
      for _, size in ipairs(rest) do final[#final + 1] = size end
      i = i + #rest
    else
      local size = 1
      for _ = 1, #group do
        i = i + 1
        size = size * expanded[i]
      end
      final[#final + 1] = size
    end
  end
  return x:reshape(final)
end

--- rearrange(x, "b (h p) c -> b h (p c)", {p = 4})
---@param x aijit.Tensor
---@param pattern string
---@param axes? table<string, integer> sizes by name
---@return aijit.Tensor
function rearrange.rearrange(x, pattern, axes) return run(x, pattern, axes, false) end

--- The same, where names that are on the right alone are new dimensions along which x is repeated:
--- repeat_axes(x, "h w -> h (w n)", {n = 3}).
---@param x aijit.Tensor
---@param pattern string
---@param axes? table<string, integer>
---@return aijit.Tensor
function rearrange.repeat_axes(x, pattern, axes) return run(x, pattern, axes, true) end

local Rearrange = ai.nn.layer("Rearrange", "pattern axes=none")
rearrange.Rearrange = Rearrange
function Rearrange:check() parse(self.pattern) end
function Rearrange:forward(x) return run(x, self.pattern, self.axes, false) end

--- As a layer: m.rearrange("b c h w -> b (h w) c"), m.rearrange("b (h p) -> b h p", {p = 2}).
---@param pattern string
---@param axes? table<string, integer>
---@return aijit.nn.Module
function rearrange.layer(pattern, axes) return Rearrange{pattern = pattern, axes = axes} end

return rearrange
