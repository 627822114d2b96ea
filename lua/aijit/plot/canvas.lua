--- A picture that is drawn on: rectangles, smooth lines and dots, and letters. Places are in dots, from 0 at the left and the top.

local ai = require "aijit"
local class = require "aijit.class"
local font = require "aijit.log.font"

---@class aijit.plot.Canvas
---@field width integer
---@field height integer
---@field tensor aijit.Tensor u8 (height, width, 3)
local Canvas = class("Canvas")

--- Letters are drawn twice as large as the font's dots.
local FACTOR = 2
Canvas.letter_width, Canvas.letter_height = (font.width + 1) * FACTOR, font.height * FACTOR

---@param width integer
---@param height integer
---@param background? integer[] red, green, blue; white
function Canvas:__init(width, height, background)
  self.width, self.height = width, height
  self.tensor = ai.full({height, width, 3}, 255, {dtype = "u8"})
  self._mask = ai.zeros({height, width}, {dtype = "f32"})
  if background then self:fill(0, 0, width, height, background) end
end

local function clip(value, low, high) return value < low and low or value > high and high or value end

local function blend(p, at, color, part)
  for c = 0, 2 do p[at + c] = p[at + c] + (color[c + 1] - p[at + c]) * part + 0.5 end
end

--- A rectangle, at whole dots.
function Canvas:fill(x, y, width, height, color, part)
  local p = self.tensor:data()
  for row = clip(y, 0, self.height), clip(y + height, 0, self.height) - 1 do
    for column = clip(x, 0, self.width), clip(x + width, 0, self.width) - 1 do
      blend(p, (row * self.width + column) * 3, color, part or 1)
    end
  end
end

--- How far (px, py) is from the line between two points.
local function distance(px, py, x1, y1, x2, y2)
  local dx, dy = x2 - x1, y2 - y1
  local length = dx * dx + dy * dy
  local t = length > 0 and clip(((px - x1) * dx + (py - y1) * dy) / length, 0, 1) or 0
  local ex, ey = px - x1 - t * dx, py - y1 - t * dy
  return math.sqrt(ex * ex + ey * ey)
end

--- Each dot's part under a line from one point to the next is kept in the mask; where two meet, the larger counts.
local function cover(self, x1, y1, x2, y2, radius, box)
  local m, w = self._mask:data(), self.width
  local left, right = math.max(box[1], math.floor(math.min(x1, x2) - radius - 1)), math.min(box[3] - 1, math.ceil(math.max(x1, x2) + radius + 1))
  for y = math.max(box[2], math.floor(math.min(y1, y2) - radius - 1)), math.min(box[4] - 1, math.ceil(math.max(y1, y2) + radius + 1)) do
    for x = left, right do
      local part = clip(radius + 0.5 - distance(x + 0.5, y + 0.5, x1, y1, x2, y2), 0, 1)
      if part > m[y * w + x] then m[y * w + x] = part end
    end
  end
end

-- Puts the colour where the mask is, and clears it.
local function paint(self, color, part, box)
  local p, m, w = self.tensor:data(), self._mask:data(), self.width
  for y = box[2], box[4] - 1 do
    for x = box[1], box[3] - 1 do
      local covered = m[y * w + x]
      if covered > 0 then
        blend(p, (y * w + x) * 3, color, covered * part)
        m[y * w + x] = 0
      end
    end
  end
end

--- A line through points, smooth at its edges, within a box.
---@param points number[][] {x, y}; false between two: a gap
---@param color integer[]
---@param o {width?: number, part?: number, dash?: number[], box: integer[]} dash: dots drawn and left out; box: left, top, right, bottom
function Canvas:line(points, color, o)
  local radius, dash, done = (o.width or 2) / 2, o.dash, 0
  for i = 2, #points do
    local a, b = points[i - 1], points[i]
    if a and b and not dash then
      cover(self, a[1], a[2], b[1], b[2], radius, o.box)
    elseif a and b then
      -- Piece by piece along the line.
      local length = math.sqrt((b[1] - a[1]) ^ 2 + (b[2] - a[2]) ^ 2)
      local at, period = 0, dash[1] + dash[2]
      while at < length do
        local phase = (done + at) % period
        local on = phase < dash[1]
        local step = math.min(length - at, (on and dash[1] or period) - phase)
        if on then
          local t, u = at / length, (at + step) / length
          cover(self, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t, a[1] + (b[1] - a[1]) * u, a[2] + (b[2] - a[2]) * u, radius, o.box)
        end
        at = at + math.max(step, 1e-3)
      end
      done = done + length
    end
  end
  for i = 1, #points do
    local lonely = points[i] and not points[i - 1] and not points[i + 1]
    if lonely then cover(self, points[i][1], points[i][2], points[i][1], points[i][2], radius * 3, o.box) end
  end
  paint(self, color, o.part or 1, o.box)
end

--- Round dots.
---@param points number[][] {x, y}
---@param color integer[]
---@param o {radius?: number, part?: number, box: integer[]}
function Canvas:dots(points, color, o)
  for _, point in ipairs(points) do cover(self, point[1], point[2], point[1], point[2], o.radius or 4, o.box) end
  paint(self, color, o.part or 1, o.box)
end

-- A letter's dots at twice the size, with corners cut as in EPX (E. Johnston, 1992).
local function doubled(rows)
  local result = {}
  local function at(y, x) return rows[y] and rows[y][x] or 0 end
  for y = 1, #rows do
    local upper, lower = {}, {}
    for x = 1, #rows[1] do
      local p, a, b, c, d = at(y, x), at(y - 1, x), at(y, x + 1), at(y, x - 1), at(y + 1, x)
      upper[2 * x - 1] = (c == a and c ~= d and a ~= b) and a or p
      upper[2 * x] = (a == b and a ~= c and b ~= d) and b or p
      lower[2 * x - 1] = (d == c and d ~= b and c ~= a) and c or p
      lower[2 * x] = (b == d and b ~= a and d ~= c) and d or p
    end
    result[2 * y - 1], result[2 * y] = upper, lower
  end
  return result
end

local shapes = {}

-- Four times as large, then two by two dots made one: smooth at the edges.
local function shape_of(letter)
  if shapes[letter] then return shapes[letter] end
  local rows = {}
  for y = 1, font.height do
    local dots = font.row(letter, y)
    rows[y] = {}
    for x = 1, font.width do rows[y][x] = dots:byte(x) == 35 and 1 or 0 end
  end
  local large, small = doubled(doubled(rows)), {}
  for y = 1, #large / 2 do
    small[y] = {}
    for x = 1, #large[1] / 2 do
      small[y][x] = (large[2 * y][2 * x] + large[2 * y - 1][2 * x] + large[2 * y][2 * x - 1] + large[2 * y - 1][2 * x - 1]) / 4
    end
  end
  shapes[letter] = small
  return small
end

--- The width of a text in dots.
---@param text string
---@return integer
function Canvas.text_width(text) return #font.plain(text) * Canvas.letter_width end

--- A text on one line; letters that the font lacks are boxes.
---@param x number left
---@param y number top
---@param text string
---@param color integer[]
---@param align? "left"|"center"|"right" of x
function Canvas:text(x, y, text, color, align)
  text = font.plain(text)
  local width = #text * Canvas.letter_width
  x = math.floor(align == "right" and x - width or align == "center" and x - width / 2 or x)
  y = math.floor(y)
  local p = self.tensor:data()
  for i = 1, #text do
    local shape = shape_of(text:sub(i, i))
    for row = 1, #shape do
      for column = 1, #shape[1] do
        local px, py = x + (i - 1) * Canvas.letter_width + column - 1, y + row - 1
        if shape[row][column] > 0 and px >= 0 and py >= 0 and px < self.width and py < self.height then
          blend(p, (py * self.width + px) * 3, color, shape[row][column])
        end
      end
    end
  end
end

return Canvas
