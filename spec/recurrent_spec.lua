--- Recurrent layers: what PyTorch's vectors (parity_spec) do not say: the formulas written out, sizes, states, bad input.

local ai = require "aijit"
local gradcheck = require "spec.support.gradcheck"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function near(a, b, tolerance) assert.is_true((a - b):abs():max():item() < (tolerance or 1e-6)) end
local function sigmoid(x) return 1 / (1 + math.exp(-x)) end

describe("one step", function()
  it("of an RNN is tanh(w x + b + u h + d)", function()
    local m = nn.RNN(1, 1)
    m:load_state_dict{weight_ih_l0 = ai.tensor{{0.5}}, weight_hh_l0 = ai.tensor{{-0.3}}, bias_ih_l0 = ai.tensor{0.1}, bias_hh_l0 = ai.tensor{0.2}}
    local y, h = m(ai.tensor{{{2}}, {{-1}}})
    local h1 = math.tanh(0.5 * 2 + 0.3)
    local h2 = math.tanh(0.5 * -1 + 0.3 - 0.3 * h1)
    assert.is_near(h1, y[{1, 1, 1}]:item(), 1e-6)
    assert.is_near(h2, y[{2, 1, 1}]:item(), 1e-6)
    assert.is_near(h2, h:item(), 1e-6)
  end)

  it("of an LSTM has the gates i f g o", function()
    local m = nn.LSTMCell(1, 1, {bias = false})
    m:load_state_dict{weight_ih = ai.tensor{{0.1}, {0.2}, {0.3}, {0.4}}, weight_hh = ai.tensor{{0.5}, {0.6}, {0.7}, {0.8}}}
    local h, c = m(ai.tensor{{2}}, {ai.tensor{{3}}, ai.tensor{{-1}}})
    local wanted_c = sigmoid(0.4 + 1.8) * -1 + sigmoid(0.2 + 1.5) * math.tanh(0.6 + 2.1)
    assert.is_near(wanted_c, c:item(), 1e-6)
    assert.is_near(sigmoid(0.8 + 2.4) * math.tanh(wanted_c), h:item(), 1e-6)
  end)

  it("of a GRU has the gates r z n, the reset gate over the product with h", function()
    local m = nn.GRUCell(1, 1)
    m:load_state_dict{weight_ih = ai.tensor{{0.1}, {0.2}, {0.3}}, weight_hh = ai.tensor{{0.5}, {0.6}, {0.7}}, bias_ih = ai.tensor{0, 0, 0.1},
                      bias_hh = ai.tensor{0, 0, 0.4}}
    local h = m(ai.tensor{{2}}, ai.tensor{{3}})
    local r, z = sigmoid(0.2 + 1.5), sigmoid(0.4 + 1.8)
    local n = math.tanh(0.6 + 0.1 + r * (2.1 + 0.4))
    assert.is_near((1 - z) * n + z * 3, h:item(), 1e-6)
  end)
end)

describe("a layer", function()
  it("infers its inputs, from a tensor, a packed sequence, a shape or weights", function()
    local m = nn.GRU(4)
    m(ai.randn(5, 2, 3))
    assert.are.same({12, 3}, m.weight_ih_l0.shape)
    m = nn.LSTM(4, {bidirectional = true})
    m(nn.pack_sequence{ai.randn(3, 6), ai.randn(2, 6)})
    assert.are.equal(6, m.input_size)
    assert.are.same({16, 6}, m.weight_ih_l0_reverse.shape)
    assert.are.same({5, 2, 8}, nn.LSTM(4, {bidirectional = true}):output_shape(5, 2, 3))
    local other = nn.LSTM(4, {bidirectional = true})
    other:load_state_dict(m:state_dict())
    assert.are.equal(6, other.input_size)
  end)

  it("goes on from the state that it returned", function()
    local m, x = nn.LSTM(3, 4, {num_layers = 2, batch_first = true}), ai.randn(2, 6, 3)
    local whole, last = m(x)
    local first, state = m(x:slice(2, 1, 4))
    local second, again = m(x:slice(2, 5, 6), state)
    near(whole, ai.cat({first, second}, 2))
    near(last[1], again[1])
    near(last[2], again[2])
  end)

  it("gives cells run by hand the same result", function()
    local m, cell, x = nn.GRU(3, 4), nn.GRUCell(3, 4), ai.randn(5, 2, 3)
    local renamed = {}
    for name, t in pairs(m:state_dict()) do renamed[name:gsub("_l0", "")] = t end
    cell:load_state_dict(renamed)
    local h
    for t = 1, 5 do h = cell(x[t], h) end
    local y = m(x)
    near(y[5], h)
  end)

  it("reads packed sequences as it would each alone, both ways", function()
    for _, class in ipairs{nn.RNN, nn.GRU, nn.LSTM} do
      local m = class(3, 4, {num_layers = 2, bidirectional = true})
      local list = {ai.randn(2, 3), ai.randn(5, 3), ai.randn(3, 3)}
      local packed, state = m(nn.pack_sequence(list, {enforce_sorted = false}))
      local y, lengths = nn.pad_packed_sequence(packed, {batch_first = true, padding_value = 7, total_length = 6})
      assert.are.same({2, 5, 3}, lengths)
      for i, x in ipairs(list) do
        local alone, own = m(x)
        near(alone, y[i]:slice(1, 1, lengths[i]))
        assert.are.equal(7, y[i]:slice(1, lengths[i] + 1, -1):amin():item())
        local h, mine = state, own
        if class == nn.LSTM then
          near(own[2], state[2]:select(2, i))
          h, mine = state[1], own[1]
        end
        near(mine, h:select(2, i))
      end
    end
  end)

  it("has gradients through packed sequences, states and projections", function()
    local m = nn.LSTM(2, 3, {proj_size = 2, bidirectional = true, dtype = "f64"})
    local function leaf(...) return ai.randn(..., {dtype = "f64", requires_grad = true}) end
    local x, h, c = leaf{3, 2, 2}, leaf{2, 2, 2}, leaf{2, 2, 3}
    local inputs = {x, h, c, unpack(m:parameters())}
    local worst, where = gradcheck.first(function()
      local y, state = m(nn.pack_padded_sequence(x, {2, 3}, {enforce_sorted = false}), {h, c})
      return gradcheck.total{(nn.pad_packed_sequence(y)), state[1], state[2]}
    end, inputs)
    assert.is_true(worst < 1e-6, where)
  end)

  it("drops out between layers in training only", function()
    local m, x = nn.RNN(3, 4, {num_layers = 2, dropout = 0.5}), ai.randn(4, 2, 3)
    ai.manual_seed(1)
    local a = m(x)
    local b = m(x)
    assert.is_true((a - b):abs():max():item() > 0)
    m:eval()
    local c = m(x)
    local d = m(x)
    near(c, d, 1e-12)
  end)

  it("starts within 1 / sqrt(hidden_size), and comes back from its spec", function()
    local m = nn.GRU(3, 16, {num_layers = 2, batch_first = true})
    for _, p in ipairs(m:parameters()) do assert.is_true(p:abs():max():item() <= 0.25) end
    local again = nn.from_spec(m:to_spec())
    assert.are.equal(tostring(m), tostring(again))
    assert.are.equal(m:num_parameters(), again:num_parameters())
  end)

  it("refuses what it cannot take, by name and shape", function()
    local m = nn.LSTM(3, 4)
    assert.matches("5 features, and 3 are wanted", message_of(m, ai.ones(2, 2, 5)))
    assert.matches("a table {h, c}", message_of(m, ai.ones(2, 2, 3), ai.ones(1, 2, 4)))
    assert.matches("the first c is %(1, 2, 3%); %(1, 2, 4%) is wanted", message_of(m, ai.ones(2, 2, 3), {ai.ones(1, 2, 4), ai.ones(1, 2, 3)}))
    assert.matches("%(T, N, input_size%) is wanted", message_of(m, ai.ones(1, 2, 2, 3)))
    assert.matches("nonlinearity is", message_of(nn.RNN, 2, 3, {nonlinearity = "selu"}))
    assert.matches("num_layers is 0", message_of(nn.GRU, 2, 3, {num_layers = 0}))
    assert.matches("proj_size must be smaller", message_of(nn.LSTM, 2, 3, {proj_size = 3}))
    assert.matches("the first h is %(2, 3%); %(2, 4%)", message_of(nn.GRUCell(2, 4), ai.ones(2, 2), ai.ones(2, 3)))
  end)
end)

describe("packing", function()
  it("takes the steps of the longest sequence first, and back", function()
    local x = ai.tensor{{1, 10}, {2, 20}, {3, 0}}                  -- two sequences, (1, 2, 3) and (10, 20)
    local p = nn.pack_padded_sequence(x, {3, 2})
    assert.are.same({1, 10, 2, 20, 3}, p.data:totable())
    assert.are.same({2, 2, 1}, p.batch_sizes)
    assert.are.same({3, 2}, p:lengths())
    assert.are.same(x:totable(), (nn.pad_packed_sequence(p)):totable())
    p = nn.pack_padded_sequence(x:t(), ai.tensor({1, 2}, {dtype = "i64"}), {batch_first = true, enforce_sorted = false})
    assert.are.same({10, 1, 20}, p.data:totable())
    assert.are.same({{1, 10}, {0, 20}}, (nn.pad_packed_sequence(p)):totable())
  end)

  it("pads sequences", function()
    assert.are.same({{1, 2}, {3, -1}}, nn.pad_sequence({ai.tensor{1, 2}, ai.tensor{3}}, {batch_first = true, padding_value = -1}):totable())
  end)

  it("refuses lengths that cannot be", function()
    local x = ai.ones(3, 2)
    assert.matches("1 lengths for 2 sequences", message_of(nn.pack_padded_sequence, x, {3}))
    assert.matches("length 2 is 4; whole numbers from 1 to 3", message_of(nn.pack_padded_sequence, x, {3, 4}))
    assert.matches("sequence 2 is longer", message_of(nn.pack_padded_sequence, x, {2, 3}))
    assert.matches("the longest sequence has 3", message_of(nn.pad_packed_sequence, nn.pack_padded_sequence(x, {3, 1}), {total_length = 2}))
  end)
end)

describe("what is returned", function()
  it("is the last h of the last layer without return_sequences, and no state without return_state", function()
    for name in ("RNN GRU LSTM"):gmatch "%S+" do
      for _, both in ipairs{false, true} do
        for _, batch_first in ipairs{false, true} do
          local o = {num_layers = 2, bidirectional = both, batch_first = batch_first, return_sequences = false, return_state = false}
          local m, x = nn[name](3, 4, o), ai.randn(2, 5, 3)
          local all = nn[name](3, 4, {num_layers = 2, bidirectional = both, batch_first = batch_first})
          all:load_state_dict(m:state_dict())
          local y, none = m(x)
          assert.is_nil(none)
          assert.are.same({batch_first and 2 or 5, both and 8 or 4}, y.shape)
          assert.are.same(y.shape, (m:output_shape(x)))
          local steps = all(x)
          if batch_first then steps = steps:transpose(1, 2) end
          near(y:narrow(2, 1, 4), steps[-1]:narrow(2, 1, 4))
          if both then near(y:narrow(2, 5, 4), steps[1]:narrow(2, 5, 4)) end
          near(nn.from_spec(m:to_spec()):load_state_dict(m:state_dict())(x), y)
        end
      end
    end
  end)

  it("is the end of each sequence of a packed batch, and of one sequence alone", function()
    local m = nn.LSTM(3, 4, {return_sequences = false, proj_size = 2})
    local long, short = ai.randn(5, 3), ai.randn(2, 3)
    local y, state = m(nn.pack_sequence({short, long}, {enforce_sorted = false}))
    assert.are.same({2, 2}, y.shape)
    assert.are.same({1, 2, 4}, state[2].shape)
    near(y[1], (m(short)))
    near(y[2], (m(long)))
  end)

  it("makes a row of layers without more", function()
    local all, last = {batch_first = true, return_state = false}, {batch_first = true, return_sequences = false, return_state = false}
    local net = nn.Sequential{nn.GRU(6, all), nn.LSTM(5, last), nn.Linear(2)}
    assert.are.same({3, 2}, net(ai.randn(3, 7, 4)).shape)
    assert.matches("return_state is 1; true or false is wanted", message_of(nn.GRU, 3, 4, {return_state = 1}))
  end)
end)
