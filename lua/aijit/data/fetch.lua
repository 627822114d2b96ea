--- One batch: its samples loaded and collated. What a loader does in the calling thread, and its workers in theirs.
--
-- Each sample finds the random numbers of tensors and math.random sown from the loader's seed, the epoch and its index, and the
-- collating those of the batch: so a batch is the same whoever makes it, and when.

local chance = require "aijit.bindings.chance"
local collate = require "aijit.data.collate"
local order = require "aijit.data.order"
local thread = require "aijit.bindings.thread"
local traceback = require "aijit.traceback"

local fetch = {}

---@class aijit.Source
---@field dataset aijit.Dataset
---@field collate fun(samples: any[][]): any[]
---@field batch_transform? fun(...): ...
---@field seed integer
---@field on_error "raise"|"skip"

---@class aijit.Job
---@field epoch integer
---@field batch integer
---@field indices? integer[]   of a dataset with get
---@field part? integer        of one with iterate
---@field from? integer        samples of that part that came before
---@field count? integer       samples wanted
---@field drop_last? boolean

-- Streams of random numbers in an epoch: those of samples have even numbers, those of batches odd ones.
local function sow(source, job, stream)
  local draw = order.generator(source.seed, job.epoch * 2 ^ 32 + stream % 2 ^ 32)
  chance.sow(draw() * 2 ^ 21 + draw() % 2 ^ 21)
end

local function is_stop(problem) return type(problem) == "string" and problem:find("interrupted", 1, true) == 1 end

local function explain(problem)
  if is_stop(problem) then return problem end
  return {problem = tostring(problem), traceback = table.concat(traceback.frames(2, tostring(problem)), "\n")}
end

-- Runs f; an error of it comes back as {problem, traceback}, but for a request to stop, which goes on.
local function try(f, ...)
  local list = {...}
  local n = select("#", ...)
  local results = {xpcall(function() return f(unpack(list, 1, n)) end, explain)}
  if results[1] then return results, nil end
  if is_stop(results[2]) then error(results[2], 0) end
  return nil, type(results[2]) == "table" and results[2] or {problem = tostring(results[2])}
end

local function fields_of(...) return {n = select("#", ...), ...} end

local function name_of(dataset, index)
  local ok, text = pcall(function() return dataset.describe and dataset:describe(index) end)
  return ok and text and ("%d (%s)"):format(index, text) or tostring(index)
end

local function fail(problem, what)
  error({problem = ("data.Loader: %s: %s"):format(what, problem.problem), traceback = problem.traceback}, 0)
end

-- A sample that could not be had ends the batch, or is noted and left out.
local function refuse(source, job, index, problem, skipped)
  local what = "sample " .. name_of(source.dataset, index)
  if source.on_error ~= "skip" then fail(problem, what) end
  skipped[#skipped + 1] = {index = index, epoch = job.epoch, problem = ("%s: %s"):format(what, problem.problem)}
end

local function from_indices(source, job, skipped)
  local dataset, samples = source.dataset, {}
  for _, index in ipairs(job.indices) do
    sow(source, job, 2 * index)
    local fields, problem = try(function() return fields_of(dataset:get(index)) end)
    fields = fields and fields[2]
    if fields and (fields.n == 0 or fields[1] == nil) then
      problem = {problem = dataset.__name .. ":get gave nothing"}
    end
    if problem then refuse(source, job, index, problem, skipped) else samples[#samples + 1] = fields end
  end
  return samples
end

-- The stream of a part, `from` samples into it. It stays open for the next job.
local function stream_at(source, job)
  source.streams = source.streams or {}
  local stream = source.streams[job.part]
  if stream and stream.epoch == job.epoch and stream.position == job.from then return stream end
  stream = {epoch = job.epoch, position = 0, ended = false}
  source.streams[job.part] = stream
  sow(source, job, 2 * 2 ^ 30 + 2 * job.part)
  stream.next = source.dataset:iterate {epoch = job.epoch, part = job.part, seed = source.seed}
  return stream
end

local function from_stream(source, job, skipped)
  local stream, samples = stream_at(source, job), {}
  while not stream.ended and stream.position < job.from + job.count do
    sow(source, job, 2 * ((job.part - 1) * 2 ^ 24 + stream.position))
    stream.position = stream.position + 1
    local fields, problem = try(function() return fields_of(stream.next()) end)
    fields = fields and fields[2]
    if problem then
      if stream.position > job.from then refuse(source, job, stream.position, problem, skipped) end
    elseif fields.n == 0 or fields[1] == nil then
      stream.ended = true
    elseif stream.position > job.from then
      samples[#samples + 1] = fields
    end
  end
  if job.drop_last and stream.ended and #samples < job.count then samples = {} end
  return samples
end

local function of_batch(job)
  if job.part then return ("the batch of samples %d to %d"):format(job.from + 1, job.from + job.count) end
  local indices = job.indices
  return ("the batch of samples %s%s"):format(table.concat(indices, ", ", 1, math.min(8, #indices)), #indices > 8 and ", ..." or "")
end

-- The dataset's own way to many samples at once.
local function at_once(source, job)
  local dataset = source.dataset
  if not (job.indices and dataset.get_batch and source.collate == collate.batch) then return nil end
  sow(source, job, 2 * job.batch + 1)
  local fields, problem = try(function() return fields_of(dataset:get_batch(job.indices)) end)
  if fields then return fields[2] end
  if source.on_error == "skip" then return nil end        -- one by one, which tells the bad ones from the good
  fail(problem, of_batch(job))
end

local function make(source, job)
  local skipped = {}
  local fields = at_once(source, job)
  if not fields then
    local samples = job.part and from_stream(source, job, skipped) or job.indices and from_indices(source, job, skipped)
    if #samples == 0 then return nil, skipped end
    sow(source, job, 2 * job.batch + 1)
    local results, problem = try(source.collate, samples)
    if problem then fail(problem, of_batch(job)) end
    fields = results[2]
    if type(fields) ~= "table" then
      fail({problem = ("collate gave a %s, not the list of the batch's fields"):format(type(fields))}, of_batch(job))
    end
  end
  if source.batch_transform then
    local results, problem = try(function() return fields_of(source.batch_transform(unpack(fields, 1, fields.n or #fields))) end)
    if problem then fail(problem, of_batch(job)) end
    fields = results[2]
  end
  return fields, skipped
end

--- Makes the batch of a job. An error is a table of problem and traceback, or "interrupted".
---@param source aijit.Source
---@param job aijit.Job
---@return any[]? fields nil: there is no sample for it
---@return {index: integer, epoch: integer, problem: string}[] skipped
function fetch.make(source, job)
  local kept, limit = chance.save(), thread.limit(1)      -- with one thread, as the workers have: their sums are ours
  local ok, fields, skipped = pcall(make, source, job)
  chance.restore(kept)
  thread.limit(limit)
  if not ok then error(fields, 0) end
  return fields, skipped
end

return fetch
