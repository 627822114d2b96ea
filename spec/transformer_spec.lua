--- Attention, transformers and positions: formulas written out, masks, shapes, bad input. parity_spec has PyTorch's values.

local ai = require "aijit"
local gradcheck = require "spec.support.gradcheck"
local nn = ai.nn
local f = ai.f

local function message_of(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return message
end

local function near(a, b, tolerance)
  assert.are.same(a.shape, b.shape)
  assert.is_true((a - b):abs():max():item() < (tolerance or 1e-5))
end

describe("MultiheadAttention", function()
  it("is softmax(q k^T / sqrt(d)) v of each head", function()
    local m, x = nn.MultiheadAttention(4, 2, {batch_first = true}), ai.randn(1, 3, 4)
    ai.nn.init.normal_(m.in_proj_bias)
    local all = x[1]:matmul(m.in_proj_weight:t()) + m.in_proj_bias
    local heads, weights = {}, {}
    for h = 1, 2 do
      local function part(k) return all:slice(2, k * 4 + (h - 1) * 2 + 1, k * 4 + h * 2) end
      weights[h] = f.softmax(part(0):matmul(part(1):t()) / math.sqrt(2), -1)
      heads[h] = weights[h]:matmul(part(2))
    end
    local y, w = m(x, nil, nil, {need_weights = true})
    near(m.out_proj(ai.cat(heads, 2)), y[1])
    near((weights[1] + weights[2]) / 2, w[1])
    near(m(x), y)
  end)

  it("shares heads of keys among groups of queries", function()
    local m, x = nn.MultiheadAttention(8, 4, {num_kv_heads = 2, batch_first = true}), ai.randn(2, 5, 8)
    assert.are.same({8 + 2 * 4, 8}, m.in_proj_weight.shape)
    local full = nn.MultiheadAttention(8, 4, {batch_first = true})
    local w = m.in_proj_weight:detach()
    local function twice(first) return w:slice(1, first, first + 3):reshape(2, 2, 8):repeat_interleave(2, 1):reshape(8, 8) end
    full:load_state_dict{in_proj_weight = ai.cat({w:slice(1, 1, 8), twice(9), twice(13)}, 1), in_proj_bias = ai.zeros(24),
                         ["out_proj.weight"] = m.out_proj.weight:detach(), ["out_proj.bias"] = ai.zeros(8)}
    near(full(x), m(x))
    near((m(x)), (m(x, x, x, {need_weights = true})))
  end)

  it("takes masks of bools, numbers, heads and padding, and causality", function()
    local m, x = nn.MultiheadAttention(4, 2), ai.randn(3, 2, 4)
    local mask = nn.causal_mask(3)
    assert.are.same({{false, true, true}, {false, false, true}, {false, false, false}}, mask:totable())
    local y = m(x, {is_causal = true})
    near(y, m(x, {attn_mask = mask}))
    near(y, m(x, {attn_mask = f.masked_fill(ai.zeros(3, 3), mask, -math.huge)}))
    near(y, m(x, {attn_mask = mask:expand(4, 3, 3)}))
    near(y, m(x, {attn_mask = mask:expand(2, 2, 3, 3)}))
    near(y, (m(x, x, x, {is_causal = true, need_weights = true})))
    local padding = ai.tensor{{false, false, true}, {false, false, false}}
    near(m(x, {key_padding_mask = padding}):select(2, 1):slice(1, 1, 2), m(x:select(2, 1):slice(1, 1, 2)))
    near(m(x, {key_padding_mask = padding}):select(2, 2), m(x):select(2, 2))
  end)

  it("with rotary depends on distances alone", function()
    local m, x = nn.MultiheadAttention(8, 2, {rotary = true, batch_first = true}), ai.randn(1, 4, 8)
    near(m(x), m(x, {offset = 5}), 1e-4)
    assert.is_true((m(x) - m(f.flip(x, 2)):flip(2)):abs():max():item() > 1e-3)
  end)

  it("has gradients, through other keys and values too", function()
    local m = nn.MultiheadAttention(4, 2, {kdim = 3, vdim = 2, dtype = "f64"})
    local function leaf(...) return ai.randn(..., {dtype = "f64", requires_grad = true}) end
    local q, k, v = leaf{2, 1, 4}, leaf{3, 1, 3}, leaf{3, 1, 2}
    local inputs = {q, k, v, unpack(m:parameters())}
    for _, need_weights in ipairs{true, false} do
      local worst, where = gradcheck.first(function() return gradcheck.total{m(q, k, v, {need_weights = need_weights})} end, inputs)
      assert.is_true(worst < 1e-6, where)
    end
  end)

  it("infers its size, comes back from its spec, and tells its shape", function()
    local m = nn.MultiheadAttention(2)
    assert.are.same({5, 3, 6}, m:output_shape(5, 3, 6))
    m(ai.randn(5, 3, 6))
    assert.are.same({18, 6}, m.in_proj_weight.shape)
    assert.are.same({6, 6}, nn.from_spec(m:to_spec()).out_proj.weight.shape)
  end)

  it("refuses sizes and masks that do not fit", function()
    assert.matches("3 heads do not divide", message_of(nn.MultiheadAttention, 8, 3))
    assert.matches("4 heads cannot share 3", message_of(nn.MultiheadAttention, 8, 4, {num_kv_heads = 3}))
    local m = nn.MultiheadAttention(8, 2)
    assert.matches("attn_mask is %(2, 3%); %(5, 5%)", message_of(m, ai.ones(5, 2, 8), {attn_mask = ai.ones(2, 3)}))
    assert.matches("key_padding_mask is %(5%); %(2, 5%)", message_of(m, ai.ones(5, 2, 8), {key_padding_mask = ai.ones(5)}))
    assert.matches("the query is %(5, 2, 7%)", message_of(m, ai.ones(5, 2, 7)))
  end)
end)

describe("transformers", function()
  it("put norms first or last", function()
    local x = ai.randn(3, 2, 4)
    for _, norm_first in ipairs{true, false} do
      local m = nn.TransformerEncoderLayer(4, 2, 8, {dropout = 0, norm_first = norm_first, activation = "gelu"})
      local function net(h) return m.linear2(m.linear1(h):gelu()) end
      local y
      if norm_first then
        y = x + m.self_attn(m.norm1(x))
        y = y + net(m.norm2(y))
      else
        y = m.norm1(x + m.self_attn(x))
        y = m.norm2(y + net(y))
      end
      near(y, m(x))
    end
  end)

  it("infer their sizes, and load states of others", function()
    local m = nn.TransformerEncoder(nn.TransformerEncoderLayer(2, {dim_feedforward = 8}), 2)
    m:infer(5, 3, 4)
    local other = nn.TransformerEncoder(nn.TransformerEncoderLayer(2, {dim_feedforward = 8}), 2)
    other:load_state_dict(m:state_dict())
    local x = ai.randn(5, 3, 4)
    near(m:eval()(x), other:eval()(x))
    assert.is_truthy(m:state_dict()["layers.1.self_attn.in_proj_weight"])
    near(m(x), nn.from_spec(m:to_spec()):eval():hard_update(m)(x))
  end)

  it("drop out in training only", function()
    local m, x = nn.TransformerDecoderLayer(4, 2, 8, {dropout = 0.5}), ai.randn(3, 2, 4)
    assert.is_true((m(x, x) - m(x, x)):abs():max():item() > 0)
    m:eval()
    near(m(x, x), m(x, x), 1e-12)
  end)

  it("refuse unknown activations and missing memories", function()
    assert.matches("no activation 'rellu': did you mean 'relu'", message_of(nn.TransformerEncoderLayer, 4, 2, {activation = "rellu"}))
    assert.matches("the memory is a nil", message_of(nn.TransformerDecoderLayer(4, 2), ai.ones(1, 1, 4)))
    assert.matches("num_layers is 0", message_of(nn.TransformerEncoder, nn.TransformerEncoderLayer(4, 2), 0))
  end)
end)

describe("positions", function()
  it("sinusoidal: sine and cosine of t / 10000^(2 i / d)", function()
    local y = nn.SinusoidalEmbeddings()(ai.zeros(1, 3, 4), {offset = 2})
    for t = 1, 3 do
      for i = 0, 1 do
        local angle = (t + 1) / 10000 ^ (2 * i / 4)
        assert.is_near(math.sin(angle), y[{1, t, 2 * i + 1}]:item(), 1e-6)
        assert.is_near(math.cos(angle), y[{1, t, 2 * i + 2}]:item(), 1e-6)
      end
    end
  end)

  it("rotary: pairs are turned by t / 10000^(2 i / d)", function()
    for _, interleaved in ipairs{false, true} do
      local x = ai.randn(2, 3, 4)
      local y = nn.RotaryEmbeddings{interleaved = interleaved}(x)
      for i = 0, 1 do
        local first, second = interleaved and 2 * i + 1 or i + 1, interleaved and 2 * i + 2 or i + 3
        local angle = 2 / 10000 ^ (i / 2)
        local a, b = x[{2, 3, first}]:item(), x[{2, 3, second}]:item()
        assert.is_near(a * math.cos(angle) - b * math.sin(angle), y[{2, 3, first}]:item(), 1e-6)
        assert.is_near(b * math.cos(angle) + a * math.sin(angle), y[{2, 3, second}]:item(), 1e-6)
      end
      near(y:square():sum{-1}, x:square():sum{-1})
      near(y:slice(2, 2, 3), nn.rotate(x:slice(2, 2, 3), {times = ai.tensor{1, 2}, interleaved = interleaved}))
    end
  end)

  it("learned: a row for each, by number or time", function()
    local m, x = nn.LearnedPositionalEmbeddings(5), ai.zeros(2, 3, 4)
    near(m(x, {offset = 1})[1], m.weight:slice(1, 2, 4))
    near(m(x, {times = ai.tensor({0, 4, 0}, {dtype = "i64"})})[{2, 2}], m.weight[5])
    assert.matches("position 6, and there are 5", message_of(m, x, {offset = 3}))
    m(x):sum():backward()
    assert.are.same({2, 2, 2, 0, 0}, m.weight.grad:select(2, 1):totable())
  end)

  it("Fourier features of times", function()
    local y = nn.FourierEmbeddings(4)(ai.tensor{3})
    local wanted = {math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03)}
    for i = 1, 4 do assert.is_near(wanted[i], y[{1, i}]:item(), 1e-6) end
    assert.matches("dim must be even", message_of(nn.FourierEmbeddings, 3))
  end)

  it("by name", function()
    local x = ai.randn(1, 2, 4)
    near(x, nn.positional_embeddings "identity"(x))
    near(nn.rotate(x), nn.positional_embeddings "rotary"(x))
    assert.are.equal(7, nn.positional_embeddings("learned", {max_len = 7}).max_len)
    assert.matches("no kind 'rotari': did you mean 'rotary'", message_of(nn.positional_embeddings, "rotari"))
  end)
end)
