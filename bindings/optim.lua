--- The optimizers' C calls: each updates all the parameters of a list at once.

local lib = require "aijit.bindings.lib"
local jit = require "aijit.bindings.jit"

local C, ffi = lib.C, lib.ffi
local optim = {}

local norm = ffi.new "double[1]"

--- What is counted of each of n parameters: its updates, and two numbers that some methods carry along.
---@param n integer
---@return ffi.cdata*
function optim.counters(n)
  return ffi.new("aj_optim_count[?]", n)
end

--- The count of parameter i, from 1, and the numbers beside it.
---@return integer step
---@return number first
---@return number second
function optim.count(counters, i)
  local c = counters[i - 1]
  return tonumber(c.step), c.number[0], c.number[1]
end

--- Sets the count of parameter i, and the numbers beside it.
function optim.set_count(counters, i, step, first, second)
  local c = counters[i - 1]
  c.step, c.number[0], c.number[1] = step, first or 0, second or 0
end

--- The options of a method, to be filled by name; see aj_optim_options in core/optim.h.
---@return ffi.cdata*
function optim.options()
  return ffi.new "aj_optim_options"
end

--- How often any tensor was given other data by set_data.
---@return integer
function optim.data_moved()
  return C.aj_data_moved()
end

--- One step of a method; parameters without a gradient are left alone. See core/optim.h.
---@param method string
---@param options ffi.cdata*
---@param params aijit.Tensor[]
---@param state table<integer, table<integer, aijit.Tensor>?> up to four lists, in the method's order, with holes where a
--- parameter has had no gradient yet
---@param masters table<integer, aijit.Tensor> of parameters in f16 and bf16: f32 copies
---@param counters ffi.cdata*
function optim.step(method, options, params, state, masters, counters)
  local n = #params
  local s1, s2, s3, s4 = state[1], state[2], state[3], state[4]
  lib.ok(C.aj_optim_step(method, options, lib.list(params, 1, n), nil, s1 and lib.list(s1, 2, n) or nil, s2 and lib.list(s2, 3, n) or nil,
    s3 and lib.list(s3, 4, n) or nil, s4 and lib.list(s4, 5, n) or nil, next(masters) and lib.list(masters, 6, n) or nil, counters))
end

--- Scales all gradients down together so that their p-norm is at most max_norm.
---@return number? norm before; nil in a function that ai.jit records, where it is another in each run
function optim.clip_grad_norm(params, max_norm, p)
  lib.ok(C.aj_clip_grad_norm(lib.list(params, 1), nil, max_norm, p, norm))
  if not jit.is_recording() then return norm[0] end
end

--- Limits every element of every gradient to -value .. value.
function optim.clip_grad_value(params, value)
  lib.ok(C.aj_clip_grad_value(lib.list(params, 1), nil, value))
end

--- Every parameter's gradient becomes nil.
function optim.zero_grad(params)
  lib.ok(C.aj_zero_grad(lib.list(params, 1)))
end

--- target = target + weight * (source - target), for each pair, which may be of two floating dtypes.
function optim.lerp_all(targets, sources, weight)
  lib.ok(C.aj_lerp_all(lib.list(targets, 1), lib.list(sources, 2), weight))
end

return optim
