--- Models of sequences of tokens, which say of each place what the next token may be: over a transformer that attends to what
--- came before, or over RWKV. Tokens are integers from 1.
---
---     local model = nn.NextTokenTransformer(256, 4, 1000, {nhead = 4})
---     local loss = ai.cross_entropy(model(tokens):flatten(1, 2), tokens:flatten())
---     local more = model:generate(100, {prompt = tokens, top_p = 0.9})
---
--- model(tokens) are the logits of each token, made from those before it, of the first one from a learned beginning. step takes
--- a sequence in pieces and carries a state from one to the next: keys and values of a transformer, sums of RWKV. generate is step,
--- token by token.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local init = require "aijit.nn.initial"
local layers = require "aijit.nn.layer"
local linear = require "aijit.nn.linear"
local norm = require "aijit.nn.norm"
local rwkv = require "aijit.nn.rwkv"
local sampling = require "aijit.nn.sampling"
local transformer = require "aijit.nn.transformer"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local layer = layers.layer
local nn = {}

-- -- What both have ----------------------------------------------------------------------------------------------

--- Derived classes have _core, which makes a module, and y, state = _run(x, state), of (N, T, d_model).
---@class aijit.nn.NextToken: aijit.nn.Layer
---@field init_emb aijit.Tensor (1, 1, d_model) what stands before the first token
---@field embeddings aijit.nn.Embedding
---@field norm aijit.nn.Layer
---@field proj aijit.nn.Linear d_model -> vocab_size, without bias
local NextToken = class("NextToken", layers.Layer)

function NextToken:build()
  local where = {dtype = self._where.dtype, device = self._where.device}
  local function placed(o)
    o.dtype, o.device = where.dtype, where.device
    return o
  end
  self:parameter("init_emb", 1, 1, self.d_model)
  self.embeddings = linear.Embedding(self.vocab_size, self.d_model, placed{})
  self:_core(placed)
  self.proj = linear.Linear(self.d_model, self.vocab_size, placed{bias = false})
end

function NextToken:reset() init.normal_(self.init_emb, 0, 0.02) end

local function shape_text(x) return ai.is_tensor(x) and "(" .. table.concat(x.shape, ", ") .. ")" or "a " .. type(x) end

local function check_tokens(self, tokens)
  if not ai.is_tensor(tokens) or tokens:dim() ~= 2 or tokens:is_floating_point() then
    raise(("%s: the tokens are %s%s; integers, (N, T), are wanted"):format(self:title(), shape_text(tokens),
      ai.is_tensor(tokens) and " of " .. tokens.dtype or ""))
  end
end

local function check_emb(self, emb, n, t)
  if not ai.is_tensor(emb) or emb:dim() ~= 3 or emb:size(3) ~= self.d_model or n and emb:size(1) ~= n or t and emb:size(2) ~= t then
    raise(("%s: the embeddings are %s; (%s, %s, %d) is wanted"):format(self:title(), shape_text(emb), n or "N", t or "T", self.d_model))
  end
end

--- The beginning, then the embeddings of the tokens, which may be nil.
local function begun(self, tokens, n)
  local first = f.expand(self.init_emb, {n, 1, self.d_model})
  if not tokens or tokens:size(2) == 0 then return first end
  return f.cat({first, self.embeddings(tokens)}, 2)
end

--- All tokens but the last, after the beginning.
local function shifted(self, tokens)
  check_tokens(self, tokens)
  if tokens:size(2) == 0 then raise(("%s: a sequence of no tokens"):format(self:title())) end
  return begun(self, f.narrow(tokens, 2, 1, tokens:size(2) - 1), tokens:size(1))
end

local function logits_of(self, x) return self.proj(self.norm and self.norm(x) or x) end

--- Logits of each token from those before it.
---@param tokens aijit.Tensor (N, T)
---@return aijit.Tensor (N, T, vocab_size)
function NextToken:forward(tokens) return logits_of(self, (self:_run(shifted(self, tokens)))) end

local step_declared = argument.declare("model:step", "batch_size:count=1")

--- Logits of what follows a piece of a sequence, and of what follows each token in it. Without a state a sequence begins: the
--- first logits are those of its first token, and tokens may be nil.
---@param tokens? aijit.Tensor (N, T)
---@param state? table what was returned for the piece before
---@param options? {batch_size: integer} without tokens: 1
---@return aijit.Tensor logits (N, T, vocab_size), (N, T + 1, vocab_size) without a state
---@return table state
function NextToken:step(tokens, state, options)
  local batch = step_declared:options(options).batch_size
  if tokens ~= nil or state ~= nil then check_tokens(self, tokens) end
  local x
  if state ~= nil then x = self.embeddings(tokens) else x = begun(self, tokens, tokens and tokens:size(1) or batch) end
  x, state = self:_run(x, state or {})
  return logits_of(self, x), state
end

local sampled = " temperature:not_negative=1 top_k:count=none top_p:share=none greedy=false"
local generate = argument.declare("model:generate", "n batch_size:count=1 prompt:tensor=none" .. sampled)
local generate_with = argument.declare("model:generate", "emb:tensor" .. sampled)

local function sampling_of(o)
  local top_p = o.top_p
  if not top_p and not o.top_k and not o.greedy then top_p = 0.95 end
  return {temperature = o.temperature, top_k = o.top_k, top_p = top_p, greedy = o.greedy}
end

--- In evaluation mode, without recording.
local function quietly(self, run)
  local training = self.training
  self:eval()
  local ok, first, second = pcall(ai.no_grad, run)
  self:train(training)
  if not ok then error(first, 0) end
  return first, second
end

--- Frees the tensors of a state that nobody needs any more.
local function free(state)
  if ai.is_tensor(state) then state:free()
  elseif type(state) == "table" then for _, part in pairs(state) do free(part) end end
end

--- New tokens, drawn one after another, in evaluation mode and without recording.
---@param n integer how many
---@param options? {prompt: aijit.Tensor, batch_size: integer, temperature: number, top_k: integer, top_p: number, greedy: boolean}
--- prompt: (N, T) tokens that come before; batch_size: 1, without a prompt; temperature 1; top_p 0.95 unless top_k or greedy is said
---@return aijit.Tensor (N, n)
function NextToken:generate(n, options)
  local o = generate:options(options, n)
  local how = sampling_of(o)
  return (quietly(self, function()
    local list, state, before = {}, nil, nil
    for i = 1, n do
      list[i], state = ai.scope(function()
        local logits, after
        if i == 1 then logits, after = self:step(o.prompt or nil, nil, {batch_size = o.batch_size})
        else logits, after = self:step(f.unsqueeze(list[i - 1], 2), state) end
        return sampling.sample_from_logits(f.select(logits, 2, -1), how), after
      end)
      free(before)                                            -- states grow, and the collector does not see their size
      before = state
    end
    return f.stack(list, 2)
  end))
end

--- The same with an embedding of its own for each place, which is added to the token's.
local function with_embeddings(cls)
  --- Logits of each token from those before it and from the embeddings up to its place.
  ---@param tokens aijit.Tensor (N, T)
  ---@param emb aijit.Tensor (N, T, d_model)
  ---@return aijit.Tensor logits (N, T, vocab_size)
  ---@return aijit.Tensor hidden (N, T, d_model), before the last norm
  function cls:forward(tokens, emb)
    local x = shifted(self, tokens)
    check_emb(self, emb, tokens:size(1), tokens:size(2))
    local hidden = self:_run(x + emb)
    return logits_of(self, hidden), hidden
  end

  --- Logits of the tokens at the places of emb, and of those alone: tokens are the ones before these places, without a state one
  --- fewer, nil where there are none.
  ---@param tokens? aijit.Tensor (N, T), without a state (N, T - 1)
  ---@param emb aijit.Tensor (N, T, d_model)
  ---@param state? table
  ---@return aijit.Tensor logits (N, T, vocab_size)
  ---@return table state
  ---@return aijit.Tensor hidden
  function cls:step(tokens, emb, state)
    check_emb(self, emb)
    if tokens ~= nil or state ~= nil then check_tokens(self, tokens) end
    local x
    if state ~= nil then x = self.embeddings(tokens) else x = begun(self, tokens, emb:size(1)) end
    check_emb(self, emb, x:size(1), x:size(2))
    local hidden
    hidden, state = self:_run(x + emb, state or {})
    return logits_of(self, hidden), state, hidden
  end

  --- As many new tokens as emb has places.
  ---@param emb aijit.Tensor (N, T, d_model)
  ---@param options? {temperature: number, top_k: integer, top_p: number, greedy: boolean} 1; top_p 0.95
  ---@return aijit.Tensor tokens (N, T)
  ---@return aijit.Tensor hidden (N, T, d_model)
  function cls:generate(emb, options)
    local how = sampling_of(generate_with:options(options, emb))
    check_emb(self, emb)
    return quietly(self, function()
      local list, hidden, state = {}, {}, nil
      for i = 1, emb:size(2) do
        local before = state
        local logits
        logits, state, hidden[i] = self:step(i > 1 and f.unsqueeze(list[i - 1], 2) or nil, f.narrow(emb, 2, i, 1), state)
        list[i] = sampling.sample_from_logits(f.select(logits, 2, -1), how)
        free(before)
      end
      return f.stack(list, 2), f.cat(hidden, 2)
    end)
  end
end

-- -- Over a transformer --------------------------------------------------------------------------------------------

local over_transformer = "d_model num_layers vocab_size nhead=none head_dim=none dim_feedforward=none dropout=0.1 activation=silu "
  .. "norm_eps:not_negative=1e-05 norm_type:layer|rms=rms final_norm:layer|rms|none=rms num_kv_heads=none rotary=true rotary_base=10000 "
  .. "max_kv_cache_len=none"
local norms = {layer = norm.LayerNorm, rms = norm.RMSNorm}

--- A decoder-only transformer in the manner of Llama (Touvron and others, 2023): norms first, rms norms, SwiGLU, rotary positions.
--- Heads: nhead, or as many as there are of head_dim 64. dim_feedforward: 4 d_model. final_norm "none": none before the logits.
--- num_kv_heads, rotary_base and max_kv_cache_len as for MultiheadAttention.
---@class aijit.nn.NextTokenTransformer: aijit.nn.NextToken
---@overload fun(d_model: integer, num_layers: integer, vocab_size: integer, options?: table): aijit.nn.NextTokenTransformer
local NextTokenTransformer = layer("NextTokenTransformer", over_transformer, NextToken)
nn.NextTokenTransformer = NextTokenTransformer

function NextTokenTransformer:check()
  local heads = self.nhead or self.d_model / (self.head_dim or 64)
  if heads % 1 ~= 0 then
    raise(("%s: %d features are no whole number of heads of %d; give nhead or head_dim"):format(self:title(), self.d_model, self.head_dim or 64))
  end
end

function NextTokenTransformer:_core(placed)
  local d = self.d_model
  self.attn = transformer.TransformerEncoder(transformer.TransformerEncoderLayer(placed{
    d_model = d, nhead = self.nhead or d / (self.head_dim or 64), head_dim = self.head_dim, dim_feedforward = self.dim_feedforward or 4 * d,
    dropout = self.dropout, activation = self.activation, layer_norm_eps = self.norm_eps, batch_first = true, norm_first = true, bias = false,
    num_kv_heads = self.num_kv_heads, rotary = self.rotary, rotary_base = self.rotary_base, max_kv_cache_len = self.max_kv_cache_len,
    norm = self.norm_type, gated = true}), self.num_layers)
  if self.final_norm ~= "none" then self.norm = norms[self.final_norm](d, placed{eps = self.norm_eps}) end
end

function NextTokenTransformer:_run(x, state) return self.attn(x, {is_causal = true, state = state}) end

--- NextTokenTransformer with an embedding for each place: logits, hidden = model(tokens, emb).
---@class aijit.nn.NextTokenWithEmbeddingsTransformer: aijit.nn.NextTokenTransformer
local WithEmbeddings = layer("NextTokenWithEmbeddingsTransformer", over_transformer, NextTokenTransformer)
nn.NextTokenWithEmbeddingsTransformer = WithEmbeddings
with_embeddings(WithEmbeddings)

-- -- Over RWKV -----------------------------------------------------------------------------------------------------

--- The same over RwkvStack: a state's size does not grow with the sequence. hidden: of the channel mixes, 4 d_model.
---@class aijit.nn.NextTokenRwkv: aijit.nn.NextToken
---@overload fun(d_model: integer, num_layers: integer, vocab_size: integer, options?: {hidden: integer}): aijit.nn.NextTokenRwkv
local NextTokenRwkv = layer("NextTokenRwkv", "d_model num_layers vocab_size hidden=none norm_eps:not_negative=1e-05", NextToken)
nn.NextTokenRwkv = NextTokenRwkv

function NextTokenRwkv:_core(placed)
  self.rwkv = rwkv.RwkvStack(self.d_model, self.num_layers, {hidden = self.hidden})
  self.norm = norm.LayerNorm(self.d_model, placed{eps = self.norm_eps})
  local where = placed{}
  if where.dtype or where.device then self.rwkv:to(where) end
end

function NextTokenRwkv:_run(x, state) return self.rwkv(x, state and next(state) ~= nil and state or nil) end

--- NextTokenRwkv with an embedding for each place: logits, hidden = model(tokens, emb).
---@class aijit.nn.NextTokenWithEmbeddingsRwkv: aijit.nn.NextTokenRwkv
local RwkvWithEmbeddings = layer("NextTokenWithEmbeddingsRwkv", "d_model num_layers vocab_size hidden=none norm_eps:not_negative=1e-05", NextTokenRwkv)
nn.NextTokenWithEmbeddingsRwkv = RwkvWithEmbeddings
with_embeddings(RwkvWithEmbeddings)

return nn
