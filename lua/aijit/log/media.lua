--- What is logged beside numbers, texts and images, as the bytes or counts that loggers keep: histograms, sounds, videos, point
-- clouds. Each is made once, when the value is logged, so that it outlives the scope its tensors came from.

local ai = require "aijit"
local format = require "aijit.bindings.format"
local little = require("aijit.log.event").little

local media = {}

local function is_tensor(value) return type(value) == "cdata" and ai.is_tensor(value) end

local function shape_text(t)
  local sizes = {}
  for i = 1, t:dim() do sizes[i] = t:size(i) end
  return "(" .. table.concat(sizes, ", ") .. ")"
end

local function fail(...) error((...):format(select(2, ...)), 0) end

local function number(t) return t:item() end

---@class aijit.Histogram
---@field min number
---@field max number
---@field count integer finite values
---@field bad integer NaN and infinities, which are in nothing else
---@field sum number
---@field sum_squares number
---@field edges number[] upper ends of the bins
---@field counts integer[]

--- The distribution of a tensor's values: `bins` equal parts between the least and the greatest.
---@param value any a tensor of any shape and dtype, or a list of numbers
---@param bins? integer 64
---@return aijit.Histogram
function media.histogram(value, bins)
  bins = bins or 64
  if type(value) == "table" then value = ai.tensor(value, {dtype = "f64"}) end
  if not is_tensor(value) then fail("log_histogram: a tensor or a list of numbers is wanted, not %s", tostring(value)) end
  return ai.no_grad(function()
    return ai.scope(function()
      local x = value:detach():to("cpu"):to("f64"):reshape(-1)
      local finite = x:isfinite()
      local all = x:numel()
      local count = number(finite:sum())
      local result = {min = 0, max = 0, count = count, bad = all - count, sum = 0, sum_squares = 0, edges = {}, counts = {}}
      if count == 0 then return result end
      if count < all then x = x:masked_select(finite) end
      local low, high = number(x:amin()), number(x:amax())
      result.min, result.max, result.sum, result.sum_squares = low, high, number(x:sum()), number((x * x):sum())
      if low == high then
        result.edges, result.counts = {low}, {count}
        return result
      end
      local width = (high - low) / bins
      -- Positions from 1 to bins; the greatest value is in the last bin.
      local places = ((x - low) * (1 / width)):floor():clamp(0, bins - 1):to("i64") + 1
      local counts = ai.f.bincount(places, nil, bins):tolist()
      for i = 1, bins do
        result.edges[i] = i == bins and high or low + i * width
        result.counts[i] = counts[i] or 0
      end
      return result
    end)
  end)
end

---@class aijit.Sound
---@field wav string a WAV file of 16 bits
---@field rate integer samples a second
---@field channels integer
---@field frames integer

--- A sound as a WAV file. Samples of floats are from -1 to 1; louder ones are scaled down so that the loudest is 1.
---@param value any tensor (T), (C, T) or (T, C), C of 1 or 2; floats, or i16
---@param rate integer samples a second
---@return aijit.Sound
function media.sound(value, rate)
  if not is_tensor(value) then fail("log_audio: a tensor is wanted, not %s", tostring(value)) end
  if type(rate) ~= "number" or rate < 1 or rate % 1 ~= 0 or rate > 2 ^ 31 then
    fail("log_audio: the sample rate must be a whole number such as 16000, not %s", tostring(rate))
  end
  return ai.no_grad(function()
    return ai.scope(function()
      local x = value:detach():to("cpu")
      if x:dim() == 1 then x = x:unsqueeze(2)
      elseif x:dim() == 2 and x:size(1) <= 2 and x:size(2) > 2 then x = x:t() end
      if x:dim() ~= 2 or x:size(2) < 1 or x:size(2) > 2 or x:numel() == 0 then
        fail("log_audio: %s is no sound: (T), (C, T) or (T, C) with 1 or 2 channels is wanted", shape_text(value))
      end
      if x.dtype ~= "i16" then
        x = x:to("f32"):nan_to_num()
        local loudest = number(x:abs():amax())
        x = (x * (32767 / math.max(1, loudest))):round():clamp(-32768, 32767):to("i16")
      end
      local channels, data = x:size(2), x:tobytes()
      local head = "WAVEfmt " .. little(16, 4) .. little(1, 2) .. little(channels, 2) .. little(rate, 4)
        .. little(rate * channels * 2, 4) .. little(channels * 2, 2) .. little(16, 2) .. "data" .. little(#data, 4)
      return {wav = "RIFF" .. little(#head + #data, 4) .. head .. data, rate = rate, channels = channels, frames = x:size(1)}
    end)
  end)
end

--- The strength of a sound's frequencies over time as a picture: low ones below, in decibels from 80 under the strongest to it.
-- Windows of `n_fft` samples, Hann's, `hop` apart. Of several channels, their mean.
---@param value any tensor as `media.sound` takes it
---@param o? {n_fft?: integer, hop?: integer, max_frames?: integer} 512, a quarter of n_fft, 1000
---@return any tensor f32 (n_fft / 2 + 1, frames), from 0 to 1
function media.spectrogram(value, o)
  o = o or {}
  if not is_tensor(value) then fail("log_spectrogram: a tensor is wanted, not %s", tostring(value)) end
  return ai.no_grad(function()
    local x = value:detach():to("cpu"):to("f32"):nan_to_num()
    if x:dim() == 2 then x = x:mean(x:size(1) <= 2 and x:size(2) > 2 and 1 or 2) end
    if x:dim() ~= 1 or x:numel() == 0 then fail("log_spectrogram: %s is no sound: (T), (C, T) or (T, C) is wanted", shape_text(value)) end
    local n = o.n_fft or 512
    local hop, missing = o.hop or math.max(1, math.floor(n / 4)), n - x:numel()
    if missing > 0 then x = ai.cat({x, ai.zeros(missing)}, 1) end
    local frames = x:unfold(1, n, hop)
    local most = o.max_frames or 1000
    if frames:size(1) > most then frames = frames[{{1, most}, {}}] end
    local pairs_of = ai.fft.rfft(frames * ai.hann_window(n))
    local power = (pairs_of * pairs_of):sum(3)
    local level = (power + 1e-20):log() * (10 / math.log(10))
    level = level - number(level:amax())
    return (level:clamp(-80, 0) / 80 + 1):t():flip(1):contiguous()
  end)
end

---@class aijit.Video
---@field gif string
---@field height integer
---@field width integer
---@field channels integer
---@field frames integer

--- A video as an animated GIF.
---@param value any tensor (T, H, W), (T, C, H, W) or (T, H, W, C), C of 1 or 3; u8, or floats from 0 to 1; or a list of images
---@param fps? number frames a second (12); a GIF shows a frame for whole hundredths of a second
---@return aijit.Video
function media.video(value, fps)
  fps = fps or 12
  if type(fps) ~= "number" or not (fps >= 0.002 and fps <= 100) then fail("log_video: fps must be from 0.002 to 100, not %s", tostring(fps)) end
  local picture = require "aijit.log.picture"
  return ai.no_grad(function()
    return ai.scope(function()
      local frames = picture.gather(value)
      local gif = format.gif_write(nil, frames, math.max(1, math.floor(100 / fps + 0.5)))
      return {gif = gif, frames = frames:size(1), height = frames:size(2), width = frames:size(3), channels = frames:size(4)}
    end)
  end)
end

---@class aijit.Mesh
---@field vertices string f32, three for each point
---@field colors string? u8, three for each point
---@field faces string? i32, three for each triangle: numbers of points from 0
---@field n_vertices integer
---@field n_faces integer

local function rows_of_three(t, what)
  if not is_tensor(t) then fail("log_mesh: %s must be a tensor, not %s", what, tostring(t)) end
  if t:dim() == 3 and t:size(1) == 1 then t = t:squeeze(1) end
  if t:dim() ~= 2 or t:size(2) ~= 3 then fail("log_mesh: %s must be (N, 3), not %s", what, shape_text(t)) end
  return t:detach():to("cpu")
end

--- Points in space, with colours and triangles between them where they are given.
---@param vertices any tensor (N, 3)
---@param o? {colors?: any, faces?: any, max_points?: integer} colors: (N, 3), u8 or floats from 0 to 1; faces: (M, 3), numbers of
---  points from 1; max_points: a cloud without faces shows so many, evenly chosen (10000)
---@return aijit.Mesh
function media.mesh(vertices, o)
  o = o or {}
  return ai.no_grad(function()
    return ai.scope(function()
      local v = rows_of_three(vertices, "the points"):to("f32")
      local n, most = v:size(1), o.max_points or 10000
      local colors = o.colors and rows_of_three(o.colors, "colors")
      local faces = o.faces and rows_of_three(o.faces, "faces")
      if n == 0 then fail "log_mesh: there are no points" end
      if colors and colors:size(1) ~= n then fail("log_mesh: there are %d points and %d colours", n, colors:size(1)) end
      if colors and colors.dtype ~= "u8" then colors = (colors:to("f32"):clamp(0, 1) * 255):round():to("u8") end
      if faces then
        if faces:numel() > 0 and (number(faces:amin()) < 1 or number(faces:amax()) > n) then
          fail("log_mesh: faces name points from %d to %d, and there are %d, counted from 1", number(faces:amin()), number(faces:amax()), n)
        end
        faces = (faces:to("i64") - 1):to("i32")
      elseif n > most then
        local chosen = {}
        for i = 1, most do chosen[i] = math.floor((i - 1) * n / most) + 1 end
        local index = ai.tensor(chosen, {dtype = "i64"})
        v, colors, n = v:index_select(1, index), colors and colors:index_select(1, index), most
      end
      return {vertices = v:tobytes(), colors = colors and colors:tobytes(), faces = faces and faces:tobytes(), n_vertices = n,
        n_faces = faces and faces:size(1) or 0}
    end)
  end)
end

return media
