--- Weights that others trained, from files that a user has, into networks that losses look through.

local ai = require "aijit"
local argument = require "aijit.argument"
local raise = require("aijit.bindings.lib").raise

local pretrained = {}

--- A path, a list of paths, a table of tensors, or "random".
argument.kinds.weights = function(value)
  local wanted = 'the path of a file, a list of paths, a table of tensors, or "random"'
  if type(value) == "string" then return value == "" and wanted or nil end
  if type(value) ~= "table" or getmetatable(value) ~= nil or next(value) == nil then return wanted end
  for key, one in pairs(value) do
    if type(key) == "number" and type(one) ~= "string" or type(key) ~= "number" and not ai.is_tensor(one) then return wanted end
  end
end

--- The tensors of a file, also where they stand under a name of their own.
local function tensors_of(who, path)
  local data = ai.load(path)
  if type(data) ~= "table" then raise(("%s: %s holds no table of tensors"):format(who, path)) end
  for _, key in ipairs{"state_dict", "model", "model_state_dict", "weights", "net"} do
    if type(data[key]) == "table" then return data[key] end
  end
  return data
end

--- All tensors of `weights` by name.
local function gathered(who, weights)
  if type(weights) == "table" and type(weights[1]) ~= "string" then return weights end
  local all = {}
  for _, path in ipairs(type(weights) == "table" and weights or {weights}) do
    for name, t in pairs(tensors_of(who, path)) do if ai.is_tensor(t) then all[name] = t end end
  end
  return all
end

--- Fills a module's parameters and buffers, and freezes it. What has no value is an error that names it and says where the value may
--- come from.
---@param who string
---@param module aijit.nn.Module
---@param weights any a path, a list of paths, a table of tensors; "random": the first values stay
---@param rename fun(name: string): string? a tensor's name in a file -> in the module; nil: it is not wanted
---@param source string what files have them
function pretrained.fill(who, module, weights, rename, source)
  if weights == nil then
    raise(("%s: weights are wanted: the path of a file, a list of paths, or a table of tensors: %s. "
      .. "weights = \"random\" makes the network without, for a state that is loaded later"):format(who, source))
  end
  if weights ~= "random" then
    local state, wanted = {}, module:state_dict()
    for name, t in pairs(gathered(who, weights)) do
      local own = rename(name)
      if own and wanted[own] then state[own] = t end
    end
    local missing, n = {}, 0
    for name in pairs(wanted) do
      if not state[name] and not name:find "num_batches_tracked$" then
        n = n + 1
        missing[#missing + 1] = name
      elseif not state[name] then state[name] = wanted[name] end
    end
    if n > 0 then
      table.sort(missing)
      raise(("%s: the weights have no value for %d of its tensors, among them %s; wanted are %s"):format(who, n,
        table.concat(missing, ", ", 1, math.min(3, n)), source))
    end
    module:load_state_dict(state)
  end
  module:freeze():eval()
end

return pretrained
