--- Pooling, and resizing without parameters.

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer

local f = ai.f
local nn = {}

for n = 1, 3 do
  local max, avg, unpool = ("max_pool%dd"):format(n), ("avg_pool%dd"):format(n), ("max_unpool%dd"):format(n)
  local adaptive_avg, adaptive_max, lp = ("adaptive_avg_pool%dd"):format(n), ("adaptive_max_pool%dd"):format(n), ("lp_pool%dd"):format(n)

  --- The largest element of each window; the stride is the kernel's size unless given. With return_indices also where in
  -- its channel each was, which MaxUnpool takes.
  local MaxPool = layer(("MaxPool%dd"):format(n), "kernel_size stride=none padding=0 dilation=1 return_indices=false ceil_mode=false")
  nn[MaxPool.__name] = MaxPool
  function MaxPool:build()
    self._options = {stride = self.stride, padding = self.padding, dilation = self.dilation, ceil_mode = self.ceil_mode}
    self._pool = f[self.return_indices and max .. "_with_indices" or max]
  end
  function MaxPool:forward(x) return self._pool(x, self.kernel_size, self._options) end

  --- What MaxPool took apart: zeros, with the elements of x where the indices say. unpool(x, indices, output_size).
  local MaxUnpool = layer(("MaxUnpool%dd"):format(n), "kernel_size stride=none padding=0")
  nn[MaxUnpool.__name] = MaxUnpool
  function MaxUnpool:forward(x, indices, output_size)
    return f[unpool](x, indices, self.kernel_size, self.stride, self.padding, output_size)
  end

  --- The mean of each window; padding counts as zeros unless count_include_pad is false.
  local AvgPool = layer(("AvgPool%dd"):format(n), "kernel_size stride=none padding=0 ceil_mode=false count_include_pad=true")
  nn[AvgPool.__name] = AvgPool
  function AvgPool:build()
    self._options = {stride = self.stride, padding = self.padding, ceil_mode = self.ceil_mode,
                     count_include_pad = self.count_include_pad}
  end
  function AvgPool:forward(x) return f[avg](x, self.kernel_size, self._options) end

  --- The p-norm of each window, p being norm_type: the root of the sum of powers.
  local LPPool = layer(("LPPool%dd"):format(n), "norm_type kernel_size stride=none ceil_mode=false")
  nn[LPPool.__name] = LPPool
  function LPPool:build() self._options = {stride = self.stride, ceil_mode = self.ceil_mode} end
  function LPPool:forward(x) return f[lp](x, self.norm_type, self.kernel_size, self._options) end

  --- The mean over windows that make an output of a given size, whatever the input's.
  local AdaptiveAvgPool = layer(("AdaptiveAvgPool%dd"):format(n), "output_size")
  nn[AdaptiveAvgPool.__name] = AdaptiveAvgPool
  function AdaptiveAvgPool:forward(x) return f[adaptive_avg](x, self.output_size) end

  --- The largest element of such windows.
  local AdaptiveMaxPool = layer(("AdaptiveMaxPool%dd"):format(n), "output_size return_indices=false")
  nn[AdaptiveMaxPool.__name] = AdaptiveMaxPool
  function AdaptiveMaxPool:forward(x) return f[adaptive_max](x, self.output_size, self.return_indices) end
end

--- A larger or smaller image: (N, C, *size) -> (N, C, *size').
---@class aijit.nn.Upsample: aijit.nn.Layer
local Upsample = layer("Upsample", "size=none scale_factor=none mode=nearest align_corners=false recompute_scale_factor=false")
nn.Upsample = Upsample
function Upsample:build()
  self._options = {size = self.size, scale_factor = self.scale_factor, mode = self.mode, align_corners = self.align_corners,
                   recompute_scale_factor = self.recompute_scale_factor}
end
function Upsample:forward(x) return f.interpolate(x, self._options) end

return nn
