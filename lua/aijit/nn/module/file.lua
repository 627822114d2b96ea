--- init, save and nn.load: a model and its values in files, and first values anew.

local ai = require "aijit"
local json = require "aijit.json"
local raise = require("aijit.bindings.lib").raise

local file = {}

local KEY = "aijit.spec"

local function with_ending(who, path)
  if type(path) ~= "string" or path == "" then
    raise(("%s: path is %s; the name of a file is wanted"):format(who, path == "" and '""' or tostring(path)))
  end
  return path:match "%.%w+$" and path or path .. ".safetensors"
end

--- First values for all parameters: each module's own init_params() if it has one, else those that its layer starts with;
--- or the values of a file. Layers that wait for their sizes get theirs when they know them.
---@param path? string a file of a state, as save writes it; .safetensors unless it says otherwise
---@return aijit.nn.Module self
function file:init(path)
  if path ~= nil then return (self:load_state_dict((ai.load(with_ending("init", path))))) end
  return self:apply(function(module)
    local first = module.init_params or module.reset
    if type(first) ~= "function" then return end
    if rawget(module, "_unbuilt") then rawset(module, "_first_values", module.init_params or nil) else first(module) end
  end)
end

--- Writes the parameters and buffers as safetensors; and the structure beside them, where a spec can hold it, so that
--- nn.load makes the model again. A name without an ending gets that one.
---@param path string
---@return aijit.nn.Module self
function file:save(path)
  path = with_ending("save", path)
  local ok, spec = pcall(self.to_spec, self)
  local is_plain, text = pcall(json.encode, ok and spec or nil)
  local metadata = ok and is_plain and path:match "%.safetensors$" and {[KEY] = text} or nil
  ai.save(self:state_dict(), path, metadata and {metadata = metadata})
  return self
end

--- The model that save wrote: made from the structure in the file, with the values there.
---@param path string
---@return aijit.nn.Module
function file.load(path)
  path = with_ending("nn.load", path)
  local state, metadata = ai.load(path)
  local text = type(metadata) == "table" and metadata[KEY]
  if not text then
    raise(("nn.load: %s holds values and no structure; make the model, and model:init(%q)"):format(path, path))
  end
  return (require("aijit.nn.module").make_from_spec(json.decode(text)):load_state_dict(state))
end

--- All of a list's elements in one row, a copy: nn.parameters_to_vector(m:parameters()).
---@param parameters aijit.Tensor[]
---@return aijit.Tensor (n)
function file.parameters_to_vector(parameters)
  if type(parameters) ~= "table" or #parameters == 0 then raise "parameters_to_vector: a list of one tensor or more is wanted, as m:parameters()" end
  local flat = {}
  for i, p in ipairs(parameters) do flat[i] = p:reshape(-1) end
  return ai.cat(flat, 1)
end

--- Writes such a row back into the tensors of a list.
---@param vector aijit.Tensor (n)
---@param parameters aijit.Tensor[]
function file.vector_to_parameters(vector, parameters)
  local n = 0
  for _, p in ipairs(parameters) do n = n + p:numel() end
  if not ai.is_tensor(vector) or vector:dim() ~= 1 or vector:numel() ~= n then
    raise(("vector_to_parameters: a row of %d elements is wanted, got %s"):format(
      n, ai.is_tensor(vector) and "(" .. table.concat(vector.shape, ", ") .. ")" or "a " .. type(vector)))
  end
  ai.no_grad(function()
    local at = 1
    for _, p in ipairs(parameters) do
      if p:numel() > 0 then p:copy_(vector[{{at, at + p:numel() - 1}}]:reshape(p.shape)) end
      at = at + p:numel()
    end
  end)
end

return file
