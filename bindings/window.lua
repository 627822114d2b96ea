--- Windows for short-time Fourier transforms.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local construct = require "aijit.bindings.construct"
local f = op.functions

local window = {}

-- sum of c[k] cos(2 pi k i / n), i = 0, 1, ...: of n points, and one more that is not kept when the window is periodic.
local function cosines(name, n, periodic, o, c)
  if type(periodic) == "table" then periodic, o = periodic.periodic, periodic end
  if periodic == nil then periodic = true end
  if type(n) ~= "number" or n < 0 then op.helper.bad(name, 1, "n", "a number of points", n) end
  o = o or {}
  local own = {dtype = o.dtype, device = o.device, requires_grad = o.requires_grad}
  if n <= 1 then return construct.ones(n, own) end
  local angle = construct.arange(0, n - 1, 1, {dtype = "f64", device = o.device}) * (2 * math.pi / (periodic and n or n - 1))
  local y = construct.full({n}, c[1], {dtype = "f64", device = o.device})
  for k = 2, #c do y = y + f.cos(angle * (k - 1)) * c[k] end
  y = f.cast(y, o.dtype or "f32")
  if o.requires_grad then lib.ok(lib.C.aj_set_requires_grad(y, true)) end
  return y
end

---@class aijit.WindowOptions: aijit.TensorOptions
---@field periodic boolean?  true: one period of a repeating window; false: symmetric
---@field alpha number?      of a Hamming window, 0.54
---@field beta number?       of a Hamming window, 0.46; of a Kaiser window, 12

--- The window of von Hann: 1/2 - 1/2 cos(2 pi i / n).
---@param n integer
---@param periodic boolean|aijit.WindowOptions?  true
---@param o aijit.WindowOptions?
---@return aijit.Tensor
function window.hann_window(n, periodic, o) return cosines("hann_window", n, periodic, o, {0.5, -0.5}) end

--- The window of Hamming: alpha - beta cos(2 pi i / n).
---@param n integer
---@param periodic boolean|aijit.WindowOptions?  true
---@param o aijit.WindowOptions?
---@return aijit.Tensor
function window.hamming_window(n, periodic, o)
  local from = type(periodic) == "table" and periodic or o or {}
  return cosines("hamming_window", n, periodic, o, {from.alpha or 0.54, -(from.beta or 0.46)})
end

--- The window of Blackman.
---@param n integer
---@param periodic boolean|aijit.WindowOptions?  true
---@param o aijit.WindowOptions?
---@return aijit.Tensor
function window.blackman_window(n, periodic, o) return cosines("blackman_window", n, periodic, o, {0.42, -0.5, 0.08}) end

-- form(t), t from -1 at the first point to 1 at the last: of n points, and one more that is not kept when the window is periodic.
local function curve(name, n, periodic, o, form)
  if type(periodic) == "table" then periodic, o = periodic.periodic, periodic end
  if periodic == nil then periodic = true end
  if type(n) ~= "number" or n < 0 then op.helper.bad(name, 1, "n", "a number of points", n) end
  o = o or {}
  if n <= 1 then return construct.ones(n, {dtype = o.dtype, device = o.device, requires_grad = o.requires_grad}) end
  local y = form(construct.arange(0, n - 1, 1, {dtype = "f64", device = o.device}) * (2 / (periodic and n or n - 1)) - 1)
  y = f.cast(y, o.dtype or "f32")
  if o.requires_grad then lib.ok(lib.C.aj_set_requires_grad(y, true)) end
  return y
end

--- Bartlett's window, a triangle: 1 - |2 i / n - 1|.
---@param n integer
---@param periodic boolean|aijit.WindowOptions?  true
---@param o aijit.WindowOptions?
---@return aijit.Tensor
function window.bartlett_window(n, periodic, o)
  return curve("bartlett_window", n, periodic, o, function(t) return f.sub(1, f.abs(t)) end)
end

--- Kaiser's window: I0(beta sqrt(1 - (2 i / n - 1)^2)) / I0(beta), of I0 the modified Bessel function (Kaiser, 1974).
---@param n integer
---@param periodic boolean|aijit.WindowOptions?  true
---@param beta number|aijit.WindowOptions?       12
---@param o aijit.WindowOptions?
---@return aijit.Tensor
function window.kaiser_window(n, periodic, beta, o)
  if type(periodic) == "table" then periodic, o = periodic.periodic, periodic end
  if type(beta) == "table" then beta, o = beta.beta, beta end
  beta = beta or o and o.beta or 12
  if type(beta) ~= "number" then op.helper.bad("kaiser_window", 3, "beta", "a number", beta) end
  return curve("kaiser_window", n, periodic, o, function(t)
    local root = f.sqrt(f.clamp_min(f.sub(1, f.square(t)), 0))
    local top = construct.full({}, math.abs(beta), {dtype = "f64", device = o and o.device})
    -- Both scaled by exp(-...), so that a large beta does not overflow.
    return f.mul(f.div(f.i0e(f.mul(root, math.abs(beta))), f.i0e(top)), f.exp(f.mul(f.sub(root, 1), math.abs(beta))))
  end)
end

return window
