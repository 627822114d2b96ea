--- Forms in place, tensors like another, windows, and other functions that are made of ops in Lua under PyTorch's names.

local ai = require "aijit"
local f = ai.f

local function refused(text, fn, ...)
  local ok, why = pcall(fn, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(why):find(text, 1, true), tostring(why))
end
local function near(a, b, room)
  assert.are.same(a.shape, b.shape)
  assert.is_true(a:numel() == 0 or (a:double() - b:double()):abs():max():item() <= (room or 1e-12))
end

describe("in place", function()
  it("comparisons write 0 and 1 into the dtype that is there", function()
    local x = ai.tensor({1, 2, 3}, {dtype = "i64"})
    assert.are.equal(x:id(), x:gt_(1):id())
    assert.are.same({0, 1, 1}, x:totable())
    assert.are.equal("i64", x.dtype)
    assert.are.same({0, 0, 1}, ai.tensor{1, 2, 3}:greater_equal_(3):totable())
  end)

  it("running sums, triangles and products of matrices are written where x is", function()
    local base = ai.arange(9, {dtype = "f64"}):reshape(3, 3)
    for name, args in pairs {cumsum = {2}, cumprod = {1}, tril = {-1}, triu = {}, logical_not = {}, renorm = {2, 1, 0.5}} do
      local x = base:clone()
      x[name .. "_"](x, unpack(args))
      near(x, base[name](base, unpack(args)):double())
    end
    local x, a = base:clone(), base:t() / 7
    near(x:addmm_(a, base, {alpha = 2}), f.addmm(base, a, base, {alpha = 2}))
    local row = ai.zeros(2, 3)
    row[1]:cumsum_(1):add_(1):cumsum_(1)
    assert.are.same({{1, 2, 3}, {0, 0, 0}}, row:totable())
  end)

  it("a gradient flows through what was written", function()
    local x = ai.tensor({1, 2, 3}, {dtype = "f64", requires_grad = true})
    local y = x * 2
    y:cumsum_(1):sum():backward()
    assert.are.same({6, 4, 2}, x.grad:totable())
  end)

  it("what does not fit is refused, and nothing is written", function()
    local x = ai.tensor({1, 2}, {dtype = "i64"})
    refused("addmv_: the result is of floats", function() x:addmv_(ai.ones(2, 2), ai.ones(2)) end)
    refused("gt_: the result has sizes {3, 2}", function() x:gt_(ai.ones(3, 1)) end)
    refused("float_power_: the result is of f64", function() x:float_power_(2) end)
    refused("tril_: argument 1 (x) is 3", function() f.tril_(3) end)
    assert.are.same({1, 2}, x:totable())
  end)

  it("fill_diagonal_ sets the main diagonal, wraps when asked, and goes through more dimensions", function()
    assert.are.same({{5, 1}, {1, 5}, {1, 1}, {1, 1}}, ai.ones(4, 2):fill_diagonal_(5):totable())
    assert.are.same({{5, 1}, {1, 5}, {1, 1}, {5, 1}}, ai.ones(4, 2):fill_diagonal_(5, true):totable())
    local cube = ai.zeros(3, 3, 3):fill_diagonal_(2)
    assert.are.equal(6, cube:sum():item())
    for i = 1, 3 do assert.are.equal(2, cube[i][i][i]:item()) end
    assert.are.equal(0, ai.zeros(0, 3):fill_diagonal_(1):numel())
    refused("at least 2 are wanted", function() ai.ones(3):fill_diagonal_(1) end)
    refused("all must be equal", function() ai.ones(3, 3, 2):fill_diagonal_(1) end)
  end)
end)

describe("like another tensor", function()
  local x = ai.ones(2, 3, {dtype = "f64"})

  it("new_zeros and its kin have its dtype unless another is named", function()
    local z, o = x:new_zeros(4, 1), x:new_ones({2}, {dtype = "i32"})
    assert.are.same({{0}, {0}, {0}, {0}}, z:totable())
    assert.are.equal("f64", z.dtype)
    assert.are.same({1, 1}, o:totable())
    assert.are.equal("i32", o.dtype)
    assert.are.same({5, 0}, x:new_empty(5, 0).shape)
    assert.are.same({{7, 7}}, x:new_full({1, 2}, 7):totable())
    assert.are.equal("f64", x:new_tensor{1, 2}.dtype)
    local r = x:randint_like(3, 4)
    assert.is_true(r:ge(3):all():item() and r:le(4):all():item())
    assert.are.equal("f64", r.dtype)
  end)

  it("questions have answers in Lua's booleans", function()
    assert.is_true(x:is_same_size(ai.zeros(2, 3)))
    assert.is_false(x:is_same_size(ai.zeros(3, 2)) or x:is_same_size(ai.zeros(2, 3, 1)))
    assert.is_true(x:is_signed())
    assert.is_false(x:byte():is_signed() or x:bool():is_signed())
    assert.is_true(ai.tensor(2):is_nonzero() and ai.tensor(true):is_nonzero())
    assert.is_false(ai.tensor(0):is_nonzero() or ai.tensor(false):is_nonzero())
    refused("item: a tensor of 6 elements", function() x:is_nonzero() end)
    refused("positive: bools", function() x:bool():positive() end)
    assert.is_true(x:isreal():all():item())
  end)

  it("rsub subtracts the other way", function()
    assert.are.same({2, 1}, ai.tensor{1, 2}:rsub(3):totable())
    assert.are.same({1, -1}, ai.tensor{1, 2}:rsub(3, {alpha = 2}):totable())
    refused("unknown option alfa", function() ai.ones(1):rsub(1, {alfa = 2}) end)
  end)

  it("as_strided_scatter replaces a window, and both parts have gradients", function()
    local a, src = ai.zeros(3, 3, {requires_grad = true}), ai.ones(2, 2, {requires_grad = true})
    local y = a:as_strided_scatter(src, {2, 2}, {1, 2}, 1)
    assert.are.equal(4, y:sum():item())
    y:sum():backward()
    assert.are.equal(5, a.grad:sum():item())
    assert.are.same({{1, 1}, {1, 1}}, src.grad:totable())
    refused("src has sizes {1, 2}", function() a:as_strided_scatter(ai.ones(1, 2), {2, 2}, {1, 2}) end)
  end)

  it("unravel_index gives the coordinates of places in a row", function()
    local shape = {2, 3, 4}
    local at = ai.arange(24)
    local i, j, k = unpack(f.unravel_index(at, shape))
    assert.are.same(at:totable(), (((i - 1) * 3 + (j - 1)) * 4 + k):totable())
    refused("position 25 of 24", function() f.unravel_index(ai.tensor({25}, {dtype = "i64"}), shape) end)
    refused("position 0 of 24", function() f.unravel_index(ai.tensor({0}, {dtype = "i64"}), shape) end)
    refused("positions are integers", function() f.unravel_index(ai.ones(1), shape) end)
  end)

  it("logspace has even exponents", function()
    near(ai.logspace(-1, 2, 4, {dtype = "f64"}), ai.tensor({0.1, 1, 10, 100}, {dtype = "f64"}), 1e-13)
    assert.are.same({1, 2, 4, 8}, ai.logspace(0, 3, 4, 2):totable())
  end)
end)

describe("windows", function()
  it("of Bartlett rise and fall", function()
    assert.are.same({0, 0.5, 1, 0.5}, ai.bartlett_window(4):totable())
    assert.are.same({0, 0.5, 1, 0.5, 0}, ai.bartlett_window(5, false):totable())
    assert.are.same({1}, ai.bartlett_window(1):totable())
  end)

  it("of Kaiser are ratios of Bessel functions, also for a large beta", function()
    local n, beta = 6, 3.5
    local y = ai.kaiser_window(n, false, beta, {dtype = "f64"}):totable()
    for i = 0, n - 1 do
      local t = 2 * i / (n - 1) - 1
      local at = ai.tensor({beta * math.sqrt(1 - t * t), beta}, {dtype = "f64"}):i0():totable()
      assert.is_true(math.abs(y[i + 1] - at[1] / at[2]) < 1e-14)
    end
    near(ai.kaiser_window(n, true, beta, {dtype = "f64"}), ai.kaiser_window(n + 1, false, beta, {dtype = "f64"}):narrow(1, 1, n), 1e-14)
    local steep = ai.kaiser_window(7, {periodic = false, beta = 2000})
    assert.are.equal(1, steep[4]:item())
    assert.is_true(steep:eq(steep):all():item())
  end)
end)

describe("linear algebra and transforms", function()
  it("householder_product of one reflection is I - tau v v^T", function()
    local A, tau = ai.tensor({{9, 0}, {2, 9}, {3, 4}}, {dtype = "f64"}), ai.tensor({0.5}, {dtype = "f64"})
    local v = ai.tensor({{1}, {2}, {3}}, {dtype = "f64"})
    local whole = ai.eye(3, {dtype = "f64"}) - v:mm(v:t()) * 0.5
    near(ai.linalg.householder_product(A, tau), whole:narrow(2, 1, 2))
    near(ai.linalg.householder_product(ai.stack{A, A}, ai.stack{tau, tau})[2], whole:narrow(2, 1, 2))
    refused("householder_product: matrices of 2 x 3", ai.linalg.householder_product, A:t(), tau)
  end)

  it("linalg.vander has powers that rise, of batches too", function()
    assert.are.same({{{1, 2, 4}, {1, 3, 9}}}, ai.linalg.vander(ai.tensor{{2, 3}}, 3):totable())
  end)

  it("hfft is the transform of the mirrored signal, ihfft its inverse", function()
    local half = ai.randn(3, 4, 2, {dtype = "f64"})
    half:select(-1, 2):select(-1, 1):zero_()             -- a mean is real, and so is the middle of an even number
    half:select(-1, 2):select(-1, 4):zero_()
    local mirrored = half:narrow(2, 2, 2):flip({2}) * ai.tensor({1, -1}, {dtype = "f64"})
    local full = ai.fft.fft(ai.cat({half, mirrored}, 2), 0, 2)
    near(ai.fft.hfft(half), full:select(-1, 1), 1e-12)
    near(full:select(-1, 2), ai.zeros(3, 6, {dtype = "f64"}), 1e-12)
    for _, norm in ipairs {"backward", "ortho", "forward"} do
      near(ai.fft.ihfft(ai.fft.hfft(half, 6, -1, norm), 6, -1, norm), half, 1e-12)
      local real = ai.randn(4, 6, {dtype = "f64"})
      near(ai.fft.hfft2(ai.fft.ihfft2(real, nil, nil, norm), {4, 6}, nil, norm), real, 1e-12)
      near(ai.fft.hfftn(ai.fft.ihfftn(real, nil, nil, norm), {4, 6}, nil, norm), real, 1e-12)
    end
    refused("pairs in a last dimension", ai.fft.hfft, ai.ones(3))
  end)
end)

describe("networks' functions", function()
  it("lp_pool takes roots of sums of powers", function()
    local x = ai.tensor{{{3, 4, 0, 2}}}
    near(f.lp_pool1d(x, 2, 2), ai.tensor{{{5, 2}}}, 1e-5)
    near(f.lp_pool2d(ai.ones(1, 1, 4, 4), 1, 2, 1), ai.full({1, 1, 3, 3}, 4), 1e-5)
    assert.are.same({1, 1, 1, 1, 2}, f.lp_pool3d(ai.rand(1, 1, 2, 2, 4), 2, 2).shape)
    refused("norm_type is 0", f.lp_pool1d, x, 0, 2)
  end)

  it("gumbel_softmax falls on classes as often as softmax says, and hard choices have soft gradients", function()
    ai.manual_seed(5)
    local logits = ai.tensor({{0, 1, 2}}):expand(20000, 3)
    local often = f.gumbel_softmax(logits, {hard = true}):mean({1})
    near(often, ai.tensor{0, 1, 2}:softmax(1), 0.02)
    local x = ai.randn(2, 4, {requires_grad = true})
    local y = f.gumbel_softmax(x, 0.5, true)
    assert.are.same({1, 1}, y:detach():sum({2}):round(4):totable())
    y:square():sum():backward()
    assert.is_true(x.grad:abs():sum():item() > 0)
    refused("tau is 0", f.gumbel_softmax, x, 0)
  end)

  it("rrelu draws slopes when training, and takes their mean else", function()
    local x = ai.full({1000}, -1)
    near(f.rrelu(x), ai.full({1000}, -(1 / 8 + 1 / 3) / 2), 1e-6)
    local y = f.rrelu(x, {lower = 0.2, upper = 0.3, training = true})
    assert.is_true(y:le(-0.2):all():item() and y:ge(-0.3):all():item())
    assert.is_true(y:std():item() > 0.01)
    refused("lower must not be above", f.rrelu, x, 0.5, 0.1)
  end)

  it("feature_alpha_dropout drops whole channels and keeps mean and variance", function()
    ai.manual_seed(2)
    local y = f.feature_alpha_dropout(ai.randn(400, 50, 3), 0.3)
    assert.is_true(math.abs(y:mean():item()) < 0.03 and math.abs(y:var():item() - 1) < 0.03)
    local z = f.feature_alpha_dropout(ai.ones(100, 10, 4), 0.5)
    assert.is_true(z:eq(z:narrow(3, 1, 1)):all():item())
    local x = ai.ones(2, 2)
    assert.are.equal(x:id(), f.feature_alpha_dropout(x, 0.5, false):id())
    refused("p is 2", f.feature_alpha_dropout, x, 2)
  end)

  it("triplet_margin_with_distance_loss with the usual distance is triplet_margin_loss", function()
    local a, p, n = ai.randn(5, 3), ai.randn(5, 3), ai.randn(5, 3)
    for _, swap in ipairs {false, true} do
      near(f.triplet_margin_with_distance_loss(a, p, n, {swap = swap}), f.triplet_margin_loss(a, p, n, {swap = swap}), 1e-5)
    end
    local own = function(x, y) return (x - y):abs():sum({2}) end
    assert.are.same({5}, f.triplet_margin_with_distance_loss(a, p, n, {distance_function = own, reduction = "none"}).shape)
    refused("the reduction is", f.triplet_margin_with_distance_loss, a, p, n, {reduction = "avg"})
  end)
end)

it("what is no tensor is named, and so is a function that was mistyped", function()
  for name, param in pairs {new_zeros = "x", new_full = "x", rsub = "a", is_signed = "x", unravel_index = "indices", gumbel_softmax = "logits",
    rrelu = "x", feature_alpha_dropout = "x", lp_pool1d = "x", fill_diagonal_ = "x", triplet_margin_with_distance_loss = "anchor"} do
    refused(("%s: argument 1 (%s) is the string \"three\", where a tensor is wanted"):format(name, param), f[name], "three", {2})
  end
  refused("lp_pool1d: argument 3 (kernel_size) is nil", f.lp_pool1d, ai.ones(1, 1, 3), 2)
  refused("is_same_size: argument 2 (y) is 1", f.is_same_size, ai.ones(1), 1)
  refused("householder_product: argument 2 is 3", ai.linalg.householder_product, ai.ones(2, 2), 3)
  refused("did you mean ctc_loss?", function() return f.ctc_los end)
end)
