--- output_shape and summary: what a model makes of an input's sizes, told without computing it.

local ai = require "aijit"
local meta = require "aijit.nn.meta"
local raise = require("aijit.bindings.lib").raise

local shape = {}

--- The sizes of the output for an input's sizes: m:output_shape(8, 3, 32, 32), m:output_shape{8, 3, 32, 32}. Nothing is
--- computed, allocated, drawn or changed; layers that wait for their sizes still wait afterwards. A size may be false: left
--- open; those that follow from it are false in the answer. Several inputs are several lists, {8, 5, dtype = "i64"} is one
--- of integers; a tensor stands for its sizes. Outputs in tables come as shapes in tables. Hooks are not run.
---@param ... integer|false|(integer|false)[]|aijit.Tensor
---@return (integer|false)[] ...
function shape:output_shape(...)
  local twin
  return meta.shapes("output_shape", function(...)
    twin = meta.shadow(self)
    return twin(...)
  end, ...)
end

-- -- Summary -------------------------------------------------------------------------------------------------

---@class aijit.nn.SummaryRow
---@field path string           the name in state_dict; "" for the model
---@field depth integer         0 for the model
---@field layer string          the call that makes it
---@field output any            the shape of its first output, or shapes in a table; nil if it was not run
---@field parameters integer    of its own and of what is below it, each counted once
---@field macs integer          multiplications with an addition, of its own and of what is below it
---@field bytes integer         of its parameters and buffers
---@field output_bytes integer  of all that it returned
---@field calls integer         how often it was run

---@class aijit.nn.Summary
---@field [integer] aijit.nn.SummaryRow
---@field parameters integer
---@field macs integer
---@field bytes integer         of all parameters and buffers
---@field output_bytes integer  of the outputs of all layers that have none below them
local Summary = {__name = "aijit.nn.Summary"}
Summary.__index = Summary

local function tensors_in(value, list)
  if ai.is_tensor(value) then list[#list + 1] = value
  elseif type(value) == "table" and getmetatable(value) == nil then
    for _, inner in pairs(value) do tensors_in(inner, list) end
  end
  return list
end

local function bytes_of(list)
  local total = 0
  for _, t in ipairs(list) do total = total + t:numel() * t:element_size() end
  return total
end

--- Gathers rows, parents first. A module with several names has one row, under the first.
local function rows_of(module, path, depth, list, seen)
  if seen[module] then return end
  seen[module] = true
  list[#list + 1] = {path = path, depth = depth, module = module, macs = 0, output_bytes = 0, calls = 0}
  for _, slot in ipairs(module:slots("module")) do
    rows_of(slot.value, path == "" and slot.name or path .. "." .. slot.name, depth + 1, list, seen)
  end
end

--- A table of the model for an input's sizes (as for output_shape): each module's path, layer, output shape, parameters,
--- multiply-accumulates and bytes; print shows it. Nothing is computed. MACs are those of matrix products and convolutions.
---@param ... any
---@return aijit.nn.Summary
function shape:shape_summary(...)
  local twin, rows, macs_of = meta.shadow(self), {}, require "aijit.nn.macs"
  rows_of(twin, "", 0, rows, {})
  local open = {}
  for _, sizes in ipairs {...} do
    if sizes == false or type(sizes) == "table" and sizes[1] == false then
      raise "summary: a size is false: bytes and multiplications want numbers, such as 1 for the batch"
    end
  end
  for _, row in ipairs(rows) do
    local module = row.module
    module:register_forward_pre_hook(function(_, ...) open[#open + 1] = {row = row, n = select("#", ...), ...} end)
    module:register_forward_hook(function(_, _, y)
      local call = table.remove(open)
      local own = macs_of(module, y, unpack(call, 1, call.n))
      row.macs = row.macs + own
      for _, outer in ipairs(open) do outer.row.macs = outer.row.macs + own end
      row.calls = row.calls + 1
      row.output_bytes = row.output_bytes + bytes_of(tensors_in(y, {}))
      row.output = row.output or meta.map(y, function(t) return {unpack(t.shape)} end)
    end)
  end
  meta.shapes("summary", function(...) return (twin(...)) end, ...)
  local summary = setmetatable({output_bytes = 0}, Summary)
  for i, row in ipairs(rows) do
    local module = row.module
    local list = {}
    module:each_tensor(function(_, tensor) list[#list + 1] = tensor end)
    row.parameters, row.bytes = module:num_parameters(), bytes_of(list)
    row.layer = #module:slots("module") > 0 and getmetatable(module).__name or module:call_text():gsub("^nn%.", "")
    row.module = nil
    summary[i] = row
  end
  for i, row in ipairs(summary) do
    local next_row = summary[i + 1]
    if not next_row or next_row.depth <= row.depth then summary.output_bytes = summary.output_bytes + row.output_bytes end
  end
  summary.parameters, summary.macs, summary.bytes = summary[1].parameters, summary[1].macs, summary[1].bytes
  return summary
end

local function commas(n)
  local digits = ("%d"):format(n):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (digits:gsub("^,", ""))
end

local function shape_text(value)
  if value == nil then return "-" end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  if next(value) == nil or type(value[1]) == "number" then
    for i, size in ipairs(value) do parts[i] = tostring(size) end
    return "(" .. table.concat(parts, ", ") .. ")"
  end
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do
    parts[i] = (type(key) == "string" and key .. " = " or "") .. shape_text(value[key])
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

function Summary:__tostring()
  local cells, width = {{"path", "layer", "output", "parameters", "MACs", "bytes"}}, {}
  for i, row in ipairs(self) do
    cells[i + 1] = {("  "):rep(row.depth - 1) .. (row.path == "" and "(model)" or row.path), row.layer, shape_text(row.output),
                    commas(row.parameters), commas(row.macs), commas(row.bytes)}
  end
  for _, line in ipairs(cells) do
    for c, text in ipairs(line) do width[c] = math.max(width[c] or 0, #text) end
  end
  local lines = {}
  for i, line in ipairs(cells) do
    for c, text in ipairs(line) do
      local space = (" "):rep(width[c] - #text)
      line[c] = c <= 3 and text .. space or space .. text
    end
    lines[i] = table.concat(line, "  ")
  end
  lines[#lines + 1] = ("%s parameters, %s MACs, %s bytes of weights and buffers, %s bytes of outputs"):format(
    commas(self.parameters), commas(self.macs), commas(self.bytes), commas(self.output_bytes))
  return table.concat(lines, "\n")
end

return shape
