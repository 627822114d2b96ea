-- The layers: how they are called, what they infer, what they compute, how they start.

local ai = require "aijit"
local nn = ai.nn

local function numbers(t) return t:reshape(-1):totable() end
local function shape(t) return {unpack(t.shape)} end

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

describe("arguments of a layer", function()
  it("are positional, named, or mixed", function()
    for _, conv in ipairs{nn.Conv2d(1, 8, 3, {padding = 1}), nn.Conv2d(1, 8, {kernel_size = 3, padding = 1}),
                          nn.Conv2d{in_channels = 1, out_channels = 8, kernel_size = 3, padding = 1}, nn.Conv2d(1, 8, 3, 1, 1)} do
      assert.are.same({1, 8, 3, 1, 1}, {conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding})
    end
  end)

  it("may leave out what the first input shows", function()
    for _, conv in ipairs{nn.Conv2d(8, {kernel_size = 3}), nn.Conv2d(8, 3), nn.Conv2d{out_channels = 8, kernel_size = 3}} do
      assert.is_nil(conv.in_channels)
      conv(ai.ones(1, 5, 4, 4))
      assert.are.equal(5, conv.in_channels)
      assert.are.same({8, 5, 3, 3}, shape(conv.weight))
    end
  end)

  it("that are unknown, missing, too many or no sizes are errors that show the call", function()
    assert.matches("no argument 'pading': did you mean 'padding'", message_of(nn.Conv2d, 1, 8, 3, {pading = 1}))
    assert.matches("usage: nn%.Conv2d%(%[in_channels%], out_channels, kernel_size, {", message_of(nn.Conv2d))
    assert.matches("too many", message_of(nn.Linear, 1, 2, true, 4, 5))
    assert.matches("out_features is %-3; a whole number from 0 is wanted", message_of(nn.Linear, 4, -3))
    assert.matches("in_features is 2.5", message_of(nn.Linear, 2.5, 3))
  end)

  it("that do not go together, or with the input, say why", function()
    assert.matches("Embedding: padding_idx is 9, and there are 3 embeddings", message_of(nn.Embedding, 3, 2, {padding_idx = 9}))
    assert.matches('CrossEntropyLoss: reduction is "avg"; "none", "mean" or "sum" is wanted', message_of(nn.CrossEntropyLoss, {reduction = "avg"}))
    assert.are.equal("batchmean", nn.KLDivLoss{reduction = "batchmean"}.reduction)
    assert.matches("sizes cannot be told from an input of %(3%)", message_of(nn.BatchNorm2d(), ai.ones(3)))
    assert.matches("sizes cannot be told from an input of %(2, 2%): LayerNorm", message_of(nn.LayerNorm{num_normalize_dim = 3}, ai.ones(2, 2)))
    assert.are.same({3, 4}, nn.LayerNorm{num_normalize_dim = 2}:infer(2, 3, 4).normalized_shape)
  end)

  it("give errors at the line of the program", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local message = message_of(function() return (nn.Linear("a", 2)) end)
    assert.matches("nn_spec%.lua:" .. line .. ":", message)
  end)

  it("come back in to_spec and print", function()
    assert.are.same({type = "Conv2d", out_channels = 8, kernel_size = 3, padding = 1}, nn.Conv2d(8, 3, {padding = 1}):to_spec())
    assert.are.equal("nn.Linear(3, 2, {bias = false})", nn.Linear(3, 2, {bias = false}):call_text())
    assert.are.equal("nn.LayerNorm({4})", nn.LayerNorm(4):call_text())
    assert.are.equal("nn.GELU({approximate = \"tanh\"})", nn.GELU("tanh"):call_text())
  end)
end)

describe("Linear", function()
  it("is x W^T + b over the last dimension", function()
    local m = nn.Linear(2, 2)
    m:load_state_dict{weight = ai.tensor{{1, 2}, {3, 4}}, bias = ai.tensor{10, 20}}
    assert.are.same({13, 27}, numbers(m(ai.tensor{{1, 1}})))
    assert.are.same({5, 3, 2}, shape(m(ai.ones(5, 3, 2))))
  end)

  it("infers its inputs, keeps them, and names both shapes when they change", function()
    local m = nn.Linear(4)
    m(ai.ones(2, 7))
    assert.are.equal("Linear 7 -> 4", m:summary())
    local message = message_of(m, ai.ones(2, 8))
    assert.matches("%(2, 8%)", message)
    assert.matches("Linear 7 %-> 4", message)
  end)

  it("without bias has none", function()
    assert.is_nil(nn.Linear(2, 2, {bias = false}).bias)
    assert.are.equal(1, #nn.Linear(2, 2, {bias = false}):parameters())
  end)

  it("starts within 1 / sqrt(in_features)", function()
    local m = nn.Linear(100, 50)
    assert.is_true(m.weight:abs():max():item() <= 0.1)
    assert.is_true(m.weight:abs():max():item() > 0.09)
    assert.is_true(m.bias:abs():max():item() <= 0.1)
  end)

  it("takes a dtype, and follows its first input's", function()
    assert.are.equal("f64", nn.Linear(2, 2, {dtype = "f64"}).weight.dtype)
    local m = nn.Linear(2)
    m(ai.ones(1, 3, {dtype = "f64"}))
    assert.are.equal("f64", m.weight.dtype)
  end)
end)

describe("infer", function()
  it("gives every layer its sizes and leaves modes and statistics alone", function()
    local m = nn.Sequential{nn.Linear(4), nn.BatchNorm1d(), nn.Dropout(0.5), nn.Linear(2)}
    m:infer(3, 6)
    assert.are.equal(6 * 4 + 4 + 8 + 4 * 2 + 2, #m:parameters() > 0 and m:num_parameters())
    assert.is_true(m[2].training)
    assert.are.equal(0, m[2].num_batches_tracked:item())
  end)
end)

describe("containers", function()
  it("Sequential runs its modules in order and is indexed from 1", function()
    local m = nn.Sequential{nn.Linear(2, 3), nn.ReLU(), function(x) return x * 2 end}
    assert.are.equal(3, #m)
    assert.are.same({1, 3}, shape(m(ai.ones(1, 2))))
    assert.are.equal(m[3], m:get(-1))
    m:add(nn.Linear(3, 1)):append(nn.Sigmoid())
    assert.are.equal(5, #m)
    assert.are.equal(2, #m:slice(2, 3))
    assert.are.equal("0.weight", m:named_parameters()())
  end)

  it("that have no forward say what to call", function()
    assert.matches("ModuleList has no forward: call its modules", message_of(nn.ModuleList{nn.ReLU()}, ai.ones(1)))
    assert.matches("ModuleDict has no forward: call its modules", message_of(nn.ModuleDict{a = nn.ReLU()}, ai.ones(1)))
  end)

  it("refuse what is no module", function()
    assert.matches("element 2 is a number", message_of(nn.Sequential, {nn.ReLU(), 3}))
  end)

  it("ModuleDict keeps names, and refuses those of methods", function()
    local d = nn.ModuleDict{b = nn.Linear(1, 1), a = nn.ReLU()}
    d.z = nn.Linear(2, 1)
    assert.are.equal("b.weight", d:named_parameters()())
    assert.matches("'forward' cannot be", message_of(function() d.forward = nn.ReLU() end))
    assert.has_error(function() nn.ModuleDict{parameters = nn.ReLU()} end)
  end)

  it("TimeDistributed applies a module to each step", function()
    local m = nn.TimeDistributed(nn.Linear(3, 2))
    local x = ai.randn(4, 5, 3)
    assert.are.same({4, 5, 2}, shape(m(x)))
    assert.are.same(numbers(m.module(x[2])), numbers(m(x)[2]))
    assert.matches("2 dimensions", message_of(m, ai.ones(2, 3)))
  end)

  it("Flatten keeps the first dimension", function()
    assert.are.same({2, 12}, shape(nn.Flatten()(ai.ones(2, 3, 4))))
    assert.are.same({6, 4}, shape(nn.Flatten(1, 2)(ai.ones(2, 3, 4))))
    assert.are.same({2, 3, 2, 2}, shape(nn.Unflatten(3, {2, -1})(ai.ones(2, 3, 4))))
  end)
end)

describe("activations", function()
  it("are the ops of their names", function()
    local x = ai.tensor{-2, -0.5, 0, 0.5, 2}
    for class, op in pairs{ReLU = "relu", SiLU = "silu", Mish = "mish", Sigmoid = "sigmoid", Tanh = "tanh", GELU = "gelu",
                           Softplus = "softplus", ELU = "elu", Hardswish = "hardswish", LogSigmoid = "log_sigmoid"} do
      assert.are.same(numbers(ai.f[op](x)), numbers(nn[class]()(x)))
    end
  end)

  it("pass their options on", function()
    assert.are.same({-0.5, 2}, numbers(nn.LeakyReLU(0.25)(ai.tensor{-2, 2})))
    assert.are.same({-0.25, 0.25}, numbers(nn.Hardtanh{min = -0.25, max = 0.25}(ai.tensor{-2, 2})))
    assert.are.same({7, 2}, numbers(nn.Threshold(1, 7)(ai.tensor{0.5, 2})))
  end)

  it("work in place when asked", function()
    local x = ai.tensor{-1, 1}
    nn.ReLU{inplace = true}(x)
    assert.are.same({0, 1}, numbers(x))
  end)

  it("PReLU has a slope, or one a channel", function()
    assert.are.same({-0.5, 2}, numbers(nn.PReLU()(ai.tensor{-2, 2})))
    local m = nn.PReLU("channels")
    m(ai.ones(1, 3, 2, 2))
    assert.are.same({3}, shape(m.weight))
  end)
end)

describe("nn.init", function()
  local init = nn.init

  local function moments(t)
    local list, mean, square = numbers(t), 0, 0
    for _, v in ipairs(list) do mean = mean + v / #list end
    for _, v in ipairs(list) do square = square + (v - mean) ^ 2 / #list end
    return mean, math.sqrt(square)
  end

  it("fans of a convolution's weight count its kernel", function()
    assert.are.same({27, 72}, {init.fans(ai.empty(8, 3, 3, 3))})
    assert.has_error(function() init.fans(ai.empty(3)) end)
  end)

  it("xavier and kaiming have the deviation of their papers", function()
    local _, std = moments(init.xavier_normal_(ai.empty(200, 300)))
    assert.is_near(math.sqrt(2 / 500), std, 2e-3)
    _, std = moments(init.xavier_uniform_(ai.empty(200, 300)))
    assert.is_near(math.sqrt(2 / 500), std, 2e-3)
    _, std = moments(init.kaiming_normal_(ai.empty(200, 300), {nonlinearity = "relu"}))
    assert.is_near(math.sqrt(2 / 300), std, 2e-3)
    _, std = moments(init.kaiming_uniform_(ai.empty(200, 300), {mode = "fan_out", nonlinearity = "relu"}))
    assert.is_near(math.sqrt(2 / 200), std, 2e-3)
  end)

  it("trunc_normal_ stays within its limits", function()
    local t = init.trunc_normal_(ai.empty(5000), {std = 2, a = -1, b = 3})
    assert.is_true(t:min():item() >= -1 and t:max():item() <= 3)
    assert.has_error(function() init.trunc_normal_(ai.empty(2), {a = 50, b = 60}) end)
  end)

  it("orthogonal_ makes rows or columns orthonormal", function()
    for _, size in ipairs{{3, 5}, {5, 3}, {4, 4}} do
      local t = init.orthogonal_(ai.empty(size[1], size[2]))
      local gram = size[1] <= size[2] and t:matmul(t:t()) or t:t():matmul(t)
      local n = math.min(size[1], size[2])
      for i = 1, n do
        for j = 1, n do assert.is_near(i == j and 1 or 0, gram[{i, j}]:item(), 1e-5) end
      end
    end
  end)
end)

describe("convolutions", function()
  it("have PyTorch's weight shapes and output sizes", function()
    local x = ai.randn(2, 4, 9, 9)
    local conv = nn.Conv2d(4, 6, 3, {stride = 2, padding = 1, groups = 2})
    assert.are.same({6, 2, 3, 3}, shape(conv.weight))
    assert.are.same({2, 6, 5, 5}, shape(conv(x)))
    local up = nn.ConvTranspose2d(4, 6, 3, {stride = 2, padding = 1, output_padding = 1})
    assert.are.same({4, 6, 3, 3}, shape(up.weight))
    assert.are.same({2, 6, 18, 18}, shape(up(x)))
    assert.are.same({2, 6, 9, 9}, shape(nn.Conv2d(4, 6, 5, {padding = "same"})(x)))
  end)

  it("pad in the mode that is asked for", function()
    local conv = nn.Conv1d(1, 1, 3, {padding = 1, bias = false, padding_mode = "circular"})
    conv:load_state_dict{weight = ai.tensor{{{1, 0, 0}}}}
    assert.are.same({3, 1, 2}, numbers(conv(ai.tensor{{{1, 2, 3}}})))
  end)

  it("refuse groups that do not divide the channels", function()
    assert.matches("3 groups", message_of(nn.Conv2d, 4, 6, 3, {groups = 3}))
    assert.matches("in_channels is 4", message_of(nn.Conv2d(6, 3, {groups = 3}), ai.ones(1, 4, 5, 5)))
  end)

  it("exist in 1 and 3 dimensions", function()
    assert.are.same({1, 3, 8}, shape(nn.Conv1d(2, 3, 3, {padding = 1})(ai.ones(1, 2, 8))))
    assert.are.same({1, 3, 4, 4, 4}, shape(nn.Conv3d(2, 3, 3, {padding = 1})(ai.ones(1, 2, 4, 4, 4))))
  end)
end)

describe("pools", function()
  it("have the stride of their kernel unless told", function()
    local x = ai.arange(0, 15):float():reshape(1, 1, 4, 4)
    assert.are.same({5, 7, 13, 15}, numbers(nn.MaxPool2d(2)(x)))
    assert.are.same({2.5, 4.5, 10.5, 12.5}, numbers(nn.AvgPool2d(2)(x)))
    assert.are.same({1, 1, 3, 3}, shape(nn.MaxPool2d(2, 1)(x)))
    assert.are.same({7.5}, numbers(nn.AdaptiveAvgPool2d(1)(x)))
  end)
end)

describe("Upsample", function()
  it("repeats or interpolates", function()
    local x = ai.tensor{{{{1, 3}}}}
    assert.are.same({1, 1, 3, 3, 1, 1, 3, 3}, numbers(nn.Upsample{scale_factor = 2}(x)))
    assert.are.same({1, 2, 3}, numbers(nn.Upsample{size = {1, 3}, mode = "bilinear", align_corners = true}(x)))
  end)
end)

describe("norms", function()
  it("BatchNorm uses the batch in training and its running statistics in evaluation", function()
    local m = nn.BatchNorm1d(1)
    local x = ai.tensor{{1}, {3}}
    local y = numbers(m(x))
    assert.is_near(-1, y[1], 1e-4)
    assert.is_near(1, y[2], 1e-4)
    assert.is_near(0.2, m.running_mean:item(), 1e-6)      -- 0.9 * 0 + 0.1 * 2
    assert.is_near(1.1, m.running_var:item(), 1e-6)       -- 0.9 * 1 + 0.1 * 2, unbiased
    assert.are.equal(1, m.num_batches_tracked:item())
    m:eval()
    assert.is_near((1 - 0.2) / math.sqrt(1.1 + 1e-5), numbers(m(x))[1], 1e-5)
  end)

  it("BatchNorm infers its channels", function()
    local m = nn.BatchNorm2d()
    m(ai.randn(2, 5, 3, 3))
    assert.are.equal(5, m.num_features)
  end)

  it("LayerNorm and RMSNorm are over the last dimension", function()
    local y = numbers(nn.LayerNorm(2)(ai.tensor{{1, 3}}))
    assert.is_near(-1, y[1], 1e-4)
    y = numbers(nn.RMSNorm()(ai.tensor{{3, 4}}))
    assert.is_near(3 / math.sqrt(12.5), y[1], 1e-4)
  end)

  it("GroupNorm and InstanceNorm are over each sample", function()
    local y = numbers(nn.GroupNorm(1, 2)(ai.tensor{{{1}, {3}}}))
    assert.is_near(-1, y[1], 1e-4)
    y = numbers(nn.InstanceNorm1d(1)(ai.tensor{{{1, 3}}}))
    assert.is_near(1, y[2], 1e-4)
    assert.matches("3 groups do not divide 4", message_of(nn.GroupNorm, 3, 4))
  end)
end)

describe("Dropout", function()
  it("scales what it keeps in training and does nothing in evaluation", function()
    local m = nn.Dropout(0.5)
    for _, v in ipairs(numbers(m(ai.ones(100)))) do assert.is_true(v == 0 or v == 2) end
    assert.are.same({1, 1}, numbers(m:eval()(ai.ones(2))))
    assert.matches("probability", message_of(nn.Dropout, 1.5))
    local y = nn.Dropout2d(0.5)(ai.ones(2, 20, 3, 3)):reshape(40, 9)
    for i = 1, 40 do assert.are.equal(y[{i, 1}]:item(), y[{i, 9}]:item()) end
  end)
end)

describe("Embedding", function()
  it("looks rows up from 1", function()
    local m = nn.Embedding(3, 2)
    assert.are.same(numbers(m.weight[3]), numbers(m(ai.tensor({3}, {dtype = "i64"}))))
    assert.are.same({0, 0}, numbers(nn.Embedding(3, 2, {padding_idx = 1}).weight[1]))
  end)
end)

describe("losses", function()
  it("are the ops of their names with their options", function()
    local x, y = ai.tensor{{1, 2}, {3, 5}}, ai.tensor{{0, 2}, {3, 3}}
    assert.are.equal(5 / 4, nn.MSELoss()(x, y):item())
    assert.are.equal(5, nn.MSELoss("sum")(x, y):item())
    assert.are.equal(3 / 4, nn.L1Loss()(x, y):item())
    local labels = ai.tensor({2, 1}, {dtype = "i64"})
    assert.is_near(ai.cross_entropy(x, labels):item(), nn.CrossEntropyLoss()(x, labels):item(), 1e-6)
    local p, q = ai.tensor{0.25, 0.5}, ai.tensor{1, 0}
    assert.is_near(-math.log(0.25) - math.log(0.5), nn.BCELoss{reduction = "sum"}(p, q):item(), 1e-6)
    assert.is_near(math.log(2), nn.BCEWithLogitsLoss()(ai.zeros(2), q):item(), 1e-6)
    assert.is_near(math.log(2), nn.NLLLoss()(nn.LogSoftmax()(ai.zeros(2, 2)), labels):item(), 1e-6)
    assert.is_near(0.5 * 0.5 ^ 2, nn.HuberLoss()(ai.tensor{0.5}, ai.tensor{0}):item(), 1e-6)
    assert.is_near(1.5, nn.SmoothL1Loss()(ai.tensor{2}, ai.tensor{0}):item(), 1e-6)
    assert.is_near(math.log(2), nn.KLDivLoss("sum")(ai.tensor{-math.log(2)}, ai.tensor{1}):item(), 1e-6)
  end)

  it("keep class weights as a buffer", function()
    local loss = nn.CrossEntropyLoss{weight = ai.tensor{1, 3}}
    assert.are.equal(1, #loss:buffers())
    local x, labels = ai.tensor{{1, 2}, {3, 5}}, ai.tensor({2, 1}, {dtype = "i64"})
    assert.is_near(ai.cross_entropy(x, labels, {weight = ai.tensor{1, 3}}):item(), loss(x, labels):item(), 1e-6)
    assert.are.same({1, 3}, loss:to_spec().weight)
  end)
end)
