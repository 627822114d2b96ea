--- Norms of generative models: m.norm.

local ai = require "aijit"
local functional = require "aijit.model.functional"
local raise = require("aijit.bindings.lib").raise

local nn = ai.nn
local norm = {}

--- Each position's vector of channels divided by the root of its mean square (Karras and others, 2018).
local PixelNorm = nn.layer("PixelNorm", "dim=2")
norm.PixelNorm = PixelNorm
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

return norm
