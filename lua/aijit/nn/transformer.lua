--- Transformers (Vaswani and others, 2017), with PyTorch's arguments and names: self_attn.in_proj_weight, linear1.weight,
--- norm1.weight, layers.0...

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local attention = require "aijit.nn.attention"
local container = require "aijit.nn.container"
local init = require "aijit.nn.initial"
local layers = require "aijit.nn.layer"
local linear = require "aijit.nn.linear"
local nearest = require "aijit.nearest"
local norm = require "aijit.nn.norm"
local Module = require "aijit.nn.module"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local layer = layers.layer
local nn = {}

-- -- Layers ------------------------------------------------------------------------------------------------------

--- What the two kinds of layers have in common.
local Block = class("TransformerBlock", layers.Layer)

local arguments = "d_model? nhead dim_feedforward=2048 dropout=0.1 activation=relu layer_norm_eps=1e-05 batch_first=false "
  .. "norm_first=false bias=true num_kv_heads=none rotary=false"

local activations = {"relu", "gelu", "gelu_tanh", "silu", "mish", "tanh", "leaky_relu", "elu", "selu", "sigmoid"}

function Block:check()
  if type(self.activation) == "function" then return end
  for _, known in ipairs(activations) do if self.activation == known then return end end
  raise(("%s: there is no activation '%s': %s"):format(
    self:title(), tostring(self.activation), nearest.hint(tostring(self.activation), activations)))
end

function Block:sizes(x) self.d_model = x:size(-1) end
function Block:sizes_from(state) self.d_model = state["norm1.weight"]:size(1) end

local function attend(self, rotary)
  return attention.MultiheadAttention(self.d_model, self.nhead, {
    dropout = self.dropout, bias = self.bias, batch_first = self.batch_first, num_kv_heads = self.num_kv_heads,
    rotary = rotary, dtype = self._where.dtype, device = self._where.device})
end

--- linear1, dropout, linear2, and as many norms and dropouts as there are parts.
local function feed_forward(self, parts)
  local where, d = self._where, self.d_model
  local function options(o)
    o.dtype, o.device = where.dtype, where.device
    return o
  end
  self.linear1 = linear.Linear(d, self.dim_feedforward, options{bias = self.bias})
  self.linear2 = linear.Linear(self.dim_feedforward, d, options{bias = self.bias})
  for i = 1, parts do self["norm" .. i] = norm.LayerNorm(d, options{eps = self.layer_norm_eps, bias = self.bias}) end
end

local function drop(self, x)
  if self.dropout == 0 or not self.training then return x end
  return f.dropout(x, {p = self.dropout})
end

local function forward_of(self, x)
  local actv = self.activation
  local h = self.linear1(x)
  h = type(actv) == "function" and actv(h) or f[actv](h)
  return drop(self, self.linear2(drop(self, h)))
end

--- x + part(norm(x)) with norm_first, else norm(x + part(x)).
local function add(self, i, x, part)
  local normed = self["norm" .. i]
  if self.norm_first then return x + part(normed(x)) end
  return normed(x + part(x))
end

--- Self-attention and a network for each position, with residual connections and layer norms: after each part, or before
--- it with norm_first. num_kv_heads and rotary: as for MultiheadAttention.
---@class aijit.nn.TransformerEncoderLayer: aijit.nn.Layer
local TransformerEncoderLayer = layer("TransformerEncoderLayer", arguments, Block)
nn.TransformerEncoderLayer = TransformerEncoderLayer

function TransformerEncoderLayer:build()
  self.self_attn = attend(self, self.rotary)
  feed_forward(self, 2)
end

---@param src aijit.Tensor (S, N, d_model), or (N, S, d_model) with batch_first
---@param options? {src_mask: aijit.Tensor, src_key_padding_mask: aijit.Tensor, is_causal: boolean}
---@return aijit.Tensor
function TransformerEncoderLayer:forward(src, options)
  local o = options or {}
  local masks = {attn_mask = o.src_mask, key_padding_mask = o.src_key_padding_mask, is_causal = o.is_causal}
  src = add(self, 1, src, function(x) return drop(self, (self.self_attn(x, x, x, masks))) end)
  return add(self, 2, src, function(x) return forward_of(self, x) end)
end

--- Self-attention, attention to a memory, and a network for each position.
---@class aijit.nn.TransformerDecoderLayer: aijit.nn.Layer
local TransformerDecoderLayer = layer("TransformerDecoderLayer", arguments, Block)
nn.TransformerDecoderLayer = TransformerDecoderLayer

function TransformerDecoderLayer:build()
  self.self_attn = attend(self, self.rotary)
  self.multihead_attn = attend(self, false)
  feed_forward(self, 3)
end

---@param tgt aijit.Tensor (T, N, d_model), or (N, T, d_model) with batch_first
---@param memory aijit.Tensor (S, N, d_model), or (N, S, d_model)
---@param options? {tgt_mask: aijit.Tensor, memory_mask: aijit.Tensor, tgt_is_causal: boolean}
--- also {tgt_key_padding_mask: aijit.Tensor, memory_key_padding_mask: aijit.Tensor}
---@return aijit.Tensor
function TransformerDecoderLayer:forward(tgt, memory, options)
  local o = options or {}
  if not ai.is_tensor(memory) then raise(("%s: the memory is a %s, not a tensor"):format(self:title(), type(memory))) end
  local masks = {attn_mask = o.tgt_mask, key_padding_mask = o.tgt_key_padding_mask, is_causal = o.tgt_is_causal}
  local memory_masks = {attn_mask = o.memory_mask, key_padding_mask = o.memory_key_padding_mask}
  tgt = add(self, 1, tgt, function(x) return drop(self, (self.self_attn(x, x, x, masks))) end)
  tgt = add(self, 2, tgt, function(x) return drop(self, (self.multihead_attn(x, memory, memory, memory_masks))) end)
  return add(self, 3, tgt, function(x) return forward_of(self, x) end)
end

-- -- Stacks ------------------------------------------------------------------------------------------------------

local stack_arguments = "layer:module num_layers norm=none"

local function stack(self, declared, ...)
  local o = declared:read({}, ...)
  self.layers = container.ModuleList()
  for i = 1, o.num_layers do self.layers:append(i == 1 and o.layer or o.layer:clone()) end
  self.norm = o.norm
end

local function spec_of(self)
  return {type = getmetatable(self).__name, layers = self.layers:to_spec().layers, norm = self.norm and self.norm:to_spec() or nil}
end

local stack_keys = {"type", "layers", "layer", "num_layers", "norm"}

--- Its layers, or one `layer` and how many of it.
local function from_spec(cls, spec)
  for key in pairs(spec) do
    local known = false
    for _, name in ipairs(stack_keys) do known = known or key == name end
    if not known then
      raise(("from_spec: %s has no argument '%s': %s"):format(cls.__name, tostring(key), nearest.hint(tostring(key), stack_keys)))
    end
  end
  if not spec.layers then
    if type(spec.layer) ~= "table" then raise(("from_spec: %s wants a list `layers`, or a `layer` and `num_layers`"):format(cls.__name)) end
    return cls(Module.make_from_spec(spec.layer), spec.num_layers, {norm = spec.norm and Module.make_from_spec(spec.norm)})
  end
  local object = setmetatable({}, cls)
  object.layers = container.ModuleList()
  for _, block in ipairs(spec.layers) do object.layers:append(Module.make_from_spec(block)) end
  object.norm = spec.norm and Module.make_from_spec(spec.norm)
  return object
end

--- A layer, and n - 1 copies of it, one after another; then a norm if one is given.
---@class aijit.nn.TransformerEncoder: aijit.nn.Module
---@overload fun(layer: aijit.nn.Module, n: integer, options?: {norm: aijit.nn.Module}): aijit.nn.TransformerEncoder
local TransformerEncoder = class("TransformerEncoder", Module)
nn.TransformerEncoder = Module.register(TransformerEncoder)

TransformerEncoder.to_spec, TransformerEncoder.from_spec = spec_of, from_spec
local encoder_arguments = argument.declare("nn.TransformerEncoder", stack_arguments)
function TransformerEncoder:__init(...) stack(self, encoder_arguments, ...) end

---@param src aijit.Tensor
---@param options? {mask: aijit.Tensor, src_key_padding_mask: aijit.Tensor, is_causal: boolean}
---@return aijit.Tensor
function TransformerEncoder:forward(src, options)
  local o = options or {}
  local each = {src_mask = o.mask, src_key_padding_mask = o.src_key_padding_mask, is_causal = o.is_causal}
  for _, block in ipairs(self.layers) do src = block(src, each) end
  return self.norm and self.norm(src) or src
end

--- The same of layers that attend to a memory.
---@class aijit.nn.TransformerDecoder: aijit.nn.Module
---@overload fun(layer: aijit.nn.Module, n: integer, options?: {norm: aijit.nn.Module}): aijit.nn.TransformerDecoder
local TransformerDecoder = class("TransformerDecoder", Module)
nn.TransformerDecoder = Module.register(TransformerDecoder)

TransformerDecoder.to_spec, TransformerDecoder.from_spec = spec_of, from_spec
local decoder_arguments = argument.declare("nn.TransformerDecoder", stack_arguments)
function TransformerDecoder:__init(...) stack(self, decoder_arguments, ...) end

---@param tgt aijit.Tensor
---@param memory aijit.Tensor
---@param options? table as for TransformerDecoderLayer
---@return aijit.Tensor
function TransformerDecoder:forward(tgt, memory, options)
  for _, block in ipairs(self.layers) do tgt = block(tgt, memory, options) end
  return self.norm and self.norm(tgt) or tgt
end

--- Encoder and decoder: y = transformer(src, tgt, options).
---@class aijit.nn.Transformer: aijit.nn.Module
---@overload fun(options?: table): aijit.nn.Transformer
local Transformer = class("Transformer", Module)
nn.Transformer = Module.register(Transformer)

Transformer.declaration = argument.declare("nn.Transformer",
  (arguments:gsub("d_model%? nhead", "d_model=512 nhead=8 num_encoder_layers:count=6 num_decoder_layers:count=6")), layers.common)

--- As PyTorch: d_model 512, nhead 8, num_encoder_layers 6, num_decoder_layers 6, and the arguments of the layers.
---@param d_model? integer
---@param nhead? integer
---@param options? table
---@overload fun(options?: table)
function Transformer:__init(...)
  local each, where = Transformer.declaration:read({}, ...)
  local encoders, decoders = each.num_encoder_layers, each.num_decoder_layers
  each.num_encoder_layers, each.num_decoder_layers = nil, nil
  each.dtype, each.device = where and where.dtype, where and where.device
  local function last() return norm.LayerNorm(each.d_model, {eps = each.layer_norm_eps, dtype = each.dtype, device = each.device}) end
  self.encoder = TransformerEncoder(TransformerEncoderLayer(each), encoders, {norm = last()})
  self.decoder = TransformerDecoder(TransformerDecoderLayer(each), decoders, {norm = last()})
  for _, p in ipairs(self:parameters()) do if p:dim() > 1 then init.xavier_uniform_(p) end end
end

---@param src aijit.Tensor
---@param tgt aijit.Tensor
---@param options? table src_mask, src_key_padding_mask, and those of TransformerDecoderLayer
---@return aijit.Tensor
function Transformer:forward(src, tgt, options)
  local o = options or {}
  local memory = self.encoder(src, {mask = o.src_mask, src_key_padding_mask = o.src_key_padding_mask})
  return self.decoder(tgt, memory, o)
end

return nn
