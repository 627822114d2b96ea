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
local registry = require "aijit.nn.registry"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local layer = layers.layer
local nn = {}

-- -- Layers ------------------------------------------------------------------------------------------------------

--- What the two kinds of layers have in common.
local Block = class("TransformerBlock", layers.Layer)

local arguments = "d_model? nhead dim_feedforward=2048 dropout=0.1 activation=relu layer_norm_eps=1e-05 batch_first=false "
  .. "norm_first=false bias=true num_kv_heads=none rotary=false head_dim=none rotary_base=10000 max_kv_cache_len=none norm:layer|rms=layer gated=false"

local activations = {"relu", "gelu", "gelu_tanh", "silu", "mish", "tanh", "leaky_relu", "elu", "selu", "sigmoid"}

function Block:check()
  if type(self.activation) == "function" then return end
  for _, known in ipairs(activations) do if self.activation == known then return end end
  if type(self.activation) == "string" and registry.registered(self.activation) then return end
  raise(("%s: there is no activation '%s': %s"):format(
    self:title(), tostring(self.activation), nearest.hint(tostring(self.activation), activations)))
end

function Block:sizes(x) self.d_model = x:size(-1) end
function Block:sizes_from(state) self.d_model = state["norm1.weight"]:size(1) end

local function attend(self, rotary)
  return attention.MultiheadAttention(self.d_model, self.nhead, {
    dropout = self.dropout, bias = self.bias, batch_first = self.batch_first, num_kv_heads = self.num_kv_heads,
    rotary = rotary, head_dim = self.head_dim, rotary_base = self.rotary_base, max_kv_cache_len = self.max_kv_cache_len,
    dtype = self._where.dtype, device = self._where.device})
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
  if self.gated then self.linear3 = linear.Linear(d, self.dim_feedforward, options{bias = self.bias}) end
  for i = 1, parts do
    self["norm" .. i] = self.norm == "rms" and norm.RMSNorm(d, options{eps = self.layer_norm_eps})
      or norm.LayerNorm(d, options{eps = self.layer_norm_eps, bias = self.bias})
  end
end

local function options_of(self, options)
  if options == nil then return {} end
  if type(options) ~= "table" then raise(("%s: the options are a %s, not a table"):format(getmetatable(self).__name, type(options))) end
  return options
end

local function drop(self, x)
  if self.dropout == 0 or not self.training then return x end
  return f.dropout(x, {p = self.dropout})
end

local function forward_of(self, x)
  local actv = self.activation
  local h = self.linear1(x)
  h = type(actv) == "function" and actv(h) or (registry.registered(actv) or f[actv])(h)
  if self.gated then h = h * self.linear3(x) end
  return drop(self, self.linear2(drop(self, h)))
end

--- x + part(norm(x)) with norm_first, else norm(x + part(x)).
local function add(self, i, x, part)
  local normed = self["norm" .. i]
  if self.norm_first then return x + part(normed(x)) end
  return normed(x + part(x))
end

--- Self-attention and a network for each position, with residual connections and norms: after each part, or before it with
--- norm_first. norm: "layer", or "rms" of Zhang and Sennrich (2019), as rms norms of Llama are. gated: the inner features are
--- multiplied by a second linear layer of the input, linear3 (Shazeer, 2020; with the activation "silu" SwiGLU). head_dim,
--- num_kv_heads, rotary, rotary_base and max_kv_cache_len: as for MultiheadAttention.
---@class aijit.nn.TransformerEncoderLayer: aijit.nn.Layer
local TransformerEncoderLayer = layer("TransformerEncoderLayer", arguments, Block)
nn.TransformerEncoderLayer = TransformerEncoderLayer

function TransformerEncoderLayer:build()
  self.self_attn = attend(self, self.rotary)
  feed_forward(self, 2)
end

--- state: {} for the first piece of a sequence, then what was returned for the one before, as for MultiheadAttention.
---@param src aijit.Tensor (S, N, d_model), or (N, S, d_model) with batch_first
---@param options? {src_mask: aijit.Tensor, src_key_padding_mask: aijit.Tensor, is_causal: boolean, state: table}
---@return aijit.Tensor
---@return table? state
function TransformerEncoderLayer:forward(src, options)
  local o, state, _ = options_of(self, options), nil, nil
  local masks = {attn_mask = o.src_mask, key_padding_mask = o.src_key_padding_mask, is_causal = o.is_causal, state = o.state}
  src = add(self, 1, src, function(x)
    x, _, state = self.self_attn(x, x, x, masks)
    return drop(self, x)
  end)
  return add(self, 2, src, function(x) return forward_of(self, x) end), state
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

--- state: {} for the first piece of tgt, then what was returned for the one before: {self_attn, multihead_attn}; the memory's
--- keys and values are made once.
---@param tgt aijit.Tensor (T, N, d_model), or (N, T, d_model) with batch_first
---@param memory aijit.Tensor (S, N, d_model), or (N, S, d_model)
---@param options? {tgt_mask: aijit.Tensor, memory_mask: aijit.Tensor, tgt_is_causal: boolean, state: table}
--- also {tgt_key_padding_mask: aijit.Tensor, memory_key_padding_mask: aijit.Tensor}
---@return aijit.Tensor
---@return table? state
function TransformerDecoderLayer:forward(tgt, memory, options)
  local o = options_of(self, options)
  if o.state ~= nil and type(o.state) ~= "table" then raise(("%s: state is a %s, not a table"):format(self:title(), type(o.state))) end
  local state = o.state and {}
  if not ai.is_tensor(memory) then raise(("%s: the memory is a %s, not a tensor"):format(self:title(), type(memory))) end
  local masks = {attn_mask = o.tgt_mask, key_padding_mask = o.tgt_key_padding_mask, is_causal = o.tgt_is_causal,
                 state = state and (o.state.self_attn or {})}
  local memory_masks = {attn_mask = o.memory_mask, key_padding_mask = o.memory_key_padding_mask,
                        state = state and (o.state.multihead_attn or {})}
  local function attended(name, x, kv, how)
    local y, _, after = self[name](x, kv, kv, how)
    if state then state[name] = after end
    return drop(self, y)
  end
  tgt = add(self, 1, tgt, function(x) return attended("self_attn", x, x, masks) end)
  tgt = add(self, 2, tgt, function(x) return attended("multihead_attn", x, memory, memory_masks) end)
  return add(self, 3, tgt, function(x) return forward_of(self, x) end), state
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

--- x through the layers; each.state holds one state a layer, and is each layer's own while it runs.
local function through(self, x, each, run)
  local states, after = each.state, nil
  if states ~= nil then
    if type(states) ~= "table" or next(states) ~= nil and #states ~= #self.layers then
      raise(("%s: state is %s; {}, or the list of %d states that was returned for the piece before, is wanted"):format(
        getmetatable(self).__name, type(states) == "table" and "a table of " .. #states or "a " .. type(states), #self.layers))
    end
    after = {}
  end
  for i, block in ipairs(self.layers) do
    each.state = states and (states[i] or {})
    local state
    x, state = run(block, x)
    if after then after[i] = state end
  end
  return x, after
end

--- A layer, and n - 1 copies of it, one after another; then a norm if one is given.
---@class aijit.nn.TransformerEncoder: aijit.nn.Module
---@overload fun(layer: aijit.nn.Module, n: integer, options?: {norm: aijit.nn.Module}): aijit.nn.TransformerEncoder
local TransformerEncoder = class("TransformerEncoder", Module)
nn.TransformerEncoder = Module.register(TransformerEncoder)

TransformerEncoder.to_spec, TransformerEncoder.from_spec = spec_of, from_spec
local encoder_arguments = argument.declare("nn.TransformerEncoder", stack_arguments)
function TransformerEncoder:__init(...) stack(self, encoder_arguments, ...) end

--- state: {} for the first piece of a sequence, then what was returned for the one before: a list of the layers' states.
---@param src aijit.Tensor
---@param options? {mask: aijit.Tensor, src_key_padding_mask: aijit.Tensor, is_causal: boolean, state: table}
---@return aijit.Tensor
---@return table? state
function TransformerEncoder:forward(src, options)
  local o = options_of(self, options)
  local each = {src_mask = o.mask, src_key_padding_mask = o.src_key_padding_mask, is_causal = o.is_causal,
                state = o.state}
  local state
  src, state = through(self, src, each, function(block, x) return block(x, each) end)
  return self.norm and self.norm(src) or src, state
end

--- The same of layers that attend to a memory.
---@class aijit.nn.TransformerDecoder: aijit.nn.Module
---@overload fun(layer: aijit.nn.Module, n: integer, options?: {norm: aijit.nn.Module}): aijit.nn.TransformerDecoder
local TransformerDecoder = class("TransformerDecoder", Module)
nn.TransformerDecoder = Module.register(TransformerDecoder)

TransformerDecoder.to_spec, TransformerDecoder.from_spec = spec_of, from_spec
local decoder_arguments = argument.declare("nn.TransformerDecoder", stack_arguments)
function TransformerDecoder:__init(...) stack(self, decoder_arguments, ...) end

--- state: {} for the first piece of tgt, then what was returned for the one before: a list of the layers' states.
---@param tgt aijit.Tensor
---@param memory aijit.Tensor
---@param options? table as for TransformerDecoderLayer
---@return aijit.Tensor
---@return table? state
function TransformerDecoder:forward(tgt, memory, options)
  local each = {}
  for key, value in pairs(options_of(self, options)) do each[key] = value end
  local state
  tgt, state = through(self, tgt, each, function(block, x) return block(x, memory, each) end)
  return self.norm and self.norm(tgt) or tgt, state
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
  local o = options_of(self, options)
  local memory = self.encoder(src, {mask = o.src_mask, src_key_padding_mask = o.src_key_padding_mask})
  return self.decoder(tgt, memory, o)
end

return nn
