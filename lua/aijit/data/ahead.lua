--- Batches on a device: each is copied there ahead, while the one before it is used.
--
-- The copy is made from pinned memory on a stream of its own, so that neither the host nor the device's other work waits for
-- it. A loader's place stays that of the batches it has handed out: one that waits is made anew where somebody goes elsewhere.

local ai = require "aijit"
local device = require "aijit.bindings.device"
local scope = require "aijit.bindings.scope"

local ahead = {}

local function each(value, f)
  if type(value) == "cdata" then return ai.is_tensor(value) and f(value) or value end
  if type(value) ~= "table" or getmetatable(value) then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = each(inner, f) end
  return result
end

--- The tensors of a batch in pinned memory.
---@param fields any[]
---@return any[]
function ahead.pin(fields) return each(fields, function(x) return x.device == "cpu" and x:pin_memory() or x end) end

-- Tensors that no scope frees, on their way.
local function copied(loader, fields)
  return device.ahead(loader.device, function()
    return each(fields, function(x)
      local from = loader.pin_memory and x.device == "cpu" and x:pin_memory() or x
      local there = from:to(loader.device, {non_blocking = true})
      if not from:is_same(x) then from:free() end        -- the block is used again once the copy is made
      return ai.keep(there)
    end)
  end)
end

-- What comes next: a batch, the end of the epoch, or why there is none.
local function prepare(loader)
  local ready = {before = loader:state_dict()}
  local ok, fields = pcall(loader._produce, loader)
  if ok and fields then ok, fields = pcall(copied, loader, fields) end
  if not ok then ready.problem = fields
  elseif fields then ready.fields = fields
  else ready.over = true end
  return ready
end

--- The next batch on the loader's device, as Loader:next_batch gives it.
---@param loader aijit.Loader
---@return any[]?
function ahead.next_batch(loader)
  local ready = loader._ready or prepare(loader)
  loader._ready = nil
  if ready.problem then error(ready.problem, 0) end
  if ready.over then return nil end
  device.join(loader.device)
  local fields = each(ready.fields, scope.adopt)         -- by the scope of whoever asks for it
  if loader:_has_more() then loader._ready = prepare(loader) end
  return fields
end

return ahead
