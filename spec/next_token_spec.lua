--- Sampling from logits; states that carry a sequence from piece to piece; models of the next token.

local ai = require "aijit"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function near(a, b)
  assert.are.same(b.shape, a.shape)
  assert.is_true((a - b):abs():max():item() <= 1e-5 * (1 + b:abs():max():item()))
end

local function ids(rows) return ai.tensor(rows, {dtype = "i64"}) end

describe("sampling", function()
  local logits = ai.tensor{{0.1, 0.4, 0.2, 0.3}, {0.05, 0.05, 0.05, 0.85}}:log()

  --- How often each of four tokens is drawn from the first row, in hundredths.
  local function shares(o)
    ai.manual_seed(3)
    local drawn, n = nn.sample_from_logits(logits[1]:expand(20000, 4), o), {}
    assert.are.equal("i64", drawn.dtype)
    for i = 1, 4 do n[i] = math.floor(drawn:eq(i):float():mean():item() * 100 + 0.5) end
    return n
  end
  local function close(wanted, got)
    for i = 1, 4 do
      assert(math.abs(wanted[i] - got[i]) <= 2 and (wanted[i] > 0 or got[i] == 0), table.concat(got, " "))
    end
  end

  it("follows the softmax of the logits over the temperature", function()
    close({10, 40, 20, 30}, shares())
    close({3, 53, 13, 30}, shares{temperature = 0.5})
    close({18, 32, 23, 28}, shares{temperature = 2.5})
  end)

  it("draws from the k likeliest, from the fewest that reach p, or from both", function()
    close({0, 57, 0, 43}, shares{top_k = 2})
    close({0, 44, 22, 33}, shares{top_p = 0.9})
    close({0, 57, 0, 43}, shares{top_p = 0.69})
    close({0, 100, 0, 0}, shares{top_p = 0.01})
    close({0, 57, 0, 43}, shares{top_k = 3, top_p = 0.7})
    close({10, 40, 20, 30}, shares{top_k = 9, top_p = 1})
  end)

  it("takes the likeliest with greedy and with a temperature of 0", function()
    assert.are.same({2, 4}, nn.sample_from_logits(logits, {greedy = true}):totable())
    assert.are.same({2, 4}, nn.sample_from_logits(logits, {temperature = 0}):totable())
    assert.are.same({2, 4}, nn.top_k_sampling(logits, 1):totable())
    assert.are.same({2, 4}, nn.top_p_sampling(logits, 0.3):totable())
  end)

  it("keeps the leading dimensions, and exactly k of equal logits", function()
    assert.are.same({2, 3}, {unpack(nn.sample_from_logits(ai.randn(2, 3, 5)).shape)})
    assert.are.same({}, {unpack(nn.sample_from_logits(ai.randn(5)).shape)})
    assert.are.equal(3, nn.top_k_filter(ai.zeros(8), 3):isfinite():sum():item())
    assert.are.equal(8, nn.top_p_filter(ai.randn(8) * 10, 1):isfinite():sum():item())
    assert.are.equal(1, nn.top_p_filter(ai.zeros(8):half(), 1e-6):isfinite():sum():item())
  end)

  it("refuses what it cannot draw from", function()
    assert.matches("sample_from_logits: logits is 3; a tensor is wanted", message_of(nn.sample_from_logits, 3))
    assert.matches("the logits are %(2%) of i64; floats", message_of(nn.sample_from_logits, ids{1, 2}))
    assert.matches("no argument 'topk': did you mean 'top_k'", message_of(nn.sample_from_logits, logits, {topk = 3}))
    assert.matches("temperature is %-1", message_of(nn.sample_from_logits, logits, {temperature = -1}))
    assert.matches("top_p is 0; a number above 0, at most 1", message_of(nn.sample_from_logits, logits, {top_p = 0}))
    assert.matches("top_k is 0; a whole number from 1", message_of(nn.sample_from_logits, logits, {top_k = 0}))
    assert.matches("NaN", message_of(nn.sample_from_logits, logits * (0 / 0)))
  end)
end)

describe("a state of attention", function()
  --- y of pieces of some lengths, side by side along dim, and the last state.
  local function in_pieces(lengths, x, dim, run)
    local parts, first, state = {}, 1, {}
    for i, n in ipairs(lengths) do
      local _
      parts[i], state, _ = run(x:narrow(dim, first, n), state)
      first = first + n
    end
    return ai.cat(parts, dim), state
  end

  it("makes of pieces what the whole is, for every layout and kind of position", function()
    for _, o in ipairs{{batch_first = true}, {}, {rotary = true, num_kv_heads = 2}, {batch_first = true, rotary = true, rotary_base = 100, head_dim = 6}} do
      local attention, dim = nn.MultiheadAttention(8, 4, o), o.batch_first and 2 or 1
      local x = o.batch_first and ai.randn(3, 7, 8) or ai.randn(7, 3, 8)
      local whole = attention(x, x, x, {is_causal = true})
      local y, state = in_pieces({1, 3, 1, 2}, x, dim, function(piece, state)
        local part, _, after = attention(piece, piece, piece, {is_causal = true, state = state})
        return part, after
      end)
      near(y, whole)
      assert.are.equal(7, state.length)
      assert.are.same({3, o.num_kv_heads or 4, 7, o.head_dim or 2}, {unpack(state.k.shape)})
    end
  end)

  it("lets gradients through, and goes with masks and with weights", function()
    local attention, x = nn.MultiheadAttention(4, 2, {batch_first = true}), ai.randn({2, 5, 4}, {requires_grad = true})
    local _, _, state = attention(x:narrow(2, 1, 3), {state = {}})
    local late = x:narrow(2, 4, 2)
    local padding = ai.zeros({2, 5}, {dtype = "bool"})
    padding[{1, 2}] = true
    local y, weights = attention(late, late, late, {state = state, is_causal = true, need_weights = true, key_padding_mask = padding})
    assert.are.same({2, 2, 5}, {unpack(weights.shape)})
    assert.are.equal(0, weights[{1, 1, 2}]:item())
    assert.are.equal(0, weights[{1, 1, 5}]:item())
    assert.is_true(weights[{2, 1, 2}]:item() > 0)
    y:sum():backward()
    assert.is_true(x.grad[{2, 1}]:abs():sum():item() > 0)
    assert.are.equal(0, x.grad[{1, 2}]:abs():sum():item())
  end)

  it("is not changed by what follows", function()
    local attention, x = nn.MultiheadAttention(4, 2, {batch_first = true}), ai.randn(1, 1, 4)
    local _, _, state = attention(x, {state = {}})
    local k = state.k:clone()
    local one, two = attention(x, {state = state}), attention(x, {state = state})
    assert.is_true(one:equal(two):item())
    assert.are.equal(1, state.length)
    assert.is_true(k:equal(state.k):item())
  end)

  it("keeps the last keys alone with max_kv_cache_len, and the positions go on", function()
    local attention = nn.MultiheadAttention(4, 2, {batch_first = true, rotary = true, max_kv_cache_len = 2})
    local x = ai.randn(1, 5, 4)
    local y, state
    for i = 1, 5 do
      local piece = x:narrow(2, i, 1)
      local _
      y, _, state = attention(piece, piece, piece, {is_causal = true, state = state or {}})
    end
    assert.are.equal(5, state.length)
    assert.are.same({1, 2, 2, 2}, {unpack(state.k.shape)})
    local last = x:narrow(2, 3, 3)
    near(y, attention(last, last, last, {is_causal = true}):narrow(2, 3, 1))
  end)

  it("carries transformers: an encoder's own, and a decoder's with its memory's keys made once", function()
    local o = {dim_feedforward = 12, dropout = 0, batch_first = true, rotary = true, norm = "rms", gated = true, activation = "silu"}
    local encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, o), 2, {norm = nn.RMSNorm(8)})
    local decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, o), 2)
    local x, memory = ai.randn(2, 6, 8), ai.randn(2, 4, 8)
    near((in_pieces({2, 1, 3}, x, 2, function(piece, state) return encoder(piece, {is_causal = true, state = state}) end)), encoder(x, {is_causal = true}))
    local y, state = in_pieces({2, 1, 3}, x, 2, function(piece, state) return decoder(piece, memory, {tgt_is_causal = true, state = state}) end)
    near(y, decoder(x, memory, {tgt_is_causal = true}))
    assert.are.same({2, 2, 4, 4}, {unpack(state[2].multihead_attn.k.shape)})
    assert.is_nil((select(2, encoder(x))))
  end)

  it("is refused where it is not this attention's, with the path", function()
    local encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, {dropout = 0, batch_first = true}), 2)
    local _, state = encoder(ai.randn(3, 2, 8), {state = {}})
    assert.matches("state is a number; {}, or the list of 2 states", message_of(encoder, ai.randn(2, 2, 8), {state = 3}))
    assert.matches("a table of 1; {}, or the list of 2 states", message_of(encoder, ai.randn(2, 2, 8), {state = {{}}}))
    local message = message_of(encoder, ai.randn(2, 2, 8), {state = state})
    assert.matches("state is of %(3, 2, 2, 4%); {} for the first piece of 2 samples", message)
    assert.matches("TransformerEncoder%.layers%[1%]%.self_attn", message)
    local decoder = nn.TransformerDecoderLayer(8, 2)
    assert.matches("state is a number, not a table", message_of(decoder, ai.randn(2, 2, 8), ai.randn(2, 2, 8), {state = 1}))
  end)
end)

it("causal_mask counts keys that stand before the first query", function()
  assert.are.same({{false, false, true}, {false, false, false}}, nn.causal_mask(2, 3, {offset = 1}):totable())
  assert.are.same({2, 5}, {unpack(nn.causal_mask(2, nil, {offset = 3}).shape)})
  assert.matches("causal_mask: l is nil", message_of(nn.causal_mask))
  assert.matches("no argument 'ofset': did you mean 'offset'", message_of(nn.causal_mask, 2, 2, {ofset = 1}))
end)

it("padding_mask is true beyond each sequence's end", function()
  assert.are.same({{false, true, true}, {false, false, false}}, nn.padding_mask{1, 3}:totable())
  assert.are.same({{true, true}}, nn.padding_mask(ids{0}, 2):totable())
  local attention, x = nn.MultiheadAttention(4, 2, {batch_first = true}), ai.randn(2, 3, 4)
  local changed = x:clone()
  changed:narrow(2, 2, 2):select(1, 1):fill_(9)
  local mask = nn.padding_mask{1, 3}
  near(attention(x, x, x, {key_padding_mask = mask})[{1, 1}], attention(x:clone(), changed, changed, {key_padding_mask = mask})[{1, 1}])
  assert.matches("padding_mask: lengths is nil; a list of numbers", message_of(nn.padding_mask))
  assert.matches("the lengths are %(2%) of f32; integers", message_of(nn.padding_mask, ai.ones(2)))
  assert.matches("t is %-1", message_of(nn.padding_mask, {1}, -1))
end)

local kinds = {
  NextTokenTransformer = function(name) return nn[name](8, 2, 7, {nhead = 2, dim_feedforward = 12}) end,
  NextTokenRwkv = function(name) return nn[name](8, 2, 7) end,
}

for kind, make in pairs(kinds) do
  describe(kind, function()
    it("gives each token the logits of what comes before it alone", function()
      local model = make(kind):eval()
      local a, b = ids{{1, 2, 3, 4}}, ids{{1, 2, 7, 5}}
      local x, y = model(a), model(b)
      near(x:narrow(2, 1, 3), y:narrow(2, 1, 3))
      assert.is_true((x[{1, 4}] - y[{1, 4}]):abs():max():item() > 1e-4)
    end)

    it("takes a sequence in pieces", function()
      local model, tokens = make(kind):eval(), ids{{1, 2, 3, 4, 5}, {7, 7, 1, 2, 3}}
      local whole = model(tokens)
      local first, state = model:step(nil, nil, {batch_size = 2})
      local second, third
      second, state = model:step(tokens:narrow(2, 1, 1), state)
      third = model:step(tokens:narrow(2, 2, 3), state)
      near(ai.cat({first, second, third}, 2), whole)
      near((model:step(tokens:narrow(2, 1, 4))), whole)
    end)

    it("generates the likeliest tokens, one after another, and keeps its mode", function()
      local model, prompt = make(kind), ids{{1, 5}, {2, 2}}
      local new = model:generate(4, {prompt = prompt, greedy = true})
      assert.is_true(model.training)
      assert.is_false(new.requires_grad)
      local all = ai.cat({prompt, new}, 2)
      -- The last position's own token is not looked at.
      assert.is_true(model:eval()(all):argmax(-1):narrow(2, 3, 4):equal(new):item())
      assert.are.same({3, 2}, {unpack(model:generate(2, {batch_size = 3}).shape)})
      ai.manual_seed(1)
      local one = model:generate(6, {top_k = 3, temperature = 0.7})
      ai.manual_seed(1)
      assert.is_true(one:equal(model:generate(6, {top_k = 3, temperature = 0.7})):item())
    end)

    it("with embeddings of places does the same", function()
      local name = kind:gsub("NextToken", "NextTokenWithEmbeddings")
      local model, emb = make(name):eval(), ai.randn(2, 4, 8)
      local tokens, hidden = model:generate(emb, {greedy = true})
      local logits, again = model(tokens, emb)
      assert.is_true(logits:argmax(-1):equal(tokens):item())
      near(hidden, again)
      local first, state = model:step(tokens:narrow(2, 1, 1), emb:narrow(2, 1, 2))
      local rest = model:step(tokens:narrow(2, 2, 2), emb:narrow(2, 3, 2), state)
      near(ai.cat({first, rest}, 2), logits)
      assert.matches("the embeddings are %(2, 3, 8%); %(2, 4, 8%) is wanted", message_of(model, tokens, emb:narrow(2, 1, 3)))
      assert.matches("the embeddings are a nil", message_of(model, tokens))
    end)

    it("learns: a loss over its logits falls", function()
      local model, tokens = make(kind), ids{{1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1}}
      local optimizer, first, last = ai.optim.Adam(model:parameters(), {lr = 0.02}), nil, nil
      for _ = 1, 25 do
        optimizer:zero_grad()
        local loss = ai.cross_entropy(model(tokens):flatten(1, 2), tokens:flatten())
        loss:backward()
        optimizer:step()
        first, last = first or loss:item(), loss:item()
      end
      assert.is_true(last < first / 2)
    end)

    it("refuses what is no sequence of tokens", function()
      local model = make(kind)
      assert.matches("the tokens are %(2, 3%) of f32; integers, %(N, T%)", message_of(model, ai.randn(2, 3)))
      assert.matches("a sequence of no tokens", message_of(model, ai.zeros({2, 0}, {dtype = "i64"})))
      assert.matches("the tokens are a nil", message_of(model.step, model, nil, {}))
      assert.matches("generate: n is 0", message_of(model.generate, model, 0))
      assert.matches("no argument 'top_q': did you mean 'top_k' or 'top_p'", message_of(model.generate, model, 3, {top_q = 1}))
      assert.matches("index 9", message_of(model, ids{{9, 1}}))
      local _, state = model:step(ids{{1, 2}})
      assert.is_false(pcall(model.step, model, ids{{1}, {2}, {3}}, state))
    end)
  end)
end

it("generation frees the states that it has gone past, and is the same with the last keys alone while they are all", function()
  local prompt = ids{{1, 2, 3}}
  local model = nn.NextTokenTransformer(16, 2, 9, {nhead = 2})
  local long = nn.NextTokenTransformer(16, 2, 9, {nhead = 2, max_kv_cache_len = 40}):load_state_dict(model:state_dict())
  local wanted = model:generate(30, {prompt = prompt, greedy = true})
  assert.is_true(long:generate(30, {prompt = prompt, greedy = true}):equal(wanted):item())
  local short = nn.NextTokenTransformer(16, 2, 9, {nhead = 2, max_kv_cache_len = 4}):load_state_dict(model:state_dict())
  assert.are.same({1, 30}, {unpack(short:generate(30, {prompt = prompt}).shape)})
  collectgarbage()
  collectgarbage()
  collectgarbage "stop"
  local before = ai.memory().cpu.live
  model:generate(200)
  local grown = ai.memory().cpu.live - before
  collectgarbage "restart"
  -- All states together are 2 layers x 2 x 200^2 / 2 x 16 numbers.
  assert.is_true(grown < 2 ^ 19, grown)
end)

it("heads that do not divide the features are refused", function()
  assert.matches("50 features are no whole number of heads of 64; give nhead or head_dim", message_of(nn.NextTokenTransformer, 50, 1, 10))
  assert.matches('norm_type is "batch"; "layer" or "rms" is wanted', message_of(nn.NextTokenTransformer, 64, 1, 10, {norm_type = "batch"}))
end)

it("RwkvStack takes its states back", function()
  local stack, x = nn.RwkvStack(4, 3, {hidden = 6}), ai.randn(2, 5, 4)
  local y, states = stack(x:narrow(2, 1, 2))
  assert.are.equal(3, #states)
  near(ai.cat({y, (stack(x:narrow(2, 3, 3), states))}, 2), (stack(x)))
  assert.matches("the list of 3 states", message_of(stack, x, {}))
  assert.matches("the state is of %(2, 4%); .*%(1, 4%), is wanted.*RwkvStack%.blocks%[1%]%.att", message_of(stack, ai.randn(1, 1, 4), states))
  assert.matches("of another kind of layer", message_of(nn.RwkvTimeMix(4), x, x:select(2, 1)))
  assert.matches("RwkvStack: num_layers is 0", message_of(nn.RwkvStack, 4, 0))
  assert.matches("no argument 'hiden': did you mean 'hidden'", message_of(nn.RwkvBlock, 4, {hiden = 3}))
end)
