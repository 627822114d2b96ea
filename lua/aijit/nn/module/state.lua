--- state_dict and load_state_dict: a model's parameters and buffers by name, as PyTorch names them.

local ai = require "aijit"
local nearest = require "aijit.nearest"
local raise = require("aijit.bindings.lib").raise

local state = {}

local function shape_text(shape)
  local sizes = {}
  for i = 1, #shape do sizes[i] = tostring(shape[i]) end
  return "(" .. table.concat(sizes, ", ") .. ")"
end

local function same_shape(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do if a[i] ~= b[i] then return false end end
  return true
end

--- All parameters and buffers by name. The tensors share their data with the model's and are outside any graph. A tensor
--- that the model holds under several names appears under each.
---@return table<string, aijit.Tensor>
function state:state_dict()
  local dict = {}
  self:each_tensor(function(name, tensor, kind)
    if kind ~= "scratch" then dict[name] = tensor:detach() end
  end, true)
  return dict
end

--- Layers that wait for their sizes take them from the weights of that name.
local function build_from(self, dict)
  for name, module in self:named_modules() do
    if module._unbuilt then
      local prefix, own, any = name == "" and "" or name .. ".", {}, false
      for key, tensor in pairs(dict) do
        local rest = key:sub(1, #prefix) == prefix and key:sub(#prefix + 1)
        if rest then
          own[rest], any = tensor, true
        end
      end
      if any then module:build_from(own) end
    end
  end
end

--- A state whose plain weights become those under low-rank additions; the additions stay as they are.
local function under_additions(self, dict)
  local out = dict
  for path, module in self:named_modules() do
    local prefix = path == "" and "" or path .. "."
    for _, entry in ipairs(rawget(module, "_applied") or {}) do
      local name, base = prefix .. entry[2], ("%sparametrizations.%s."):format(prefix, entry[2])
      if entry[1] == "lora_weight" and dict[name] and not dict[base .. "original"] then
        if out == dict then
          out = {}
          for key, tensor in pairs(dict) do out[key] = tensor end
        end
        local computed = module.parametrizations[entry[2]]
        out[name], out[base .. "original"] = nil, dict[name]
        out[base .. "lora_a"], out[base .. "lora_b"] = computed.lora_a, computed.lora_b
      end
    end
  end
  return out
end

---@class aijit.nn.LoadReport
---@field missing string[]     names of the model that the state lacks
---@field unexpected string[]  names of the state that the model lacks
---@field mismatched string[]  "name: (3, 4) in the state, (3, 5) in the model"

local function compare(self, dict)
  local report, pairs_to_copy, known, found = {missing = {}, unexpected = {}, mismatched = {}}, {}, {}, {}
  local names, tensors = {}, {}
  self:each_tensor(function(name, tensor, kind)
    if kind == "scratch" then return end
    names[#names + 1], tensors[#tensors + 1] = name, tensor
    known[name] = true
    local source = dict[name]
    if source then
      found[tensor] = true
      if same_shape(source.shape, tensor.shape) then
        pairs_to_copy[#pairs_to_copy + 1] = {tensor, source}
      else
        report.mismatched[#report.mismatched + 1] =
          ("%s: %s in the state, %s in the model"):format(name, shape_text(source.shape), shape_text(tensor.shape))
      end
    end
  end, true)
  for i, name in ipairs(names) do
    -- One of a shared tensor's names is enough.
    if not found[tensors[i]] then report.missing[#report.missing + 1] = name end
  end
  for name in pairs(dict) do
    if not known[name] then report.unexpected[#report.unexpected + 1] = name end
  end
  table.sort(report.unexpected)
  return report, pairs_to_copy, names
end

local function describe(title, list, lines)
  if #list == 0 then return end
  lines[#lines + 1] = ("  %s (%d):"):format(title, #list)
  for i = 1, math.min(#list, 12) do lines[#lines + 1] = "    " .. list[i] end
  if #list > 12 then lines[#lines + 1] = ("    and %d more"):format(#list - 12) end
end

local function complaint(self, report, names)
  local lines = {("load_state_dict: the state does not fit %s; nothing was loaded"):format(getmetatable(self).__name)}
  describe("missing from the state", report.missing, lines)
  local unexpected = {}
  for i, name in ipairs(report.unexpected) do
    local close = #names <= 2000 and i <= 12 and nearest.find(name, names)[1]
    unexpected[i] = close and ("%s (like %s)"):format(name, close) or name
  end
  describe("not in the model", unexpected, lines)
  describe("of another shape", report.mismatched, lines)
  lines[#lines + 1] = "  {strict = false} loads what fits"
  return table.concat(lines, "\n")
end

--- Copies a state into the model, converting dtype and device. A state that does not fit is an error that lists every
--- difference, and changes nothing; with strict = false what fits is loaded. The state of a model without nn.lora fits one with it:
--- the weights change, the additions to them stay.
---@param dict table<string, aijit.Tensor> as from state_dict, or ai.load "file.safetensors"
---@param options? {strict: boolean}
---@return aijit.nn.Module self
---@return aijit.nn.LoadReport report
function state:load_state_dict(dict, options)
  if type(dict) ~= "table" then
    raise(("load_state_dict: a table of tensors by name is wanted, got a %s"):format(type(dict)))
  end
  for key in pairs(options or {}) do
    if key ~= "strict" then raise(("load_state_dict: there is no option '%s'; {strict = false} loads what fits"):format(tostring(key))) end
  end
  for name, tensor in pairs(dict) do
    if not ai.is_tensor(tensor) then
      raise(("load_state_dict: '%s' is a %s, not a tensor"):format(tostring(name), type(tensor)))
    end
  end
  build_from(self, dict)
  dict = under_additions(self, dict)
  local report, pairs_to_copy, names = compare(self, dict)
  local fits = #report.missing + #report.unexpected + #report.mismatched == 0
  if not fits and not (options and options.strict == false) then raise(complaint(self, report, names)) end
  ai.no_grad(function()
    for _, pair in ipairs(pairs_to_copy) do pair[1]:copy_(pair[2]) end
  end)
  return self, report
end

return state
