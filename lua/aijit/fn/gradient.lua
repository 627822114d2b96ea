--- grad and value_and_grad: derivatives of functions, trees in and trees out.

local ai = require "aijit"
local tree = require "aijit.fn.tree"
local vmap = require "aijit.fn.vmap"
local raise = require("aijit.bindings.lib").raise

local gradient = {}

local OPTIONS = {argnum = true}

-- How many functions are being differentiated, one inside the other: only then is the inner one's graph itself recorded.
local depth = 0

local function pack(...) return {n = select("#", ...), ...} end

local function is_differentiable(leaf, path)
  if not (ai.is_tensor(leaf) or vmap.is_batched(leaf)) or not leaf:is_floating_point() then
    raise(("fn.grad: %s is %s; gradients are with respect to tensors of floating numbers"):format(path == "" and "the argument" or path,
      ai.is_tensor(leaf) and "of dtype " .. leaf.dtype or "a " .. type(leaf)))
  end
end

local function leave(before, ok, ...)
  depth = before
  if not ok then error((...), 0) end
  return ...
end

--- Within a vmap: every example's own gradients, of variables that each example has for itself. The sum of the losses has
--- them all, since no example's loss depends on another's variables.
local function differentiate_each(f, argnum, level, ...)
  local args, n = {...}, select("#", ...)
  local leaves, paths = tree.tree_leaves(args[argnum])
  local variables, values = {}, {}
  for i, leaf in ipairs(leaves) do
    is_differentiable(leaf, paths[i])
    if vmap.is_batched(leaf) and leaf.value.requires_grad or ai.is_tensor(leaf) and leaf.requires_grad then
      raise "fn.grad: within a vmap that is itself differentiated, gradients are not recorded: differentiate outside, or map outside"
    end
    variables[i] = vmap.variable(leaf, level)
    values[i] = variables[i].value
  end
  args[argnum] = tree.tree_unflatten(args[argnum], variables)
  local results = pack(ai.enable_grad(f, unpack(args, 1, n)))
  local value = results[1]
  if not vmap.is_batched(value) or value:numel() ~= 1 then
    raise "fn.grad: within a vmap the function must return a loss of one element, that depends on its examples"
  end
  local grads = {}
  if value.value.requires_grad then grads = ai.grad(value.value:sum(), values, {allow_unused = true}) end
  for i = 1, #values do grads[i] = vmap.batched(grads[i] or ai.zeros_like(values[i]), level) end
  for i = 1, results.n do
    if vmap.is_batched(results[i]) then results[i] = vmap.batched(results[i].value:detach(), level) end
  end
  return tree.tree_unflatten((select(argnum, ...)), grads), results
end

--- The gradients and the results of f.
local function differentiate(f, argnum, ...)
  if vmap.level() then return differentiate_each(f, argnum, vmap.level(), ...) end
  local args, n = {...}, select("#", ...)
  if args[argnum] == nil then raise(("fn.grad: argument %d, to be differentiated by, is nil"):format(argnum)) end
  local leaves, paths = tree.tree_leaves(args[argnum])
  local nested, variables = depth > 0 and ai.is_grad_enabled(), {}
  for i, leaf in ipairs(leaves) do
    is_differentiable(leaf, paths[i])
    -- An outer derivative goes through this one.
    if nested and leaf.requires_grad then variables[i] = ai.f.view(leaf, leaf:size())
    else variables[i] = leaf:detach():requires_grad_(true) end
  end
  args[argnum] = tree.tree_unflatten(args[argnum], variables)
  local before = depth
  depth = depth + 1
  local results = pack(leave(before, pcall(ai.enable_grad, f, unpack(args, 1, n))))
  local value = results[1]
  if not ai.is_tensor(value) or value:numel() ~= 1 then
    raise(("fn.grad: the function returned %s; a tensor of one element is wanted, the loss"):format(
      ai.is_tensor(value) and "a tensor of " .. value:numel() .. " elements" or "a " .. type(value)))
  end
  local grads = {}
  if value.requires_grad and #variables > 0 then
    grads = ai.grad(value, variables, {allow_unused = true, create_graph = nested})
  end
  for i, leaf in ipairs(leaves) do
    if not grads[i] then grads[i] = ai.zeros_like(leaf) end
  end
  if not nested then
    for i = 1, results.n do
      if ai.is_tensor(results[i]) then results[i] = results[i]:detach() end
    end
  end
  return tree.tree_unflatten((select(argnum, ...)), grads), results
end

local function argnum_of(o)
  if o == nil then return 1 end
  if type(o) ~= "table" then raise("fn.grad: the options are a " .. type(o) .. ", where a table is wanted") end
  for k in pairs(o) do if not OPTIONS[k] then raise(("fn.grad: unknown option '%s'; there is argnum"):format(tostring(k))) end end
  return o.argnum or 1
end

local function want(f, who)
  if type(f) ~= "function" and not (getmetatable(f) or {}).__call then
    raise(("%s: a function is wanted, not a %s"):format(who, type(f)))
  end
end

--- A function that returns the gradients of f's first argument, a tree as that argument is, then all that f returns: the
--- loss, of one element, and anything else. Nothing is added to .grad; what the loss does not use has gradients of 0. May be
--- nested, for higher derivatives.
---@param f function
---@param o? {argnum: integer} which argument
---@return fun(...): table, aijit.Tensor, ...
function gradient.value_and_grad(f, o)
  want(f, "fn.value_and_grad")
  local argnum = argnum_of(o)
  return function(...)
    local grads, results = differentiate(f, argnum, ...)
    return grads, unpack(results, 1, results.n)
  end
end

--- The same, the gradients alone.
---@param f function
---@param o? {argnum: integer}
---@return fun(...): table
function gradient.grad(f, o)
  want(f, "fn.grad")
  local argnum = argnum_of(o)
  return function(...) return (differentiate(f, argnum, ...)) end
end

return gradient
