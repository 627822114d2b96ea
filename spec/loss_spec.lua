--- Softmax and the losses against numbers worked out from their definitions, and at the edges of the floats.

local ai = require "aijit"
local nn = ai.nn

local function near(y, wanted, tolerance)
  local have = type(y) == "number" and {y} or y:to "f64":contiguous():view(-1):totable()
  if type(wanted) == "number" then wanted = {wanted} end
  assert.are.equal(#wanted, #have)
  for i, w in ipairs(wanted) do
    if not (have[i] == w or (w ~= w and have[i] ~= have[i]) or math.abs(have[i] - w) <= (tolerance or 1e-6) * (1 + math.abs(w))) then
      error(("element %d is %.9g, and should be %.9g"):format(i, have[i], w), 2)
    end
  end
end

local function labels(t) return ai.tensor(t, {dtype = "i64"}) end

--- Minus the log-softmax of row at class k, in Lua.
local function nll(row, k)
  local top, sum = math.max(unpack(row)), 0
  for _, v in ipairs(row) do sum = sum + math.exp(v - top) end
  return top + math.log(sum) - row[k]
end

describe("softmax", function()
  it("sums to 1 along any dimension", function()
    local x = ai.randn(3, 37, 5)
    for dim = 1, 3 do near(x:softmax(dim):sum(dim):sub(1):abs():max(), 0, 1e-6) end
  end)
  it("neither overflows nor loses small numbers", function()
    near(ai.tensor {1000, 0, -1000}:softmax(), {1, 0, 0})
    near(ai.tensor {1000, 0, -1000}:log_softmax(), {0, -1000, -2000})
    near(ai.tensor {1000, 1000}:logsumexp(1), 1000 + math.log(2))
  end)
  it("gives 0 to minus infinity", function() near(ai.tensor {0, -math.huge, 0}:softmax(), {0.5, 0, 0.5}) end)
end)

describe("cross_entropy", function()
  local rows = {{0.1, 2, -1}, {3, 0.5, 0.2}, {-1, 0, 1}}
  local x = ai.tensor(rows)

  it("is the mean of minus log-probabilities at labels that count from 1", function()
    near(ai.f.cross_entropy(x, labels {1, 2, 3}), (nll(rows[1], 1) + nll(rows[2], 2) + nll(rows[3], 3)) / 3)
  end)
  it("leaves out what is to be ignored, also from the mean", function()
    near(ai.f.cross_entropy(x, labels {1, -100, 3}), (nll(rows[1], 1) + nll(rows[3], 3)) / 2)
    near(ai.f.cross_entropy(x, labels {1, 2, 3}, {ignore_index = 2, reduction = "none"}), {nll(rows[1], 1), 0, nll(rows[3], 3)})
  end)
  it("divides by the weights of the labels", function()
    local w = {1, 2, 4}
    near(ai.f.cross_entropy(x, labels {1, 2, 3}, ai.tensor(w)), (nll(rows[1], 1) + 2 * nll(rows[2], 2) + 4 * nll(rows[3], 3)) / 7)
  end)
  it("smooths labels as the same mixture of probabilities would", function()
    local target = ai.tensor {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
    near(ai.f.cross_entropy(x, labels {1, 2, 3}, {label_smoothing = 0.2}), ai.f.cross_entropy(x, target * 0.8 + 0.2 / 3):item())
    near(ai.f.cross_entropy(x, labels {1, 2, 3}, {label_smoothing = 0.2}), ai.f.cross_entropy(x, target, {label_smoothing = 0.2}):item())
  end)
  it("takes places behind the classes", function()
    local y = ai.randn(2, 4, 3, 5)
    local t = ai.ones(2, 3, 5):long() * 3
    local flat = y:permute(1, 3, 4, 2):reshape(30, 4)
    near(ai.f.cross_entropy(y, t), ai.f.cross_entropy(flat, t:reshape(30)):item())
    assert.are.same({2, 3, 5}, ai.f.cross_entropy(y, t, {reduction = "none"}):size())
  end)
  it("is nll_loss of log_softmax, and so is its gradient", function()
    local a = ai.randn(7, 11, {requires_grad = true})
    local b = a:detach():requires_grad_()
    local t = labels {1, 5, 11, -100, 2, 2, 7}
    local l, m = ai.f.cross_entropy(a, t), ai.f.nll_loss(b:log_softmax(), t)
    near(l, m:item())
    l:backward() m:backward()
    near(a.grad, b.grad:view(-1):totable())
  end)
  it("names a label that is no class", function()
    local ok, message = pcall(ai.f.cross_entropy, x, labels {1, 2, 4})
    assert.is_false(ok)
    assert.matches("target 4, at position 3, is not a class: they are 1 to 3", message, 1, true)
    assert.has_error(function() ai.f.cross_entropy(x, labels {1, 0, 2}) end)
  end)
  it("refuses other shapes, dtypes and reductions", function()
    assert.has_error(function() ai.f.cross_entropy(x, labels {1, 2}) end)
    assert.has_error(function() ai.f.cross_entropy(x, ai.tensor {1, 2, 3}) end)
    assert.has_error(function() ai.f.cross_entropy(x, labels {1, 2, 3}, {reduction = "average"}) end)
  end)
end)

describe("the other losses", function()
  local a, b = ai.tensor {0.5, -1, 2}, ai.tensor {0, 1, 2.25}
  it("follow their definitions", function()
    near(ai.f.mse_loss(a, b, {reduction = "none"}), {0.25, 4, 0.0625})
    near(ai.f.l1_loss(a, b, {reduction = "sum"}), 2.75)
    near(ai.f.smooth_l1_loss(a, b, {reduction = "none"}), {0.125, 1.5, 0.03125})
    near(ai.f.huber_loss(a, b, {reduction = "none", delta = 0.5}), {0.125, 0.875, 0.03125})
    near(ai.f.kl_div(ai.tensor({0.5, 0.5}):log(), ai.tensor {1, 0}, {reduction = "sum"}), math.log(2))
  end)
  it("keep binary cross entropy finite", function()
    near(ai.f.bce_loss(ai.tensor {0, 1, 0}, ai.tensor {0, 1, 1}, {reduction = "none"}), {0, 0, 100})
    near(ai.f.bce_with_logits(ai.tensor {1e4, -1e4, 1e4}, ai.tensor {1, 0, 0}, {reduction = "none"}), {0, 0, 1e4})
  end)
  it("refuse shapes that would broadcast", function() assert.has_error(function() ai.f.mse_loss(ai.zeros(3, 1), ai.zeros(3)) end) end)
end)

describe("multilabel_margin_loss", function()
  local x = ai.tensor({{0.1, 0.2, 0.4, 0.8}}, {dtype = "f64"})

  it("compares the classes of a list with those not on it; a number below 1 ends the list", function()
    near(ai.f.multilabel_margin_loss(x, labels {{4, 1, 0, 2}}), (0.4 + 0.6 + 1.1 + 1.3) / 4, 1e-12)       -- PyTorch's documented example
    near(ai.f.multilabel_margin_loss(x, labels {{4, 1, -1, 2}}), 0.85, 1e-12)
    near(ai.f.multilabel_margin_loss(x[1], labels {4, 1, 0, 0}, "none"), 0.85, 1e-12)
    near(ai.f.multilabel_margin_loss(x, labels {{0, 1, 2, 3}}), 0)
    near(ai.f.multilabel_margin_loss(x:to "bf16", labels {{4, 1, 0, 2}}):float(), 0.85, 1e-2)
  end)
  it("refuses other shapes and classes that there are not", function()
    assert.has_error(function() ai.f.multilabel_margin_loss(x, labels {4, 1, 0, 2}) end)
    assert.has_error(function() ai.f.multilabel_margin_loss(x, labels {{5, 0, 0, 0}}) end)
    assert.has_error(function() ai.f.multilabel_margin_loss(x, labels {{1, 0, 0, -7}}) end)
    assert.has_error(function() ai.f.multilabel_margin_loss(x, x) end)
  end)
end)

describe("the losses as layers", function()
  local a, b = ai.tensor {{1, 2}, {3, -1}}, ai.tensor {{0.5, 2}, {1, 1}}

  it("do what their ops do, options and all", function()
    local t = labels {1, 2}
    near(nn.MultiMarginLoss{margin = 2}(a, t), ai.f.multi_margin_loss(a, t, {margin = 2}):item())
    near(nn.MultiLabelMarginLoss()(a, labels {{1, 0}, {2, 0}}), ai.f.multilabel_margin_loss(a, labels {{1, 0}, {2, 0}}):item())
    near(nn.SoftMarginLoss{reduction = "sum"}(a, b), ai.f.soft_margin_loss(a, b, "sum"):item())
    near(nn.PoissonNLLLoss{full = true}(a, b), ai.f.poisson_nll_loss(a, b, {full = true}):item())
    near(nn.HingeEmbeddingLoss()(a, labels {{1, -1}, {1, 1}}), ai.f.hinge_embedding_loss(a, labels {{1, -1}, {1, 1}}):item())
    near(nn.MultiLabelSoftMarginLoss{weight = ai.tensor {1, 3}}(a, b), ai.f.multilabel_soft_margin_loss(a, b, ai.tensor {1, 3}):item())
  end)
  it("take a third tensor where the op does", function()
    local sides = labels {1, -1}
    near(nn.MarginRankingLoss{margin = 1}(a, b, ai.ones(2, 2)), ai.f.margin_ranking_loss(a, b, ai.ones(2, 2), 1):item())
    near(nn.CosineEmbeddingLoss()(a, b, sides), ai.f.cosine_embedding_loss(a, b, sides):item())
    near(nn.TripletMarginLoss{p = 1}(a, b, a * 2), ai.f.triplet_margin_loss(a, b, a * 2, {p = 1}):item())
    near(nn.GaussianNLLLoss()(a, b, b), ai.f.gaussian_nll_loss(a, b, b):item())
  end)
end)

describe("ComboLoss", function()
  it("is the weighted sum, and tells the parts", function()
    local x, y = ai.randn({3, 4}, {requires_grad = true}), ai.randn(3, 4)
    local combo = nn.ComboLoss{a = nn.L1Loss(), b = {nn.MSELoss(), 0.5}, c = {function(p, q) return (p - q):square():max() end, 0}}
    local total, parts = combo(x, y)
    assert.is_near(ai.l1_loss(x, y):item() + 0.5 * ai.mse_loss(x, y):item(), total:item(), 1e-6)
    assert.is_near(ai.mse_loss(x, y):item(), parts.b:item(), 1e-6)
    assert.is_false(parts.a.requires_grad)
    total:backward()
    assert.is_truthy(x.grad)
    local weighted = nn.ComboLoss{a = nn.L2Loss(), b = {nn.L1Loss(), 2}}
    local again = nn.from_spec(ai.json.decode(ai.json.encode(weighted:to_spec())))
    assert.are.equal(weighted(x, y):item(), again(x, y):item())
  end)

  it("refuses what is no loss, by its name", function()
    local function message_of(...)
      local ok, message = pcall(nn.ComboLoss, ...)
      assert.is_false(ok)
      return message
    end
    assert.matches("a table of losses by name is wanted", message_of())
    assert.matches("a table of losses by name is wanted", message_of{})
    assert.matches("a loss has the name 1; strings are wanted", message_of{nn.L1Loss()})
    assert.matches("'a' is a number; a loss or {loss, weight} is wanted", message_of{a = 3})
    assert.matches("the weight of 'a' is \"x\"; a number is wanted", message_of{a = {nn.L1Loss(), "x"}})
  end)
end)

describe("divergences of normal distributions", function()
  it("are 0 where the distributions are the same, and keep extreme variances finite", function()
    local z = ai.zeros(3)
    assert.are.equal(0, nn.kl_div_single_loss(z, z):abs():max():item())
    local mu, v = ai.randn(3), ai.randn(3)
    assert.is_true(nn.kl_div_pair_loss(mu, v, mu, v):abs():max():item() < 1e-6)
    assert.is_true(nn.kl_div_single_loss(z, z + 1000):isfinite():all():item())
    assert.is_near((math.exp(2) - 2 - 1) / 2, nn.kl_div_single_loss(z, z + 9, {clamp_max = 2})[1]:item(), 1e-5)
  end)

  it("refuse what is no tensor, and options that there are not", function()
    assert.has_error(function() nn.kl_div_single_loss(3, ai.zeros(1)) end)
    assert.is_truthy(select(2, pcall(nn.kl_div_single_loss, ai.zeros(1), nil)):find("log_var is nil; a tensor is wanted", 1, true))
    assert.is_truthy(select(2, pcall(nn.kl_div_pair_loss, ai.zeros(1), ai.zeros(1), 2, ai.zeros(1))):find("mu_q is 2; a tensor is wanted", 1, true))
    assert.is_truthy(select(2, pcall(nn.kl_div_single_loss, ai.zeros(1), ai.zeros(1), {clamp_mx = 1})):find("did you mean 'clamp_max'", 1, true))
  end)
end)

describe("AdaptiveLogSoftmaxWithLoss", function()
  local x, target = ai.randn(5, 8), ai.tensor({1, 4, 7, 12, 12}, {dtype = "i64"})
  local function message_of(f, ...)
    local ok, message = pcall(f, ...)
    assert.is_false(ok)
    return message
  end

  it("gives log probabilities that sum to 1, and those of the targets", function()
    local net = nn.AdaptiveLogSoftmaxWithLoss(12, {3, 8})
    local out, loss = net(x, target)
    assert.are.equal(8, net.in_features)
    local all = net:log_prob(x)
    assert.is_true((all:exp():sum{2} - 1):abs():max():item() < 1e-5)
    assert.is_true((all:gather(2, target:unsqueeze(2)):squeeze(2) - out):abs():max():item() < 1e-6)
    assert.is_near(-out:mean():item(), loss:item(), 1e-6)
    assert.is_true(net:predict(x):equal(all:argmax(-1)):item())
    assert.is_true((net(x, target * 0 + 2) - all:select(2, 2)):abs():max():item() < 1e-6)
    local again = nn.from_spec(ai.json.decode(ai.json.encode(net:to_spec())))
    again:load_state_dict(net:state_dict())
    assert.are.equal(loss:item(), select(2, again(x, target)):item())
    assert.is_true(nn.AdaptiveLogSoftmaxWithLoss(12, {3, 8}):load_state_dict(net:state_dict()):log_prob(x):equal(all):item())
  end)

  it("refuses cutoffs and targets that are none", function()
    assert.matches("cutoffs are {8, 3}; each above the one before", message_of(nn.AdaptiveLogSoftmaxWithLoss, 8, 12, {8, 3}))
    assert.matches("cutoffs are {3, 12}", message_of(nn.AdaptiveLogSoftmaxWithLoss, 8, 12, {3, 12}))
    local net = nn.AdaptiveLogSoftmaxWithLoss(8, 12, {3})
    assert.matches("a target is not between 1 and 12", message_of(net, x, target + 1))
    assert.matches("the targets are %(5%) of f32; integers, %(5%)", message_of(net, x, ai.ones(5)))
    assert.matches("the input is %(5, 7%); %(N, 8%)", message_of(net, ai.randn(5, 7), target))
  end)
end)
