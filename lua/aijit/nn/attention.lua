--- Attention of several heads, with PyTorch's names: in_proj_weight, in_proj_bias, out_proj.weight, out_proj.bias.

local ai = require "aijit"
local argument = require "aijit.argument"
local init = require "aijit.nn.initial"
local layer = require "aijit.nn.layer".layer
local op = require "aijit.bindings.op"
local linear = require "aijit.nn.linear"
local position = require "aijit.nn.position"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

local mask_declared = argument.declare("nn.causal_mask", "l:count device:anything=none offset:size=0")

local padding_declared = argument.declare("nn.padding_mask", "device:anything=none")

local function shape_text(x) return "(" .. table.concat(x.shape, ", ") .. ")" end

--- As numbers to be added to the scores: minus infinity where a mask of bools is true.
local function additive(mask, dtype, device)
  if mask.dtype ~= "bool" then return mask end
  return f.masked_fill(ai.zeros(mask.shape, {dtype = dtype, device = device}), mask, -math.huge)
end

--- One mask of two, either may be nil; two of bools stay bools.
local function both(a, b, like)
  if not a or not b then return a or b end
  if a.dtype == "bool" and b.dtype == "bool" then return f.logical_or(a, b) end
  return additive(a, like.dtype, like.device) + additive(b, like.dtype, like.device)
end

--- A mask of (L, S) or (N * heads, L, S) or (N, heads, L, S), to broadcast with the scores (N, heads, L, S).
local function mask_of(self, mask, n, l, s)
  if mask == nil then return nil end
  if not ai.is_tensor(mask) then raise(("%s: attn_mask is a %s, not a tensor"):format(self:title(), type(mask))) end
  local shape = mask.shape
  local rank = #shape
  if shape[rank] ~= s or shape[rank - 1] ~= l or rank == 3 and shape[1] ~= n * self.num_heads
    or rank == 4 and (shape[1] ~= n and shape[1] ~= 1 or shape[2] ~= self.num_heads and shape[2] ~= 1) or rank > 4 then
    raise(("%s: attn_mask is %s; (%d, %d), (%d, %d, %d) or (%d, %d, %d, %d) is wanted"):format(
      self:title(), shape_text(mask), l, s, n * self.num_heads, l, s, n, self.num_heads, l, s))
  end
  return rank == 3 and mask:reshape(n, self.num_heads, l, s) or mask
end

local function padding_of(self, mask, n, s)
  if mask == nil then return nil end
  local shape = ai.is_tensor(mask) and mask.shape or {}
  if #shape == 1 and n == 1 then mask, shape = f.unsqueeze(mask, 1), {1, shape[1]} end
  if #shape ~= 2 or shape[1] ~= n or shape[2] ~= s then
    raise(("%s: key_padding_mask is %s; (%d, %d) is wanted"):format(
      self:title(), ai.is_tensor(mask) and shape_text(mask) or type(mask), n, s))
  end
  return mask:reshape(n, 1, 1, s)
end

--- Every position with those after it masked: bools, true above the diagonal. offset: so many keys stand before the first
--- query's own, and are seen by all.
---@param l integer queries
---@param s? integer keys, as many as queries and offset
---@param options? {device: any, offset: integer} offset 0
---@return aijit.Tensor (l, s)
function nn.causal_mask(l, s, options)
  local o = mask_declared:options(options, l)
  if s ~= nil then argument.check("causal_mask", "s", "count", s) end
  s = s or l + o.offset
  local device = o.device
  local rows = ai.arange(1 + o.offset, l + o.offset, 1, {device = device}):reshape(l, 1)
  return f.gt(ai.arange(1, s, 1, {device = device}):reshape(1, s), rows)
end

--- The places beyond each sequence's end: bools, for key_padding_mask.
---@param lengths integer[]|aijit.Tensor (N)
---@param t? integer the largest length
---@param options? {device: any}
---@return aijit.Tensor (N, t)
function nn.padding_mask(lengths, t, options)
  if not ai.is_tensor(lengths) then
    argument.check("padding_mask", "lengths", "taps", lengths)
    lengths = ai.tensor(lengths, {dtype = "i64", device = padding_declared:options(options).device})
  end
  if lengths:dim() ~= 1 or lengths:is_floating_point() then
    raise(("padding_mask: the lengths are %s of %s; integers, (N), are wanted"):format(shape_text(lengths), lengths.dtype))
  end
  if t == nil then t = lengths:numel() > 0 and lengths:max():item() or 0 else argument.check("padding_mask", "t", "size", t) end
  return f.gt(ai.arange(1, t, 1, {dtype = "i64", device = lengths.device}):reshape(1, t), f.unsqueeze(lengths, 2))
end

--- Attention with its weights, which the quick way never has all at once.
local function with_weights(q, k, v, mask, causal, p)
  local scores = f.matmul(q, f.transpose(k, -1, -2)) * (1 / math.sqrt(q:size(-1)))
  if causal then mask = both(mask, nn.causal_mask(q:size(-2), k:size(-2), {device = q.device}), q) end
  if mask then scores = scores + additive(mask, q.dtype, q.device) end
  local weights = f.softmax(scores, -1)
  if p > 0 then weights = f.dropout(weights, {p = p}) end
  return f.matmul(weights, v), weights
end

--- Attention of heads (Vaswani and others, 2017): softmax(q k^T / sqrt(head_dim) + mask) v for each head.
--- q: (N, heads, L, D); k, v: (N, kv heads, S, D). Masks of bools are true where not to attend.
local function attend(q, k, v, mask, causal, p, need_weights)
  local shared = q:size(2) / k:size(2)
  if need_weights then
    if shared > 1 then k, v = f.repeat_interleave(k, shared, 2), f.repeat_interleave(v, shared, 2) end
    return with_weights(q, k, v, mask, causal, p)
  end
  if mask and mask.dtype == "bool" then mask = f.logical_not(mask) end
  return f.scaled_dot_product_attention(q, k, v, mask, {dropout_p = p, is_causal = causal, enable_gqa = shared > 1})
end

--- y, weights, state = attention(query, key, value, options); key and value default to query.
--- kdim, vdim: features of key and value; num_kv_heads: fewer heads of keys and values, shared by groups of queries
--- (Ainslie and others, 2023); head_dim: features of a head, embed_dim / num_heads; rotary: queries and keys are turned by
--- their positions (Su and others, 2021); max_kv_cache_len: how many keys a state keeps, the last ones.
---@class aijit.nn.MultiheadAttention: aijit.nn.Layer
---@field in_proj_weight aijit.Tensor? ((heads + 2 kv heads) * head_dim, embed_dim): of queries, keys, values
---@field in_proj_bias aijit.Tensor?
---@field out_proj aijit.nn.Linear
local MultiheadAttention = layer("MultiheadAttention",
  "embed_dim? num_heads dropout=0 bias=true batch_first=false kdim=none vdim=none num_kv_heads=none head_dim=none rotary=false "
  .. "rotary_base=10000 max_kv_cache_len=none")
nn.MultiheadAttention = MultiheadAttention

function MultiheadAttention:sizes(x) self.embed_dim = x:size(-1) end
function MultiheadAttention:sizes_from(state)
  self.embed_dim = (state.in_proj_weight or state.q_proj_weight):size(2)
end

local function head_sizes(self)
  local size = self.head_dim or self.embed_dim / self.num_heads
  if size % 1 ~= 0 then
    raise(("%s: embed_dim is %d, which %d heads do not divide; give head_dim"):format(self:title(), self.embed_dim, self.num_heads))
  end
  local kv_heads = self.num_kv_heads or self.num_heads
  if self.num_heads % kv_heads ~= 0 then
    raise(("%s: %d heads cannot share %d heads of keys"):format(self:title(), self.num_heads, kv_heads))
  end
  if self.rotary and size % 2 ~= 0 then raise(("%s: rotary wants heads of an even size, not %d"):format(self:title(), size)) end
  return size, self.num_heads * size, kv_heads * size
end

function MultiheadAttention:build()
  local size, inner, kv = head_sizes(self)
  local e = self.embed_dim
  if (self.kdim or e) == e and (self.vdim or e) == e then
    self:parameter("in_proj_weight", inner + 2 * kv, e)
  else
    self:parameter("q_proj_weight", inner, e)
    self:parameter("k_proj_weight", kv, self.kdim or e)
    self:parameter("v_proj_weight", kv, self.vdim or e)
  end
  if self.bias then self:parameter("in_proj_bias", inner + 2 * kv) end
  self.out_proj = linear.Linear(inner, e, {bias = self.bias, dtype = self._where.dtype, device = self._where.device})
  self._options = {size = size, inner = inner, kv = kv}
end

function MultiheadAttention:reset()
  for _, name in ipairs{"in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"} do
    if self[name] then init.xavier_uniform_(self[name]) end
  end
  if self.in_proj_bias then
    init.zeros_(self.in_proj_bias)
    init.zeros_(self.out_proj.bias)
  end
end

--- What is done with the heads; a class that is derived may do something else.
function MultiheadAttention:_attend(...) return attend(...) end

local function rows(x, first, n) return x and f.slice(x, 1, first, first + n - 1) end

--- Queries, keys and values, features last; the queries alone where there is no key.
local function project(self, query, key, value)
  local o = self._options
  local inner, kv = o.inner, o.kv
  local w, b = self.in_proj_weight, self.in_proj_bias
  if w and query == key and key == value then
    local all = f.linear(query, w, b)
    return f.slice(all, -1, 1, inner), f.slice(all, -1, inner + 1, inner + kv), f.slice(all, -1, inner + kv + 1, -1)
  end
  local wq, wk, wv = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
  if w then wq, wk, wv = rows(w, 1, inner), rows(w, inner + 1, kv), rows(w, inner + kv + 1, kv) end
  if not key then return f.linear(query, wq, rows(b, 1, inner)) end
  return f.linear(query, wq, rows(b, 1, inner)), f.linear(key, wk, rows(b, inner + 1, kv)),
    f.linear(value, wv, rows(b, inner + kv + 1, kv))
end

local function check_operand(self, name, x)
  if x ~= nil and not op.is_operand(x) then raise(("%s: the %s is a %s, not a tensor"):format(self:title(), name, type(x))) end
end

--- Refuses a state that this attention did not return for as many samples.
local function check_state(self, state, n)
  if state == nil then return end
  local fits = type(state) == "table" and getmetatable(state) == nil
  if fits and next(state) ~= nil then
    fits = type(state.length) == "number"
    for _, t in ipairs{state.k or false, state.v or false} do
      fits = fits and ai.is_tensor(t) and t:dim() == 4 and t:size(1) == n and t:size(2) * t:size(4) == self._options.kv
    end
  end
  if not fits then
    raise(("%s: state is %s; {} for the first piece of %d samples, then what was returned for the one before, is wanted"):format(self:title(),
      type(state) == "table" and state.k and ai.is_tensor(state.k) and "of " .. shape_text(state.k) or "a " .. type(state), n))
  end
end

--- The last n of a state's keys and values.
local function last_of(t, n)
  local surplus = n and t:size(3) - n or 0
  return surplus > 0 and f.narrow(t, 3, surplus + 1, n) or t
end

--- query: (L, N, embed_dim), key: (S, N, kdim), value: (S, N, vdim); with batch_first N stands first; or without N.
--- attn_mask: (L, S), (N * heads, L, S) or (N, heads, L, S); key_padding_mask: (N, S). Bools: true where not to attend;
--- numbers are added to the scores. offset: the position of the first query and key, for rotary.
---
--- A sequence may come in pieces: state is {} for the first one, and what was returned for the piece before, which is never
--- changed, for the others. The keys and values of earlier pieces are then seen as well, S counts them, is_causal and rotary
--- know of them. In attention to another sequence the state is that one's keys and values, made once: key and value are given
--- again, and not looked at.
---@param query aijit.Tensor
---@param key? aijit.Tensor
---@param value? aijit.Tensor
---@param options? {attn_mask: aijit.Tensor, key_padding_mask: aijit.Tensor, is_causal: boolean, state: table}
--- also {need_weights: boolean, average_attn_weights: boolean, offset: integer}
---@return aijit.Tensor y as query
---@return aijit.Tensor? weights with need_weights: (N, L, S), the mean of the heads; not averaged (N, heads, L, S)
---@return table? state with a state: {k, v, length}, k and v (N, kv heads, S, head_dim), length: how many keys there were
function MultiheadAttention:forward(query, key, value, options)
  if options == nil and type(key) == "table" then key, options = nil, key end
  if options ~= nil and type(options) ~= "table" then raise(("%s: the options are a %s, not a table"):format(self:title(), type(options))) end
  check_operand(self, "key", key)
  check_operand(self, "value", value)
  local o = options or {}
  key = key or query
  value = value or key
  local unbatched = query:dim() == 2
  local self_attention = query == key and key == value
  if unbatched then
    query = f.unsqueeze(query, self.batch_first and 1 or 2)
    if self_attention then key, value = query, query
    else key, value = f.unsqueeze(key, self.batch_first and 1 or 2), f.unsqueeze(value, self.batch_first and 1 or 2) end
  end
  if query:dim() ~= 3 or query:size(3) ~= self.embed_dim then
    raise(("%s: the query is %s; (%s, %d) is wanted"):format(
      self:title(), shape_text(query), self.batch_first and "N, L" or "L, N", self.embed_dim))
  end
  local at_n, at_t = self.batch_first and 1 or 2, self.batch_first and 2 or 1
  local n, l, size = query:size(at_n), query:size(at_t), self._options.size
  local state = o.state
  check_state(self, state, n)
  local before = state and state.k and self_attention and state.length or 0
  local known = state and state.k and not self_attention
  local q, k, v = project(self, query, not known and key or nil, value)
  local function heads(x)
    x = x:reshape(x:size(1), x:size(2), -1, size)
    return self.batch_first and f.transpose(x, 2, 3) or f.permute(x, {2, 3, 1, 4})
  end
  local place = self.rotary and {offset = (o.offset or 0) + before, base = self.rotary_base}
  q = heads(q)
  if place then q = position.rotate(q, place) end
  if known then k, v = state.k, state.v
  else
    k, v = heads(k), heads(v)
    if place then k = position.rotate(k, place) end
    if before > 0 then k, v = f.cat({state.k, k}, 3), f.cat({state.v, v}, 3) end
  end
  local s = k:size(3)
  local mask = both(mask_of(self, o.attn_mask, n, l, s), padding_of(self, o.key_padding_mask, n, s), q)
  local causal = o.is_causal or false
  if causal and before > 0 then
    if l > 1 then mask = both(mask, nn.causal_mask(l, s, {device = q.device, offset = s - l}), q) end
    causal = false
  end
  if mask and mask:dim() == 4 then mask = f.expand(mask, {n, mask:size(2), l, s}) end
  local p = self.training and self.dropout or 0
  local y, weights = self:_attend(q, k, v, mask, causal, p, o.need_weights)
  y = self.batch_first and f.transpose(y, 2, 3) or f.permute(y, {3, 1, 2, 4})
  y = self.out_proj(y:reshape(y:size(1), y:size(2), -1))
  if weights and o.average_attn_weights ~= false then weights = weights:mean{2} end
  local kept = self_attention and self.max_kv_cache_len
  local after = state and {k = last_of(k, kept), v = last_of(v, kept), length = self_attention and before + l or s}
  if unbatched then return f.squeeze(y, at_n), weights and f.squeeze(weights, 1), after end
  return y, weights, after
end

return nn
