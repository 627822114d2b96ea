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
---@field beta number?       of a Hamming window, 0.46

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

return window
