--- Weights that are computed: weight norm, spectral norm, low-rank adaptation; hooks around them; share.

local ai = require "aijit"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function near(a, b, tolerance) assert.is_true((a - b):abs():max():item() < (tolerance or 1e-6)) end
local function names(m)
  local list = {}
  for name in pairs(m:state_dict()) do list[#list + 1] = name end
  table.sort(list)
  return list
end

describe("weight_norm", function()
  it("keeps the function, under PyTorch's names", function()
    for _, m in ipairs{nn.Linear(3, 2), nn.Conv2d(2, 3, 3), nn.ConvTranspose1d(2, 3, 3)} do
      local before = m.weight:detach():clone()
      local x = ai.randn(m.kernel_size and (m.stride and #m.weight.shape == 4 and {1, 2, 4, 4} or {1, 2, 4}) or {2, 3})
      local y = m(x)
      assert.are.equal(m, nn.weight_norm(m))
      near(y, m(x))
      near(before, m.parametrizations.weight())
      assert.is_nil(m.weight)
      assert.are.same({"bias", "parametrizations.weight.original0", "parametrizations.weight.original1"}, names(m))
    end
  end)

  it("is g v / |v|, with gradients of both", function()
    local m = nn.weight_norm(nn.Linear(2, 1, {bias = false}))
    m:load_state_dict{["parametrizations.weight.original0"] = ai.tensor{{10}}, ["parametrizations.weight.original1"] = ai.tensor{{3, 4}}}
    local y = m(ai.tensor{{1, 2}})
    assert.is_near(10 * (3 + 8) / 5, y:item(), 1e-5)
    y:sum():backward()
    local p = m.parametrizations.weight
    assert.is_near(11 / 5, p.original0.grad:item(), 1e-6)
    -- d/dv of g x.v/|v|: g (x / |v| - (x.v) v / |v|^3)
    assert.is_near(10 * (1 / 5 - 11 * 3 / 125), p.original1.grad[{1, 1}]:item(), 1e-5)
  end)

  it("has one length when dim is false", function()
    local m = nn.weight_norm(nn.Linear(3, 2), {dim = false})
    assert.are.same({}, m.parametrizations.weight.original0.shape)
  end)

  it("is cloned, moved, printed, made again from a spec, and removed", function()
    local m = nn.weight_norm(nn.Linear(3, 2))
    local x = ai.randn(4, 3)
    local y = m(x)
    near(y, m:clone()(x))
    assert.are.same({4, 2}, m:output_shape(4, 3))
    assert.matches("original1", table.concat(names(nn.from_spec(m:to_spec())), " "))
    near(y, nn.from_spec(m:to_spec()):hard_update(m)(x))
    assert.are.equal("f64", m:clone():double()(x:double()).dtype)
    nn.remove_parametrizations(m)
    assert.are.same({"bias", "weight"}, names(m))
    near(y, m(x))
    m(x):sum():backward()
    assert.is_truthy(m.weight.grad)
  end)

  it("leaves nothing behind when the layer fails", function()
    local m = nn.weight_norm(nn.Linear(3, 2))
    assert.has_error(function() m(ai.ones(1, 4)) end)
    assert.is_nil(m.weight)
  end)

  it("refuses layers without that weight", function()
    assert.matches("no parameter 'wait'", message_of(nn.weight_norm, nn.Linear(3, 2), "wait"))
    assert.matches("no weights yet", message_of(nn.weight_norm, nn.Linear(2)))
    assert.matches("no argument 'dims'", message_of(nn.weight_norm, nn.Linear(3, 2), {dims = 1}))
    assert.matches("is not parametrized", message_of(nn.remove_parametrizations, nn.Linear(3, 2)))
  end)
end)

describe("spectral_norm", function()
  it("divides by the largest singular value", function()
    local m = nn.Linear(2, 2, {bias = false})
    m:load_state_dict{weight = ai.tensor{{3, 0}, {4, 5}}}           -- singular values sqrt(45) and sqrt(5)
    nn.spectral_norm(m, {n_power_iterations = 20})
    near(ai.tensor{{3, 0}, {4, 5}} / math.sqrt(45), m.parametrizations.weight())
    assert.are.same({"parametrizations.weight.0._u", "parametrizations.weight.0._v", "parametrizations.weight.original"}, names(m))
  end)

  it("moves its vectors in training alone", function()
    local m = nn.spectral_norm(nn.Conv2d(3, 5, 3)):eval()
    local u = m.parametrizations.weight[1]._u:clone()
    m(ai.randn(1, 3, 4, 4))
    near(u, m.parametrizations.weight[1]._u, 1e-12)
    ai.no_grad(function() m.parametrizations.weight.original:normal_() end)
    m:train()(ai.randn(1, 3, 4, 4))
    assert.is_true((u - m.parametrizations.weight[1]._u):abs():max():item() > 1e-4)
  end)

  it("of a transposed convolution is over its outputs", function()
    local m = nn.spectral_norm(nn.ConvTranspose2d(3, 5, 2))
    assert.are.same({5}, m.parametrizations.weight[1]._u.shape)
    assert.matches("two dimensions or more", message_of(nn.spectral_norm, nn.Linear(3, 2), "bias"))
  end)
end)

describe("lora", function()
  local function model()
    return nn.Sequential{nn.Embedding(7, 4), nn.LSTM(4, 4, {batch_first = true}), nn.Linear(4, 3)}
  end

  it("adds nothing at first, and alpha / r b a afterwards", function()
    local m, x = nn.Linear(3, 2), ai.randn(4, 3)
    local y, w = m(x), m.weight:detach():clone()
    nn.lora(m, 2, {alpha = 6})
    near(y, m(x))
    local p = m.parametrizations.weight
    nn.init.normal_(p.lora_b)
    near(w + p.lora_b:matmul(p.lora_a) * 3, m.parametrizations.weight())
    y = m(x)
    nn.merge_lora(m)
    near(y, m(x))
    assert.are.same({"bias", "weight"}, names(m))
  end)

  it("reaches embeddings, recurrent layers and convolutions; only the thin matrices are trained", function()
    local m, x = model(), ai.tensor({{1, 2, 7}}, {dtype = "i64"})
    local y = m(x)
    nn.freeze_non_lora(nn.lora(m, 2))
    near(y, m(x))
    m(x):sum():backward()
    local trained = {}
    for name, p in m:named_parameters() do if p.requires_grad then trained[#trained + 1] = name end end
    assert.are.equal(8, #trained)
    for _, name in ipairs(trained) do assert.matches("%.lora_[ab]$", name) end
    assert.is_truthy(m[2].parametrizations.weight_hh_l0.lora_b.grad)
    nn.init.normal_(m[3].parametrizations.weight.lora_b)
    assert.is_true((y - m(x)):abs():max():item() > 1e-4)
    near(y, nn.reset_lora(m)(x))
    local conv = nn.lora(nn.Conv2d(2, 3, 3), 1)
    assert.are.same({1, 18}, conv.parametrizations.weight.lora_a.shape)
  end)

  it("drops inputs of the product in training, for the whole batch", function()
    ai.manual_seed(0)
    local m, x = nn.lora(nn.Linear(400, 3, {bias = false}), 2, {dropout = 0.5}), ai.randn(2, 400)
    local p = m.parametrizations.weight
    nn.init.normal_(p.lora_b)
    local whole = m:eval()(x)
    near(whole, x:matmul((p.original + p.lora_b:matmul(p.lora_a)):t()), 1e-4)
    local added = m:train().parametrizations.weight() - p.original
    local dropped = added:select(1, 1):eq(0)
    assert.is_near(0.5, dropped:float():mean():item(), 0.1)
    near(added:select(1, 1), ai.f.where(dropped, ai.zeros(400), p.lora_b:matmul(p.lora_a):select(1, 1) * 2), 1e-4)
    assert.matches("dropout is 1; a probability, from 0 to below 1", message_of(nn.lora, nn.Linear(2, 2), 1, {dropout = 1}))
  end)

  it("takes the state of the model without it, and keeps its additions", function()
    local plain, adapted, x = model(), nn.lora(model(), 2), ai.tensor({{1, 2, 7}}, {dtype = "i64"})
    adapted:load_state_dict(plain:state_dict())
    near(adapted(x), plain(x))
    local b = adapted[3].parametrizations.weight.lora_b
    nn.init.normal_(b)
    local before = b:detach():clone()
    adapted:load_state_dict(plain:state_dict())
    near(before, b)
    assert.is_true((adapted(x) - plain(x)):abs():max():item() > 1e-4)
    local state = plain:state_dict()
    state["2.weight"] = nil
    assert.matches("2%.parametrizations%.weight%.original", message_of(adapted.load_state_dict, adapted, state))
  end)

  it("is put on only where a config has a rank", function()
    local plain = nn.Linear(3, 2)
    assert.are.equal(plain, nn.maybe_lora(plain, nil))
    assert.is_nil(rawget(plain, "parametrizations"))
    assert.is_truthy(nn.maybe_lora(plain, 2, {alpha = 4}).parametrizations.weight.lora_a)
    assert.is_truthy(nn.maybe_lora_weight_norm(nn.Linear(3, 2)).parametrizations.weight.original1)
    assert.is_truthy(nn.maybe_lora_weight_norm(nn.Linear(3, 2), 1).parametrizations.weight.lora_a)
    assert.matches("r is 0", message_of(nn.maybe_lora, nn.Linear(3, 2), 0))
  end)

  it("reaches classes that are derived from the layers", function()
    local Own = ai.class("LoraOwn", nn.Linear)
    assert.is_truthy(nn.lora(Own(3, 2), 1).parametrizations.weight.lora_a)
    assert.is_truthy(nn.lora(nn.StreamingConv1d(3, 2, 3), 1).parametrizations.weight.lora_a)
  end)

  it("chooses layers, and refuses where there are none", function()
    local m = nn.lora(model(), 1, {where = function(name) return name == "2" end})
    assert.is_nil(m[1].parametrizations)
    assert.is_truthy(m[3].parametrizations)
    assert.matches("no layer that can be adapted", message_of(nn.lora, nn.ReLU(), 1))
    assert.matches("r is 0", message_of(nn.lora, nn.Linear(2, 2), 0))
  end)
end)

describe("hooks", function()
  it("see and change gradients going backward", function()
    local m, seen = nn.Linear(2, 1, {bias = false}), {}
    m:load_state_dict{weight = ai.tensor{{3, 5}}}
    local remove = m:register_full_backward_hook(function(module, inputs, outputs)
      assert.are.equal(m, module)
      seen[#seen + 1] = {inputs[1]:totable(), outputs[1]:totable()}
      return {inputs[1] * 2}
    end)
    local x = ai.tensor({{1, 1}}, {requires_grad = true})
    m(x):backward(ai.tensor{{7}})
    assert.are.same({{{{21, 35}}, {{7}}}}, seen)
    assert.are.same({{42, 70}}, x.grad:totable())
    assert.are.same({{7, 7}}, m.weight.grad:totable())
    remove()
    x.grad = nil
    m(x):sum():backward()
    assert.are.same({{3, 5}}, x.grad:totable())
    assert.are.equal(1, #seen)
  end)

  it("leave a module its other outputs", function()
    local m = nn.LSTM(2, 3)
    m:register_forward_hook(function(_, _, y, state)
      assert.are.same({1, 2, 3}, state[1].shape)
      return y * 0
    end)
    local y, state = m(ai.ones(4, 2, 2))
    assert.are.equal(0, y:abs():max():item())
    assert.are.same({1, 2, 3}, state[2].shape)
  end)
end)

describe("share", function()
  it("makes two models one in their tensors", function()
    local a, b = nn.Sequential{nn.Linear(2, 3), nn.Linear(3, 1)}, nn.Sequential{nn.Linear(2, 3), nn.Linear(3, 1)}
    assert.are.equal(b, b:share(a))
    local x = ai.randn(4, 2)
    ai.no_grad(function() a[1].weight:mul_(2) end)
    near(a(x), b(x), 1e-12)
    b(x):sum():backward()
    assert.is_truthy(a[2].weight.grad)
  end)

  it("may share some fields only, and refuses others' shapes", function()
    local a, b = nn.Linear(2, 3), nn.Linear(2, 3)
    b:share(a, "bias")
    assert.is_true(b.bias:is_same(a.bias))
    assert.is_false(b.weight:is_same(a.weight))
    assert.matches("no parameter 'weight' of that shape", message_of(b.share, b, nn.Linear(3, 3)))
    assert.matches("no tensor of those names", message_of(b.share, b, a, "wait"))
  end)
end)
