--- What a thread's Lua state runs: it takes a function and its arguments from a channel, calls it, and puts what it gives.

require "aijit"                          -- tensors have their methods, whatever the function requires
local portable = require "aijit.thread.portable"
local raw = require "aijit.bindings.thread"
local traceback = require "aijit.traceback"

local function explain(problem)
  if type(problem) ~= "string" then return {value = problem} end
  return {value = problem, traceback = table.concat(traceback.frames(2, problem), "\n")}
end

local function put(results, ...)
  local names = {"whether it ended well"}
  for i = 2, select("#", ...) do names[i] = "result " .. i - 1 end
  return raw.put(results, portable.pack({n = select("#", ...), names = names, ...}, "thread"))
end

local function finish(results, ok, ...)
  if ok then
    local sent, problem = pcall(put, results, true, ...)
    if sent then return end
    return put(results, false, {value = problem})
  end
  local sent = pcall(put, results, false, (...))
  if not sent then put(results, false, {value = tostring((...).value)}) end
end

---@param address userdata of a channel that holds one message: the channel of results, the function, its arguments
return function(address)
  local box = raw.adopt(address)
  local text, tensors, channels, message = raw.get(box)
  if not text then return end
  -- Here too what fails is the program's: a module that is not found, say.
  local ok, values = xpcall(portable.unpack, explain, text, tensors, channels)
  local results = channels[1]
  raw.done_with(message)
  if not ok then return finish(results, false, values) end
  local f = values[2]
  if type(f) == "string" then
    local module = f
    ok, f = xpcall(require, explain, module)
    if not ok then return finish(results, false, f) end
    if type(f) ~= "function" then return finish(results, false, {value = ("module %s gave a %s, not a function"):format(module, type(f))}) end
  end
  finish(results, xpcall(f, explain, unpack(values, 3, values.n)))
end
