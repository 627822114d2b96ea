--- Nets of matrices, norms, dropout, embeddings. x may have any number of leading dimensions.

local ai = require "aijit"
local common = require "aijit.fn.nets.common"
local key = require "aijit.fn.key"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nets = {}

local linear_options = "use_bias=true w_init=none b_init=none activation=none"
local linear_arguments = common.declare("linear", "x out_dim:count " .. linear_options)
local branch_arguments = common.declare("branch_linear", "x num_branches:count " .. linear_options)
local like_arguments = common.declare("linear_like", "x reference:tensor " .. linear_options)

--- x W + b over the last dimension: (..., in) -> (..., out_dim). weights (in, out_dim), bias (out_dim).
---@param params table
---@param x aijit.Tensor
---@param out_dim integer
---@param o? {use_bias: boolean, w_init: any, b_init: any, activation: any}
---@return aijit.Tensor
function nets.linear(params, x, out_dim, o)
  o = linear_arguments:options(o, x, out_dim)
  local y = x:matmul(common.param("linear", params, "weights", {x:size(-1), out_dim}, {init = o.w_init}))
  if o.use_bias then y = y + common.param("linear", params, "bias", {out_dim}, {init = o.b_init or "zeros"}) end
  return common.activate("linear", y, o.activation)
end
local linear = nets.linear

--- One linear map into several branches: (..., in) -> (..., num_branches, in).
---@return aijit.Tensor
function nets.branch_linear(params, x, num_branches, o)
  branch_arguments:options(o, x, num_branches)
  local shape, d = x:size(), x:size(-1)
  shape[#shape] = num_branches
  shape[#shape + 1] = d
  return linear(params, x, num_branches * d, o):reshape(shape)
end

--- Linear, to as many features as `reference` has.
---@return aijit.Tensor
function nets.linear_like(params, x, reference, o)
  like_arguments:options(o, x, reference)
  return linear(params, x, reference:size(-1), o)
end

local mlp_arguments = common.declare("mlp", "x out_dims:counts activation=relu activation_final=none use_bias=true w_init=none b_init=none")

--- Linear layers with an activation between them: (..., in) -> (..., last of out_dims). params[1], params[2], ...
---@param out_dims integer[]
---@param o? {activation: any, activation_final: any, use_bias: boolean, w_init: any, b_init: any}
---@return aijit.Tensor
function nets.mlp(params, x, out_dims, o)
  o = mlp_arguments:options(o, x, out_dims)
  common.want_params("mlp", params)
  for i, out_dim in ipairs(out_dims) do
    local activation = o.activation
    if i == #out_dims then activation = o.activation_final end
    x = linear(params[i], x, out_dim, {use_bias = o.use_bias, w_init = o.w_init, b_init = o.b_init, activation = activation})
  end
  return x
end

local norm_arguments = common.declare("layer_norm",
  "x axis:position create_scale=true create_offset=true eps:positive=1e-05 scale_init=ones offset_init=zeros")

--- One dimension with its own mean and variance (Ba and others, 2016): scale and offset have its size.
---@param axis? integer -1
---@param o? {create_scale: boolean, create_offset: boolean, eps: number, scale_init: any, offset_init: any}
---@return aijit.Tensor
function nets.layer_norm(params, x, axis, o)
  axis = axis or -1
  o = norm_arguments:options(o, x, axis)
  local rank = x:dim()
  if axis > rank or axis < -rank then raise(("layer_norm: axis is %d, and x has %d dimensions"):format(axis, rank)) end
  local n = x:size(axis)
  if axis > 0 then axis = axis - rank - 1 end
  local scale = o.create_scale and common.param("layer_norm", params, "scale", {n}, {init = o.scale_init}) or nil
  local offset = o.create_offset and common.param("layer_norm", params, "offset", {n}, {init = o.offset_init}) or nil
  if axis == -1 then return f.layer_norm(x, {n}, scale, offset, {eps = o.eps}) end
  local centred = x - x:mean(axis, {keepdim = true})
  local y = centred * (centred:square():mean(axis, {keepdim = true}) + o.eps):rsqrt()
  local shape = {n}
  for i = 2, -axis do shape[i] = 1 end
  if scale then y = y * scale:reshape(shape) end
  if offset then y = y + offset:reshape(shape) end
  return y
end

local dropout_arguments = common.declare("dropout", "x p:probability", "params, key")

--- Each element 0 with probability p, the others divided by 1 - p; which ones the key says. Always, since a pure function has
--- no training and evaluation: leave it out, or set p to 0.
---@param _ table params: it has none
---@param k aijit.fn.Key
---@param x aijit.Tensor
---@param p? number 0.5
---@return aijit.Tensor
function nets.dropout(_, k, x, p)
  p = p or 0.5
  key.want(k, "dropout", "key")
  dropout_arguments:options(nil, x, p)
  if p == 0 then return x end
  return f.dropout_at(x, p, key.seed_of(k), 0)
end

local embed_arguments = common.declare("token_embed", "ids:tensor vocab_size:count embed_dim:count init:initializer=normal")

--- A row of a table for each index: integers (...) from 1 -> (..., embed_dim). embeddings (vocab_size, embed_dim); init may be
--- a tensor to start from.
---@param ids aijit.Tensor
---@param vocab_size integer
---@param embed_dim integer
---@param o? {init: any}
---@return aijit.Tensor
function nets.token_embed(params, ids, vocab_size, embed_dim, o)
  o = embed_arguments:options(o, ids, vocab_size, embed_dim)
  return f.embedding(common.param("token_embed", params, "embeddings", {vocab_size, embed_dim}, {init = o.init}), ids)
end

return nets
