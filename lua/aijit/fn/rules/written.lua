--- vmap's rules for quantiles and short Fourier transforms whose second argument differs from example to example: what the op's
--- rule in C does, written in ops that have rules.

local ai = require "aijit"
local Tensor = require "aijit.bindings.tensor"
local raise = require("aijit.bindings.lib").raise

---@param rules table<string, function>
---@param t aijit.fn.RuleTools
return function(rules, t)
  local spread, is_batched = t.spread, t.is_batched

  -- -- Quantiles ---------------------------------------------------------------------------------------------------------

  --- q lies from 0 to 1 in every example.
  local function check(name, q)
    local values = q
    while is_batched(values) do values = values.value end
    if values.device == "meta" or values:numel() == 0 then return end
    local low, high = values:amin():item(), values:amax():item()
    if not (low >= 0 and high <= 1) then raise(("%s: q is from %g to %g, and must be from 0 to 1"):format(name, low, high)) end
  end

  local PICK = {
    nearest = function(rank) return rank:round() end, higher = function(rank) return rank:ceil() end, lower = function(rank) return rank:floor() end,
  }

  local function quantile(name, x, q, dim, keepdim, interpolation)
    check(name, q)
    interpolation = interpolation or "linear"
    local rank_of_x, several = x:dim(), q:dim() == 1
    if q:dim() > 1 then raise(name .. ": q is a number or has one dimension") end
    if not PICK[interpolation] and interpolation ~= "linear" and interpolation ~= "midpoint" then
      raise(name .. ': the interpolation is "linear", "lower", "higher", "midpoint" or "nearest"')
    end
    if dim == nil or rank_of_x == 0 then x = x:reshape(-1) end
    local at = (dim == nil or rank_of_x == 0) and 1 or dim < 0 and rank_of_x + 1 + dim or dim
    local sorted = (x:movedim(at, -1):sort(-1))
    local n, row = sorted:size(-1), q:to(x.dtype):reshape(-1)
    local bad = sorted:isnan():to(x.dtype):sum(-1, true)
    local rank
    if name == "nanquantile" then rank = (n - 1 - bad):clamp(0) * row
    else rank = ai.f.where(bad:gt(0), n - 1, row * (n - 1) + bad * 0) end
    local function element(places) return sorted:gather(-1, places:long() + 1) end
    local y
    if PICK[interpolation] then y = element(PICK[interpolation](rank))
    else
      local floor = rank:floor()
      y = element(floor)
      local step = element(rank:ceil()) - y
      y = y + step * (interpolation == "midpoint" and 0.5 or rank - floor)
    end
    -- (rest..., Q): the sizes that keepdim keeps, then q first.
    if keepdim then
      if dim == nil then for _ = 1, rank_of_x do y = y:unsqueeze(1) end
      elseif rank_of_x > 0 then y = y:unsqueeze(at) end
    end
    if several then return y:movedim(-1, 1) end
    return y:squeeze(-1)
  end

  for _, name in ipairs {"quantile", "nanquantile"} do
    local same_for_all = rules[name]
    rules[name] = function(level, _, x, q, ...)
      if not is_batched(q, level) then return same_for_all(level, name, x, q, ...) end
      return spread(quantile(name, x, q, ...), level)
    end
  end

  -- -- Transforms of frames ---------------------------------------------------------------------------------------------

  local function lengths(name, n_fft, hop, length)
    hop, length = hop and hop > 0 and hop or math.floor(n_fft / 4), length and length > 0 and length or n_fft
    if length > n_fft then raise(("%s: n_fft %d and win_length %d do not go together"):format(name, n_fft, length)) end
    return hop, length
  end

  --- The window in the middle of n_fft places.
  local function centred(name, window, n_fft, length, dtype)
    if window:dim() ~= 1 or window:size(1) ~= length then raise(("%s: the window must have win_length, %d, elements"):format(name, length)) end
    local before = math.floor((n_fft - length) / 2)
    window = window:to(dtype)
    return length == n_fft and window or window:pad{before, n_fft - length - before}
  end

  local function stft(x, n_fft, hop_length, win_length, window, center, pad_mode, normalized)
    local hop, length = lengths("stft", n_fft, hop_length, win_length)
    local w, half = centred("stft", window, n_fft, length, x.dtype), math.floor(n_fft / 2)
    local one = x:dim() == 1
    if one then x = x:unsqueeze(1) end
    if center ~= false then x = x:unsqueeze(2):pad({half, half}, pad_mode or "reflect"):squeeze(2) end
    local frames = x:unfold(2, n_fft, hop) * w
    local y = ai.f.rfft_half(frames, -1, normalized and 1 / math.sqrt(n_fft) or 1):transpose(2, 3)
    return one and y:squeeze(1) or y
  end

  --- Frames (N, count, n_fft) added up where they lie.
  local function laid(frames, hop)
    local count, n = frames:size(2), frames:size(3)
    local y = ai.f.col2im(frames:transpose(2, 3), {1, n + hop * (count - 1)}, {1, n}, {stride = {1, hop}})
    return y:squeeze(2):squeeze(2)
  end

  local function istft(x, n_fft, hop_length, win_length, window, center, normalized, length_wanted)
    local hop, length = lengths("istft", n_fft, hop_length, win_length)
    local w = centred("istft", window, n_fft, length, x.dtype)
    local one = x:dim() == 3
    if one then x = x:unsqueeze(1) end
    local frames = ai.f.irfft_half(x:transpose(2, 3), 3, n_fft, normalized and 1 / math.sqrt(n_fft) or 1 / n_fft) * w
    local y, square = laid(frames, hop), laid((w * w):reshape(1, 1, n_fft):expand(1, frames:size(2), n_fft), hop)
    local first = center ~= false and math.floor(n_fft / 2) or 0
    local last = length_wanted and length_wanted > 0 and first + length_wanted or y:size(2) - first
    local have = math.min(last, y:size(2))
    y, square = y:narrow(2, first + 1, have - first), square:narrow(2, first + 1, have - first)
    y = y / square
    if have < last then y = y:pad{0, last - have} end
    return one and y:squeeze(1) or y
  end

  for name, written in pairs {stft = stft, istft = istft} do
    local same_for_all = rules[name]
    rules[name] = function(level, _, x, n_fft, hop_length, win_length, window, ...)
      if not is_batched(window, level) then return same_for_all(level, name, x, n_fft, hop_length, win_length, window, ...) end
      return spread(written(x, n_fft, hop_length, win_length, window, ...), level)
    end
  end

  -- -- Memory that is addressed -------------------------------------------------------------------------------------------

  --- Each example as it would lie by itself, in order.
  function rules.as_strided(level, name, x, size, stride, offset)
    local value = spread(x, level):contiguous()
    local sizes, strides, numel = {t.size(level), unpack(size)}, {0, unpack(stride)}, x:numel()
    strides[1] = numel
    local low, high = offset or 0, offset or 0
    for d, s in ipairs(size) do
      if s > 0 and stride[d] < 0 then low = low + (s - 1) * stride[d] elseif s > 0 then high = high + (s - 1) * stride[d] end
    end
    if low < 0 or high >= numel then
      raise(("%s: the sizes {%s} reach elements %d to %d of an example of %d"):format(name, table.concat(size, ", "), low, high, numel))
    end
    return Tensor.as_strided(value, sizes, strides, offset or 0)
  end
end
