--- What a loader's thread runs: it takes jobs, and puts batches. `aijit.data.pool` is its other end.

local ai = require "aijit"
local fetch = require "aijit.data.fetch"
local portable = require "aijit.thread.portable"
local raw = require "aijit.bindings.thread"

local function answer(results, run, number, fields, skipped)
  local n, names = fields and (fields.n or #fields), {}
  for k = 1, n or 0 do names[5 + k] = "field " .. k end
  local ok, text, tensors = pcall(portable.pack,
    {n = 5 + (n or 0), names = names, run, number, true, skipped, n, unpack(fields or {}, 1, n or 0)}, "data.Loader")
  if not ok then
    text, tensors = portable.pack({n = 4, run, number, false, {problem = tostring(text)}}, "data.Loader")
  end
  raw.put(results, text, tensors, {})
end

local function serve(source, results, run, number, job)
  local ok, fields, skipped = pcall(fetch.make, source, job)
  if ok then return answer(results, run, number, fields, skipped) end
  if type(fields) ~= "table" then error(fields, 0) end
  raw.put(results, portable.pack({n = 4, run, number, false, fields}, "data.Loader"))
end

---@param source aijit.Source
---@param requests ffi.cdata* channel of jobs
---@param results ffi.cdata* channel of batches
---@param id integer which of the workers it is
---@param count integer
return function(source, requests, results, id, count)
  if source.dataset.worker_init then source.dataset:worker_init(id, count) end
  while true do
    local text, tensors, channels, message = raw.get(requests)
    if not text then return end
    local values = portable.unpack(text, tensors, channels)
    raw.done_with(message)
    if values[3].part then
      -- A stream keeps what it made for later: none of that may end with the batch.
      serve(source, results, values[1], values[2], values[3])
      values = nil                                       -- luacheck: ignore
      collectgarbage()
    else
      ai.scope(serve, source, results, values[1], values[2], values[3])
    end
  end
end
