--- Datasets: things with a size and a `get(index)` that gives one sample's fields; and those that are only gone through.

local class = require "aijit.class"

---@class aijit.Dataset
local Dataset = class("Dataset")

--- The number of samples. (A method, for `#` of a Lua table cannot be told otherwise in LuaJIT.)
---@return integer
Dataset.size = class.abstract "size"

--- One sample: any number of fields, each a number, a boolean, a string, a tensor, or a table of these. Random numbers that it
-- draws, of tensors or math.random, depend on the loader's seed, the epoch and the index alone. A tensor that it keeps for
-- later calls it gives to ai.keep.
---@param index integer 1 to size()
---@return any ...
Dataset.get = class.abstract "get"

-- A dataset whose samples lie in tensors may also offer `get_batch(indices)`: the same fields for a list of indices at
-- once, each a tensor whose first dimension is the batch. `data.Loader` prefers it, for it costs one copy a batch.

--- A number that changes whenever the samples do.
---@return integer
function Dataset:version() return 1 end

--- What a sample is called, for errors: its file, say. nil: by its index alone.
---@param index integer
---@return string?
function Dataset:describe(index) return nil end

--- This dataset with its samples kept in files: each is made once, and all anew when `version` gives another number.
---@param dir string a folder for this dataset alone
---@return aijit.Dataset
function Dataset:cache(dir) return require "aijit.data.cache"(self, dir) end

--- A dataset that is gone through from its beginning to its end: a stream, a generator. Write `iterate`, or just `next`.
---@class aijit.IterableDataset: aijit.Dataset
local IterableDataset = class("IterableDataset", Dataset)

--- A sample's fields, as `get` gives them; nothing at the end. A dataset that writes this alone is one stream, which an epoch
-- takes up where the last one left it.
---@return any ...
IterableDataset.next = class.abstract "next"

--- Begins: a function that gives the fields of one sample after another, and nothing at the end.
---@param o {epoch: integer, part: integer, seed: integer} part: which of `parts()`, from 1
---@return fun(): ...
function IterableDataset:iterate(o) return function() return self:next() end end

--- In how many parts, each with an end of its own, it can be iterated: as many workers may share them. A loader takes a batch from
-- each part in turn.
---@return integer
function IterableDataset:parts() return 1 end

--- The number of samples, where it is known.
---@return integer?
function IterableDataset:size() return nil end

--- Not there: a stream has no places.
function IterableDataset:get() error(self.__name .. ": it is iterated, and has no sample of a number", 2) end

--- A dataset whose samples are another's, changed.
---@class aijit.Transformed: aijit.Dataset
local Transformed = class("Transformed", Dataset)

local function iterate_transformed(self, o)
  local next_one, transformer = self.dataset:iterate(o), self.transformer
  local function change(...)
    if (...) ~= nil then return transformer(...) end
  end
  return function() return change(next_one()) end
end

local function parts_of(self) return self.dataset:parts() end

---@param dataset aijit.Dataset
---@param o {transformer: fun(...): ...}|function the transformer takes a sample's fields and gives the new ones
function Transformed:__init(dataset, o)
  local transformer = type(o) == "table" and getmetatable(o) == nil and o.transformer or o
  if not class.is(dataset, Dataset) then
    error(("data.Transformed: the first argument is a %s, not a dataset"):format(type(dataset)), 3)
  end
  if type(transformer) ~= "function" and not (type(transformer) == "table" and getmetatable(transformer)
      and getmetatable(transformer).__call) then
    error("data.Transformed: write data.Transformed(dataset, {transformer = function(features, labels) ... end})", 3)
  end
  self.dataset, self.transformer = dataset, transformer
  if dataset.iterate then self.iterate, self.parts = iterate_transformed, parts_of end
end

function Transformed:size() return self.dataset:size() end

function Transformed:get(index) return self.transformer(self.dataset:get(index)) end

function Transformed:version() return self.dataset:version() end

function Transformed:describe(index) return self.dataset:describe(index) end

--- Several transformers, one after the other, as one.
---@param list function[]
---@return function
local function compose(list)
  local function run(i, ...)
    if list[i] then return run(i + 1, list[i](...)) end
    return ...
  end
  return function(...) return run(1, ...) end
end

return {Dataset = Dataset, IterableDataset = IterableDataset, Transformed = Transformed, compose = compose}
