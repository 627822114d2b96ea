--- ai.checkpoint: a part of a model whose intermediate results are not kept for the backward pass, but computed anew in it.

local lib = require "aijit.bindings.lib"
local autograd = require "aijit.bindings.autograd"
local random = require "aijit.bindings.random"
local scope = require "aijit.bindings.scope"
local Tensor = require "aijit.bindings.tensor"
local C, S = lib.C, lib.state

local checkpoint = {}

local function wants_grad(v) return lib.is_tensor(v) and v.requires_grad end

-- The arguments, with stand-ins for those that require gradients: at these the part's own graph ends. Linked: each is an
-- identity in the graph, through which gradients of gradients flow on.
local function stand_ins(args, n, linked)
  local given, list = {}, {}
  for i = 1, n do
    local v = args[i]
    if wants_grad(v) then
      v = linked and v:expand(v.shape) or v:detach():requires_grad_()
      list[#list + 1] = v
    end
    given[i] = v
  end
  return given, list
end

local function pack(...) return {n = select("#", ...), ...} end

-- f as it ran first, with its random numbers and its mixed precision; those of the program are put back.
local function run_again(f, state, dtype, given, n)
  local now, was = random.get_random_state(), C.aj_autocast(dtype)
  random.set_random_state(state)
  local results = pack(pcall(autograd.enable_grad, f, unpack(given, 1, n)))
  random.set_random_state(now)
  C.aj_autocast(was)
  if not results[1] then error(results[2], 0) end
  table.remove(results, 1)
  return results
end

-- The first run: the results as leaves, the places of those that require gradients, and the leaves that f reached by itself.
local function run_first(f, args, n)
  local given, own = stand_ins(args, n)
  local results = pack(f(unpack(given, 1, n)))
  local outputs, tracked, mine, leaves = {}, {}, {}, {}
  for i = 1, results.n do
    if wants_grad(results[i]) then outputs[#outputs + 1], tracked[#tracked + 1] = results[i], i end
  end
  for _, v in ipairs(own) do mine[Tensor.id(v)] = true end
  for _, leaf in ipairs(autograd.leaves(outputs)) do
    if not mine[Tensor.id(leaf)] then leaves[#leaves + 1] = leaf end
  end
  for _, i in ipairs(tracked) do results[i] = results[i]:detach() end
  return results, tracked, leaves
end

--- f(...), of which only arguments and results are kept for the backward pass: what is between is computed a second time there. A
--- deep model cut into such parts needs memory for their results and for one part at a time, and about a third more time. The
--- numbers are the same to the bit: random numbers (dropout) and ai.autocast are as they were. Parts may lie within parts, and
--- gradients have gradients.
---
--- What f computes with, and has gradients, are its arguments and leaves (parameters) that it reaches by itself; all else that it uses
--- must be the same in the backward pass. It runs twice: buffers that it writes, as running statistics, are written twice. Without
--- gradients it is f(...). A function that ai.jit records plans its memory itself, and is no place for it.
---@param f fun(...): ...
---@param ... any
---@return any ... the results of f
function checkpoint.checkpoint(f, ...)
  if type(f) ~= "function" and not (type(f) == "table" and (getmetatable(f) or {}).__call) then
    lib.raise("checkpoint: a function is wanted, as in ai.checkpoint(f, x), not " .. lib.describe(f))
  end
  if S.recording == 0 then return f(...) end
  if C.aj_jit_active() then lib.raise "checkpoint: not within a function that ai.jit records, which plans its memory itself; call f there" end
  local n, args = select("#", ...), {...}
  local state, dtype = random.get_random_state(), S.autocast
  local results, tracked, leaves = scope.scope(run_first, f, args, n)
  if #tracked == 0 then return unpack(results, 1, results.n) end
  local inputs, outputs = {}, {}
  for i = 1, n do if wants_grad(args[i]) then inputs[#inputs + 1] = args[i] end end
  for _, leaf in ipairs(leaves) do inputs[#inputs + 1] = leaf end
  for k, i in ipairs(tracked) do outputs[k] = results[i] end

  local function gradients_of(gradients, create)
    local given, own = stand_ins(args, n, create)
    local again = run_again(f, state, dtype, given, n)
    local reached, came = {}, {}
    for k, i in ipairs(tracked) do
      if gradients[k] then
        if not wants_grad(again[i]) then
          lib.raise(("checkpoint: result %d required gradients when f ran first, and does not in the backward pass; f must compute the same in both"):format(i))
        end
        reached[#reached + 1], came[#came + 1] = again[i], gradients[k]
      end
    end
    for _, leaf in ipairs(leaves) do own[#own + 1] = leaf end
    local grads = autograd.grad_within(reached, came, own, create)
    for k = 1, #own do grads[k] = grads[k] or nil end
    return grads
  end

  local op = autograd.define_op {
    name = "checkpoint", frees = true, forward = function() return unpack(outputs) end,
    backward = function(_, ...) return unpack(scope.scope(gradients_of, {...}, S.recording ~= 0), 1, #inputs) end,
  }
  local tied = {op(unpack(inputs))}
  for k, i in ipairs(tracked) do results[i] = tied[k] end
  return unpack(results, 1, results.n)
end

return checkpoint
