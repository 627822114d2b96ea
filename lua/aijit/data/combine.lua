--- Datasets made of others: joined, cut, split, mixed; and of tensors.

local ai = require "aijit"
local class = require "aijit.class"
local option = require "aijit.data.option"
local order = require "aijit.data.order"
local dataset = require "aijit.data.dataset"
local Dataset, IterableDataset = dataset.Dataset, dataset.IterableDataset

local combine = {}

-- A version that changes with each of the parts'.
local function mixed_version(list)
  local v = 17
  for _, one in ipairs(list) do v = (v * 31 + one:version()) % 2 ^ 31 end
  return v
end

-- -- Tensors -------------------------------------------------------------------------------------------------------------

--- Samples that are the rows of tensors.
---@class aijit.TensorDataset: aijit.Dataset
local TensorDataset = class("TensorDataset", Dataset)

---@param ... aijit.Tensor all of one first size
function TensorDataset:__init(...)
  self.tensors = {...}
  if #self.tensors == 0 then error("data.TensorDataset: one tensor or more is wanted", 3) end
  for i, t in ipairs(self.tensors) do
    if not ai.is_tensor(t) then error(("data.TensorDataset: argument %d is a %s, not a tensor"):format(i, type(t)), 3) end
    if t:dim() == 0 or t:size(1) ~= self.tensors[1]:size(1) then
      error(("data.TensorDataset: argument %d has %s rows where the first has %s"):format(i, t:dim() == 0 and "no" or t:size(1),
        self.tensors[1]:dim() == 0 and "no" or self.tensors[1]:size(1)), 3)
    end
  end
end

function TensorDataset:size() return self.tensors[1]:size(1) end

function TensorDataset:get(index)
  option.index("data.TensorDataset", index, self:size())
  local fields = {}
  for i, t in ipairs(self.tensors) do fields[i] = t[index] end
  return unpack(fields)
end

--- Many samples at once: one copy a field.
---@param indices integer[]
---@return any ...
function TensorDataset:get_batch(indices)
  local places, fields = ai.tensor(indices, {dtype = "i64"}), {}
  for i, t in ipairs(self.tensors) do fields[i] = t:index_select(1, places) end
  return unpack(fields)
end

-- -- Joined ----------------------------------------------------------------------------------------------------------------

--- Datasets one after another.
---@class aijit.ConcatDataset: aijit.Dataset
local ConcatDataset = class("ConcatDataset", Dataset)

---@param list aijit.Dataset[]
function ConcatDataset:__init(list)
  if type(list) ~= "table" or getmetatable(list) ~= nil or #list == 0 then
    error("data.ConcatDataset: write data.ConcatDataset{dataset, dataset, ...}", 3)
  end
  self.datasets, self.ends = {}, {}
  local sum = 0
  for i, one in ipairs(list) do
    self.datasets[i] = option.dataset("data.ConcatDataset", one)
    local n = one:size()
    if not n or one.iterate then error(("data.ConcatDataset: dataset %d is iterated; data.ChainDataset joins such"):format(i), 3) end
    sum = sum + n
    self.ends[i] = sum
  end
end

function ConcatDataset:size() return self.ends[#self.ends] end

--- Which of the datasets a sample is in, and its index there.
---@param index integer
---@return aijit.Dataset
---@return integer
function ConcatDataset:find(index)
  option.index("data.ConcatDataset", index, self:size())
  local low, high = 1, #self.ends
  while low < high do
    local middle = math.floor((low + high) / 2)
    if index <= self.ends[middle] then high = middle else low = middle + 1 end
  end
  return self.datasets[low], index - (self.ends[low - 1] or 0)
end

function ConcatDataset:get(index)
  local one, place = self:find(index)
  return one:get(place)
end

function ConcatDataset:describe(index)
  local one, place = self:find(index)
  return one:describe(place)
end

function ConcatDataset:version() return mixed_version(self.datasets) end

--- Iterated datasets one after another.
---@class aijit.ChainDataset: aijit.IterableDataset
local ChainDataset = class("ChainDataset", IterableDataset)

---@param list aijit.IterableDataset[]
function ChainDataset:__init(list)
  if type(list) ~= "table" or getmetatable(list) ~= nil or #list == 0 then
    error("data.ChainDataset: write data.ChainDataset{dataset, dataset, ...}", 3)
  end
  for i, one in ipairs(list) do
    if not option.dataset("data.ChainDataset", one).iterate then
      error(("data.ChainDataset: dataset %d is not iterated; data.ConcatDataset joins such"):format(i), 3)
    end
  end
  self.datasets = list
end

function ChainDataset:iterate(o)
  local which, part, inner = 1, 1, nil
  local next_one
  local function pass(...)
    if (...) ~= nil then return ... end
    inner, part = nil, part + 1
    return next_one()
  end
  function next_one()
    while not inner do
      local one = self.datasets[which]
      if not one then return end
      if part > one:parts() then which, part = which + 1, 1
      else inner = one:iterate {epoch = o.epoch, seed = o.seed, part = part} end
    end
    return pass(inner())
  end
  return next_one
end

function ChainDataset:size()
  local sum = 0
  for _, one in ipairs(self.datasets) do
    local n = one:size()
    if not n then return nil end
    sum = sum + n
  end
  return sum
end

function ChainDataset:version() return mixed_version(self.datasets) end

--- An iterated dataset in another order: it holds `buffer` samples, gives one of them at random, and takes the next in its place.
-- The order is of the seed and the epoch.
---@class aijit.Shuffled: aijit.IterableDataset
local Shuffled = class("Shuffled", IterableDataset)

---@param inner aijit.IterableDataset
---@param o {buffer: integer}
function Shuffled:__init(inner, o)
  if not option.dataset("data.Shuffled", inner).iterate then
    error("data.Shuffled: the dataset is not iterated: a loader shuffles such with shuffle = true", 3)
  end
  o = option.read("data.Shuffled", o, {buffer = 1})
  self.dataset, self.buffer = inner, option.whole("data.Shuffled", "buffer", o.buffer or 1000, 1)
end

function Shuffled:iterate(o)
  local inner, held = self.dataset:iterate(o), {}
  local draw = order.generator(o.seed, o.epoch * 2 ^ 20 + o.part)
  local function keep(...)
    if (...) == nil then inner = nil else held[#held + 1] = {n = select("#", ...), ...} end
  end
  return function()
    while inner and #held < self.buffer do keep(inner()) end
    if #held == 0 then return end
    local i = math.floor(draw() * (#held / 2 ^ 32)) + 1
    local one = held[i]
    held[i] = held[#held]
    held[#held] = nil
    return unpack(one, 1, one.n)
  end
end

function Shuffled:parts() return self.dataset:parts() end

function Shuffled:size() return self.dataset:size() end

function Shuffled:version() return self.dataset:version() end

-- -- Cut ---------------------------------------------------------------------------------------------------------------------

--- Some samples of a dataset.
---@class aijit.Subset: aijit.Dataset
local Subset = class("Subset", Dataset)

local function get_batch_of(self, indices)
  local places = {}
  for i, index in ipairs(indices) do places[i] = self.indices[index] end
  return self.dataset:get_batch(places)
end

---@param inner aijit.Dataset
---@param indices integer[]
function Subset:__init(inner, indices)
  option.dataset("data.Subset", inner)
  if type(indices) ~= "table" then error("data.Subset: write data.Subset(dataset, {1, 5, 7})", 3) end
  local n = inner:size()
  for i, index in ipairs(indices) do
    if type(index) ~= "number" or index < 1 or index > n or index % 1 ~= 0 then
      error(("data.Subset: index %d of the list is %s; the dataset's samples count from 1 to %d"):format(i, tostring(index), n), 3)
    end
  end
  self.dataset, self.indices = inner, indices
  if inner.get_batch then self.get_batch = get_batch_of end
end

function Subset:size() return #self.indices end

function Subset:get(index)
  option.index("data.Subset", index, #self.indices)
  return self.dataset:get(self.indices[index])
end

function Subset:describe(index) return self.dataset:describe(self.indices[index]) end

function Subset:version() return self.dataset:version() end

-- Sizes of parts: given as they are, or as shares of n that add up to 1; what rounding leaves goes to the first parts.
local function sizes_of(n, lengths, who)
  if type(lengths) ~= "table" or #lengths == 0 then
    error(("%s: write %s(dataset, {0.8, 0.2}) or with numbers of samples"):format(who, who), 4)
  end
  local sum, fractions = 0, true
  for _, v in ipairs(lengths) do
    if type(v) ~= "number" or v < 0 or v ~= v then error(("%s: %s is no share and no number of samples"):format(who, tostring(v)), 4) end
    sum = sum + v
    fractions = fractions and v <= 1
  end
  local sizes = {}
  if fractions and math.abs(sum - 1) < 1e-9 then
    local left = n
    for i, v in ipairs(lengths) do
      sizes[i] = math.floor(n * v + 1e-9)
      left = left - sizes[i]
    end
    for i = 1, left do sizes[(i - 1) % #sizes + 1] = sizes[(i - 1) % #sizes + 1] + 1 end
    return sizes
  end
  if sum ~= n then
    error(("%s: the sizes add up to %s, and the dataset has %d samples (shares must add up to 1)"):format(who, tostring(sum), n), 4)
  end
  for i, v in ipairs(lengths) do
    if v % 1 ~= 0 then error(("%s: %s is no number of samples"):format(who, tostring(v)), 4) end
    sizes[i] = v
  end
  return sizes
end

local function cut(inner, all, sizes)
  local subsets, at = {}, 0
  for i, size in ipairs(sizes) do
    local indices = {}
    for k = 1, size do indices[k] = all[at + k] end
    subsets[i] = Subset(inner, indices)
    at = at + size
  end
  return unpack(subsets)
end

--- Cuts a dataset into parts, in the order of its samples.
---@param inner aijit.Dataset
---@param lengths number[] numbers of samples, or shares that add up to 1
---@return aijit.Subset ...
function combine.split(inner, lengths)
  option.dataset("data.split", inner)
  local n = inner:size()
  return cut(inner, order.straight(n), sizes_of(n, lengths, "data.split"))
end

--- Cuts a dataset into parts at random; the seed says how.
---@param inner aijit.Dataset
---@param lengths number[] numbers of samples, or shares that add up to 1
---@param o? {seed: integer} 0
---@return aijit.Subset ...
function combine.random_split(inner, lengths, o)
  option.dataset("data.random_split", inner)
  o = option.read("data.random_split", o, {seed = 0})
  local n = inner:size()
  return cut(inner, order.shuffled(n, option.whole("data.random_split", "seed", o.seed or 0, 0), 0), sizes_of(n, lengths, "data.random_split"))
end

combine.TensorDataset, combine.ConcatDataset, combine.ChainDataset = TensorDataset, ConcatDataset, ChainDataset
combine.Shuffled, combine.Subset = Shuffled, Subset

return combine
