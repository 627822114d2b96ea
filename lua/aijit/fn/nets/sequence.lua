--- Attention and recurrent nets. Sequences are (N, T, C), batch first; leading dimensions of attention may be any.

local ai = require "aijit"
local common = require "aijit.fn.nets.common"
local linear = require("aijit.fn.nets.linear").linear
local layer_norm = require("aijit.fn.nets.linear").layer_norm
local mlp = require("aijit.fn.nets.linear").mlp
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nets = {}

-- -- Attention -----------------------------------------------------------------------------------------------------

local attention_options = "mask=none is_causal=false use_bias=true w_init=none b_init=none"
local single_arguments = common.declare("single_head_attention", "queries keys values " .. attention_options)
local multi_arguments = common.declare("multi_head_attention", "queries keys values num_heads " .. attention_options)
local self_arguments = common.declare("multi_head_self_attention", "x num_heads " .. attention_options)
local linear_arguments = common.declare("linear_attention", "queries keys values num_heads " .. attention_options)

--- softmax(q k^T / sqrt(d)) v; a mask is true, or not 0, where a key may be seen, and broadcasts to (..., Tq, Tk).
local function attend(q, k, v, o)
  local mask = o.mask
  if o.is_causal then
    local causal = ai.ones({q:size(-2), k:size(-2)}, {dtype = "bool", device = q.device}):tril()
    mask = mask and mask:ne(0):logical_and(causal) or causal
  end
  local scores = q:matmul(k:transpose(-2, -1)) / math.sqrt(q:size(-1))
  if mask then scores = nets.apply_attention_mask(scores, mask) end
  return scores:softmax(-1):matmul(v)
end

local function projected(o) return {use_bias = o.use_bias, w_init = o.w_init, b_init = o.b_init} end

--- Attention of queries (..., Tq, C) to keys and values (..., Tk, *) through projections q, k and v: (..., Tq, width of values).
---@param o? {mask: aijit.Tensor, is_causal: boolean, use_bias: boolean, w_init: any, b_init: any}
---@return aijit.Tensor
function nets.single_head_attention(params, queries, keys, values, o)
  o = single_arguments:options(o, queries, keys, values)
  local p, width = projected(o), queries:size(-1)
  return attend(linear(params.q, queries, width, p), linear(params.k, keys, width, p), linear(params.v, values, values:size(-1), p), o)
end

local function heads_of(x, heads)
  local shape = x:size()
  local width = table.remove(shape)
  shape[#shape + 1], shape[#shape + 2] = heads, width / heads
  return x:reshape(shape):transpose(-3, -2)
end

local function joined(x)
  local y = x:transpose(-3, -2)
  local shape = y:size()
  local d, heads = table.remove(shape), table.remove(shape)
  shape[#shape + 1] = heads * d
  return y:reshape(shape)
end

local function width_of(who, queries, heads)
  local width = queries:size(-1)
  if width % heads ~= 0 then raise(("%s: %d heads do not divide %d features"):format(who, heads, width)) end
  return width
end

--- Attention in num_heads parts of the features at once (Vaswani and others, 2017): (..., Tq, C) -> (..., Tq, C). A mask has a
--- dimension for the heads, or broadcasts over it. params.q, k, v, out.
---@param num_heads integer
---@param o? {mask: aijit.Tensor, is_causal: boolean, use_bias: boolean, w_init: any, b_init: any}
---@return aijit.Tensor
function nets.multi_head_attention(params, queries, keys, values, num_heads, o)
  o = multi_arguments:options(o, queries, keys, values, num_heads)
  local width = width_of("multi_head_attention", queries, num_heads)
  local p = projected(o)
  local q = heads_of(linear(params.q, queries, width, p), num_heads)
  local k = heads_of(linear(params.k, keys, width, p), num_heads)
  local v = heads_of(linear(params.v, values, width, p), num_heads)
  return linear(params.out, joined(attend(q, k, v, o)), width, p)
end

--- The same with one sequence for queries, keys and values.
---@return aijit.Tensor
function nets.multi_head_self_attention(params, x, num_heads, o)
  self_arguments:options(o, x, num_heads)
  return nets.multi_head_attention(params, x, x, x, num_heads, o)
end

--- Attention with elu(x) + 1 as feature map, its work linear in the length (Katharopoulos and others, 2020).
---@param num_heads? integer 1
---@return aijit.Tensor
function nets.linear_attention(params, queries, keys, values, num_heads, o)
  if type(num_heads) == "table" and num_heads[1] == nil then num_heads, o = nil, num_heads end
  num_heads = num_heads or 1
  o = linear_arguments:options(o, queries, keys, values, num_heads)
  if o.mask or o.is_causal then raise "linear_attention: there is no mask, since the scores are never formed" end
  local width = width_of("linear_attention", queries, num_heads)
  local p = projected(o)
  local q = heads_of(linear(params.q, queries, width, p), num_heads):elu() + 1
  local k = heads_of(linear(params.k, keys, width, p), num_heads):elu() + 1
  local v = heads_of(linear(params.v, values, width, p), num_heads)
  local total = q:matmul(k:sum(-2, {keepdim = true}):transpose(-2, -1))
  return linear(params.out, joined(q:matmul(k:transpose(-2, -1):matmul(v)) / total), width, p)
end

nets.multi_head_linear_attention = nets.linear_attention

local block_arguments = common.declare("transformer_block", "x num_heads mlp_dim:count=none activation=gelu mask=none is_causal=false")

--- Self-attention and an mlp, each around a residual, each after a layer norm: (..., T, C) -> (..., T, C).
---@param o? {mlp_dim: integer, activation: any, mask: aijit.Tensor, is_causal: boolean} mlp_dim: 4 C
---@return aijit.Tensor
function nets.transformer_block(params, x, num_heads, o)
  o = block_arguments:options(o, x, num_heads)
  local width = x:size(-1)
  x = x + nets.multi_head_self_attention(params.attention, layer_norm(params.ln1, x), num_heads, {mask = o.mask, is_causal = o.is_causal})
  return x + mlp(params.mlp, layer_norm(params.ln2, x), {o.mlp_dim or 4 * width, width}, {activation = o.activation})
end

local linear_block_arguments = common.declare("linear_transformer_block", "x num_heads mlp_dim:count=none activation=gelu")

--- The same with linear attention, which has no masks.
---@param o? {mlp_dim: integer, activation: any}
---@return aijit.Tensor
function nets.linear_transformer_block(params, x, num_heads, o)
  o = linear_block_arguments:options(o, x, num_heads)
  local width, y = x:size(-1), layer_norm(params.ln1, x)
  x = x + nets.linear_attention(params.attention, y, y, y, num_heads)
  return x + mlp(params.mlp, layer_norm(params.ln2, x), {o.mlp_dim or 4 * width, width}, {activation = o.activation})
end

local mask_arguments = common.declare("apply_mask", "x mask", false)
local score_arguments = common.declare("apply_attention_mask", "scores:tensor mask", false)

--- x where the mask is true, or not 0, else 0; the mask broadcasts.
---@param x aijit.Tensor
---@param mask aijit.Tensor
---@return aijit.Tensor
function nets.apply_mask(x, mask)
  mask_arguments:options(nil, x, mask)
  return f.masked_fill(x, f.logical_not(mask:ne(0)), 0)
end

--- Scores where the mask is true, or not 0, else -inf, which softmax makes 0.
---@param scores aijit.Tensor (..., Tq, Tk)
---@param mask aijit.Tensor
---@return aijit.Tensor
function nets.apply_attention_mask(scores, mask)
  score_arguments:options(nil, scores, mask)
  return f.masked_fill(scores, f.logical_not(mask:ne(0)), -math.huge)
end

-- -- Recurrent -----------------------------------------------------------------------------------------------------

local recurrent_arguments = {}
for name, state in pairs{rnn = "tensor", gru = "tensor", lstm = "states"} do
  recurrent_arguments[name] = common.declare(name,
    ("x hidden state:%s=none reverse=false activation=tanh w_init=none u_init=none b_init=none"):format(state))
end

--- The options, checked with the rest. The state of an lstm is {h, c}, that of the others h.
local function checked(who, x, hidden, o)
  o = recurrent_arguments[who]:options(o, x, hidden)
  if x:dim() ~= 3 then raise(("%s: the input has %d dimensions; (N, T, C) is wanted"):format(who, x:dim())) end
  return o
end

--- Runs step(xt, state) -> state over time, xt being x W + b at one time. Returns all h, and the last state.
local function over_time(who, params, x, hidden, gates, o, start, step)
  local w = common.param(who, params, "w_ih", {x:size(3), gates * hidden}, {init = o.w_init})
  local u = common.param(who, params, "w_hh", {hidden, gates * hidden}, {init = o.u_init or "orthogonal", fan_out = hidden})
  local all = x:matmul(w) + common.param(who, params, "bias", {gates * hidden}, {init = o.b_init or "zeros"})
  local state, steps, n = start, {}, x:size(2)
  for i = 1, n do
    local t = o.reverse and n + 1 - i or i
    state = step(all:select(2, t), u, state)
    steps[t] = state[1]
  end
  return ai.stack(steps, 2), state
end

local function zeros(x, hidden) return ai.zeros({x:size(1), hidden}, {dtype = x.dtype, device = x.device}) end

local function part(x, i, n) return x:narrow(-1, (i - 1) * n + 1, n) end

--- h = tanh(x W + b + h U): (N, T, C) -> (N, T, hidden), and the last h. state is the first h, zeros by default; reverse runs
--- from the end of time; activation is another one than tanh.
---@param hidden integer
---@param o? {state: aijit.Tensor, reverse: boolean, activation: any, w_init: any, u_init: any, b_init: any}
---@return aijit.Tensor y
---@return aijit.Tensor h
function nets.rnn(params, x, hidden, o)
  o = checked("rnn", x, hidden, o)
  local y, state = over_time("rnn", params, x, hidden, 1, o, {o.state or zeros(x, hidden)}, function(xt, u, s)
    return {common.activate("rnn", xt + s[1]:matmul(u), o.activation)}
  end)
  return y, state[1]
end

--- Gates r, z and candidate n (Cho and others, 2014): h' = (1 - z) n + z h, n = tanh(x W + b + r (h U + c)).
---@param hidden integer
---@param o? {state: aijit.Tensor, reverse: boolean, w_init: any, u_init: any, b_init: any}
---@return aijit.Tensor y
---@return aijit.Tensor h
function nets.gru(params, x, hidden, o)
  o = checked("gru", x, hidden, o)
  local c = common.param("gru", params, "bias_n", {hidden}, {init = o.b_init or "zeros"})
  local y, state = over_time("gru", params, x, hidden, 3, o, {o.state or zeros(x, hidden)}, function(xt, u, s)
    local h = s[1]
    local hu = h:matmul(u)
    local r = (part(xt, 1, hidden) + part(hu, 1, hidden)):sigmoid()
    local z = (part(xt, 2, hidden) + part(hu, 2, hidden)):sigmoid()
    local n = common.activate("gru", part(xt, 3, hidden) + r * (part(hu, 3, hidden) + c), o.activation)
    return {n + z * (h - n)}
  end)
  return y, state[1]
end

--- Gates i, f, g, o (Hochreiter and Schmidhuber, 1997): c' = f c + i g, h' = o tanh(c'). state is {h, c}, and so is what it
--- returns second.
---@param hidden integer
---@param o? {state: aijit.Tensor[], reverse: boolean, w_init: any, u_init: any, b_init: any}
---@return aijit.Tensor y
---@return aijit.Tensor[] state
function nets.lstm(params, x, hidden, o)
  o = checked("lstm", x, hidden, o)
  return over_time("lstm", params, x, hidden, 4, o, o.state or {zeros(x, hidden), zeros(x, hidden)}, function(xt, u, s)
    local gates = xt + s[1]:matmul(u)
    local i, forget = part(gates, 1, hidden):sigmoid(), part(gates, 2, hidden):sigmoid()
    local g, out = common.activate("lstm", part(gates, 3, hidden), o.activation), part(gates, 4, hidden):sigmoid()
    local c = forget * s[2] + i * g
    return {out * common.activate("lstm", c, o.activation), c}
  end)
end

return nets
