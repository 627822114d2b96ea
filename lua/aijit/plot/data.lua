--- What is plotted: curves out of the logs of runs, or out of tables, in panels.

local data = {}

---@class aijit.plot.Curve
---@field label string
---@field x number[]
---@field y number[]
---@field phase string? "train", "valid": which of a pair is dashed
---@field run string? curves of one run have one colour

---@class aijit.plot.Panel
---@field title string
---@field curves aijit.plot.Curve[]
---@field x_label string
---@field kind "line"|"scatter"

local special = {NaN = 0 / 0, Infinity = math.huge, ["-Infinity"] = -math.huge}
local about = {t = true, step = true, epoch = true, samples = true, phase = true, elapsed = true}

--- The numbers of a run, by name: {step =, time =, epoch =, value =} lists. Reads DIR/log.jsonl; lines that do not parse, as one
-- that a crash tore, are left out.
---@param dir string folder of a run, or the file itself
---@return table<string, {step: number[], time: number[], epoch: number[], value: number[]}>
function data.read(dir)
  local json = require "aijit.json"
  local path = dir:match "%.jsonl$" and dir or dir .. "/log.jsonl"
  local handle = io.open(path, "rb")
  if not handle then error(("plot: there is no log '%s': a run's folder has it when its loggers have ai.log.Jsonl"):format(path), 0) end
  local series, first = {}, nil
  for line in handle:lines() do
    local ok, value = pcall(json.decode, line)
    if ok and type(value) == "table" then
      -- log.log_value writes {"name":, "value":}
      if type(value.name) == "string" and value.value ~= nil then value[value.name], value.name, value.value = value.value, nil, nil end
      first = first or value.t
      for name, number in pairs(value) do
        number = special[number] or number
        if type(number) == "number" and not about[name] then
          local s = series[name]
          if not s then
            s = {step = {}, time = {}, epoch = {}, value = {}}
            series[name] = s
          end
          local n = #s.value + 1
          s.value[n], s.step[n] = number, type(value.step) == "number" and value.step or n
          s.time[n] = type(value.t) == "number" and value.t - first or n
          s.epoch[n] = type(value.epoch) == "number" and value.epoch or n
        end
      end
    end
  end
  handle:close()
  return series
end

--- The mean of a curve so far, by which older values count less: as TensorBoard smooths, without a bias to zero.
---@param values number[]
---@param weight number 0 to 1
---@return number[]
function data.smooth(values, weight)
  local result, last, count = {}, 0, 0
  for i, value in ipairs(values) do
    if value - value ~= 0 then
      result[i] = value
    else
      last, count = last * weight + (1 - weight) * value, count + 1
      result[i] = last / (1 - weight ^ count)
    end
  end
  return result
end

local function short(dir) return (dir:gsub("/+$", ""):match "([^/]+/[^/]+)$" or dir):gsub("/log%.jsonl$", "") end

local function wanted(name, names)
  if not names or #names == 0 then return true end
  for _, pattern in ipairs(names) do
    local plain = "^" .. pattern:gsub("%p", "%%%0"):gsub("%%%*", ".*") .. "$"
    if name:match(plain) or name:gsub("^[^/]*/", ""):match(plain) then return true end
  end
  return false
end

--- Panels of runs: train/loss and valid/loss of all runs stand in the panel "loss".
---@param dirs string[]
---@param o {names?: string[], x?: "step"|"time"|"epoch"}
---@return aijit.plot.Panel[]
function data.of_runs(dirs, o)
  local by_title, panels = {}, {}
  for _, dir in ipairs(dirs) do
    local series, names = data.read(dir), {}
    for name in pairs(series) do if wanted(name, o.names) then names[#names + 1] = name end end
    table.sort(names)
    for _, name in ipairs(names) do
      local phase, title = name:match "^([^/]+)/(.+)$"
      if not phase then title = name end
      local panel = by_title[title]
      if not panel then
        panel = {title = title, curves = {}, x_label = o.x or "step", kind = "line"}
        by_title[title] = panel
        panels[#panels + 1] = panel
      end
      local label = #dirs > 1 and short(dir) .. (phase and " " .. phase or "") or phase or name
      table.insert(panel.curves, {label = label, x = series[name][o.x or "step"], y = series[name].value, phase = phase, run = dir})
    end
  end
  table.sort(panels, function(a, b)
    -- The loss is what one looks at first.
    local first_a, first_b = a.title == "loss", b.title == "loss"
    if first_a ~= first_b then return first_a end
    return a.title < b.title
  end)
  return panels
end

local function numbers(value, what)
  if type(value) == "cdata" then value = value:reshape(-1):tolist() end
  if type(value) ~= "table" then error(("plot: %s is %s, not a list of numbers or a tensor"):format(what, tostring(value)), 0) end
  for i, number in ipairs(value) do
    if type(number) ~= "number" then error(("plot: %s: its value %d is %s, not a number"):format(what, i, tostring(number)), 0) end
  end
  return value
end

--- One panel of a table of curves: name -> list, tensor, or {x = list, y = list, kind = "line" or "scatter"}.
---@param curves table<string, any>
---@param o {title?: string, x_label?: string, kind?: "line"|"scatter"}
---@return aijit.plot.Panel[]
function data.of_table(curves, o)
  local names, panel = {}, {title = o.title or "", curves = {}, x_label = o.x_label or "", kind = o.kind or "line"}
  for name in pairs(curves) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    local given = curves[name]
    local x, y
    if type(given) == "table" and given.y ~= nil then
      y = numbers(given.y, tostring(name) .. ".y")
      x = given.x ~= nil and numbers(given.x, tostring(name) .. ".x")
      if given.kind ~= nil and given.kind ~= "line" and given.kind ~= "scatter" then
        error(("plot: %s.kind is '%s', and must be line or scatter"):format(tostring(name), tostring(given.kind)), 0)
      end
    else
      y = numbers(given, tostring(name))
    end
    if not x then
      x = {}
      for i = 1, #y do x[i] = i end
    end
    if #x ~= #y then error(("plot: %s has %d places and %d values"):format(tostring(name), #x, #y), 0) end
    table.insert(panel.curves, {label = type(name) == "string" and name or "", x = x, y = y,
      kind = type(given) == "table" and given.y ~= nil and given.kind or panel.kind})
  end
  return {panel}
end

local function finite(v) return v - v == 0 end

--- The least and the greatest of a panel's places and values, of those that are finite and, on a logarithmic axis, above zero.
---@param panel aijit.plot.Panel
---@param o {log_x?: boolean, log_y?: boolean}
---@return number[]? bounds x from, to, y from, to; nil: there is nothing to see
function data.bounds(panel, o)
  local b
  for _, curve in ipairs(panel.curves) do
    for i, y in ipairs(curve.y) do
      local x = curve.x[i]
      if finite(x) and finite(y) and not (o.log_x and x <= 0) and not (o.log_y and y <= 0) then
        b = b or {x, x, y, y}
        if x < b[1] then b[1] = x elseif x > b[2] then b[2] = x end
        if y < b[3] then b[3] = y elseif y > b[4] then b[4] = y end
      end
    end
  end
  return b
end

return data
