--- A file that only grows: what is appended is checked, and a resumed run can cut it back to where its checkpoint stood.
--
-- A log that cannot be written is an error that names it: a run whose log has a hole is worse than one that stopped.

local class = require "aijit.class"
local file = require "aijit.io.file"
local system = require "aijit.bindings.system"

---@class aijit.log.Appender
---@field path string
local Appender = class("Appender")

local function open(self)
  local handle, problem = io.open(self.path, "ab")
  if not handle then error(("cannot write the log: %s"):format(problem), 0) end
  self._file = handle
end

--- Opens a file for appending.
---@param path string
---@param o? {lines?: boolean} lines: a last line without an end, which a crash tore, is ended first
function Appender:__init(path, o)
  self.path = path
  local torn = false
  local old = o and o.lines and io.open(path, "rb")
  if old then
    local size = old:seek("end")
    if size > 0 then
      old:seek("end", -1)
      torn = old:read(1) ~= "\n"
    end
    old:close()
  end
  open(self)
  if torn then self:write("\n") end
end

local function checked(self, ok, problem)
  if ok then return end
  -- What stdio still holds would be written when the file is closed, after bytes that are missing.
  error(("the log '%s' cannot be written: %s"):format(self.path, (tostring(problem):gsub("^" .. self.path:gsub("%p", "%%%0") .. ": ", ""))), 0)
end

--- Appends texts. Raises when they cannot be written.
---@param ... string
---@return aijit.log.Appender self
function Appender:write(...)
  checked(self, self._file:write(...))
  return self
end

--- Hands what was written to the operating system.
---@return aijit.log.Appender self
function Appender:flush()
  checked(self, self._file:flush())
  return self
end

--- The size in bytes, of what is on the disk now for good.
---@return integer bytes
function Appender:position()
  self:flush()
  file.sync(self.path)
  local bytes = self._file:seek("end")
  return bytes
end

--- Cuts the file back to a size that `position` gave.
---@param bytes integer
---@return integer missing bytes that the file was short of that; 0 where all is well
function Appender:rewind(bytes)
  self._file:close()
  local handle = io.open(self.path, "rb")
  local size = handle and handle:seek("end") or 0
  if handle then handle:close() end
  if size > bytes then system.truncate(self.path, bytes) end
  open(self)
  return math.max(0, bytes - size)
end

--- Ends it. Raises when the last bytes cannot be written.
function Appender:close()
  local handle = self._file
  self._file = nil
  if handle then checked(self, handle:close()) end
end

-- Interpreted: a trace that sees a write or a flush fail leaves, and calls it once more, which then finds nothing left to write
-- and nothing wrong.
for _, f in ipairs {Appender.write, Appender.flush, Appender.close} do jit.off(f) end

return Appender
