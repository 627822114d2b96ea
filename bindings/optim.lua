--- The optimizers' C calls: each updates all the parameters of a list at once.

local lib = require "aijit.bindings.lib"

local C, ffi = lib.C, lib.ffi
local optim = {}

local norm = ffi.new "double[1]"

--- Counts of updates, one for each parameter.
---@param n integer
---@return ffi.cdata*
function optim.counters(n)
  return ffi.new("int64_t[?]", n)
end

--- The count of parameter i, from 1.
---@return integer
function optim.count(counters, i)
  return tonumber(counters[i - 1])
end

--- Sets the count of parameter i.
function optim.set_count(counters, i, value)
  counters[i - 1] = value
end

--- One step of Adam or AdamW; parameters without a gradient are left alone. See core/optim.h.
---@param params aijit.Tensor[]
---@param m table<integer, aijit.Tensor> first moments; may have holes where a parameter has had no gradient yet
---@param v table<integer, aijit.Tensor>
---@param vmax? table<integer, aijit.Tensor> AMSGrad
function optim.adam(params, m, v, vmax, counters, lr, beta1, beta2, eps, weight_decay, decoupled, maximize)
  local n = #params
  lib.ok(C.aj_adam(lib.list(params, 1, n), nil, lib.list(m, 2, n), lib.list(v, 3, n), vmax and lib.list(vmax, 4, n) or nil,
    counters, lr, beta1, beta2, eps, weight_decay, decoupled, maximize))
end

--- One step of gradient descent, with momentum where it is not 0.
---@param params aijit.Tensor[]
---@param buffers table<integer, aijit.Tensor>
function optim.sgd(params, buffers, counters, lr, momentum, dampening, weight_decay, nesterov, maximize)
  local n = #params
  lib.ok(C.aj_sgd(lib.list(params, 1, n), nil, lib.list(buffers, 2, n), counters, lr, momentum, dampening, weight_decay,
    nesterov, maximize))
end

--- Scales all gradients down together so that their p-norm is at most max_norm.
---@return number norm before
function optim.clip_grad_norm(params, max_norm, p)
  lib.ok(C.aj_clip_grad_norm(lib.list(params, 1), nil, max_norm, p, norm))
  return norm[0]
end

--- Limits every element of every gradient to -value .. value.
function optim.clip_grad_value(params, value)
  lib.ok(C.aj_clip_grad_value(lib.list(params, 1), nil, value))
end

--- Every parameter's gradient becomes nil.
function optim.zero_grad(params)
  lib.ok(C.aj_zero_grad(lib.list(params, 1)))
end

--- target = target + weight * (source - target), for each pair.
function optim.lerp_all(targets, sources, weight)
  lib.ok(C.aj_lerp_all(lib.list(targets, 1), lib.list(sources, 2), weight))
end

return optim
