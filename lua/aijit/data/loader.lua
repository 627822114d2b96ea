--- Batches of a dataset: `for features, labels in data.Loader(dataset, {batch_size = 8, shuffle = true}) do ... end`.
--
-- Each `for` goes through the dataset once; with `shuffle`, the next one in another order. What a batch holds is a function of
-- the seed, the epoch and the batch's number, random augmentations included, and of nothing else: not of the number of
-- workers. So `loader:seek(epoch, batch)`, or `load_state_dict`, takes up a run where it stopped, to the bit.

local ahead = require "aijit.data.ahead"
local class = require "aijit.class"
local collate = require "aijit.data.collate"
local Dataset = require("aijit.data.dataset").Dataset
local device = require "aijit.bindings.device"
local fetch = require "aijit.data.fetch"
local option = require "aijit.data.option"
local order = require "aijit.data.order"

---@class aijit.Loader
local Loader = class("Loader")

local options = {
  batch_size = 1, shuffle = false, drop_last = false, seed = 0, collate = collate.batch, workers = 0, prefetch = 2, on_error = "raise",
  max_errors = 100, sampler = {}, batch_transform = function() end, device = "[any]", pin_memory = false,
}

---@class aijit.LoaderOptions
---@field batch_size? integer
---@field shuffle? boolean
---@field sampler? aijit.Sampler
---@field drop_last? boolean
---@field seed? integer
---@field collate? fun(samples: any[][]): any[]
---@field batch_transform? fun(...): ...
---@field workers? integer
---@field prefetch? integer
---@field on_error? "raise"|"skip"
---@field max_errors? integer
---@field device? string|integer
---@field pin_memory? boolean

---@param dataset aijit.Dataset
---@param o? aijit.LoaderOptions
---  batch_size 1; shuffle false, or a sampler: the order of the samples; drop_last: leave out a last batch that is not full;
---  seed 0: of the shuffling and of what the samples draw; collate(samples): from a list of samples, each a list of fields, to
---  the batch's list of fields; batch_transform(fields...): changes a batch, as mixup does; workers 0: threads that load, each
---  with a Lua state of its own, to which the dataset goes as a copy (its tensors without one); prefetch 2: batches for each
---  worker that are loaded ahead; on_error "raise", or "skip": a sample that cannot be had is left out, at most max_errors 100
---  of them in an epoch; device: batches come on this CUDA device, each copied there while the one before it is used; pin_memory:
---  by way of, or in, memory of the host that devices copy from by themselves (true where a device is given).
function Loader:__init(dataset, o)
  if not class.is(dataset, Dataset) then
    error(("data.Loader: the first argument is a %s, not a dataset (a class derived from data.Dataset)"):format(type(dataset)), 3)
  end
  o = option.read("data.Loader", o, options)
  for name, default in pairs(options) do
    if o[name] == nil then self[name] = default else self[name] = o[name] end
  end
  if o.sampler == nil then self.sampler = nil end
  if o.batch_transform == nil then self.batch_transform = nil end
  self.device = nil
  if o.device ~= nil then self:to(o.device) end
  if o.pin_memory ~= nil then self.pin_memory = o.pin_memory end
  option.whole("data.Loader", "batch_size", self.batch_size, 1)
  option.whole("data.Loader", "workers", self.workers, 0, 256)
  option.whole("data.Loader", "prefetch", self.prefetch, 1)
  option.whole("data.Loader", "max_errors", self.max_errors, 0)
  option.whole("data.Loader", "seed", self.seed, 0)
  option.choice("data.Loader", "on_error", self.on_error, {"raise", "skip"})
  self.dataset = dataset
  self.streaming = dataset.iterate ~= nil
  if self.sampler and (self.shuffle or self.streaming or not self.sampler.order) then
    error("data.Loader: " .. (self.shuffle and "shuffle and sampler both say the order: give one"
      or self.streaming and "a dataset that is iterated has an order of its own, and takes no sampler"
      or "sampler must be one, with size() and order(seed, epoch): data.WeightedRandomSampler, say"), 3)
  end
  if self.shuffle and self.streaming then
    error("data.Loader: a dataset that is iterated has an order of its own: shuffle it by data.Shuffled(dataset, {buffer = 1000})", 3)
  end
  self.epoch = 1
  self.errors = {}
  self._orders, self._next, self._ahead = {}, 0, 0
  self._source = {
    dataset = dataset, collate = self.collate, batch_transform = self.batch_transform, seed = self.seed, on_error = self.on_error,
  }
end

--- From here on batches come on this device: each is copied to a CUDA device while the one before it is used.
---@param where string|integer  "cuda", "cuda:1", 0, ...; "cpu": as they are loaded
---@return aijit.Loader self
function Loader:to(where)
  local n = device.number(where)
  self:close()
  self.device, self.pin_memory = n >= 0 and "cuda:" .. n or nil, n >= 0
  return self
end

--- The number of samples in an epoch; nil where a dataset that is iterated does not tell.
---@return integer?
function Loader:samples()
  if self.sampler then return self.sampler:size() end
  return self.dataset:size()
end

--- The number of batches in an epoch; nil where a dataset that is iterated does not tell. Of its parts, and of samples that are
--- left out, it knows nothing.
---@return integer?
function Loader:size()
  local samples = self:samples()
  if not samples then return nil end
  local batches = samples / self.batch_size
  return self.drop_last and math.floor(batches) or math.ceil(batches)
end

-- What was asked for ahead belongs to another place.
local function forget(self)
  self._orders, self._sent, self._ahead, self._empty, self._ready = {}, nil, 0, 0, nil
  if self._pool then self._pool:restart() end
end

--- Goes to a place: the next batch is number `batch` (from 1) of epoch `epoch` (from 1).
---@param epoch integer
---@param batch? integer
---@return aijit.Loader self
function Loader:seek(epoch, batch)
  local here = self:state_dict()
  if here.epoch ~= epoch or here.batch ~= (batch or 1) - 1 or not self._sought then
    self.epoch, self._next, self.errors = epoch, (batch or 1) - 1, {}
    self._again = false
    forget(self)
  end
  self._sought = true
  return self
end

--- Where it stands: how many batches of which epoch it has given. Plain data, for a checkpoint.
---@return {epoch: integer, batch: integer}
function Loader:state_dict()
  local before = self._ready and self._ready.before
  return before and {epoch = before.epoch, batch = before.batch} or {epoch = self.epoch, batch = self._next}
end

--- Goes where `state_dict` found it.
---@param dict {epoch: integer, batch: integer}
---@return aijit.Loader self
function Loader:load_state_dict(dict) return self:seek(dict.epoch, dict.batch + 1) end

--- Ends the workers. The next batch starts new ones, with the dataset as it is then.
function Loader:close()
  if self._ready then                                    -- the batch that waits is asked for again
    local before = self._ready.before
    self.epoch, self._next = before.epoch, before.batch
    forget(self)
  end
  if self._pool then self._pool:close() end
  self._pool, self._sent, self._ahead = nil, nil, 0
end

local function order_of(self, epoch)
  if not self._orders[epoch] then
    local sampler = self.sampler
    if sampler then self._orders[epoch] = sampler:order(self.seed, epoch)
    elseif self.shuffle then self._orders[epoch] = order.shuffled(self.dataset:size(), self.seed, epoch)
    else self._orders[epoch] = order.straight(self.dataset:size()) end
  end
  return self._orders[epoch]
end

-- The job of batch `number` of an epoch; nil past its end.
local function job_of(self, number, epoch)
  if self.streaming then
    local parts = self.dataset.parts and self.dataset:parts() or 1
    return {epoch = epoch, batch = number, part = (number - 1) % parts + 1, from = math.floor((number - 1) / parts) * self.batch_size,
      count = self.batch_size, drop_last = self.drop_last or nil}
  end
  local indices, all, first = {}, order_of(self, epoch), (number - 1) * self.batch_size
  local count = math.min(self.batch_size, #all - first)
  if count < 1 or self.drop_last and count < self.batch_size then return nil end
  for i = 1, count do indices[i] = all[first + i] end
  return {epoch = epoch, batch = number, indices = indices}
end

local function start_pool(self)
  local parts = self.streaming and (self.dataset.parts and self.dataset:parts() or 1) or nil
  self._pool = require "aijit.data.pool"(self._source, {
    workers = parts and math.min(parts, self.workers) or self.workers, prefetch = self.prefetch, parts = parts,
  })
end

-- Of a loader that went on from one epoch to the next it is taken that it will again: then the threads begin the next one while
-- the last batches of this one are used.
local function send_ahead(self)
  local pool = self._pool
  while self._again and not self.streaming and pool:has_room() do
    local job = job_of(self, self._ahead + 1, self.epoch + 1)
    if not job then return end
    pool:send(job)
    self._ahead = self._ahead + 1
    if self._ahead == 1 then self._ahead_first = pool.sent end
  end
end

-- Sends jobs on, up to number `last` in any case, and further as long as there is room.
local function send(self, last, job)
  local pool = self._pool
  while self._sent < last or pool:has_room() do
    local next_job = self._sent + 1 == last and job or job_of(self, self._sent + 1, self.epoch)
    if not next_job then return send_ahead(self) end
    pool:send(next_job)
    self._sent = self._sent + 1
  end
end

local function by_workers(self, number, job)
  if not self._pool then start_pool(self) end
  if not self._sent then self._offset, self._sent = number - 1, number - 1 end
  send(self, number, job)
  local ok, fields, skipped = pcall(self._pool.take, self._pool, number - self._offset)
  if ok then
    send(self, number)                                   -- while this one is used
    return fields, skipped
  end
  if fields ~= "interrupted" then self:close() end        -- so that the same batch may be asked for again
  error(fields, 0)
end

local function here(self, job)
  local ok, fields, skipped = pcall(fetch.make, self._source, job)
  if ok then return fields, skipped end
  error(type(fields) == "table" and fields.problem or fields, 0)
end

-- Notes the samples that were left out, and says so; too many of them end the program.
local function note(self, skipped)
  for _, one in ipairs(skipped or {}) do
    self.errors[#self.errors + 1] = one
    if #self.errors > self.max_errors then
      error(("data.Loader: %d samples of epoch %d could not be had, which is more than max_errors; the last one: %s"):format(
        #self.errors, self.epoch, one.problem), 0)
    end
    if #self.errors <= 3 then io.stderr:write("data.Loader: left out: ", one.problem, "\n") end
  end
end

local function end_epoch(self)
  if #self.errors > 3 then
    io.stderr:write(("data.Loader: left out in epoch %d: %d samples\n"):format(self.epoch, #self.errors))
  end
  self.epoch, self._next, self.last_errors, self.errors = self.epoch + 1, 0, self.errors, {}
  self._again = true
  if self._ahead == 0 then return forget(self) end
  self._orders[self.epoch - 1] = nil
  self._offset, self._sent, self._ahead = 1 - self._ahead_first, self._ahead, 0
end

--- The next batch of this epoch as a table of its fields; nil when the epoch is over, and then the next one begins.
---@return any[]?
function Loader:next_batch()
  if self.device then return ahead.next_batch(self) end
  local fields = self:_produce()
  return fields and self.pin_memory and ahead.pin(fields) or fields
end

-- Whether this epoch certainly has another batch.
function Loader:_has_more() return not self.streaming and job_of(self, self._next + 1, self.epoch) ~= nil end

-- The next batch as it is loaded.
function Loader:_produce()
  while true do
    local number = self._next + 1
    local job = job_of(self, number, self.epoch)
    if not job then return end_epoch(self) end
    local fields, skipped
    if self.workers > 0 then fields, skipped = by_workers(self, number, job) else fields, skipped = here(self, job) end
    self._next = number
    note(self, skipped)
    if fields then
      self._empty = 0
      return fields
    end
    -- A part that is over, or a batch of which no sample could be had. A stream is over when every part is.
    self._empty = (self._empty or 0) + (skipped and #skipped > 0 and 0 or 1)
    if self.streaming and self._empty >= (self.dataset.parts and self.dataset:parts() or 1) then return end_epoch(self) end
  end
end

-- In a generic `for` the loader is its own iterator: the control value is nil at the first call only.
function Loader:__call(_, control)
  if control == nil then
    if self._next > 0 and not self._sought then                          -- the last `for` was left by a break
      self.epoch, self._next, self.errors = self.epoch + 1, 0, {}
      forget(self)
    end
  end
  self._sought = nil
  local fields = self:next_batch()
  if fields then return unpack(fields, 1, fields.n or #fields) end
end

return Loader
