--- Datasets: things with a size and a `get(index)` that gives one sample's fields.

local class = require "aijit.class"

---@class aijit.Dataset
local Dataset = class("Dataset")

--- The number of samples. (A method, for `#` of a Lua table cannot be told otherwise in LuaJIT.)
---@return integer
Dataset.size = class.abstract "size"

--- One sample: any number of fields, each a number, a boolean, a string, a tensor, or a table of these.
---@param index integer 1 to size()
---@return any ...
Dataset.get = class.abstract "get"

-- A dataset whose samples lie in tensors may also offer `get_batch(indices)`: the same fields for a list of indices at
-- once, each a tensor whose first dimension is the batch. `data.Loader` prefers it, for it costs one copy a batch.

--- A number that changes whenever the samples do.
---@return integer
function Dataset:version() return 1 end

--- This dataset with its samples kept in files: each is made once, and all anew when `version` gives another number.
---@param dir string a folder for this dataset alone
---@return aijit.Dataset
function Dataset:cache(dir) return require "aijit.data.cache"(self, dir) end

--- A dataset whose samples are another's, changed.
---@class aijit.Transformed: aijit.Dataset
local Transformed = class("Transformed", Dataset)

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
end

function Transformed:size() return self.dataset:size() end

function Transformed:get(index) return self.transformer(self.dataset:get(index)) end

function Transformed:version() return self.dataset:version() end

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

return {Dataset = Dataset, Transformed = Transformed, compose = compose}
