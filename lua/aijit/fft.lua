--- Fourier transforms under the names of torch.fft: `ai.fft.rfft(x)`. Complex numbers are pairs, in a last dimension of
-- size 2 that `dim` does not count.

local f = require("aijit.bindings.op").functions
local construct = require "aijit.bindings.construct"
local Tensor = require "aijit.bindings.tensor"
local lib = require "aijit.bindings.lib"

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

-- Real in the other domain: the inverse transform of the conjugates, divided at the other end.
local OTHER = {backward = "forward", forward = "backward", ortho = "ortho"}
local function conjugate(x)
  if Tensor.size(x, -1) ~= 2 then lib.raise("fft: complex numbers are pairs in a last dimension of size 2, not " .. Tensor.size(x, -1)) end
  return f.mul(x, construct.tensor({1, -1}, {dtype = x.dtype, device = x.device}))
end
local function hermitian(name, to_real, dim_default)
  return function(x, n, dim, norm)
    if type(n) == "table" and n[1] == nil then n, dim, norm = n.n or n.s, n.dim, n.norm end
    norm = OTHER[norm or "backward"] or norm
    if to_real then return f[name](conjugate(x), n, dim or dim_default, norm) end
    return conjugate(f[name](x, n, dim or dim_default, norm))
  end
end
local of_symmetric = {
  hfft = hermitian("irfft", true, -1), hfft2 = hermitian("irfftn", true, {-2, -1}), hfftn = hermitian("irfftn", true),
  ihfft = hermitian("rfft", false, -1), ihfft2 = hermitian("rfftn", false, {-2, -1}), ihfftn = hermitian("rfftn", false),
}

--- The real transform of pairs x that are the first half of a signal equal to its own mirrored conjugate.
---@param x aijit.Tensor    pairs
---@param n integer?        reals of the result; an even number by default
---@param dim integer?      -1
---@param norm string?      "backward", "ortho" or "forward"
---@return aijit.Tensor
function fft.hfft(x, n, dim, norm) return of_symmetric.hfft(x, n, dim, norm) end
--- The inverse of hfft: the first half of the pairs whose transform is real x. Arguments as of hfft.
---@return aijit.Tensor
function fft.ihfft(x, n, dim, norm) return of_symmetric.ihfft(x, n, dim, norm) end
--- hfft over two dimensions; arguments as of fft2.
---@return aijit.Tensor
function fft.hfft2(x, s, dim, norm) return of_symmetric.hfft2(x, s, dim, norm) end
--- ihfft over two dimensions; arguments as of fft2, but x is real.
---@return aijit.Tensor
function fft.ihfft2(x, s, dim, norm) return of_symmetric.ihfft2(x, s, dim, norm) end
--- hfft over several dimensions; arguments as of fft2, all dimensions by default.
---@return aijit.Tensor
function fft.hfftn(x, s, dim, norm) return of_symmetric.hfftn(x, s, dim, norm) end
--- ihfft over several dimensions; arguments as of hfftn, but x is real.
---@return aijit.Tensor
function fft.ihfftn(x, s, dim, norm) return of_symmetric.ihfftn(x, s, dim, norm) end

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
