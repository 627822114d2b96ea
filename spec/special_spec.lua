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
