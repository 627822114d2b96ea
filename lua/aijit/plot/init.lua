--- Curves of runs and of lists, as a picture and in the terminal.
--
--   ai.plot "runs/mnist/run_1"                                -- a figure of all that the run logged; print(figure) shows it
--   ai.plot({"runs/a", "runs/b"}, {names = {"loss"}, smooth = 0.9}):save "loss.png"
--   ai.plot{train = losses, valid = {x = steps, y = values}}
--   ai.plot.scatter({lr = {x = rates, y = accuracies}}, {log_x = true}):save "lr.png"

local class = require "aijit.class"
local data = require "aijit.plot.data"

local plot = {}

---@class aijit.PlotOptions
---@field names? string[]    which numbers of a run: names as in its log or without their phase; `*` stands for any letters
---@field x? "step"|"time"|"epoch"  what a run's curves go over
---@field smooth? number     weight of the past in a mean, 0 to 1; the curve itself is drawn faintly
---@field log_x? boolean
---@field log_y? boolean
---@field title? string      of a table of curves
---@field x_label? string    of a table of curves
---@field width? integer     of the picture, in dots
---@field height? integer

---@class aijit.Figure
---@field panels aijit.plot.Panel[]
local Figure = class("Figure")

function Figure:__init(panels, o) self.panels, self.options = panels, o end

--- The picture.
---@return aijit.Tensor u8 (H, W, 3)
function Figure:image()
  local ai = require "aijit"
  return ai.no_grad(function() return require("aijit.plot.figure").draw(self.panels, self.options) end)
end

--- Writes the picture as PNG or JPEG, by the name's end.
---@param path string
---@return aijit.Figure self
function Figure:save(path)
  local ai = require "aijit"
  ai.scope(function() ai.save(self:image(), path) end)
  return self
end

--- The figure as text, for a terminal.
---@param o? {width?: integer, height?: integer, color?: boolean} width and height of a panel in letters (80, 15)
---@return string
function Figure:text(o)
  o = o or {}
  local how = {width = o.width, height = o.height, color = o.color, smooth = self.options.smooth, log_x = self.options.log_x, log_y = self.options.log_y}
  return require("aijit.plot.terminal").draw(self.panels, how)
end

function Figure:__tostring() return self:text() end

local known = {names = 1, x = 1, smooth = 1, log_x = 1, log_y = 1, title = 1, x_label = 1, width = 1, height = 1}
local axes = {step = true, time = true, epoch = true}

local function checked(o)
  for key in pairs(o) do
    if not known[key] then
      local names = {}
      for name in pairs(known) do names[#names + 1] = name end
      error(("plot: no option '%s'; %s"):format(tostring(key), require("aijit.nearest").hint(tostring(key), names)), 0)
    end
  end
  if o.smooth ~= nil and (type(o.smooth) ~= "number" or not (o.smooth >= 0 and o.smooth < 1)) then
    error(("plot: smooth must be from 0 to below 1, not %s"):format(tostring(o.smooth)), 0)
  end
  if o.x ~= nil and not axes[o.x] then error(('plot: x must be "step", "time" or "epoch", not %s'):format(tostring(o.x)), 0) end
  for _, name in ipairs {"width", "height"} do
    local value = o[name]
    if value ~= nil and (type(value) ~= "number" or value % 1 ~= 0 or value < 100 or value > 10000) then
      error(("plot: %s must be a whole number from 100 to 10000, not %s"):format(name, tostring(value)), 0)
    end
  end
  return o
end

local function panels_of(what, o, kind)
  if type(what) == "string" then return data.of_runs({what}, o) end
  if type(what) == "cdata" then what = {[o.title or "value"] = what} end
  if type(what) ~= "table" then error(("plot: a run's folder, or a table of curves is wanted, not %s"):format(tostring(what)), 0) end
  if type(what[1]) == "string" then return data.of_runs(what, o) end
  if type(what[1]) == "number" then what = {[o.title or "value"] = what} end
  return data.of_table(what, {title = o.title, x_label = o.x_label, kind = kind})
end

local function make(what, o, kind)
  local ok, result = pcall(function()
    o = checked(o or {})
    local panels = panels_of(what, o, kind)
    if #panels == 0 then error("plot: there are no numbers of these names", 0) end
    return Figure(panels, o)
  end)
  if not ok then error(result, 3) end
  return result
end

--- A figure of points instead of lines: of hyper-parameters and what came of them.
---@param what table<string, any> name -> {x = list, y = list}
---@param o? aijit.PlotOptions
---@return aijit.Figure
function plot.scatter(what, o) return make(what, o, "scatter") end

plot.read, plot.smooth = data.read, data.smooth

return setmetatable(plot, {
  __name = "aijit.plot",
  --- A figure: of a run's folder, of several, of a list, or of a table of curves.
  ---@param what string|string[]|number[]|aijit.Tensor|table<string, any>
  ---@param o? aijit.PlotOptions
  ---@return aijit.Figure
  __call = function(_, what, o) return make(what, o, "line") end,
})
