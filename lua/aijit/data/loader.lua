--- Batches of a dataset: `for features, labels in data.Loader(dataset, {batch_size = 8, shuffle = true}) do ... end`.
--
-- Each `for` goes through the dataset once; with `shuffle`, the next one in another order. The order is a function of the
-- seed and the epoch, and nothing else, so `loader:seek(epoch, batch)` takes up a run where it stopped.

local class = require "aijit.class"
local collate = require "aijit.data.collate"
local Dataset = require("aijit.data.dataset").Dataset
local nearest = require "aijit.nearest"
local order = require "aijit.data.order"

---@class aijit.Loader
local Loader = class("Loader")

local options = {
  batch_size = 1, shuffle = false, drop_last = false, seed = 0, collate = collate.batch, workers = 0, prefetch = 2,
}

local noticed = false

---@class aijit.LoaderOptions
---@field batch_size? integer
---@field shuffle? boolean
---@field drop_last? boolean
---@field seed? integer
---@field collate? fun(samples: any[][]): any[]
---@field workers? integer
---@field prefetch? integer

---@param dataset aijit.Dataset
---@param o? aijit.LoaderOptions
---  batch_size 1; drop_last: leave out a last batch that is not full; seed 0: of the shuffling; collate(samples): from a
---  list of samples, each a list of fields, to the batch's list of fields. workers, prefetch: threads that load and batches
---  they load ahead; until those threads are there, the calling thread does the work, and says so once.
function Loader:__init(dataset, o)
  if not class.is(dataset, Dataset) then
    error(("data.Loader: the first argument is a %s, not a dataset (a class derived from data.Dataset)"):format(type(dataset)), 3)
  end
  o = o or {}
  local names = {}
  for name in pairs(options) do names[#names + 1] = name end
  for name, value in pairs(o) do
    if options[name] == nil then
      error(("data.Loader: no option '%s'; %s"):format(tostring(name), nearest.hint(tostring(name), names)), 3)
    end
    if type(value) ~= type(options[name]) then
      error(("data.Loader: %s must be a %s, not %s"):format(name, type(options[name]), tostring(value)), 3)
    end
  end
  for name, default in pairs(options) do
    if o[name] == nil then self[name] = default else self[name] = o[name] end
  end
  if self.batch_size < 1 or self.batch_size ~= math.floor(self.batch_size) then
    error(("data.Loader: batch_size must be a whole number from 1 on, not %s"):format(tostring(self.batch_size)), 3)
  end
  self.dataset = dataset
  self.epoch = 1
  self._order, self._next = nil, 0
  if self.workers > 0 and not noticed then
    noticed = true
    io.stderr:write("data.Loader: threads that load data are not there yet: workers are accepted, this thread does the work\n")
  end
end

--- The number of batches in an epoch.
---@return integer
function Loader:size()
  local batches = self.dataset:size() / self.batch_size
  return self.drop_last and math.floor(batches) or math.ceil(batches)
end

--- Goes to a place: the next batch is number `batch` (from 1) of epoch `epoch` (from 1).
---@param epoch integer
---@param batch? integer
---@return aijit.Loader self
function Loader:seek(epoch, batch)
  self.epoch, self._next, self._order = epoch, (batch or 1) - 1, nil
  self._sought = true
  return self
end

--- Where it stands: how many batches of which epoch it has given. Plain data, for a checkpoint.
---@return {epoch: integer, batch: integer}
function Loader:state_dict() return {epoch = self.epoch, batch = self._next} end

--- Goes where `state_dict` found it.
---@param dict {epoch: integer, batch: integer}
---@return aijit.Loader self
function Loader:load_state_dict(dict) return self:seek(dict.epoch, dict.batch + 1) end

local function sample(self, index, ...)
  local fields = {n = select("#", ...), ...}
  if fields.n == 0 or fields[1] == nil then
    error(("data.Loader: sample %d: %s:get gave nothing"):format(index, self.dataset.__name), 0)
  end
  return fields
end

local function named(index, ok, ...)
  if ok then return ... end
  local problem = tostring((...))
  if problem:find("interrupted", 1, true) == 1 then error(problem, 0) end
  error(("data.Loader: sample %d: %s"):format(index, problem), 0)
end

local function load_batch(self, indices)
  local dataset = self.dataset
  if dataset.get_batch and self.collate == collate.batch then
    local fields = {pcall(dataset.get_batch, dataset, indices)}
    if not fields[1] then
      local problem = tostring(fields[2])
      if problem:find("interrupted", 1, true) == 1 then error(problem, 0) end
      error(("data.Loader: samples %d to %d of this epoch, the first one being %d: %s"):format(
        self._next + 1, self._next + #indices, indices[1], problem), 0)
    end
    table.remove(fields, 1)
    return fields
  end
  local samples = {}
  for i, index in ipairs(indices) do
    samples[i] = sample(self, index, named(index, pcall(dataset.get, dataset, index)))
  end
  local ok, fields = pcall(self.collate, samples)
  if not ok then
    error(("data.Loader: the batch of samples %s%s: %s"):format(
      table.concat(indices, ", ", 1, math.min(8, #indices)), #indices > 8 and ", ..." or "", tostring(fields)), 0)
  end
  return fields
end

--- The next batch of this epoch as a table of its fields; nil when the epoch is over, and then the next one begins.
---@return any[]?
function Loader:next_batch()
  local n = self.dataset:size()
  if not self._order then
    self._order = self.shuffle and order.shuffled(n, self.seed, self.epoch) or order.straight(n)
  end
  if self._next >= self:size() then
    self.epoch, self._next, self._order = self.epoch + 1, 0, nil
    return nil
  end
  local indices, first = {}, self._next * self.batch_size
  for i = 1, math.min(self.batch_size, n - first) do indices[i] = self._order[first + i] end
  local fields = load_batch(self, indices)
  self._next = self._next + 1
  return fields
end

-- In a generic `for` the loader is its own iterator: the control value is nil at the first call only.
function Loader:__call(_, control)
  if control == nil then
    if self._next > 0 and not self._sought then
      self.epoch, self._next, self._order = self.epoch + 1, 0, nil       -- the last `for` was left by a break
    end
  end
  self._sought = nil
  local fields = self:next_batch()
  if fields then return unpack(fields, 1, fields.n or #fields) end
end

return Loader
