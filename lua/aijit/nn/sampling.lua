--- Tokens drawn from logits: (..., vocabulary) -> (...), i64, counted from 1. Nothing here has gradients.

local ai = require "aijit"
local argument = require "aijit.argument"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local sampling = {}

local function check(who, logits)
  argument.check(who, "logits", "tensor", logits)
  if logits:dim() == 0 or not logits:is_floating_point() or logits:size(-1) == 0 then
    raise(("%s: the logits are (%s) of %s; floats, (..., vocabulary), are wanted"):format(who, table.concat(logits.shape, ", "), logits.dtype))
  end
end

--- Values at their places in a row of -inf.
local function placed(logits, index, values)
  local none = ai.full(logits.shape, -math.huge, {dtype = logits.dtype, device = logits.device})
  return none:scatter(-1, index, values)
end

--- The k largest logits; the others become -inf (Fan and others, 2018).
---@param logits aijit.Tensor (..., vocabulary)
---@param k integer
---@return aijit.Tensor
function sampling.top_k_filter(logits, k)
  check("top_k_filter", logits)
  argument.check("top_k_filter", "k", "count", k)
  if k >= logits:size(-1) then return logits end
  local values, index = f.topk(logits, k, -1)
  return placed(logits, index, values)
end

--- The fewest logits whose probabilities together reach p, the likeliest first; the others become -inf (Holtzman and others,
--- 2020). One always stays.
---@param logits aijit.Tensor (..., vocabulary)
---@param p number above 0, at most 1
---@return aijit.Tensor
function sampling.top_p_filter(logits, p)
  check("top_p_filter", logits)
  argument.check("top_p_filter", "p", "share", p)
  if p == 1 then return logits end
  local values, index = f.sort(logits, -1, {descending = true})
  local probability = f.softmax(values:float(), -1)
  local before = f.cumsum(probability, -1) - probability
  before:narrow(-1, 1, 1):fill_(0)                           -- not left to rounding
  return placed(logits, index, f.masked_fill(values, before:ge(p), -math.huge))
end

local declared = argument.declare("nn.sample_from_logits", "logits:tensor temperature:not_negative=1 top_k:count=none top_p:share=none greedy=false")

--- Tokens by chance, each as likely as the softmax of the logits over the temperature says, among those that top_k and then
--- top_p leave. A temperature of 0, or greedy, takes the likeliest.
---@param logits aijit.Tensor (..., vocabulary)
---@param options? {temperature: number, top_k: integer, top_p: number, greedy: boolean} 1; without top_k and top_p: all
---@return aijit.Tensor (...) i64, from 1
function sampling.sample_from_logits(logits, options)
  local o = declared:options(options, logits)
  check("sample_from_logits", logits)
  return ai.no_grad(function()
    if o.greedy or o.temperature == 0 then return f.argmax(logits, -1) end
    local rest = logits:detach():float()
    if o.temperature ~= 1 then rest = rest / o.temperature end
    if o.top_k then rest = sampling.top_k_filter(rest, o.top_k) end
    if o.top_p then rest = sampling.top_p_filter(rest, o.top_p) end
    local shape = rest.shape
    local n = table.remove(shape)
    return f.multinomial(f.softmax(rest, -1):reshape(-1, n), 1):reshape(shape)
  end)
end

--- Tokens by chance among the k likeliest.
---@param logits aijit.Tensor (..., vocabulary)
---@param k integer
---@return aijit.Tensor (...)
function sampling.top_k_sampling(logits, k) return sampling.sample_from_logits(logits, {top_k = k}) end

--- Tokens by chance among the fewest whose probabilities reach p.
---@param logits aijit.Tensor (..., vocabulary)
---@param p number
---@return aijit.Tensor (...)
function sampling.top_p_sampling(logits, p) return sampling.sample_from_logits(logits, {top_p = p}) end

return sampling
