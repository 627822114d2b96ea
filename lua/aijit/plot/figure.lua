--- Panels drawn as a picture.

local Canvas = require "aijit.plot.canvas"
local data = require "aijit.plot.data"
local scale = require "aijit.plot.scale"

local figure = {}

-- The ten colours of Tableau, which are told apart well.
local colors = {
  {31, 119, 180}, {255, 127, 14}, {44, 160, 44}, {214, 39, 40}, {148, 103, 189}, {140, 86, 75}, {227, 119, 194}, {127, 127, 127},
  {188, 189, 34}, {23, 190, 207},
}
local ink, soft, grid = {50, 50, 50}, {110, 110, 110}, {228, 228, 228}
local letter_width, letter_height = Canvas.letter_width, Canvas.letter_height

--- The colours and dashes of curves: of several runs each has a colour, and validation is dashed; of one run each curve has a colour.
---@param panels aijit.plot.Panel[]
---@return fun(curve: aijit.plot.Curve, i: integer): integer, boolean place of a colour, dashed
function figure.styles(panels)
  local runs, order = {}, {}
  for _, panel in ipairs(panels) do
    for _, curve in ipairs(panel.curves) do
      if curve.run and not runs[curve.run] then
        order[#order + 1] = curve.run
        runs[curve.run] = #order
      end
    end
  end
  return function(curve, i)
    if #order > 1 and curve.run then return runs[curve.run], curve.phase ~= nil and curve.phase ~= "train" end
    return i, false
  end
end

-- Places of a curve's points; of many in one column of dots the least and the greatest are kept, in their order.
local function points_of(curve, values, sx, sy, box)
  local width, height = box[3] - box[1], box[4] - box[2]
  local points, column, low, high = {}, nil, nil, nil
  local function flush()
    if not low then return end
    if low[3] > high[3] then low, high = high, low end
    points[#points + 1] = low
    if high ~= low then points[#points + 1] = high end
    low, high = nil, nil
  end
  local many = #values > 3 * width
  for i, value in ipairs(values) do
    local x, y = sx.place(curve.x[i]), sy.place(value)
    if x - x ~= 0 or y - y ~= 0 then
      flush()
      if #points > 0 then points[#points + 1] = false end
    else
      local point = {box[1] + x * width, box[4] - math.max(-5, math.min(6, y)) * height, i}
      if not many then
        points[#points + 1] = point
      else
        local here = math.floor(point[1])
        if here ~= column then flush() end
        column = here
        if not low or point[2] < low[2] then low = point end
        if not high or point[2] > high[2] then high = point end
      end
    end
  end
  flush()
  return points
end

local function shortened(text, most)
  if #text <= most then return text end
  return most > 5 and text:sub(1, 2) .. ".." .. text:sub(-(most - 4)) or text:sub(1, most)
end

-- Which corner or side of the panel has the fewest points under a box of that size.
local function free_corner(all, box, width, height)
  local best, least
  for _, corner in ipairs {{box[3] - width - 10, box[2] + 10}, {box[1] + 10, box[2] + 10}, {box[3] - width - 10, box[4] - height - 10},
    {box[1] + 10, box[4] - height - 10}, {(box[1] + box[3] - width) / 2, box[2] + 10}, {box[3] - width - 10, (box[2] + box[4] - height) / 2},
    {(box[1] + box[3] - width) / 2, box[4] - height - 10}} do
    local count = 0
    for _, points in ipairs(all) do
      for i, p in ipairs(points) do
        local q = points[i + 1] or p
        -- A line passes under the box: its points, and two between them.
        for k = 0, p and q and 2 or -1 do
          local x, y = p[1] + (q[1] - p[1]) * k / 3, p[2] + (q[2] - p[2]) * k / 3
          if x >= corner[1] - 6 and x <= corner[1] + width + 6 and y >= corner[2] - 6 and y <= corner[2] + height + 6 then count = count + 1 end
        end
      end
    end
    if not least or count < least then best, least = corner, count end
  end
  return best[1], best[2]
end

local function legend(canvas, panel, all, style, box)
  local entries, width = {}, 0
  for i, curve in ipairs(panel.curves) do
    if curve.label ~= "" then
      local label = shortened(curve.label, 40)
      entries[#entries + 1] = {i, curve, label}
      width = math.max(width, Canvas.text_width(label))
    end
  end
  local room = math.floor((box[4] - box[2] - 30) / (letter_height + 4))
  if #entries < 1 or #panel.curves == 1 and panel.curves[1].label == panel.title or room < 1 then return end
  local shown = math.min(#entries, room)
  width = width + 52
  local height = shown * (letter_height + 4) + 8
  local x, y = free_corner(all, box, width, height)
  x, y = math.floor(x), math.floor(y)
  canvas:fill(x, y, width, height, {255, 255, 255}, 0.85)
  for _, side in ipairs {{x, y, width, 1}, {x, y + height - 1, width, 1}, {x, y, 1, height}, {x + width - 1, y, 1, height}} do
    canvas:fill(side[1], side[2], side[3], side[4], {205, 205, 205})
  end
  for k = 1, shown do
    local i, curve, label = unpack(entries[k])
    local color, dashed = style(curve, i)
    color = colors[(color - 1) % #colors + 1]
    local middle = y + 4 + (k - 1) * (letter_height + 4) + letter_height / 2
    if (curve.kind or panel.kind) == "scatter" then
      canvas:dots({{x + 22, middle}}, color, {box = {0, 0, canvas.width, canvas.height}})
    else
      canvas:line({{x + 8, middle}, {x + 36, middle}}, color, {width = 3, dash = dashed and {7, 4} or nil, box = {0, 0, canvas.width, canvas.height}})
    end
    canvas:text(x + 44, middle - letter_height / 2, k == shown and shown < #entries and ("and %d more"):format(#entries - shown + 1) or label, ink)
  end
end

local function draw_panel(canvas, panel, style, area, o)
  local bounds = data.bounds(panel, o)
  if panel.title ~= "" then
    canvas:text((area[1] + area[3]) / 2, area[2] + 6, shortened(panel.title, math.floor((area[3] - area[1]) / letter_width)), ink, "center")
  end
  if not bounds then
    canvas:text((area[1] + area[3]) / 2, (area[2] + area[4]) / 2, "no finite values", soft, "center")
    return
  end
  local sy = scale.of(bounds[3], bounds[4], {log = o.log_y, count = math.max(3, math.floor((area[4] - area[2]) / 70)), room = 0.04})
  local dots = panel.kind == "scatter"
  for _, curve in ipairs(panel.curves) do dots = dots or curve.kind == "scatter" or #curve.y == 1 end
  local sx = scale.of(bounds[1], bounds[2], {log = o.log_x, count = math.max(3, math.floor((area[3] - area[1]) / 110)), room = dots and 0.04 or 0})
  local widest = 0
  for _, tick in ipairs(sy.ticks) do widest = math.max(widest, Canvas.text_width(tick[2])) end
  local box = {area[1] + widest + 16, area[2] + letter_height + 18, area[3] - 22, area[4] - 2 * letter_height - 18}

  for _, tick in ipairs(sy.ticks) do
    local y = math.floor(box[4] - sy.place(tick[1]) * (box[4] - box[2]) + 0.5)
    if y >= box[2] and y <= box[4] then
      canvas:fill(box[1], y, box[3] - box[1], 1, grid)
      canvas:text(box[1] - 8, y - letter_height / 2 + 1, tick[2], soft, "right")
    end
  end
  for _, tick in ipairs(sx.ticks) do
    local x = math.floor(box[1] + sx.place(tick[1]) * (box[3] - box[1]) + 0.5)
    if x >= box[1] and x <= box[3] then
      canvas:fill(x, box[2], 1, box[4] - box[2], grid)
      canvas:text(math.min(x, canvas.width - Canvas.text_width(tick[2]) / 2 - 2), box[4] + 7, tick[2], soft, "center")
    end
  end
  canvas:text((box[1] + box[3]) / 2, box[4] + letter_height + 10, panel.x_label, soft, "center")

  local all = {}
  for i, curve in ipairs(panel.curves) do
    local color, dashed = style(curve, i)
    color = colors[(color - 1) % #colors + 1]
    local inside = {math.floor(box[1]), math.floor(box[2]) - 2, math.ceil(box[3]) + 3, math.ceil(box[4]) + 3}
    local points = points_of(curve, curve.y, sx, sy, box)
    if (curve.kind or panel.kind) == "scatter" then
      local list = {}
      for _, point in ipairs(points) do if point then list[#list + 1] = point end end
      canvas:dots(list, color, {part = 0.75, box = inside})
    else
      local smooth = o.smooth and #curve.y > 2
      if smooth then
        canvas:line(points, color, {width = 1.5, part = 0.25, box = inside})
        points = points_of(curve, data.smooth(curve.y, o.smooth), sx, sy, box)
      end
      canvas:line(points, color, {width = 2.4, dash = dashed and {9, 5} or nil, box = inside})
    end
    all[i] = points
  end
  canvas:fill(box[1], box[4], box[3] - box[1] + 1, 1, soft)
  canvas:fill(box[1], box[2], 1, box[4] - box[2], soft)
  legend(canvas, panel, all, style, box)
end

--- Panels beside and below each other.
---@param panels aijit.plot.Panel[]
---@param o {width?: integer, height?: integer, smooth?: number, log_x?: boolean, log_y?: boolean}
---@return aijit.Tensor u8 (height, width, 3)
function figure.draw(panels, o)
  local columns = #panels == 1 and 1 or #panels <= 4 and 2 or 3
  local rows = math.ceil(#panels / columns)
  local width = o.width or (#panels == 1 and 1000 or 600 * columns)
  local height = o.height or (#panels == 1 and 600 or 400 * rows)
  local canvas, style = Canvas(width, height), figure.styles(panels)
  for i, panel in ipairs(panels) do
    local column, row = (i - 1) % columns, math.floor((i - 1) / columns)
    draw_panel(canvas, panel, style, {math.floor(width * column / columns) + 6, math.floor(height * row / rows),
      math.floor(width * (column + 1) / columns), math.floor(height * (row + 1) / rows)}, o)
  end
  return canvas.tensor
end

return figure
