--- Samplers: in which order an epoch's samples are drawn, and which. The order is a function of the loader's seed and the epoch
-- alone, so that a resumed run goes on as it would have.
--
-- A sampler of one's own is anything with `size()`, the number of samples in an epoch, and `order(seed, epoch)`, their indices.

local ai = require "aijit"
local class = require "aijit.class"
local option = require "aijit.data.option"
local order = require "aijit.data.order"

---@class aijit.Sampler
local Sampler = class("Sampler")

--- The number of samples in an epoch.
---@return integer
Sampler.size = class.abstract "size"

local no_order = class.abstract "order"

--- The indices of an epoch's samples.
---@param seed integer
---@param epoch integer from 1
---@return integer[]
function Sampler:order(seed, epoch) return no_order(self) end

local function count(who, what)
  if type(what) == "number" then return option.whole(who, "the number of samples", what, 0) end
  return option.dataset(who, what):size()
end

--- In the order of the dataset.
---@class aijit.SequentialSampler: aijit.Sampler
local SequentialSampler = class("SequentialSampler", Sampler)
---@param what aijit.Dataset|integer
function SequentialSampler:__init(what) self.n = count("data.SequentialSampler", what) end
function SequentialSampler:size() return self.n end
function SequentialSampler:order() return order.straight(self.n) end

local function fraction(draw) return (draw() * 2 ^ 21 + draw() % 2 ^ 21) / 2 ^ 53 end

--- At random: each sample once, or with replacement.
---@class aijit.RandomSampler: aijit.Sampler
local RandomSampler = class("RandomSampler", Sampler)
---@param what aijit.Dataset|integer
---@param o? {replacement: boolean, num_samples: integer} false; as many as there are
function RandomSampler:__init(what, o)
  o = option.read("data.RandomSampler", o, {replacement = true, num_samples = 1})
  self.n, self.replacement = count("data.RandomSampler", what), o.replacement or false
  self.num_samples = option.whole("data.RandomSampler", "num_samples", o.num_samples or self.n, 0)
  if self.n == 0 and self.num_samples > 0 then error("data.RandomSampler: there are no samples to draw from", 3) end
end
function RandomSampler:size() return self.num_samples end
function RandomSampler:order(seed, epoch)
  local list = {}
  if self.replacement then
    local draw = order.generator(seed, epoch)
    for i = 1, self.num_samples do list[i] = math.floor(draw() * (self.n / 2 ^ 32)) + 1 end
    return list
  end
  local round = 0
  while #list < self.num_samples do                       -- more than there are: each round in another order
    local all = order.shuffled(self.n, seed, epoch + round * 2 ^ 32)
    for i = 1, math.min(self.n, self.num_samples - #list) do list[#list + 1] = all[i] end
    round = round + 1
  end
  return list
end

--- At random from some samples.
---@class aijit.SubsetRandomSampler: aijit.Sampler
local SubsetRandomSampler = class("SubsetRandomSampler", Sampler)
---@param indices integer[]
function SubsetRandomSampler:__init(indices)
  if type(indices) ~= "table" then error("data.SubsetRandomSampler: a list of indices is wanted, not " .. tostring(indices), 3) end
  self.indices = indices
end
function SubsetRandomSampler:size() return #self.indices end
function SubsetRandomSampler:order(seed, epoch)
  local list = order.shuffled(#self.indices, seed, epoch)
  for i, k in ipairs(list) do list[i] = self.indices[k] end
  return list
end

--- At random, each sample as often as its weight says: rare classes more often, say.
---@class aijit.WeightedRandomSampler: aijit.Sampler
local WeightedRandomSampler = class("WeightedRandomSampler", Sampler)
---@param weights number[]|aijit.Tensor one for each sample, none negative; they need not add up to 1
---@param num_samples integer in an epoch
---@param o? {replacement: boolean} true; false: no sample twice
function WeightedRandomSampler:__init(weights, num_samples, o)
  o = option.read("data.WeightedRandomSampler", o, {replacement = true})
  if ai.is_tensor(weights) then weights = weights:to("f64"):totable() end
  if type(weights) ~= "table" then error("data.WeightedRandomSampler: a list of weights is wanted, not " .. tostring(weights), 3) end
  self.replacement = o.replacement ~= false
  self.num_samples = option.whole("data.WeightedRandomSampler", "num_samples", num_samples, 0)
  local sum, some = 0, 0
  for i, w in ipairs(weights) do
    if type(w) ~= "number" or w < 0 or w - w ~= 0 then
      error(("data.WeightedRandomSampler: weight %d is %s; weights are finite and not negative"):format(i, tostring(w)), 3)
    end
    sum, some = sum + w, some + (w > 0 and 1 or 0)
  end
  if sum == 0 and self.num_samples > 0 then error("data.WeightedRandomSampler: no weight is above 0", 3) end
  if not self.replacement and self.num_samples > some then
    error(("data.WeightedRandomSampler: %d samples without replacement, where %d have a weight above 0"):format(self.num_samples, some), 3)
  end
  self.weights, self.sum = weights, sum
end
function WeightedRandomSampler:size() return self.num_samples end
function WeightedRandomSampler:order(seed, epoch)
  local draw, weights, list = order.generator(seed, epoch), self.weights, {}
  if not self.replacement then
    -- Those with the greatest u^(1/w) (Efraimidis and Spirakis, 2006), of which the greatest comes first.
    local keys, all = {}, {}
    for i, w in ipairs(weights) do
      local u = fraction(draw)
      if w > 0 then
        keys[i] = math.log(u + 2 ^ -54) / w
        all[#all + 1] = i
      end
    end
    table.sort(all, function(a, b)
      if keys[a] ~= keys[b] then return keys[a] > keys[b] end
      return a < b
    end)
    for i = 1, self.num_samples do list[i] = all[i] end
    return list
  end
  local up_to, sum, last = {}, 0, 0
  for i, w in ipairs(weights) do
    sum = sum + w
    up_to[i] = sum
    if w > 0 then last = i end
  end
  for k = 1, self.num_samples do
    local u, low, high = fraction(draw) * sum, 1, last
    while low < high do
      local middle = math.floor((low + high) / 2)
      if u < up_to[middle] then high = middle else low = middle + 1 end
    end
    list[k] = low
  end
  return list
end

local function from_environment(names)
  for _, name in ipairs(names) do
    local n = tonumber(os.getenv(name))
    if n then return n end
  end
end

--- A process's share of the samples: each of `world_size` processes has as many, and together they have all. Some samples come
-- twice where the number cannot be divided; with drop_last some are left out instead.
---@class aijit.DistributedSampler: aijit.Sampler
local DistributedSampler = class("DistributedSampler", Sampler)
---@param what aijit.Dataset|integer|aijit.Sampler a sampler: its order is shared out
---@param o? {rank: integer, world_size: integer, shuffle: boolean, drop_last: boolean}
---  rank (from 0) and world_size: those that torchrun, MPI or Slurm set in the environment, else 0 and 1; shuffle true
function DistributedSampler:__init(what, o)
  local who = "data.DistributedSampler"
  o = option.read(who, o, {rank = 0, world_size = 1, shuffle = true, drop_last = true})
  self.world_size = option.whole(who, "world_size", o.world_size
    or from_environment {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"} or 1, 1)
  self.rank = option.whole(who, "rank", o.rank or from_environment {"RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"} or 0, 0,
    self.world_size - 1)
  if class.is(what, Sampler) then self.sampler = what
  else
    local n = count(who, what)
    self.sampler = o.shuffle == false and SequentialSampler(n) or RandomSampler(n)
  end
  self.drop_last = o.drop_last or false
end
function DistributedSampler:size()
  local share = self.sampler:size() / self.world_size
  return self.drop_last and math.floor(share) or math.ceil(share)
end
function DistributedSampler:order(seed, epoch)
  local all, list, n = self.sampler:order(seed, epoch), {}, self:size()
  for i = 1, n do
    local place = self.rank + 1 + (i - 1) * self.world_size
    list[i] = all[(place - 1) % #all + 1]
  end
  return list
end

return {
  Sampler = Sampler, SequentialSampler = SequentialSampler, RandomSampler = RandomSampler, SubsetRandomSampler = SubsetRandomSampler,
  WeightedRandomSampler = WeightedRandomSampler, DistributedSampler = DistributedSampler,
}
