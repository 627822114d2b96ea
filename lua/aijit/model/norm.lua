--- Norms of generative models: m.norm.

local ai = require "aijit"
local functional = require "aijit.model.functional"
local raise = require("aijit.bindings.lib").raise

local nn = ai.nn
local norm = {}

--- Each position's vector of channels divided by the root of its mean square (Karras and others, 2018).
local PixelNorm = nn.layer("PixelNorm", "dim=2")
norm.PixelNorm = PixelNorm
PixelNorm.argument_rules = {dim = "position"}
function PixelNorm:forward(x) return functional.normalize_2nd_moment(x, self.dim) end

--- Adds nc channels that tell how much the samples of a group differ, so that a discriminator sees a lack of variety
--- (Karras and others, 2018): (N, C, H, W) -> (N, C + nc, H, W).
local MinibatchStd = nn.layer("MinibatchStd", "group_size=4 nc=1")
norm.MinibatchStd = MinibatchStd

function MinibatchStd:forward(x)
  local n, c, h, w = x:size(1), x:size(2), x:size(3), x:size(4)
  local g, k = math.min(self.group_size, n), self.nc
  if n % g ~= 0 or c % k ~= 0 then
    raise(("%s: %d samples do not divide into groups of %d, or %d channels by %d"):format(self:summary(), n, g, c, k))
  end
  local y = x:reshape(g, n / g, k, c / k, h, w)
  y = y - y:mean({1}, {keepdim = true})
  y = (y:square():mean({1}) + 1e-8):sqrt():mean({3, 4, 5}, {keepdim = true})       -- (n / g, k, 1, 1, 1)
  y = y:reshape(1, n / g, k, 1, 1):expand(g, n / g, k, h, w):reshape(n, k, h, w)
  return ai.cat({x, y}, 2)
end

--- Of instance and layer normalisation a learned mixture, then scaled and shifted by what a vector z says (Kim and others,
--- 2020): (N, C, H, W), (N, z_dim) -> (N, C, H, W); gamma = 1 + pixel_norm(fc(z)), beta = pixel_norm(fc(z)).
---@class aijit.model.AdaLIN: aijit.nn.Layer
---@field rho aijit.Tensor (1, C, 1, 1), 0.9 at first: the part of instance normalisation, kept between 0 and 1
local AdaLIN = nn.layer("AdaLIN", "channels z_dim eps=1e-05")
norm.AdaLIN = AdaLIN

function AdaLIN:build()
  local where = {dtype = self._where.dtype, device = self._where.device}
  self:parameter("rho", 1, self.channels, 1, 1)
  self.gamma = nn.Linear(self.z_dim, self.channels, where)
  self.beta = nn.Linear(self.z_dim, self.channels, where)
end

function AdaLIN:reset() nn.init.constant_(self.rho, 0.9) end
AdaLIN.init_params = AdaLIN.reset

local function standardized(x, dims, eps)
  local d = x - x:mean(dims, {keepdim = true})
  return d * (d:square():mean(dims, {keepdim = true}) + eps):rsqrt()
end

function AdaLIN:forward(x, z)
  if not ai.is_tensor(z) then raise(("%s: the second input is a %s; z, (N, %d), is wanted"):format(self:title(), type(z), self.z_dim)) end
  local rho = ai.f.clamp_max(ai.f.clamp_min(self.rho, 0), 1)
  local y = rho * standardized(x, {3, 4}, self.eps) + (1 - rho) * standardized(x, {2, 3, 4}, self.eps)
  local gamma, beta = functional.normalize_2nd_moment(self.gamma(z)), functional.normalize_2nd_moment(self.beta(z))
  return y * (gamma:reshape(-1, self.channels, 1, 1) + 1) + beta:reshape(-1, self.channels, 1, 1)
end

return norm
