--- Residual connections, drop_path, the streaming block, layers that other libraries divide; first values and norms by name.

local ai = require "aijit"
local m = require "aijit.model"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function near(a, b, tolerance) assert.is_true((a - b):abs():max():item() <= (tolerance or 1e-6)) end

describe("Residual and GatedResidual", function()
  it("add what a module or a function makes, or mix it by a gate", function()
    local x, fc, gate = ai.randn(3, 4), nn.Linear(4, 4), nn.Sequential{nn.Linear(4, 4), nn.Sigmoid()}
    near(nn.Residual(fc)(x), x + fc(x))
    near(nn.Residual(fc, nn.Lambda(function(t) return t * 3 end))(x), x * 3 + fc(x))
    near(nn.Residual(function(t) return t * 2 end)(x), x * 3)
    near(m.res(function(t) return t * 2 end, fc)(x), x * 2 + fc(x))
    local g = gate(x)
    near(nn.GatedResidual(fc, gate)(x), x * g + fc(x) * (1 - g))
    assert.are.same({"gate.0.bias", "gate.0.weight", "module.bias", "module.weight"}, (function()
      local names = {}
      for name in pairs(nn.GatedResidual(fc, gate):state_dict()) do names[#names + 1] = name end
      table.sort(names)
      return names
    end)())
  end)

  it("refuse what is no module", function()
    assert.matches("Residual: main is 3; a module or a function is wanted", message_of(nn.Residual, 3))
    assert.matches("GatedResidual: arguments are missing: gate", message_of(nn.GatedResidual, nn.ReLU()))
    assert.matches("GatedResidual: it has no argument 'gat': did you mean 'gate'", message_of(nn.GatedResidual, nn.ReLU(), {gat = nn.ReLU()}))
  end)
end)

describe("drop_path", function()
  it("zeroes whole samples and scales the others, in training alone", function()
    ai.manual_seed(0)
    local x = ai.ones(4000, 3)
    local y = nn.drop_path(x, 0.25)
    local rows = y:select(2, 1)
    near(y:select(2, 3), rows)
    assert.is_near(0.75, rows:ne(0):float():mean():item(), 0.03)
    assert.is_near(4 / 3, rows:max():item(), 1e-6)
    assert.are.equal(1, nn.drop_path(x, 0.25, {scale_by_keep = false}):max():item())
    assert.is_true(nn.drop_path(x, 0.25, {training = false}):is_same(x))
    assert.is_true(nn.drop_path(x, 0):is_same(x))
    local layer = nn.DropPath(0.5, {scale_by_keep = false})
    assert.are.equal(1, layer(x):max():item())
    assert.is_true(layer:eval()(x):is_same(x))
  end)

  it("refuses no probability, and no samples", function()
    assert.matches("drop_path: p is 1; a probability, from 0 to below 1 is wanted", message_of(nn.drop_path, ai.ones(2), 1))
    assert.matches("drop_path: x is 3; a tensor is wanted", message_of(nn.drop_path, 3, 0.5))
    assert.matches("the input has no dimensions", message_of(nn.drop_path, ai.tensor(1), 0.5))
    assert.matches("no argument 'train': did you mean 'training'", message_of(nn.drop_path, ai.ones(2), 0.5, {train = true}))
  end)
end)

describe("streamable_cbr", function()
  it("makes of pieces what the whole is, each step from those before it", function()
    local block, x = nn.streamable_cbr(3, 6, 4, {dilation = 2, groups = 3}):eval(), ai.randn(2, 3, 11)
    block.norm.running_mean:normal_(0, 1)
    local whole = block(x)
    assert.are.same({2, 6, 11}, {unpack(whole.shape)})
    local parts, first, state = {}, 1, nil
    for i, n in ipairs{2, 1, 5, 3} do
      parts[i], state = block(x:narrow(3, first, n), state)
      assert.are.equal(n, parts[i]:size(3))
      first = first + n
    end
    near(ai.cat(parts, 3), whole)
    local changed = x:clone()
    changed:narrow(3, 7, 5):normal_(0, 1)
    near(block(changed):narrow(3, 1, 6), whole:narrow(3, 1, 6))
  end)

  it("takes norms and activations by name, infers its channels, and stands in a Sequential", function()
    local grouped = nn.streamable_cbr(5, 3, {norm = "group_affine", group_norm_groups = 5, activation = "relu"})
    local net = nn.Sequential{nn.streamable_cbr(4, 3), grouped, nn.Flatten()}
    assert.are.same({2, 45}, {unpack(net(ai.randn(2, 7, 9)).shape)})
    assert.are.equal(7, net[1].conv.in_channels)
    assert.is_nil(net[1].conv.bias)
    assert.are.equal("GroupNorm", getmetatable(net[2].norm).__name)
  end)

  it("refuses pieces with a norm that looks along the sequence, and wrong arguments", function()
    local block, x = nn.streamable_cbr(3, 6, 3, {norm = "instance"}), ai.randn(1, 3, 5)
    local _, state = block(x)
    assert.matches('the norm "instance" looks along the whole sequence', message_of(block, x, state))
    assert.matches("kernel_size is 0; a whole number from 1", message_of(nn.streamable_cbr, 3, 6, 0))
    assert.matches("no norm 'bacth': did you mean 'batch'", message_of(nn.streamable_cbr, 3, 6, 3, {norm = "bacth"}))
    assert.matches("no activation 'geluu'", message_of(nn.streamable_cbr, 3, 6, 3, {activation = "geluu"}))
    assert.matches("no argument 'dilaton': did you mean 'dilation'", message_of(nn.streamable_cbr, 3, 6, 3, {dilaton = 2}))
    assert.matches("the input is %(1, 4, 5%); %(N, 3, T%)", message_of(nn.streamable_cbr(3, 6, 3), ai.randn(1, 4, 5)))
  end)
end)

it("layers that others divide over processes are the plain ones, in states, in lora and in Model:init", function()
  local x, ids = ai.randn(2, 4), ai.tensor({1, 3}, {dtype = "i64"})
  for _, row in ipairs{
    {nn.ColumnParallelLinear(4, 3, {gather_output = false}), nn.Linear(4, 3), x}, {nn.RowParallelLinear(3, {input_is_parallel = true}), nn.Linear(4, 3), x},
    {nn.ParallelEmbedding(5, 2, {padding_idx = 1}), nn.Embedding(5, 2, {padding_idx = 1}), ids},
  } do
    local ours, plain, input = unpack(row)
    ours:load_state_dict(plain:state_dict())
    near(ours(input), plain(input))
    nn.lora(ours, 2)
    nn.init.normal_(ours.parametrizations.weight.lora_b)
    assert.is_true((ours(input) - plain(input)):abs():max():item() > 1e-3)
  end
  ai.manual_seed(0)
  local model = m.Model(nn.ColumnParallelLinear(400, 300)):init()
  assert.is_near(1, model.net.bias:std():item(), 0.15)
  assert.matches("gather_output is 3; true or false is wanted", message_of(nn.ColumnParallelLinear, 4, 3, {gather_output = 3}))
end)

describe("by name", function()
  it("a weight is computed, or left", function()
    assert.are.same({3, 1}, {unpack(nn.parametrization_norm(nn.Linear(4, 3), "weight").parametrizations.weight.original0.shape)})
    assert.is_truthy(nn.parametrization_norm(nn.Linear(4, 3), "spectral", {n_power_iterations = 2}).parametrizations.weight[1]._u)
    local plain = nn.Linear(4, 3)
    assert.are.equal(plain, nn.parametrization_norm(plain, "no_parametrization"))
    assert.is_nil(rawget(plain, "parametrizations"))
    assert.matches("no parametrization norm 'wieght': did you mean 'weight'", message_of(nn.parametrization_norm, plain, "wieght"))
  end)

  it("first values fill a weight, and a bias with zeros", function()
    ai.manual_seed(0)
    local w, b = ai.ones(300, 200), ai.ones(300)
    for kind, std in pairs{xavier_normal = math.sqrt(2 / 500), kaiming_uniform_ = 1 / math.sqrt(100), Normal = 1, orthogonal = 1 / math.sqrt(300)} do
      local same, bias = nn.init.init_(w, b:fill_(1), kind)
      assert.is_true(same:is_same(w))
      assert.is_near(std, w:std():item(), std * 0.03)
      assert.are.equal(0, bias:abs():max():item())
    end
    nn.init.init_(w, b, {"normal", std = 0.02})
    assert.is_near(0.02, w:std():item(), 1e-3)
    nn.init.init_(w, b, "biased_normal")
    assert.is_near(1, b:std():item(), 0.15)
    nn.init.init_(w, nil, {method = "uniform", a = 2, b = 3})
    assert.is_true(w:min():item() >= 2 and w:max():item() <= 3)
    nn.init.init_(w, b, 0.5)
    assert.are.equal(0.5, w:min():item())
    nn.init.init_(w, b, {"constant", value = 7})
    nn.init.init_(w, b, "ones")
    nn.init.init_(w, b, function(t) return nn.init.constant_(t, 4) end)
    assert.are.equal(4, w:max():item())
    nn.init.init_(ai.ones(4, 2, 3), nil, {"dirac", groups = 2})
    nn.init.init_(ai.ones(4, 4), nil, "trunc_normal")
  end)

  it("first values of a whole model reach weights, those of states too, and biases", function()
    local net = nn.Sequential{nn.LSTM(4, 5), nn.Conv2d(2, 3, 3), nn.LayerNorm(4), nn.Embedding(3, 2), nn.MultiheadAttention(8, 2)}
    local embedding = net[4].weight:detach():clone()
    assert.are.equal(net, nn.init.module_(net, {"constant", value = 0.25}, 0.5))
    for name, p in net:named_parameters() do
      if name:find "^[014]%." then assert.are.equal(name:find "bias" and 0.5 or 0.25, p:min():item(), name) end
    end
    assert.are.equal(1, net[3].weight:min():item())
    near(net[4].weight, embedding)
    nn.init.module_(net)
    assert.are.equal(0, net[2].bias:abs():max():item())
    assert.is_true(net[1].weight_hh_l0:abs():max():item() <= math.sqrt(6 / 25) + 1e-6)
  end)

  it("first values that there are not are an error with the nearest name", function()
    local w = ai.ones(2, 2)
    assert.matches("no first values 'xavier_unifrom': did you mean 'xavier_uniform'", message_of(nn.init.init_, w, nil, "xavier_unifrom"))
    assert.matches("normal has no option 'sdt': did you mean 'std'", message_of(nn.init.init_, w, nil, {"normal", sdt = 1}))
    assert.matches("zeros has no option 'std'", message_of(nn.init.init_, w, nil, {"zeros", std = 1}))
    assert.matches("constant wants a value", message_of(nn.init.init_, w, nil, "constant"))
    assert.matches("the weight is a number", message_of(nn.init.init_, 3, nil, "zeros"))
    assert.matches("the bias is a number", message_of(nn.init.init_, w, 3, "zeros"))
    assert.matches("a module is wanted, not a number", message_of(nn.init.module_, 3))
    assert.matches("no layer has weights to fill", message_of(nn.init.module_, nn.ReLU()))
  end)
end)
