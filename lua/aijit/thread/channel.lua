--- Channels: bounded queues between threads, first in, first out.
--
-- What is put is data: booleans, numbers, strings, tensors, channels, and tables of these. Tables arrive as copies. Tensors
-- arrive with the same elements in the same memory, outside any graph: neither side should write them once they are sent.

local class = require "aijit.class"
local portable = require "aijit.thread.portable"
local raw = require "aijit.bindings.thread"

---@class aijit.Channel
local Channel = class("Channel")

--- A channel with room for so many messages; `put` waits where it is full.
---@param capacity? integer 1
function Channel:__init(capacity)
  capacity = capacity or 1
  if type(capacity) ~= "number" or capacity < 1 or capacity % 1 ~= 0 or capacity > 2 ^ 31 then
    error(("thread.Channel: the capacity is a whole number from 1 on, not %s"):format(tostring(capacity)), 3)
  end
  self.capacity, self.__channel = capacity, raw.channel(capacity)
end

local function check(timeout, who)
  if timeout ~= nil and (type(timeout) ~= "number" or timeout ~= timeout or timeout < 0) then
    error(("%s: the timeout is a number of seconds, not %s"):format(who, tostring(timeout)), 3)
  end
end

--- Puts one message of any number of values, and waits for room.
---@param ... any
---@return boolean? put nil when the channel is closed
---@return string? why "closed"
function Channel:put(...) return raw.put(self.__channel, portable.pack({n = select("#", ...), ...}, "put")) end

--- The same, with a list of values and at most `timeout` seconds of waiting.
---@param values any[] with n where some are nil
---@param timeout number
---@return boolean? put nil: it was not
---@return string? why "timeout" or "closed"
function Channel:try_put(values, timeout)
  if type(values) ~= "table" or getmetatable(values) ~= nil then error("try_put: write channel:try_put({value, ...}, seconds)", 2) end
  check(timeout, "try_put")
  local text, tensors, channels = portable.pack(setmetatable({n = values.n or #values}, {__index = values}), "try_put")
  return raw.put(self.__channel, text, tensors, channels, timeout)
end

local function finish(text, tensors, channels, message)
  if not text then return nil, tensors end
  local values = portable.unpack(text, tensors, channels)
  raw.done_with(message)
  return values
end

--- The values of the oldest message; waits for one.
---@return any ... nothing when the channel is closed and empty
function Channel:get()
  local values = finish(raw.get(self.__channel))
  if values then return unpack(values, 1, values.n) end
end

--- The same as a list, with n, and at most `timeout` seconds of waiting.
---@param timeout number
---@return any[]? values nil: there was none
---@return string? why "timeout" or "closed"
function Channel:try_get(timeout)
  check(timeout, "try_get")
  return finish(raw.get(self.__channel, timeout))
end

--- Nothing more is put; what waits in it may still be taken, and then `get` returns nothing. Whoever waits, wakes.
function Channel:close() raw.close(self.__channel) end

---@return boolean
function Channel:is_closed() return raw.is_closed(self.__channel) end

--- How many messages wait in it.
---@return integer
function Channel:size() return raw.count(self.__channel) end

--- For a loop: `for value in channel:each() do`, until it is closed.
---@return fun(): any
function Channel:each() return function() return self:get() end end

--- The channel that another state sent.
---@param c ffi.cdata*
---@return aijit.Channel
function Channel.of(c) return setmetatable({__channel = c}, Channel) end

return Channel
