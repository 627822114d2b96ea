--- Special functions under the names of torch.special: `ai.special.bessel_j0(x)`. Most are ops of the table under one more name;
-- the orthogonal polynomials are made of ops by their recurrences (DLMF 18.9), and have gradients of any order.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local f = op.functions

local special = {}

-- name = the function's among the tensors'
local other = {modified_bessel_i0 = "i0", modified_bessel_i1 = "i1"}

-- next(x, k, before, here) is the polynomial of degree k + 1.
local function polynomial(name, first, following)
  return function(x, n)
    if type(n) ~= "number" or n < 0 or n % 1 ~= 0 or n > 10000 then
      lib.raise(("%s: the degree n is %s, and must be one whole number from 0 to 10000"):format(name, lib.describe(n)))
    end
    if not op.is_operand(x) then op.helper.bad(name, 1, "x", "a tensor", x) end
    if not op.is_symbol(x) and not Tensor.is_floating_point(x) then x = Tensor.float(x) end
    local before = f.add(f.mul(x, 0), 1)
    if n == 0 then return before end
    local here = first(x)
    for k = 1, n - 1 do before, here = here, following(x, k, before, here) end
    return here
  end
end

local function chebyshev(name, scale, shift)               -- p1 = scale x + shift, and 2 x p_k - p_(k-1)
  return polynomial(name, function(x) return f.add(f.mul(x, scale), shift) end,
    function(x, _, before, here) return f.sub(f.mul(f.mul(x, 2), here), before) end)
end
-- The same on 0 to 1.
local function shifted(name, scale, shift)
  local inner = chebyshev("shifted_" .. name, scale, shift)
  return function(x, n)
    if not op.is_operand(x) then op.helper.bad("shifted_" .. name, 1, "x", "a tensor", x) end
    return inner(f.sub(f.mul(x, 2), 1), n)
  end
end
local kinds = {t = {1, 0}, u = {2, 0}, v = {2, -1}, w = {2, 1}}
local made = {}
for kind, p in pairs(kinds) do
  local name = "chebyshev_polynomial_" .. kind
  made[name], made["shifted_" .. name] = chebyshev(name, p[1], p[2]), shifted(name, p[1], p[2])
end

local hermite_h = polynomial("hermite_polynomial_h", function(x) return f.mul(x, 2) end,
  function(x, k, before, here) return f.sub(f.mul(f.mul(x, 2), here), f.mul(before, 2 * k)) end)
local hermite_he = polynomial("hermite_polynomial_he", function(x) return x end,
  function(x, k, before, here) return f.sub(f.mul(x, here), f.mul(before, k)) end)
local laguerre = polynomial("laguerre_polynomial_l", function(x) return f.sub(1, x) end,
  function(x, k, before, here) return f.div(f.sub(f.mul(f.sub(2 * k + 1, x), here), f.mul(before, k)), k + 1) end)
local legendre = polynomial("legendre_polynomial_p", function(x) return x end,
  function(x, k, before, here) return f.div(f.sub(f.mul(f.mul(x, 2 * k + 1), here), f.mul(before, k)), k + 1) end)

--- Chebyshev's polynomial of the first kind, of degree n.
---@param x aijit.Tensor
---@param n integer
---@return aijit.Tensor
function special.chebyshev_polynomial_t(x, n) return made.chebyshev_polynomial_t(x, n) end
--- Chebyshev's polynomial of the second kind, of degree n.
---@return aijit.Tensor
function special.chebyshev_polynomial_u(x, n) return made.chebyshev_polynomial_u(x, n) end
--- Chebyshev's polynomial of the third kind, of degree n.
---@return aijit.Tensor
function special.chebyshev_polynomial_v(x, n) return made.chebyshev_polynomial_v(x, n) end
--- Chebyshev's polynomial of the fourth kind, of degree n.
---@return aijit.Tensor
function special.chebyshev_polynomial_w(x, n) return made.chebyshev_polynomial_w(x, n) end
--- chebyshev_polynomial_t of 2 x - 1.
---@return aijit.Tensor
function special.shifted_chebyshev_polynomial_t(x, n) return made.shifted_chebyshev_polynomial_t(x, n) end
--- chebyshev_polynomial_u of 2 x - 1.
---@return aijit.Tensor
function special.shifted_chebyshev_polynomial_u(x, n) return made.shifted_chebyshev_polynomial_u(x, n) end
--- chebyshev_polynomial_v of 2 x - 1.
---@return aijit.Tensor
function special.shifted_chebyshev_polynomial_v(x, n) return made.shifted_chebyshev_polynomial_v(x, n) end
--- chebyshev_polynomial_w of 2 x - 1.
---@return aijit.Tensor
function special.shifted_chebyshev_polynomial_w(x, n) return made.shifted_chebyshev_polynomial_w(x, n) end
--- Hermite's polynomial of degree n, orthogonal under exp(-x^2).
---@param x aijit.Tensor
---@param n integer
---@return aijit.Tensor
function special.hermite_polynomial_h(x, n) return hermite_h(x, n) end
--- Hermite's polynomial of degree n, orthogonal under exp(-x^2 / 2).
---@return aijit.Tensor
function special.hermite_polynomial_he(x, n) return hermite_he(x, n) end
--- Laguerre's polynomial of degree n.
---@return aijit.Tensor
function special.laguerre_polynomial_l(x, n) return laguerre(x, n) end
--- Legendre's polynomial of degree n.
---@return aijit.Tensor
function special.legendre_polynomial_p(x, n) return legendre(x, n) end

--- sin(x) / x, and 1 at 0: the spherical Bessel function of order 0.
---@param x aijit.Tensor
---@return aijit.Tensor
function special.spherical_bessel_j0(x) return f.sinc(f.div(x, math.pi)) end

return setmetatable(special, {__index = function(t, name)
  if type(name) ~= "string" then return nil end
  local of = other[name] or name
  if not (f[of] or op.faces[of] or op.later[of] or require("aijit.bindings.alias")[of]) then return nil end
  local fn = Tensor[of]
  rawset(t, name, fn)
  return fn
end})
