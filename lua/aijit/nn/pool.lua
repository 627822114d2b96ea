--- Pooling, and resizing without parameters.

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

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

--- Where the windows of one dimension begin, from 0: as many as the output has, spread over the input by a random number u of each
--- channel (Graham, 2014): floor((i + u) a) - floor(u a), a = (size - kernel) / (output - 1), the last one at the end. (N, C, output).
local function starts(u, size, kernel, output)
  local last = ai.full({u:size(1), u:size(2), 1}, size - kernel, {dtype = "i64", device = u.device})
  if output == 1 then return last end
  local step, at = (size - kernel) / (output - 1), f.unsqueeze(u, 3)
  local places = ((ai.arange(0, output - 2, 1, {dtype = u.dtype, device = u.device}) + at) * step):floor() - (at * step):floor()
  return f.cat({places:long(), last}, 3)
end

for n = 2, 3 do
  --- The largest element of windows that lie at random, so that a size is divided by any ratio. output_size, or output_ratio: that part
  --- of the input's. With return_indices also where in its channel each was. pool(x, samples): the random numbers, (N, C, n), from 0 to
  --- below 1, unless they are to be drawn.
  local Fractional = layer(("FractionalMaxPool%dd"):format(n), "kernel_size output_size=none output_ratio=none return_indices=false")
  nn[Fractional.__name] = Fractional
  Fractional.argument_rules = {output_ratio = function(value)
    for _, one in ipairs(type(value) == "table" and value or {value}) do
      if type(one) ~= "number" or not (one > 0 and one < 1) then return ("a number between 0 and 1, or a list of %d"):format(n) end
    end
    if type(value) == "table" and #value ~= n then return ("a number between 0 and 1, or a list of %d"):format(n) end
  end}

  function Fractional:check()
    if (self.output_size == nil) == (self.output_ratio == nil) then
      raise(("%s: one of output_size and output_ratio is wanted"):format(self:title()))
    end
  end

  function Fractional:forward(x, samples)
    if x:dim() ~= n + 2 then raise(("%s: the input is (%s); (N, C%s) is wanted"):format(self:title(), table.concat(x.shape, ", "), (", size"):rep(n))) end
    local batch, channels = x:size(1), x:size(2)
    if samples == nil then samples = ai.empty({batch, channels, n}, {dtype = "f32", device = x.device}):uniform_(0, 1) end
    if not ai.is_tensor(samples) or samples:dim() ~= 3 or samples:size(1) ~= batch or samples:size(2) ~= channels or samples:size(3) ~= n then
      raise(("%s: the random numbers are %s; (%d, %d, %d) is wanted"):format(self:title(),
        ai.is_tensor(samples) and "(" .. table.concat(samples.shape, ", ") .. ")" or "a " .. type(samples), batch, channels, n))
    end
    local function of(value, d) return type(value) == "table" and value[d] or value end
    local kernels, begin, sizes = {}, {}, {}
    for d = 1, n do
      local size, kernel = x:size(d + 2), of(self.kernel_size, d)
      local output = self.output_size and of(self.output_size, d) or math.floor(size * of(self.output_ratio, d))
      if output < 1 or output + kernel - 1 > size then
        raise(("%s: %d windows of %d do not fit a size of %d"):format(self:title(), output, kernel, size))
      end
      -- PyTorch takes the random numbers of two dimensions from the last one.
      begin[d], kernels[d], sizes[d] = starts(f.select(samples, 3, n == 2 and 3 - d or d), size, kernel, output), kernel, output
    end
    local best, where
    local function look(d, y, place)
      if d > n then
        local larger = best and f.gt(y, best)
        if self.return_indices then where = best and f.where(larger, place, where) or place end
        best = best and f.maximum(best, y) or y
        return
      end
      local shape = {batch, channels, unpack(sizes, 1, d)}
      for k = d + 1, n do shape[#shape + 1] = x:size(k + 2) end
      for offset = 0, kernels[d] - 1 do
        local at = begin[d] + offset
        for _ = 1, d - 1 do at = f.unsqueeze(at, 3) end
        for _ = d + 1, n do at = f.unsqueeze(at, -1) end
        local own = f.expand(at, shape)
        look(d + 1, f.gather(y, d + 2, own + 1), place * x:size(d + 2) + at)
      end
    end
    look(1, x, ai.zeros({batch, channels}, {dtype = "i64", device = x.device}):reshape(batch, channels, unpack(n == 2 and {1, 1} or {1, 1, 1})))
    if self.return_indices then return best, where + 1 end
    return best
  end
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
