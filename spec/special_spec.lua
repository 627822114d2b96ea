--- ai.special: PyTorch's names, and polynomials against their definitions.

local ai = require "aijit"
local special = ai.special

local angles = ai.linspace(0.1, 3, 9, {dtype = "f64"})
local x = angles:cos()

local function near(a, b, room) assert.is_true((a - b):abs():max():item() <= (room or 1e-11)) end

it("Chebyshev's polynomials are cosines and sines of multiples of an angle", function()
  for n = 0, 12 do
    local half = angles / 2
    near(special.chebyshev_polynomial_t(x, n), (angles * n):cos())
    near(special.chebyshev_polynomial_u(x, n), (angles * (n + 1)):sin() / angles:sin())
    near(special.chebyshev_polynomial_v(x, n), (angles * (n + 0.5)):cos() / half:cos())
    near(special.chebyshev_polynomial_w(x, n), (angles * (n + 0.5)):sin() / half:sin())
    for _, kind in ipairs {"t", "u", "v", "w"} do
      near(special["shifted_chebyshev_polynomial_" .. kind]((x + 1) / 2, n), special["chebyshev_polynomial_" .. kind](x, n), 1e-10)
    end
  end
end)

it("the others are those of the tables, and satisfy their differential equations by our gradients", function()
  near(special.hermite_polynomial_h(x, 3), x ^ 3 * 8 - x * 12)
  near(special.hermite_polynomial_he(x, 4), x ^ 4 - x ^ 2 * 6 + 3)
  near(special.laguerre_polynomial_l(x, 3), (x ^ 3 * -1 + x ^ 2 * 9 - x * 18 + 6) / 6)
  near(special.legendre_polynomial_p(x, 3), (x ^ 3 * 5 - x * 3) / 2)
  local v = x:clone()
  v.requires_grad = true
  local n = 5
  local function derivatives(y)
    local first = ai.grad(y:sum(), {v}, {create_graph = true})[1]
    return first, ai.grad(first:sum(), {v}, {create_graph = true})[1]
  end
  local y = special.hermite_polynomial_h(v, n)
  local d, dd = derivatives(y)
  near(dd - v * d * 2 + y * (2 * n), x * 0, 1e-9)
  y = special.hermite_polynomial_he(v, n)
  d, dd = derivatives(y)
  near(dd - v * d + y * n, x * 0, 1e-9)
  y = special.laguerre_polynomial_l(v, n)
  d, dd = derivatives(y)
  near(v * dd + (1 - v) * d + y * n, x * 0, 1e-9)
  y = special.legendre_polynomial_p(v, n)
  d, dd = derivatives(y)
  near((1 - v ^ 2) * dd - v * d * 2 + y * (n * (n + 1)), x * 0, 1e-9)
end)

it("integers become floats, and NaN stays NaN", function()
  assert.are.same({17}, special.chebyshev_polynomial_t(ai.tensor({3}, {dtype = "i64"}), 2):totable())
  local y = special.legendre_polynomial_p(ai.tensor{0 / 0}, 0)
  assert.is_true(y:ne(y):item())
end)

it("a degree is one whole number", function()
  for _, n in ipairs {-1, 1.5, 1e9, "2", ai.ones(1)} do
    local ok, why = pcall(special.hermite_polynomial_h, x, n)
    assert.is_false(ok)
    assert.is_truthy(tostring(why):find("hermite_polynomial_h: the degree n is", 1, true))
  end
  local ok, why = pcall(special.shifted_chebyshev_polynomial_t, 3, 1)
  assert.is_false(ok)
  assert.is_truthy(tostring(why):find("shifted_chebyshev_polynomial_t: argument 1 (x) is 3", 1, true))
end)

it("names of ops stand here too, and what is no function does not", function()
  assert.are.same(ai.f.erfcx(x):totable(), special.erfcx(x):totable())
  assert.are.same(ai.f.i0(x):totable(), special.modified_bessel_i0(x):totable())
  assert.are.same(ai.f.sigmoid(x):totable(), special.expit(x):totable())
  assert.are.same({1}, special.spherical_bessel_j0(ai.zeros(1)):totable())
  near(special.spherical_bessel_j0(x), x:sin() / x)
  assert.is_nil(special.nonsense)
end)

-- x, Ai(x), Ai'(x), by mpmath 1.3 with 30 digits: mpmath.airyai(x), mpmath.airyai(x, derivative=1).
local AIRY = {
  {-40, -0.04593392343795725, -1.3890908752607184},
  {-9.5, 0.3191032477191282, -0.10809531881187124},
  {-9, -0.022133721547341404, -0.97566398092633159},
  {-8.75, -0.23823003845963551, -0.6738561861206686},
  {-5.5, 0.017781541276574976, 0.86419721777139839},
  {-2.25, 0.061598658777005278, 0.69501620670152866},
  {-0.5, 0.47572809161053959, -0.20408167033954739},
  {0, 0.35502805388781724, -0.2588194037928068},
  {0.75, 0.17933630547864523, -0.19317520810437646},
  {1.25, 0.099644544756916671, -0.12648662068538938},
  {1.5, 0.07174949700810541, -0.097382012842301319},
  {4, 0.00095156385120480187, -0.0019586409502041789},
  {9, 2.4711684308724898e-9, -7.4806413896589464e-9},
  {30, 3.2082175915504956e-49, -1.759876581432726e-48},
  {100, 2.6344821520881845e-291, -2.6351403616044099e-290},
}

it("airy_ai and its derivative are mpmath's to the last digits, in both precisions", function()
  for _, row in ipairs(AIRY) do
    local v = ai.tensor({row[1]}, {dtype = "f64"}):requires_grad_()
    local y = special.airy_ai(v)
    -- Left of 0 they swing: an error is one of the height of the waves there.
    local height = row[1] < 0 and (1 - row[1]) ^ -0.25 or math.abs(row[2])
    local steep = row[1] < 0 and 1 / height or math.abs(row[3])
    assert.is_true(math.abs(y:item() - row[2]) <= 2e-14 * height, row[1])
    local slope = ai.grad(y:sum(), {v}, {create_graph = true})[1]
    assert.is_true(math.abs(slope:item() - row[3]) <= 2e-14 * steep, row[1])
    assert.are.equal(slope:item(), ai.f.airy_ai_prime(v):item())
    near(ai.grad(slope:sum(), {v})[1], v * y, 0)
    assert.is_true(math.abs(special.airy_ai(v:float()):item() - row[2]) <= 3e-7 * height + 1e-45, row[1])
  end
end)

it("airy_ai joins its parts without a step, and falls to 0 on both sides", function()
  for _, at in ipairs {-9, -8.5, -0.5, 0.5, 1.5} do
    local pair = ai.tensor({at - 1e-9, at + 1e-9}, {dtype = "f64"})
    local y = special.airy_ai(pair)
    near((y[2] - y[1]) / (pair[2] - pair[1]), ai.f.airy_ai_prime(pair):mean(), 1e-6)
  end
  assert.are.same({0, 0}, special.airy_ai(ai.tensor {math.huge, -math.huge}):totable())
  assert.are.same({0}, special.airy_ai(ai.tensor {1e300}):totable())
  assert.is_true(special.airy_ai(ai.tensor {0 / 0}):isnan():item())
end)
