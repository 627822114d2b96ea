--- A CSV file as a dataset: a row is a sample, of features f32 (F) and, where a target is named, what is to be told from them.

local ai = require "aijit"
local class = require "aijit.class"
local Dataset = require("aijit.data.dataset").Dataset
local file = require "aijit.bindings.file"
local nearest = require "aijit.nearest"
local option = require "aijit.data.option"

---@class aijit.CsvDataset: aijit.Dataset
---@field features any f32 (N, F)
---@field columns string[] names of the features
---@field targets any i64 (N), from 1, of a column of texts or with classes; else f32 (N)
---@field classes string[]? what the targets 1, 2, ... mean
local CsvDataset = class("CsvDataset", Dataset)

local function column(self, columns, keys, name, what)
  if columns[name] == nil then
    local names = {}
    for i, key in ipairs(keys) do names[i] = tostring(key) end
    error(("data.CsvDataset: %s: %s '%s' is no column; %s"):format(self.path, what, tostring(name), nearest.hint(tostring(name), names)), 4)
  end
  return columns[name]
end

local function classes_of(values)
  local list, place = {}, {}
  for _, v in ipairs(values) do
    if not place[v] then
      place[v] = true
      list[#list + 1] = v
    end
  end
  table.sort(list)
  for i, v in ipairs(list) do place[v] = i end
  local labels = {}
  for i, v in ipairs(values) do labels[i] = place[v] end
  for i, v in ipairs(list) do list[i] = tostring(v) end
  return list, labels
end

local function set_target(self, values, as_classes)
  if ai.is_tensor(values) and not as_classes and values.dtype ~= "bool" then
    self.targets = ai.keep(values:to "f32")
    return
  end
  local list = values
  if ai.is_tensor(values) then
    if values.dtype == "f64" and values:isnan():any():item() ~= 0 then
      error(("data.CsvDataset: %s: column '%s' is the target, and lacks a value"):format(self.path, tostring(self.target)), 4)
    end
    list = values:totable()
    for i, v in ipairs(list) do list[i] = type(v) == "boolean" and tostring(v) or v end
  end
  local labels
  self.classes, labels = classes_of(list)
  self.targets = ai.keep(ai.tensor(labels, {dtype = "i64"}))
end

---@param path string
---@param o? {features: (string|integer)[], target: string|integer, classes: boolean, delimiter: string, header: boolean, missing: string[]}
---  features: names of columns of numbers, or their places where there is no header (all but the target); target: the column that is
---  the label; classes: its numbers are classes (a column of texts always is); delimiter ","; header true; missing: words that stand
---  for no value, which is NaN
function CsvDataset:__init(path, o)
  if type(path) ~= "string" then error(("data.CsvDataset: the path is a %s, not a string"):format(type(path)), 3) end
  o = option.read("data.CsvDataset", o, {features = {}, target = "[any]", classes = true, delimiter = "", header = true, missing = {}})
  self.path, self.target = path, o.target
  local blob = file.open(path, false)
  self.sum = file.crc32(file.text(blob))
  local ok, columns, keys = pcall(require("aijit.io.csv").read, blob, {delimiter = o.delimiter, header = o.header, missing = o.missing})
  file.close(blob)
  if not ok then error((tostring(columns):gsub("^[^\n]-:%d+: ", "", 1)), 3) end
  local target = o.target ~= nil and column(self, columns, keys, o.target, "target")
  self.columns = o.features
  if not self.columns then
    self.columns = {}
    for _, key in ipairs(keys) do
      if key ~= o.target then self.columns[#self.columns + 1] = key end
    end
  end
  local list = {}
  for i, name in ipairs(self.columns) do
    local values = column(self, columns, keys, name, "feature")
    if not ai.is_tensor(values) then
      error(("data.CsvDataset: %s: column '%s' holds texts, such as %q; name the columns of numbers in features"):format(path, tostring(name),
        tostring(values[1])), 3)
    end
    list[i] = values:to "f32"
  end
  if #list == 0 then error(("data.CsvDataset: %s: there is no column of features"):format(path), 3) end
  self.features = ai.keep(ai.stack(list, 2))
  if target then set_target(self, target, o.classes) end
end

function CsvDataset:size() return self.features:size(1) end

function CsvDataset:get(index)
  option.index("data.CsvDataset", index, self:size())
  if self.targets then return self.features[index], self.targets[index] end
  return self.features[index]
end

--- Many samples at once: one copy a field.
---@param indices integer[]
---@return any features f32 (#indices, F)
---@return any? targets
function CsvDataset:get_batch(indices)
  local places = ai.tensor(indices, {dtype = "i64"})
  local x = self.features:index_select(1, places)
  if self.targets then return x, self.targets:index_select(1, places) end
  return x
end

function CsvDataset:describe(index) return ("%s, row %d"):format(self.path, index) end

--- Of the file's bytes.
function CsvDataset:version() return self.sum end

return CsvDataset
