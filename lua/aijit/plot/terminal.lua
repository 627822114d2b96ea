--- Panels drawn with letters, each of which is two by four dots (Unicode's braille patterns).

local data = require "aijit.plot.data"
local figure = require "aijit.plot.figure"
local scale = require "aijit.plot.scale"

local terminal = {}

local paints = {"34", "33", "32", "31", "35", "36", "95", "90", "93", "96"}

-- What a dot adds to a pattern's number, by its row and column in the letter.
local bits = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}

local function braille(pattern)
  local code = 0x2800 + pattern
  return string.char(0xE0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

local function columns_of(text)
  local _, count = text:gsub("[%z\1-\127\194-\244]", "")
  return count
end

local function pad(text, width) return (" "):rep(width - columns_of(text)) .. text end

local function draw_panel(panel, style, o)
  local bounds = data.bounds(panel, o)
  local lines = {}
  if panel.title ~= "" then lines[1] = panel.title end
  if not bounds then
    lines[#lines + 1] = "  no finite values"
    return lines
  end
  local height = o.height
  local sy = scale.of(bounds[3], bounds[4], {log = o.log_y, count = math.max(2, math.floor(height / 3))})
  local widest = 0
  for _, tick in ipairs(sy.ticks) do widest = math.max(widest, #tick[2]) end
  local width = math.max(10, o.width - widest - 3)
  local sx = scale.of(bounds[1], bounds[2], {log = o.log_x, count = math.max(2, math.floor(width / 14))})

  local patterns, paint = {}, {}
  for row = 1, height do patterns[row], paint[row] = {}, {} end
  local function dot(x, y, color)
    if x < 0 or y < 0 or x >= 2 * width or y >= 4 * height then return end
    local row, column = math.floor(y / 4) + 1, math.floor(x / 2) + 1
    local bit_of = bits[y % 4 + 1][x % 2 + 1]
    local now = patterns[row][column] or 0
    if math.floor(now / bit_of) % 2 == 0 then patterns[row][column] = now + bit_of end
    paint[row][column] = color
  end
  for i, curve in ipairs(panel.curves) do
    local color = style(curve, i)
    local values, before = o.smooth and data.smooth(curve.y, o.smooth) or curve.y, nil
    for k, value in ipairs(values) do
      local x, y = sx.place(curve.x[k]), sy.place(value)
      if x - x ~= 0 or y - y ~= 0 then
        before = nil
      else
        local point = {math.floor(x * (2 * width - 1) + 0.5), math.floor((1 - y) * (4 * height - 1) + 0.5)}
        if before and panel.kind ~= "scatter" then
          local steps = math.max(math.abs(point[1] - before[1]), math.abs(point[2] - before[2]), 1)
          for s = 1, math.min(steps, 4 * width + 8 * height) do
            dot(math.floor(before[1] + (point[1] - before[1]) * s / steps + 0.5), math.floor(before[2] + (point[2] - before[2]) * s / steps + 0.5), color)
          end
        else
          dot(point[1], point[2], color)
        end
        before = point
      end
    end
  end

  local labels = {}
  for _, tick in ipairs(sy.ticks) do
    local row = math.floor((1 - sy.place(tick[1])) * (4 * height - 1) / 4) + 1
    if row >= 1 and row <= height then labels[row] = tick[2] end
  end
  for row = 1, height do
    local parts, last = {pad(labels[row] or "", widest), labels[row] and " ┤" or " │"}, nil
    for column = 1, width do
      local pattern = patterns[row][column]
      local color = o.color and pattern and paints[(paint[row][column] - 1) % #paints + 1] or nil
      if color ~= last then
        parts[#parts + 1] = color and "\27[" .. color .. "m" or "\27[0m"
        last = color
      end
      parts[#parts + 1] = pattern and braille(pattern) or " "
    end
    if last then parts[#parts + 1] = "\27[0m" end
    lines[#lines + 1] = (table.concat(parts):gsub(" +$", ""))
  end
  local axis, names = {}, (" "):rep(width)
  for column = 1, width do axis[column] = "─" end
  for _, tick in ipairs(sx.ticks) do
    local column = math.floor(sx.place(tick[1]) * (width - 1)) + 1
    if column >= 1 and column <= width then
      axis[column] = "┬"
      local at = math.max(1, math.min(column - math.floor(#tick[2] / 2), width - #tick[2] + 1))
      if names:sub(at, at + #tick[2]):match "^ *$" and (at == 1 or names:sub(at - 1, at - 1) == " ") then
        names = names:sub(1, at - 1) .. tick[2] .. names:sub(at + #tick[2])
      end
    end
  end
  lines[#lines + 1] = (" "):rep(widest) .. " └" .. table.concat(axis)
  lines[#lines + 1] = (" "):rep(widest + 2) .. names:gsub(" +$", "") .. (panel.x_label ~= "" and "  " .. panel.x_label or "")

  local legend = {}
  for i, curve in ipairs(panel.curves) do
    if curve.label ~= "" then
      local last = curve.y[#curve.y]
      local text = ("%s %s"):format(curve.label, last and ("(%.4g)"):format(last) or "")
      if o.color then
        legend[#legend + 1] = ("\27[%sm━━\27[0m %s"):format(paints[(style(curve, i) - 1) % #paints + 1], text)
      else
        legend[#legend + 1] = text
      end
    end
  end
  if #legend > 0 then lines[#lines + 1] = (" "):rep(widest + 2) .. table.concat(legend, "   ") end
  return lines
end

--- Panels below each other, as text.
---@param panels aijit.plot.Panel[]
---@param o {width?: integer, height?: integer, color?: boolean, smooth?: number, log_x?: boolean, log_y?: boolean} width (80), height
---  (15) in letters
---@return string
function terminal.draw(panels, o)
  local how = {width = o.width or 80, height = o.height or 15, color = o.color, smooth = o.smooth, log_x = o.log_x, log_y = o.log_y}
  local style, lines = figure.styles(panels), {}
  for i, panel in ipairs(panels) do
    if i > 1 then lines[#lines + 1] = "" end
    for _, line in ipairs(draw_panel(panel, style, how)) do lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n") .. "\n"
end

return terminal
