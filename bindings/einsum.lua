--- Sums of products over named dimensions: einsum("bij,bjk->bik", a, b).
--
-- Operands meet two at a time, the pair with the smallest result first; what both share and nobody needs later is summed
-- over by a matrix product, so no outer product is made that a product of matrices avoids.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local f = op.functions

local einsum = {}

local function fail(equation, message, ...) lib.raise(("einsum: %q: "):format(equation) .. message:format(...)) end

-- A side of the equation as lists of letters; "..." is one entry.
local function letters(equation, text)
  local list, i = {}, 1
  while i <= #text do
    if text:sub(i, i + 2) == "..." then
      for _, l in ipairs(list) do if l == "..." then fail(equation, "%q has two ellipses", text) end end
      list[#list + 1], i = "...", i + 3
    elseif text:match("^%a", i) then list[#list + 1], i = text:sub(i, i), i + 1
    else fail(equation, "%q is no subscript; they are letters, or ... for further dimensions", text:sub(i, i)) end
  end
  return list
end

local parsed = {}
local kept = 0

---@return {inputs: string[][], output: string[]?}
local function parse(equation)
  local p = parsed[equation]
  if p then return p end
  local text = equation:gsub("%s", "")
  local left, right = text:match "^(.-)%->(.*)$"
  left = left or text
  p = {inputs = {}, output = right and letters(equation, right)}
  for piece in (left .. ","):gmatch "([^,]*)," do p.inputs[#p.inputs + 1] = letters(equation, piece) end
  if kept > 200 then parsed, kept = {}, 0 end
  parsed[equation], kept = p, kept + 1
  return p
end

local function place(list, label)
  for i, l in ipairs(list) do if l == label then return i end end
end

-- Labels for all dimensions of an operand; those of an ellipsis count from the end.
local function label_all(equation, k, x, subscripts)
  local n, named, has = Tensor.dim(x), #subscripts, place(subscripts, "...")
  if has then named = named - 1 end
  if n < named or (n > named and not has) then
    fail(equation, "operand %d has %d dimensions, and %d subscript%s%s", k, n, named, named == 1 and "" or "s", has and " and an ellipsis" or "")
  end
  local labels = {}
  for _, l in ipairs(subscripts) do
    if l ~= "..." then labels[#labels + 1] = l
    else for e = n - named, 1, -1 do labels[#labels + 1] = "." .. e end end
  end
  return labels, n - named
end

-- A dimension that occurs twice in one operand becomes the diagonal over both.
local function take_diagonals(equation, k, x, labels)
  local i = 1
  while i <= #labels do
    local j
    for m = i + 1, #labels do if labels[m] == labels[i] then j = m break end end
    if not j then i = i + 1
    else
      local a, b = Tensor.size(x, i), Tensor.size(x, j)
      if a ~= b then fail(equation, "subscript %q has sizes %d and %d in operand %d", labels[i], a, b, k) end
      x = f.diagonal(x, 0, i, j)
      local l = labels[i]
      table.remove(labels, j) table.remove(labels, i)
      labels[#labels + 1] = l
    end
  end
  return x
end

local function sum_over(x, labels, keep)
  local dims, left = {}, {}
  for i, l in ipairs(labels) do
    if keep(l) then left[#left + 1] = l else dims[#dims + 1] = i end
  end
  if #dims == 0 then return x, labels end
  return f.sum(x, dims), left
end

-- x with its labels in another order, as sizes of groups; or, without groups, each for itself.
local function arrange(x, labels, order)
  local dims, same = {}, true
  for i, l in ipairs(order) do
    dims[i] = place(labels, l)
    same = same and dims[i] == i
  end
  return same and x or f.permute(x, dims)
end

local function concat(...)
  local all = {}
  for i = 1, select("#", ...) do
    for _, l in ipairs((select(i, ...))) do all[#all + 1] = l end
  end
  return all
end

---@param needed fun(label: string): boolean  by the output or another operand
local function contract(equation, a, b, size, needed)
  local batch, inner, free_a, free_b = {}, {}, {}, {}
  for _, l in ipairs(a.labels) do
    local list = not place(b.labels, l) and free_a or needed(l) and batch or inner
    list[#list + 1] = l
  end
  for _, l in ipairs(b.labels) do if not place(a.labels, l) then free_b[#free_b + 1] = l end end
  local labels = concat(batch, free_a, free_b)
  if #labels > 8 then fail(equation, "a product of operands would have %d dimensions, more than the 8 there can be", #labels) end
  local function sizes(list, more)
    local s = more or {}
    for _, l in ipairs(list) do s[#s + 1] = size[l] end
    return s
  end
  local function count(list)
    local n = 1
    for _, l in ipairs(list) do n = n * size[l] end
    return n
  end
  local x, y
  if #inner == 0 then
    x, y = arrange(a.x, a.labels, concat(batch, free_a)), arrange(b.x, b.labels, concat(batch, free_b))
    if #free_a > 0 and #free_b > 0 then
      local wide_x, wide_y = sizes(batch), sizes(batch)
      for _, l in ipairs(free_a) do wide_x[#wide_x + 1], wide_y[#wide_y + 1] = size[l], 1 end
      for _, l in ipairs(free_b) do wide_x[#wide_x + 1], wide_y[#wide_y + 1] = 1, size[l] end
      x, y = f.reshape(x, wide_x), f.reshape(y, wide_y)
    elseif #free_a > 0 or #free_b > 0 then
      local narrow, free = #free_a > 0 and y or x, #free_a > 0 and free_a or free_b
      local wide = sizes(batch)
      for _ = 1, #free do wide[#wide + 1] = 1 end
      narrow = f.reshape(narrow, wide)
      if #free_a > 0 then y = narrow else x = narrow end
    end
    return {x = f.mul(x, y), labels = labels}
  end
  local B, M, K, N = count(batch), count(free_a), count(inner), count(free_b)
  x, y = arrange(a.x, a.labels, concat(batch, free_a, inner)), arrange(b.x, b.labels, concat(batch, inner, free_b))
  if #batch == 0 then x, y = f.reshape(x, {M, K}), f.reshape(y, {K, N})
  else x, y = f.reshape(x, {B, M, K}), f.reshape(y, {B, K, N}) end
  return {x = f.reshape(f.matmul(x, y), sizes(labels)), labels = labels}
end

--- The sum of products that an equation names: "ij,jk->ik". Subscripts are letters, one for each dimension; one that is
-- not in the output is summed over, one that occurs twice in an operand is its diagonal, and "..." stands for further
-- dimensions, which broadcast. Without "->" the output has, after those, the letters that occur once, in order.
---@param equation string
---@param ... aijit.Tensor  as many as there are operands, or a table of them
---@return aijit.Tensor
function einsum.einsum(equation, ...)
  if type(equation) ~= "string" then op.helper.bad("einsum", 1, "equation", "a string", equation) end
  local tensors = {...}
  if #tensors == 1 and type(tensors[1]) == "table" and getmetatable(tensors[1]) == nil then tensors = tensors[1] end
  local p = parse(equation)
  if #tensors ~= #p.inputs then
    fail(equation, "there are subscripts of %d operand%s, and %d tensor%s", #p.inputs, #p.inputs == 1 and "" or "s", #tensors, #tensors == 1 and "" or "s")
  end
  local operands, size, times, most, from = {}, {}, {}, 0, {}
  for k, x in ipairs(tensors) do
    if not op.is_operand(x) then op.helper.bad("einsum", k + 1, "operand", "a tensor", x) end
    local labels, further = label_all(equation, k, x, p.inputs[k])
    most = math.max(most, further)
    for _, l in ipairs(p.inputs[k]) do times[l] = (times[l] or 0) + 1 end
    x = take_diagonals(equation, k, x, labels)
    for i, l in ipairs(labels) do
      local n = Tensor.size(x, i)
      if not size[l] or size[l] == 1 then size[l], from[l] = n, k
      elseif n ~= 1 and n ~= size[l] then
        fail(equation, "subscript %q has size %d in operand %d and %d in operand %d", l:gsub("^%..*", "..."), size[l], from[l], n, k)
      end
    end
    operands[k] = {x = x, labels = labels}
  end
  local output = {}
  local function put_ellipsis() for e = most, 1, -1 do output[#output + 1] = "." .. e end end
  if p.output then
    for _, l in ipairs(p.output) do
      if l == "..." then put_ellipsis()
      else
        if not size[l] then fail(equation, "subscript %q of the output is in no operand", l) end
        if place(output, l) then fail(equation, "subscript %q is twice in the output", l) end
        output[#output + 1] = l
      end
    end
  else
    put_ellipsis()
    local once = {}
    for l, n in pairs(times) do if n == 1 and l ~= "..." then once[#once + 1] = l end end
    table.sort(once)
    for _, l in ipairs(once) do output[#output + 1] = l end
  end
  if #output > 8 then fail(equation, "the output would have %d dimensions, more than the 8 there can be", #output) end

  -- A dimension of size 1 that another operand has in full is left out.
  for _, o in ipairs(operands) do
    local left, dims = {}, {}
    for i, l in ipairs(o.labels) do
      if size[l] ~= 1 and Tensor.size(o.x, i) == 1 then dims[#dims + 1] = i else left[#left + 1] = l end
    end
    if #dims > 0 then o.x, o.labels = f.squeeze(o.x, dims), left end
  end
  local function needed_without(a, b)
    return function(l)
      if place(output, l) then return true end
      for _, o in ipairs(operands) do if o ~= a and o ~= b and place(o.labels, l) then return true end end
      return false
    end
  end
  for _, o in ipairs(operands) do o.x, o.labels = sum_over(o.x, o.labels, needed_without(o)) end
  while #operands > 1 do
    local best, first, second
    for i = 1, #operands - 1 do
      for j = i + 1, #operands do
        local a, b, n = operands[i], operands[j], 1
        local needed = #operands > 2 and needed_without(a, b)
        if needed then
          for _, l in ipairs(a.labels) do if needed(l) or not place(b.labels, l) then n = n * size[l] end end
          for _, l in ipairs(b.labels) do if not place(a.labels, l) then n = n * size[l] end end
        end
        if not best or n < best then best, first, second = n, i, j end
      end
    end
    local a, b = operands[first], operands[second]
    local y = contract(equation, a, b, size, needed_without(a, b))
    table.remove(operands, second)
    operands[first] = y
  end
  local y = operands[1]
  return arrange(y.x, y.labels, output)
end

op.faces.einsum = true
Tensor.einsum = op.whole_list("einsum", einsum.einsum)

return einsum
