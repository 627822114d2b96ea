--- Fourier transforms under the names of torch.fft: `ai.fft.rfft(x)`. Complex numbers are pairs, in a last dimension of
-- size 2 that `dim` does not count.

local f = require("aijit.bindings.op").functions
local construct = require "aijit.bindings.construct"
local Tensor = require "aijit.bindings.tensor"

local fft = {}
local ops = {}
for name in ("fft ifft rfft irfft fftn ifftn rfftn irfftn"):gmatch "%S+" do ops[name] = true end

-- The same over two dimensions, the last ones by default.
local function two(name)
  return function(x, s, dim, norm)
    if type(s) == "table" and s[1] == nil then s, dim, norm = s.s, s.dim, s.norm end
    return f[name](x, s, dim or {-2, -1}, norm)
  end
end
local over_two = {fft2 = two "fftn", ifft2 = two "ifftn", rfft2 = two "rfftn", irfft2 = two "irfftn"}

--- fftn over two dimensions.
---@param x aijit.Tensor    pairs
---@param s integer[]?      the sizes to cut or fill up to
---@param dim integer[]?    {-2, -1}
---@param norm string?      "backward", "ortho" or "forward"
---@return aijit.Tensor
function fft.fft2(x, s, dim, norm) return over_two.fft2(x, s, dim, norm) end
--- ifftn over two dimensions; arguments as of fft2.
---@return aijit.Tensor
function fft.ifft2(x, s, dim, norm) return over_two.ifft2(x, s, dim, norm) end
--- rfftn over two dimensions; arguments as of fft2, but x is real.
---@return aijit.Tensor
function fft.rfft2(x, s, dim, norm) return over_two.rfft2(x, s, dim, norm) end
--- irfftn over two dimensions; arguments as of fft2.
---@return aijit.Tensor
function fft.irfft2(x, s, dim, norm) return over_two.irfft2(x, s, dim, norm) end

--- The frequencies of fft, in cycles per sample distance d: 0, 1, ..., -2, -1 divided by n d.
---@param n integer
---@param d number?  1
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function fft.fftfreq(n, d, o)
  local k = construct.arange(0, n - 1, 1, {dtype = "f64"})
  return Tensor.to((k - f.cast(f.ge(k, math.floor((n + 1) / 2)), "f64") * n) / (n * (d or 1)), o and o.dtype or "f32")
end
--- The frequencies of rfft: 0 to n / 2, divided by n d.
---@param n integer
---@param d number?  1
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function fft.rfftfreq(n, d, o)
  return Tensor.to(construct.arange(0, math.floor(n / 2), 1, {dtype = "f64"}) / (n * (d or 1)), o and o.dtype or "f32")
end

local function shift(x, dim, back)
  if type(dim) == "number" then dim = {dim} end
  if not dim then
    dim = {}
    for i = 1, Tensor.dim(x) do dim[i] = i end
  end
  local by = {}
  for i, d in ipairs(dim) do
    local n = Tensor.size(x, d)
    by[i] = back and -math.floor(n / 2) or math.floor(n / 2)
  end
  return f.roll(x, by, dim)
end
--- Frequency 0 moved to the middle, along dim or all dimensions (of pairs: name the dims, without the last).
---@param x aijit.Tensor
---@param dim integer|integer[]?
---@return aijit.Tensor
function fft.fftshift(x, dim) return shift(x, dim, false) end
--- The inverse of fftshift.
---@param x aijit.Tensor
---@param dim integer|integer[]?
---@return aijit.Tensor
function fft.ifftshift(x, dim) return shift(x, dim, true) end

return setmetatable(fft, {__index = function(t, name)
  if not ops[name] then return nil end
  local fn = f[name]
  rawset(t, name, fn)
  return fn
end})
