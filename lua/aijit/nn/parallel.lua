--- Layers whose weight several processes share elsewhere, by their columns or rows. A model of aijit runs in one process, which
--- holds all of the weight: each is the plain layer, takes the options of the divided one, and reads and writes its states.

local layer = require("aijit.nn.layer").layer
local linear = require "aijit.nn.linear"

local nn = {}

--- Linear whose outputs are what is divided. gather_output: whether a process gets the outputs of all; here they are all there.
---@class aijit.nn.ColumnParallelLinear: aijit.nn.Linear
---@overload fun(in_features: integer, out_features: integer, options?: {bias: boolean, gather_output: boolean}): aijit.nn.ColumnParallelLinear
nn.ColumnParallelLinear = layer("ColumnParallelLinear", "in_features? out_features bias=true gather_output=true", linear.Linear)

--- Linear whose inputs are what is divided. input_is_parallel: whether a process is given its part of the inputs; here it is all.
---@class aijit.nn.RowParallelLinear: aijit.nn.Linear
---@overload fun(in_features: integer, out_features: integer, options?: {bias: boolean, input_is_parallel: boolean}): aijit.nn.RowParallelLinear
nn.RowParallelLinear = layer("RowParallelLinear", "in_features? out_features bias=true input_is_parallel=false", linear.Linear)

--- Embedding whose features are what is divided.
---@class aijit.nn.ParallelEmbedding: aijit.nn.Embedding
---@overload fun(num_embeddings: integer, embedding_dim: integer, options?: table): aijit.nn.ParallelEmbedding
nn.ParallelEmbedding = layer("ParallelEmbedding", "num_embeddings embedding_dim padding_idx=none max_norm=none norm_type=2 scale_grad_by_freq=false",
  linear.Embedding)

return nn
