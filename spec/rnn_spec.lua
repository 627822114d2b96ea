--- Recurrent layers: against the equations, written out, and in every arrangement.

local ai = require "aijit"
local gradcheck = require "spec.support.gradcheck"
local f = ai.f
local f64 = {dtype = "f64"}

local function largest(x) return x:abs():max():item() end
local function near(a, b, tolerance)
  assert.are.same(b:size(), a:size())
  assert.is_true(largest(a - b) <= (tolerance or 1e-12))
end
local GATES = {lstm = 4, gru = 3, rnn_tanh = 1, rnn_relu = 1}
local function weights(kind, inputs, hidden, layers, directions, bias)
  local list = {}
  for layer = 1, layers do
    for _ = 1, directions do
      local from = layer == 1 and inputs or hidden * directions
      list[#list + 1] = ai.randn(GATES[kind] * hidden, from, f64) * 0.5
      list[#list + 1] = ai.randn(GATES[kind] * hidden, hidden, f64) * 0.5
      if bias ~= false then
        list[#list + 1] = ai.randn(GATES[kind] * hidden, f64)
        list[#list + 1] = ai.randn(GATES[kind] * hidden, f64)
      end
    end
  end
  return list
end
-- One step by the equations of the PyTorch manual.
local function step(kind, x, h, c, w, v, b, d)
  local a, p = x:matmul(w:t()), h:matmul(v:t())
  if b then a, p = a + b, p + d end
  local H = h:size(2)
  local function part(t, k) return t:narrow(2, (k - 1) * H + 1, H) end
  if kind == "rnn_tanh" then return (a + p):tanh() end
  if kind == "rnn_relu" then return (a + p):relu() end
  if kind == "lstm" then
    local s = a + p
    c = part(s, 2):sigmoid() * c + part(s, 1):sigmoid() * part(s, 3):tanh()
    return part(s, 4):sigmoid() * c:tanh(), c
  end
  local r, z = (part(a, 1) + part(p, 1)):sigmoid(), (part(a, 2) + part(p, 2)):sigmoid()
  local n = (part(a, 3) + r * part(p, 3)):tanh()
  return (1 - z) * n + z * h
end

before_each(function() ai.manual_seed(8) end)

describe("recurrent layers", function()
  for _, kind in ipairs {"lstm", "gru", "rnn_tanh", "rnn_relu"} do
    it(kind .. " follows its equations, through layers and both directions", function()
      for _, case in ipairs {{1, 1}, {2, 1}, {2, 2}, {1, 2, false}} do
        local layers, directions = case[1], case[2]
        local T, N, I, H = 5, 3, 4, 2
        local x, p = ai.randn(T, N, I, f64), weights(kind, I, H, layers, directions, case[3])
        local h0, c0 = ai.randn(layers * directions, N, H, f64), ai.randn(layers * directions, N, H, f64)
        local each = case[3] == false and 2 or 4
        local now, hn, cn, k = x, {}, {}, 0
        for _ = 1, layers do
          local outs = {}
          for direction = 1, directions do
            k = k + 1
            local at, h, c, out = (k - 1) * each, h0[k], c0[k], {}
            for i = 1, T do
              local t = direction == 2 and T + 1 - i or i
              h, c = step(kind, now[t], h, c, p[at + 1], p[at + 2], each == 4 and p[at + 3], each == 4 and p[at + 4])
              out[t] = h
            end
            hn[k], cn[k], outs[direction] = h, c, f.stack(out)
          end
          now = directions == 2 and f.cat(outs, 3) or outs[1]
        end
        local o = {num_layers = layers, bidirectional = directions == 2, bias = case[3]}
        local y, h, c = f[kind](x, kind == "lstm" and {h0, c0} or h0, p, o)
        near(y, now)
        near(h, f.stack(hn))
        if kind == "lstm" then near(c, f.stack(cn)) else assert.is_nil(c) end
        o.batch_first = true
        local turned = f[kind](x:transpose(1, 2), kind == "lstm" and {h0, c0} or h0, p, o)
        near(turned, now:transpose(1, 2))
        -- Zeros are the state that is left out; one sequence needs no batch.
        local z = f[kind](x, nil, p, {num_layers = layers, bidirectional = directions == 2, bias = case[3]})
        near(f[kind](x[{{}, 2}], nil, p, {num_layers = layers, bidirectional = directions == 2, bias = case[3]}), z[{{}, 2}])
      end
    end)
    it(kind .. " has gradients to second order", function()
      local x, h0 = ai.randn(4, 2, 3, f64), ai.randn(2, 2, 2, f64)
      local c0, p = ai.randn(2, 2, 2, f64), weights(kind, 3, 2, 1, 2)
      local leaves = {x, h0, unpack(p)}
      if kind == "lstm" then leaves[#leaves + 1] = c0 end
      for _, t in ipairs(leaves) do t:requires_grad_() end
      local function loss()
        return gradcheck.total {f[kind](x, kind == "lstm" and {h0, c0} or h0, p, {bidirectional = true})}
      end
      local worst, where = gradcheck.first(loss, leaves)
      assert.is_true(worst < 1e-6, where)
      worst, where = gradcheck.second(loss, leaves)
      assert.is_true(worst < 1e-5, where)
    end)
    it(kind .. " has the same gradients as its cells, one by one", function()
      local T, N, I, H = 6, 3, 4, 5
      local x, p = ai.randn(T, N, I, f64), weights(kind, I, H, 1, 1)
      for _, t in ipairs(p) do t:requires_grad_() end
      local y = f[kind](x, nil, p)
      local h, c, list = ai.zeros({N, H}, f64), ai.zeros({N, H}, f64), {}
      for t = 1, T do
        if kind == "lstm" then h, c = f.lstm_cell(x[t], h, c, p[1], p[2], p[3], p[4])
        else h = f[kind .. "_cell"](x[t], h, p[1], p[2], p[3], p[4]) end
        list[t] = h
      end
      local z = f.stack(list)
      near(z, y)
      local a = ai.grad(gradcheck.total {y}, p)
      local b = ai.grad(gradcheck.total {z}, p)
      for i = 1, #p do near(a[i], b[i], 1e-11) end
    end)
  end
  it("drops between layers when training, and only there", function()
    local x, p = ai.randn(3, 2, 4, f64), weights("gru", 4, 3, 2, 1)
    local plain = f.gru(x, nil, p, {num_layers = 2})
    near(f.gru(x, nil, p, {num_layers = 2, dropout = 0.5, training = false}), plain)
    assert.is_true(largest(f.gru(x, nil, p, {num_layers = 2, dropout = 0.5}) - plain) > 0)
  end)
  it("say what is wrong", function()
    local x, p = ai.randn(3, 2, 4, f64), weights("lstm", 4, 3, 1, 1)
    assert.has_error(function() f.lstm(x, nil, {p[1], p[2], p[3]}) end)
    assert.has_error(function() f.lstm(x, {ai.zeros({2, 2, 3}, f64), ai.zeros({2, 2, 3}, f64)}, p) end)
    assert.has_error(function() f.lstm(x, nil, p, {layers = 1}) end)
    assert.has_error(function() f.gru(x, nil, p) end)
    assert.has_error(function() f.lstm_cell(x[1], ai.zeros({2, 3}, f64), ai.zeros({2, 3}, f64), p[1], p[2]:t(), p[3], p[4]) end)
    assert.has_error(function() f.rnn_layer(ai.zeros(2, 2, 8), ai.zeros(2, 2), nil, ai.zeros(8, 2), nil, "lstm") end)
  end)
end)
