--- Gradients: backward, grad, no_grad, hooks, and ops written in Lua.

local lib = require "aijit.bindings.lib"
local scope = require "aijit.bindings.scope"
local Tensor = require "aijit.bindings.tensor"
local C, S, ffi = lib.C, lib.state, lib.ffi

local autograd = {}

-- Ops written in Lua and hooks, by the id that the core hands back when it meets them. A backward pass never calls Lua:
-- it returns here, and is resumed.
local custom, hooks, last_id = {}, {}, 0

local function forget_dropped()
  while true do
    local id = tonumber(C.aj_custom_dropped())
    if id == 0 then return end
    custom[id] = nil
  end
end

local function watch() return require "aijit.bindings.watch" end

local function run_custom(b, call)
  local grads = {}
  for i = 1, call.n_out do grads[i] = lib.maybe(C.aj_backward_gradient(b, i - 1)) end
  call.ctx.needs_input_grad = {}
  for i = 1, call.n_in do call.ctx.needs_input_grad[i] = C.aj_backward_needs(b, i - 1) end
  local results = {call.op.backward(call.ctx, unpack(grads, 1, call.n_out))}
  for i = 1, call.n_in do
    local g = results[i]
    if g ~= nil then
      if not lib.is_tensor(g) then
        lib.raise(("%s: backward returned %s as gradient %d, where a tensor or nil is wanted"):format(call.op.name, lib.describe(g), i))
      end
      if S.watch ~= 0 and watch().is_looking() then watch().check_gradient(call.op.name, g, i, call.place) end
      lib.ok(C.aj_backward_give(b, i - 1, g))
    end
  end
end

-- What an op written in Lua makes in its backward lives in the scope that is open, but for one that says it keeps nothing of it.
local function resume_custom(b, call)
  if call.op.frees then return scope.scope(run_custom, b, call) end
  return run_custom(b, call)
end

local function run_hooks(b, list)
  local g = lib.maybe(C.aj_backward_gradient(b, 0))
  for _, h in ipairs(list) do
    local new = h.f(g)
    if new ~= nil then
      if not lib.is_tensor(new) then lib.raise("register_hook: a hook returned " .. lib.describe(new) .. ", where a tensor or nil is wanted") end
      g = new
      lib.ok(C.aj_backward_give(b, 0, g))
    end
  end
end

local function drive(b)
  while true do
    local what = C.aj_backward_run(b)
    if what == C.AJ_DONE then return end
    if what == C.AJ_BROKEN then lib.ok() end
    local id = tonumber(C.aj_backward_id(b))
    if what == C.AJ_CUSTOM then resume_custom(b, custom[id]) else run_hooks(b, hooks[id]) end
  end
end

-- The common pass meets nothing of Lua's and needs no protection; only one that pauses may fail half-way.
local function run(b)
  if ffi.cast("void *", b) == nil then lib.ok() end
  local what = C.aj_backward_run(b)
  if what == C.AJ_DONE then return end
  local ok, message
  if what == C.AJ_BROKEN then ok, message = pcall(lib.ok)
  else
    local id = tonumber(C.aj_backward_id(b))
    ok, message = pcall(function()
      if what == C.AJ_CUSTOM then resume_custom(b, custom[id]) else run_hooks(b, hooks[id]) end
      drive(b)
    end)
  end
  if not ok then
    C.aj_backward_end(b)
    if S.watch ~= 0 then message = watch().with_place(message) end
    error(message, 0)
  end
end

local function flags(name, o)
  if o == nil then return false, false end
  if type(o) ~= "table" then lib.raise(name .. ": options are a table") end
  local create = o.create_graph or false
  local retain = o.retain_graph
  if retain == nil then retain = create end
  return retain, create
end

--- Adds the gradient of x, summed over its elements' given gradients, to .grad of every leaf that led to it.
---@param x aijit.Tensor            one element, or with `gradient`
---@param gradient aijit.Tensor?    of x's shape
---@param o {retain_graph: boolean?, create_graph: boolean?, inputs: aijit.Tensor[]?}?  inputs: only into these leaves
function Tensor.backward(x, gradient, o)
  if type(gradient) == "table" then gradient, o = nil, gradient end
  local retain, create = flags("backward", o)
  if o and o.inputs then
    local grads = autograd.grad(x, o.inputs, {retain_graph = retain, create_graph = create, allow_unused = true, gradients = gradient and {gradient}})
    for i, p in ipairs(o.inputs) do
      if grads[i] then p.grad = p.grad and p.grad + grads[i] or grads[i] end
    end
    return
  end
  local b = C.aj_backward_start(lib.list({x}, 1), gradient and lib.list({gradient}, 2) or nil, nil, retain, create)
  run(b)
  C.aj_backward_end(b)
  forget_dropped()
end

--- The gradients of outputs with respect to chosen inputs, as a table in their order. Nothing is added to .grad.
---@param outputs aijit.Tensor|aijit.Tensor[]
---@param inputs aijit.Tensor[]
---@param o {retain_graph: boolean?, create_graph: boolean?, allow_unused: boolean?, gradients: aijit.Tensor[]?}?
---@return aijit.Tensor[]  an entry is false where an input was not used (an error unless allow_unused)
function autograd.grad(outputs, inputs, o)
  if lib.is_tensor(outputs) then outputs = {outputs} end
  if lib.is_tensor(inputs) then inputs = {inputs} end
  local retain, create = flags("grad", o)
  local given = o and o.gradients
  local b = C.aj_backward_start(lib.list(outputs, 1), given and lib.list(given, 2, #outputs) or nil, lib.list(inputs, 3), retain, create)
  run(b)
  local grads, unused = {}, nil
  for i = 1, #inputs do
    local g = lib.maybe(C.aj_backward_input(b, i - 1))
    if g == nil and not (o and o.allow_unused) then unused = unused or i end
    grads[i] = g or false
  end
  C.aj_backward_end(b)
  forget_dropped()
  if unused then lib.raise(("grad: input %d was not used on the way to the outputs; pass allow_unused = true if that is meant"):format(unused)) end
  return grads
end

--- The gradients of outputs with respect to inputs, from within the backward of an op written in Lua. It goes no further than the
--- inputs, among which leaves may be that the pass around it comes to as well; their hooks are left to that one.
---@param outputs aijit.Tensor[]
---@param gradients aijit.Tensor[]
---@param inputs aijit.Tensor[]
---@param create boolean  the gradients may themselves be differentiated
---@return (aijit.Tensor|false)[]
function autograd.grad_within(outputs, gradients, inputs, create)
  local b = C.aj_backward_within(lib.list(outputs, 1), lib.list(gradients, 2), lib.list(inputs, 3), create)
  run(b)
  local grads = {}
  for i = 1, #inputs do grads[i] = lib.maybe(C.aj_backward_input(b, i - 1)) or false end
  C.aj_backward_end(b)
  forget_dropped()
  return grads
end

--- The leaves that led to tensors.
---@param of aijit.Tensor[]
---@return aijit.Tensor[]
function autograd.leaves(of)
  local n = C.aj_leaves(lib.list(of, 1))
  if n < 0 then lib.ok() end
  local list = {}
  for i = 1, n do list[i] = lib.check(C.aj_leaf_at(i - 1)) end
  return list
end

local function with_mode(on, f, ...)
  local before = C.aj_grad_mode(on)
  local function finish(ok, ...)
    C.aj_grad_mode(before)
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(f, ...))
end
--- Runs f(...) without recording: what it makes requires no gradients.
function autograd.no_grad(f, ...) return with_mode(false, f, ...) end
--- Runs f(...) with recording, also within no_grad.
function autograd.enable_grad(f, ...) return with_mode(true, f, ...) end

local function is_callable(f)
  if type(f) == "function" then return true end
  local meta = type(f) == "table" and getmetatable(f)
  return meta and meta.__call ~= nil or false
end

--- Runs f(...) in mixed precision: products and convolutions take their inputs in dtype, and what needs range (softmax,
--- norms, losses, sums, exponentials) takes them in f32; other ops follow promotion. Parameters stay as they are, and get
--- gradients of their own dtype. It holds for this thread, may be nested, and ends with f, also by an error; a backward
--- pass runs in the dtypes of its forward pass. `ai.help "conv2d"` tells what it does with an op. It saves time where the
--- processor multiplies in bf16 (avx512_bf16, AMX) and memory everywhere; without such instructions, and for f16, products take
--- longer than in f32, and ai.profile shows what the casts cost.
---@param dtype "bf16"|"f16"
---@param o {enabled: boolean?}|function   may be left out; enabled = false: f runs in its tensors' dtypes, also within another autocast
---@param ... any                  f, where o is not left out, and its arguments
---@return any ...                 the results of f
function autograd.autocast(dtype, o, ...)
  if dtype ~= "bf16" and dtype ~= "f16" then lib.raise("autocast: the dtype is 'bf16' or 'f16', not " .. lib.describe(dtype)) end
  local plain = is_callable(o)
  if not plain and (type(o) ~= "table" or not is_callable((...))) then
    lib.raise("autocast: a function is wanted, as in ai.autocast('bf16', f, ...)")
  end
  local before = C.aj_autocast(not plain and o.enabled == false and 0 or lib.dtype(dtype))
  local function finish(ok, ...)
    C.aj_autocast(before)
    if not ok then error((...), 0) end
    return ...
  end
  if plain then return finish(pcall(o, ...)) end
  return finish(pcall(...))
end

---@return boolean
function autograd.is_grad_enabled() return S.recording ~= 0 end
--- Turns recording on or off until it is set again; returns what it was.
---@param on boolean
---@return boolean
function autograd.set_grad_enabled(on) return C.aj_grad_mode(on) end

-- -- What a tensor can do -------------------------------------------------------------------------------------------------

--- The same data under a handle outside the graph.
---@return aijit.Tensor
function Tensor.detach(x) return lib.check(C.aj_detach(x)) end
--- Gives a leaf another tensor's data: its storage, which both share from then on, shape, dtype and device. Whoever holds x
--- (an optimizer, a module, a hook) still holds it. An error for a view of what requires gradients, for what an op made, and where x.grad would not fit.
---@param source aijit.Tensor
---@return aijit.Tensor x
function Tensor.set_data(x, source)
  if not lib.is_tensor(source) then lib.raise("set_data: a tensor is wanted, not " .. lib.describe(source)) end
  lib.ok(C.aj_set_data(x, source))
  return x
end
--- Marks a leaf as one that wants gradients.
---@param on boolean?  true by default
---@return aijit.Tensor x
function Tensor.requires_grad_(x, on)
  lib.ok(C.aj_set_requires_grad(x, on ~= false))
  return x
end
--- Lets a tensor that an op made keep its gradient in .grad too.
function Tensor.retain_grad(x) lib.ok(C.aj_retain_grad(x)) return x end
--- Forgets the gradient.
function Tensor.zero_grad(x) x.grad = nil end

local hook_lists = {}
--- Runs f(gradient) in every backward pass when the gradient of x is complete; what it returns, if anything, takes its place.
---@param x aijit.Tensor
---@param f fun(g: aijit.Tensor): aijit.Tensor?
---@return fun() remove
function Tensor.register_hook(x, f)
  if type(f) ~= "function" then lib.raise("register_hook: a function is wanted, not " .. lib.describe(f)) end
  local key = Tensor.id(x)
  local list = hook_lists[key]
  if not list then
    last_id = last_id + 1
    list = {id = last_id}
    lib.ok(C.aj_set_hook(x, last_id))
    hook_lists[key], hooks[last_id] = list, list
  end
  local entry = {f = f}
  list[#list + 1] = entry
  return function()
    for i, h in ipairs(list) do
      if h == entry then table.remove(list, i) break end
    end
  end
end

-- -- Ops written in Lua ------------------------------------------------------------------------------------------------------

---@class aijit.OpContext
---@field saved any[]                  what ctx:save was given
---@field needs_input_grad boolean[]   during backward
local Context = {}
Context.__index = Context
--- Keeps tensors for backward.
function Context:save(...) self.saved = {...} end

--- An op with a gradient of its own, as a function. forward(ctx, ...) computes without recording; backward(ctx, ...)
-- gets one gradient a result (nil where none came) and returns one a tensor argument (or nil). Made of differentiable
-- ops, it may itself be differentiated.
---@param o {name: string?, forward: fun(ctx: aijit.OpContext, ...): ..., backward: fun(ctx: aijit.OpContext, ...): ...}
---@return fun(...): ...
function autograd.define_op(o)
  if type(o) ~= "table" or type(o.forward) ~= "function" or type(o.backward) ~= "function" then
    lib.raise "define_op: a table with the functions forward and backward is wanted"
  end
  local def = {name = o.name or "op", forward = o.forward, backward = o.backward, frees = o.frees}
  return function(...)
    local ctx = setmetatable({saved = {}}, Context)
    local before = C.aj_grad_mode(false)
    local results = {pcall(def.forward, ctx, ...)}
    C.aj_grad_mode(before)
    if not results[1] then error(results[2], 0) end
    table.remove(results, 1)
    local inputs = {}
    for i = 1, select("#", ...) do
      local v = select(i, ...)
      if lib.is_tensor(v) then
        inputs[#inputs + 1] = v
        -- A result that is an argument gets a header of its own, or the graph would end in a circle.
        for k, r in ipairs(results) do if lib.is_tensor(r) and C.aj_is_same(r, v) then results[k] = Tensor.detach(r) end end
      end
    end
    last_id = last_id + 1
    local outputs = {}
    for _, r in ipairs(results) do if lib.is_tensor(r) then outputs[#outputs + 1] = r end end
    if #inputs > 0 and lib.ok(C.aj_record_custom(lib.list(inputs, 1), lib.list(outputs, 2), last_id)) then
      custom[last_id] = {op = def, ctx = ctx, n_in = #inputs, n_out = #outputs, place = S.watch ~= 0 and watch().is_looking() and watch().here() or nil}
    end
    return unpack(results)
  end
end

return autograd
