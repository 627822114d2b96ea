--- Linear, Embedding, EmbeddingBag: layers that are one matrix.

local ai = require "aijit"
local init = require "aijit.nn.initial"
local layers = require "aijit.nn.layer"
local raise = require("aijit.bindings.lib").raise
local layer = layers.layer

local f = ai.f
local nn = {}

--- y = x W^T + b over the last dimension: (..., in_features) -> (..., out_features).
---@class aijit.nn.Linear: aijit.nn.Layer
---@field weight aijit.Tensor  (out_features, in_features)
---@field bias aijit.Tensor?   (out_features)
---@overload fun(in_features: integer, out_features: integer, options?: {bias: boolean}): aijit.nn.Linear
---@overload fun(out_features: integer, options?: table): aijit.nn.Linear
local Linear = layer("Linear", "in_features? out_features bias=true")
nn.Linear = Linear

function Linear:sizes(x) self.in_features = x:size(-1) end
function Linear:sizes_from(state) self.in_features = state.weight:size(2) end

function Linear:build()
  self:parameter("weight", self.out_features, self.in_features)
  self.bias = self.bias and self:parameter("bias", self.out_features) or nil
end

function Linear:reset() init.default_(self.weight, self.bias) end
function Linear:forward(x) return f.linear(x, self.weight, self.bias) end

--- y_k = x1^T W_k x2 + b_k over the last dimensions: (..., in1_features), (..., in2_features) -> (..., out_features).
---@class aijit.nn.Bilinear: aijit.nn.Layer
---@field weight aijit.Tensor  (out_features, in1_features, in2_features)
---@field bias aijit.Tensor?   (out_features)
local Bilinear = layer("Bilinear", "in1_features? in2_features? out_features bias=true")
nn.Bilinear = Bilinear

function Bilinear:build_for(x1, x2)
  if not ai.is_tensor(x2) then raise(("Bilinear: the second input is a %s, not a tensor"):format(type(x2))) end
  self.in2_features = self.in2_features or x2:size(-1)
  return layers.Layer.build_for(self, x1)
end

function Bilinear:sizes(x) self.in1_features = self.in1_features or x:size(-1) end
function Bilinear:sizes_from(state) self.in1_features, self.in2_features = state.weight:size(2), state.weight:size(3) end

function Bilinear:build()
  self:parameter("weight", self.out_features, self.in1_features, self.in2_features)
  self.bias = self.bias and self:parameter("bias", self.out_features) or nil
end

function Bilinear:reset()
  local bound = self.in1_features > 0 and 1 / math.sqrt(self.in1_features) or 0
  init.uniform_(self.weight, -bound, bound)
  if self.bias then init.uniform_(self.bias, -bound, bound) end
end

function Bilinear:forward(x1, x2) return f.bilinear(x1, x2, self.weight, self.bias) end

--- A row of the weight for each index: (...) integers from 1 -> (..., embedding_dim). With max_norm the rows that are looked
-- up are first renormalised in place; scale_grad_by_freq divides a row's gradient by how often it was looked up.
---@class aijit.nn.Embedding: aijit.nn.Layer
---@field weight aijit.Tensor  (num_embeddings, embedding_dim), N(0, 1) at first
---@overload fun(num_embeddings: integer, embedding_dim: integer, options?: {padding_idx: integer, max_norm: number}): aijit.nn.Embedding
local Embedding = layer("Embedding", "num_embeddings embedding_dim padding_idx=none max_norm=none norm_type=2 scale_grad_by_freq=false")
nn.Embedding = Embedding

function Embedding:check()
  if self.padding_idx and self.padding_idx > self.num_embeddings then
    raise(("%s: padding_idx is %d, and there are %d embeddings"):format(getmetatable(self).__name, self.padding_idx, self.num_embeddings))
  end
end

function Embedding:build()
  self:parameter("weight", self.num_embeddings, self.embedding_dim)
  self._options = {padding_idx = self.padding_idx, max_norm = self.max_norm, norm_type = self.norm_type, scale_grad_by_freq = self.scale_grad_by_freq}
end

function Embedding:reset()
  init.normal_(self.weight)
  if self.padding_idx then ai.no_grad(function() self.weight[self.padding_idx] = 0 end) end
end

function Embedding:forward(x) return f.embedding(self.weight, x, self._options) end

--- The sum, mean or largest of the rows of each bag of indices: (bags, indices) -> (bags, embedding_dim); or a flat index and
-- offsets, where in it each bag begins. bag(x, offsets, per_sample_weights).
---@class aijit.nn.EmbeddingBag: aijit.nn.Layer
---@field weight aijit.Tensor  (num_embeddings, embedding_dim), N(0, 1) at first
local EmbeddingBag = layer("EmbeddingBag",
  "num_embeddings embedding_dim max_norm=none norm_type=2 scale_grad_by_freq=false mode=mean include_last_offset=false padding_idx=none")
nn.EmbeddingBag = EmbeddingBag
EmbeddingBag.check = Embedding.check

function EmbeddingBag:build()
  self:parameter("weight", self.num_embeddings, self.embedding_dim)
  self._options = {mode = self.mode, max_norm = self.max_norm, norm_type = self.norm_type, scale_grad_by_freq = self.scale_grad_by_freq,
                   include_last_offset = self.include_last_offset, padding_idx = self.padding_idx}
end
EmbeddingBag.reset = Embedding.reset

function EmbeddingBag:forward(x, offsets, per_sample_weights)
  local o = self._options
  o.per_sample_weights = per_sample_weights
  local y = f.embedding_bag(self.weight, x, offsets, o)
  o.per_sample_weights = nil
  return y
end

return nn
