--- Axes: from values to places, and the ticks between.

local scale = {}

---@class aijit.plot.Scale
---@field low number
---@field high number
---@field log boolean
---@field ticks {[1]: number, [2]: string}[] value and label
---@field place fun(value: number): number 0 to 1; beyond them outside

--- A step of 1, 2 or 5 times a power of ten, of which about `count` fit into a length.
local function nice(length, count)
  local rough = length / count
  local power = 10 ^ math.floor(math.log10(rough))
  local part = rough / power
  return (part < 1.5 and 1 or part < 3.5 and 2 or part < 7.5 and 5 or 10) * power
end

local suffixes = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}}

--- A tick's label: 0.05, 20k, 1e-5; as many decimals as the step has.
---@param value number
---@param step number
---@param largest? number on the axis; all its labels have one unit
---@return string
function scale.label(value, step, largest)
  if math.abs(value) < step * 1e-9 then return "0" end
  local size = math.max(math.abs(value), step)
  if size < 1e-4 or size >= 1e13 then return (("%.3g"):format(value):gsub("e([+-])0*(%d)", "e%1%2"):gsub("e%+", "e")) end
  local unit, suffix = 1, ""
  for _, pair in ipairs(suffixes) do
    if math.max(size, largest or 0) >= 10 * pair[1] then
      unit, suffix = pair[1], pair[2]
      break
    end
  end
  local decimals = math.ceil(-math.log10(step / unit) - 1e-9)
  return ("%." .. (decimals > 0 and math.min(decimals, 8) or 0) .. "f"):format(value / unit) .. suffix
end

local function linear(low, high, count)
  if low == high then
    local room = low == 0 and 1 or math.abs(low) * 0.1
    low, high = low - room, high + room
  end
  local step = nice(high - low, count)
  local ticks = {}
  for i = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do
    ticks[#ticks + 1] = {i * step, scale.label(i * step, step, math.max(math.abs(low), math.abs(high)))}
  end
  return {low = low, high = high, log = false, ticks = ticks, place = function(v) return (v - low) / (high - low) end}
end

local function power_label(power)
  if power >= -3 and power <= 4 then return ("%g"):format(10 ^ power) end
  return ("1e%d"):format(power)
end

local function logarithmic(low, high, count)
  local first, last = math.log10(low), math.log10(high)
  if last - first < 0.02 then first, last = first - 0.1, last + 0.1 end
  local ticks, stride = {}, math.max(1, math.ceil((last - first) / count))
  for power = math.ceil(first - 1e-9), math.floor(last + 1e-9) do
    if power % stride == 0 then ticks[#ticks + 1] = {10 ^ power, power_label(power)} end
  end
  -- Less than two powers of ten: between them too.
  if #ticks < 2 then
    local flat = linear(10 ^ first, 10 ^ last, count)
    ticks = {}
    for _, tick in ipairs(flat.ticks) do if tick[1] > 0 then ticks[#ticks + 1] = tick end end
  end
  return {low = 10 ^ first, high = 10 ^ last, log = true, ticks = ticks, place = function(v)
    return v > 0 and (math.log10(v) - first) / (last - first) or -math.huge
  end}
end

--- A scale over values.
---@param low number
---@param high number
---@param o {log?: boolean, count?: integer, room?: number} count: about so many ticks (6); room: part that is left free at both ends
---@return aijit.plot.Scale
function scale.of(low, high, o)
  local room, count = o.room or 0, o.count or 6
  if o.log and high > 0 then
    if low <= 0 then low = high * 1e-3 end
    local grow = (high / low) ^ room
    return logarithmic(low / grow, high * grow, count)
  end
  local more = (high - low) * room
  return linear(low - more, high + more, count)
end

return scale
