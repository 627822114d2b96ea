--- The networks of spec/support/sequences.py, written here with the same names.

local ai = require "aijit"
local m = require "aijit.model"
local parity = require "spec.support.parity"
local nn, several = ai.nn, parity.several

local nets = {}

--- The sum over all paths in PyTorch.
function nets.monotonic_attention()
  local net = several{slow = nn.MonotonicAttention(4, 2, {batch_first = true}),
                      quick = nn.MonotonicAttention(4, 2, {batch_first = true, mode = "many_keys_one_query"})}
  return net, function(a, b, p) return net.slow(a, b), net.quick(b, a), (nn.monotonic_attention(p:sigmoid())) end
end

--- Whole sequences in PyTorch; here in pieces.
function nets.streams()
  local net = several{conv = nn.StreamingConv1d(4, 6, 3, {stride = 2, padding = 3, dilation = 2, groups = 2}), sparse = nn.StreamingConv1d(2, 2, {stride = 3}),
                      spread = nn.StreamingConvTranspose1d(4, 2, 3, {stride = 2, dilation = 2, groups = 2})}
  local function run(layer, x)
    local parts, first, state = {}, 1, nil
    for _, n in ipairs{1, 4, 2, 1, 5} do
      parts[#parts + 1], state = layer(x:narrow(-1, first, n), state)
      first = first + n
    end
    if layer.finish then parts[#parts + 1] = layer:finish(state) end
    return ai.cat(parts, -1)
  end
  return net, function(x) return run(net.conv, x), run(net.sparse, x), run(net.spread, x) end
end

function nets.streamable_block()
  local net = nn.streamable_cbr(4, 6, 3, {dilation = 2, groups = 2})
  return net, function(x) return (net(x)) end
end

function nets.rwkv()
  local net = nn.RwkvBlock(4, {hidden = 8})
  return net, function(x) return (net(x)) end
end

local llama = {head_dim = 4, nhead = 4, num_kv_heads = 2, dim_feedforward = 12, dropout = 0}
function nets.next_token_transformer() return nn.NextTokenTransformer(8, 2, 7, llama) end
function nets.next_token_transformer_embeddings() return nn.NextTokenWithEmbeddingsTransformer(8, 2, 7, llama) end

--- In two pieces.
function nets.next_token_rwkv()
  local net = nn.NextTokenRwkv(8, 2, 7, {hidden = 12})
  return net, function(tokens)
    local first, state = net:step(tokens:narrow(2, 1, 1))
    return ai.cat({first, (net:step(tokens:narrow(2, 2, 3), state))}, 2)
  end
end

function nets.next_token_rwkv_embeddings() return nn.NextTokenWithEmbeddingsRwkv(8, 2, 7, {hidden = 12}) end

function nets.tx_encoder() return m.tx_enc(2, 6, 2, 10) end

function nets.vector_codes()
  local o = {dim = 3, decay = 0.9, commitment = 0.25, threshold = 0}
  local net = several{one = nn.VectorQuantization(6, o), several = nn.ResidualVectorQuantization(2, 5, o)}
  return net, function(x)
    local y, _, loss = net.one(x)
    local z, _, losses = net.several(x)
    return y, loss, z, losses
  end
end

function nets.scalar_codes()
  local net = nn.ModuleList{nn.FiniteScalarQuantization{levels = {5, 4, 3}}, nn.LookupFreeQuantization(3, {diversity = 0.6, temperature = 0.8})}
  return net, function(x, y)
    local finite = net[1](x)
    local signs, _, loss = net[2](y)
    return finite, signs, loss
  end
end

return nets
