--- Attention along a path that never goes back, as speech goes through a text.

local ai = require "aijit"
local attention = require "aijit.nn.attention"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- The probability that a path is at target j at step i: it begins at the first target, and at each step stays where it is, with
--- the probability stay[i][j], or goes on to the next:
--- phi[1] = (1, 0, 0, ...), phi[i + 1][j] = phi[i][j] stay[i][j] + phi[i][j - 1] (1 - stay[i][j - 1]).
--- A path that goes on from the last target is gone, so that a step's sum may be below 1; with last_stays none goes.
---@param stay aijit.Tensor (..., steps, targets), each from 0 to 1
---@param options? {last_stays: boolean}
---@return aijit.Tensor phi of the same shape
function nn.monotonic_attention(stay, options)
  if not ai.is_tensor(stay) or stay:dim() < 2 or not stay:is_floating_point() then
    raise(("monotonic_attention: probabilities (..., steps, targets) are wanted, not %s"):format(
      ai.is_tensor(stay) and stay.dtype .. " of (" .. table.concat(stay.shape, ", ") .. ")" or "a " .. type(stay)))
  end
  local steps, targets = stay:size(-2), stay:size(-1)
  if steps == 0 or targets == 0 then raise(("monotonic_attention: there is no path in (%s)"):format(table.concat(stay.shape, ", "))) end
  local shape = stay.shape
  table.remove(shape, #shape - 1)
  local where = {dtype = stay.dtype, device = stay.device}
  local place = ai.arange(1, targets, 1, {device = stay.device})
  local phi = f.expand(f.eq(place, 1):to(stay.dtype), shape)
  if options and options.last_stays then stay = f.where(f.eq(place, targets), ai.ones({}, where), stay) end
  local rows = {phi}
  for i = 2, steps do
    local here = f.select(stay, -2, i - 1)
    local kept = phi * here
    phi = targets == 1 and kept or kept + f.pad(f.narrow(phi - kept, -1, 1, targets - 1), {1, 0})
    rows[i] = phi
  end
  return f.stack(rows, -2)
end

local modes = {one_key_many_queries = true, many_keys_one_query = true}

--- y, weights = attention(query, key, value, {need_weights = true}), as nn.MultiheadAttention, but that each head goes through
--- the keys in their order: sigmoid(q k^T / sqrt(head_dim)) is the probability to stay, of nn.monotonic_attention.
--- mode "one_key_many_queries": each query stays at the key of the one before or takes the next. "many_keys_one_query": each
--- key stays at the query of the one before or goes to the next, and a query takes the mean of its keys. There are no masks.
---@class aijit.nn.MonotonicAttention: aijit.nn.MultiheadAttention
local MonotonicAttention = layer("MonotonicAttention",
  "embed_dim? num_heads mode=one_key_many_queries bias=true batch_first=false kdim=none vdim=none num_kv_heads=none head_dim=none",
  attention.MultiheadAttention)
nn.MonotonicAttention = MonotonicAttention
MonotonicAttention.argument_rules = {mode = function(value)
  if not modes[value] then return '"one_key_many_queries" or "many_keys_one_query"' end
end}

function MonotonicAttention:_attend(q, k, v, mask, causal, _, need_weights)
  if mask or causal then raise(("%s: it takes no masks"):format(self:title())) end
  local shared = q:size(2) / k:size(2)
  if shared > 1 then k, v = f.repeat_interleave(k, shared, 2), f.repeat_interleave(v, shared, 2) end
  local stay = f.sigmoid(f.matmul(q, f.transpose(k, -1, -2)) * (1 / math.sqrt(q:size(-1))))
  local weights
  if self.mode == "one_key_many_queries" then
    weights = nn.monotonic_attention(stay, {last_stays = true})
  else
    weights = f.transpose(nn.monotonic_attention(f.transpose(stay, -1, -2), {last_stays = true}), -1, -2)
    weights = weights / f.clamp_min(weights:sum({-1}, {keepdim = true}), 1e-6)
  end
  return f.matmul(weights, v), need_weights and weights or nil
end

return nn
