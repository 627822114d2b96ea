--- m.attn, m.sa, m.tx_enc_blk, m.tx_enc, m.pos_emb: attention over sequences, (N, T, dim).

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local linear = require "aijit.model.linear"
local sequence = require "aijit.model.sequence"
local raise = require("aijit.bindings.lib").raise

local nn, f = ai.nn, ai.f
local transformer = {}

local attn_arguments = argument.declare("m.attn", "dim n_heads dropout=0 norm:flag=true")
local sa_arguments = argument.declare("m.sa", "dim n_heads head_dim=none dropout=0 norm:flag=true bias=true")
local block_arguments = argument.declare("m.tx_enc_blk", "dim n_heads mlp_dim:count=none head_dim=none dropout=0 norm:flag=true")
local encoder_arguments = argument.declare("m.tx_enc", "n_blocks:size dim n_heads mlp_dim:count=none head_dim=none dropout=0 norm:flag=true")

--- Sizes of attention: the heads divide the features, unless they say their own number.
local function check_heads(who, dim, n_heads, head_dim)
  if not head_dim and dim % n_heads ~= 0 then raise(("%s: %d heads do not divide %d features; say head_dim"):format(who, n_heads, dim)) end
end

--- Attention after a layer norm, of one input to another: y, weights = attn(q, kv, {need_weights = true}). kv defaults to q;
--- both go through the same norm.
---@class aijit.model.TxAttention: aijit.nn.Module
local Attention = class("TxAttention", nn.Module)
nn.register(Attention)

function Attention:__init(dim, n_heads, o)
  if o.norm then self.norm = nn.LayerNorm(dim) end
  self.attn = nn.MultiheadAttention(dim, n_heads, {head_dim = o.head_dim, dropout = o.dropout, batch_first = true, bias = o.bias})
end

---@param q aijit.Tensor (N, T, dim)
---@param kv? aijit.Tensor (N, S, dim)
---@param options? table as for nn.MultiheadAttention
---@return aijit.Tensor
---@return aijit.Tensor? weights
function Attention:forward(q, kv, options)
  local normed = self.norm and self.norm(q) or q
  local other = normed
  if kv then other = self.norm and self.norm(kv) or kv end
  return self.attn(normed, other, other, options)
end

---@param dim integer
---@param n_heads integer
---@param options? {dropout: number, norm: boolean} 0, true
---@return aijit.model.TxAttention
function transformer.attn(dim, n_heads, options)
  local o = attn_arguments:options(options, dim, n_heads)
  check_heads("attn", dim, n_heads)
  return Attention(dim, n_heads, {dropout = o.dropout, norm = o.norm, bias = true})
end

--- Self-attention after a layer norm; heads of head_dim features, dim / n_heads unless given.
---@param dim integer
---@param n_heads integer
---@param options? {head_dim: integer, dropout: number, norm: boolean, bias: boolean} dropout 0, norm true, bias true
---@return aijit.model.TxAttention
function transformer.sa(dim, n_heads, options)
  local o = sa_arguments:options(options, dim, n_heads)
  check_heads("sa", dim, n_heads, o.head_dim)
  return Attention(dim, n_heads, o)
end

--- A block of a transformer's encoder, norms first: x + attention, then x + fc -> GELU -> fc.
---@class aijit.model.TxEncoderBlock: aijit.nn.Module
local EncoderBlock = class("TxEncoderBlock", nn.Module)
nn.register(EncoderBlock)

function EncoderBlock:__init(dim, n_heads, mlp_dim, o)
  self.attn = transformer.sa(dim, n_heads, {head_dim = o.head_dim, dropout = o.dropout, norm = o.norm})
  self.mlp = sequence.several{
    o.norm and nn.LayerNorm(dim) or false,
    linear.fc(dim, mlp_dim, {actv = "gelu", dropout = o.dropout > 0 and o.dropout or nil}),
    linear.fc(mlp_dim, dim, {dropout = o.dropout > 0 and o.dropout or nil}),
  }
  self.dropout = o.dropout
end

---@param x aijit.Tensor (N, T, dim)
---@param options? table masks, as for nn.MultiheadAttention
---@return aijit.Tensor
function EncoderBlock:forward(x, options)
  local y = self.attn(x, nil, options)
  if self.training and self.dropout > 0 then y = f.dropout(y, {p = self.dropout}) end
  x = x + y
  return x + self.mlp(x)
end

---@param dim integer
---@param n_heads integer
---@param mlp_dim? integer 4 dim
---@param options? {head_dim: integer, dropout: number, norm: boolean}
---@return aijit.model.TxEncoderBlock
---@overload fun(dim: integer, n_heads: integer, options?: table): aijit.model.TxEncoderBlock
function transformer.tx_enc_blk(...)
  local o = block_arguments:read({}, ...)
  check_heads("tx_enc_blk", o.dim, o.n_heads, o.head_dim)
  return EncoderBlock(o.dim, o.n_heads, o.mlp_dim or 4 * o.dim, o)
end

--- Blocks of an encoder one after another: y = enc(x, masks).
---@class aijit.model.TxEncoder: aijit.nn.Sequential
local Encoder = class("TxEncoder", nn.Sequential)
nn.register(Encoder)

function Encoder:forward(x, options)
  for i = 1, #self do x = self[i](x, options) end
  return x
end

---@param n_blocks integer
---@param dim integer
---@param n_heads integer
---@param mlp_dim? integer 4 dim
---@param options? {head_dim: integer, dropout: number, norm: boolean}
---@return aijit.model.TxEncoder
---@overload fun(n_blocks: integer, dim: integer, n_heads: integer, options?: table): aijit.model.TxEncoder
function transformer.tx_enc(...)
  local o = encoder_arguments:read({}, ...)
  check_heads("tx_enc", o.dim, o.n_heads, o.head_dim)
  local blocks = {}
  for i = 1, o.n_blocks do blocks[i] = EncoderBlock(o.dim, o.n_heads, o.mlp_dim or 4 * o.dim, o) end
  return Encoder(blocks)
end

--- Times or positions as features: (N) -> (N, size): sines, then cosines, of t * 10000^(-i / (size / 2 - 1)) (Ho and others,
--- 2020).
local TimeFeatures = nn.layer("TimeFeatures", "size base=10000")
transformer.TimeFeatures = TimeFeatures

function TimeFeatures:check()
  if type(self.size) ~= "number" or self.size < 4 or self.size % 2 ~= 0 then
    raise(("pos_emb: the size is %s; an even number from 4 is wanted"):format(tostring(self.size)))
  end
end

function TimeFeatures:forward(t)
  if not t:is_floating_point() then t = t:float() end
  local half = self.size / 2
  local rate = f.exp(ai.arange(0, half - 1, 1, {dtype = t.dtype, device = t.device}) * (-math.log(self.base) / (half - 1)))
  local angle = f.unsqueeze(t, -1) * rate
  return f.cat({f.sin(angle), f.cos(angle)}, -1)
end

---@param size integer even
---@param kind? "sin" alone is known
---@return aijit.nn.Module
function transformer.pos_emb(size, kind)
  if kind ~= nil and kind ~= "sin" then raise(("pos_emb: there is no kind '%s'; \"sin\" is the one"):format(tostring(kind))) end
  return TimeFeatures(size)
end

return transformer
