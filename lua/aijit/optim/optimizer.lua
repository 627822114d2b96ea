--- What optimizers share: parameter groups, options, state. A step is one call into the core for each group.
---
--- An optimizer holds tensors. Make it after the model is on its device and in its dtype.

local ai = require "aijit"
local class = require "aijit.class"
local nearest = require "aijit.nearest"
local raise = require("aijit.bindings.lib").raise
local calls = require "aijit.bindings.optim"

---@class aijit.optim.Group
---@field params aijit.Tensor[]
---@field lr number
---@field [string] any the other options

---@class aijit.optim.Optimizer
---@field param_groups aijit.optim.Group[]  may be changed between steps: opt.param_groups[1].lr = 1e-4
---@field defaults table<string, any>       of the class: every option with its default
local Optimizer = class("Optimizer")

local function fail(self, text, ...)
  raise(("%s: %s"):format(getmetatable(self).__name, text:format(...)))
end

local function check_options(self, options)
  local names = {}
  for name in pairs(self.defaults) do names[#names + 1] = name end
  table.sort(names)
  for name, value in pairs(options) do
    local default = self.defaults[name]
    if default == nil then fail(self, "there is no option '%s': %s", tostring(name), nearest.hint(tostring(name), names)) end
    if type(value) ~= type(default) then
      fail(self, "%s is a %s; a %s is wanted, such as %s", name, type(value), type(default),
        type(default) == "table" and "{" .. table.concat(default, ", ") .. "}" or tostring(default))
    end
    if type(value) == "number" and value < 0 then fail(self, "%s is %g; it must not be negative", name, value) end
  end
end

--- What every parameter must be; `seen` holds those of earlier groups.
local function check_params(self, params, seen)
  local list = {}
  for i, p in ipairs(params) do
    if not ai.is_tensor(p) then fail(self, "parameter %d is a %s, not a tensor", i, type(p)) end
    if not p.is_leaf then fail(self, "parameter %d was made by an op; only leaf tensors can be trained", i) end
    if not seen[p] then
      seen[p] = true
      list[#list + 1] = p
    end
  end
  return list
end

local function as_groups(self, params)
  if type(params) == "table" and type(params.parameters) == "function" then params = params:parameters() end
  if type(params) ~= "table" then
    fail(self, "a list of parameters is wanted, such as model:parameters(); got a %s", type(params))
  end
  if type(params[1]) == "table" and params[1].params then return params end
  return {{params = params}}
end

---@param params aijit.Tensor[]|aijit.optim.Group[]|aijit.nn.Module
---@param options? table<string, any> defaults for all groups
function Optimizer:__init(params, options)
  options = options or {}
  check_options(self, options)
  self._seen = {}
  self.param_groups = {}
  for _, group in ipairs(as_groups(self, params)) do
    local merged = {}
    for name, value in pairs(options) do merged[name] = value end
    for name, value in pairs(group) do merged[name] = value end
    self:add_param_group(merged)
  end
  local n = 0
  for _, group in ipairs(self.param_groups) do n = n + #group.params end
  if n == 0 then fail(self, "there are no parameters to train") end
end

--- More parameters, with options of their own.
---@param group {params: aijit.Tensor[], [string]: any}
---@return aijit.optim.Optimizer self
function Optimizer:add_param_group(group)
  local params, options = group.params, {}
  if type(params) == "table" and type(params.parameters) == "function" then params = params:parameters() end
  for name, value in pairs(group) do if name ~= "params" then options[name] = value end end
  check_options(self, options)
  local new = {params = check_params(self, params, self._seen)}
  for name, default in pairs(self.defaults) do
    local value = options[name]
    if value == nil then value = default end
    new[name] = value
  end
  self:check(new)
  new._count = calls.counters(#new.params)
  new._waiting = #new.params
  new._state = {}
  for _, name in ipairs(self:state_names(new)) do new._state[name] = {} end
  self.param_groups[#self.param_groups + 1] = new
  return self
end

--- Refuses options that do not go together.
function Optimizer:check() end

--- The names of what is kept for each parameter, as PyTorch has them.
function Optimizer:state_names() return {} end

local function make_state(group, i)
  local p = group.params[i]
  ai.no_grad(function()
    for _, list in pairs(group._state) do
      list[i] = ai.keep(ai.zeros(p.shape, {dtype = p.dtype, device = p.device}))
    end
  end)
end

--- State is made for a parameter when its first gradient comes: one that is never trained costs nothing.
local function prepare(group)
  local _, first = next(group._state)
  if not first then
    group._waiting = 0
    return
  end
  local waiting = 0
  for i, p in ipairs(group.params) do
    if not first[i] then
      if p.grad ~= nil then make_state(group, i) else waiting = waiting + 1 end
    end
  end
  group._waiting = waiting
end

--- Updates every parameter that has a gradient.
function Optimizer:step()
  local groups = self.param_groups
  for i = 1, #groups do
    local group = groups[i]
    if group._waiting > 0 then prepare(group) end
    self:update(group)
  end
end

--- The step of one group; each class has its own.
Optimizer.update = class.abstract "update"

--- Forgets all gradients.
function Optimizer:zero_grad()
  for _, group in ipairs(self.param_groups) do calls.zero_grad(group.params) end
end

--- The options and the state as plain data and tensors; parameters are counted through all groups.
---@return {state: table<integer, table>, param_groups: table[]}
function Optimizer:state_dict()
  local dict, n = {state = {}, param_groups = {}}, 0
  for g, group in ipairs(self.param_groups) do
    local saved = {params = {}}
    for name in pairs(self.defaults) do saved[name] = group[name] end
    saved.initial_lr = group.initial_lr
    for i = 1, #group.params do
      n = n + 1
      saved.params[i] = n
      local entry = {step = calls.count(group._count, i)}
      for name, list in pairs(group._state) do entry[name] = list[i] end
      if entry.step > 0 then dict.state[n] = entry end
    end
    dict.param_groups[g] = saved
  end
  return dict
end

--- Takes over options and state. The groups must have as many parameters as those that were saved.
---@param dict table from state_dict
---@return aijit.optim.Optimizer self
function Optimizer:load_state_dict(dict)
  if type(dict) ~= "table" or type(dict.param_groups) ~= "table" or type(dict.state) ~= "table" then
    fail(self, "load_state_dict: a table with `state` and `param_groups` is wanted, as state_dict gives it")
  end
  local groups = self.param_groups
  if #groups ~= #dict.param_groups then
    fail(self, "load_state_dict: %d groups here, %d in the state", #groups, #dict.param_groups)
  end
  for g, saved in ipairs(dict.param_groups) do
    if #saved.params ~= #groups[g].params then
      fail(self, "load_state_dict: group %d has %d parameters here, %d in the state", g, #groups[g].params, #saved.params)
    end
    for i, place in ipairs(saved.params) do
      local p = groups[g].params[i]
      for name, tensor in pairs(dict.state[place] or {}) do
        if ai.is_tensor(tensor) and tensor:numel() ~= p:numel() then
          fail(self, "load_state_dict: %s of parameter %d has %d elements, and the parameter %d", name, place,
            tensor:numel(), p:numel())
        end
      end
    end
  end
  for g, saved in ipairs(dict.param_groups) do
    local group = groups[g]
    for name in pairs(self.defaults) do if saved[name] ~= nil then group[name] = saved[name] end end
    group.initial_lr = saved.initial_lr
    for _, name in ipairs(self:state_names(group)) do group._state[name] = group._state[name] or {} end
    for i, place in ipairs(saved.params) do
      local entry = dict.state[place]
      calls.set_count(group._count, i, entry and entry.step or 0)
      if entry then
        make_state(group, i)
        for name, list in pairs(group._state) do
          if entry[name] then ai.no_grad(function() list[i]:copy_(entry[name]) end) end
        end
      end
    end
    group._waiting = #group.params
  end
  return self
end

function Optimizer:__tostring()
  local lines, names = {}, {}
  for name in pairs(self.defaults) do names[#names + 1] = name end
  table.sort(names)
  for g, group in ipairs(self.param_groups) do
    local parts = {}
    for i, name in ipairs(names) do
      local value = group[name]
      parts[i] = name .. " = " .. (type(value) == "table" and "{" .. table.concat(value, ", ") .. "}" or tostring(value))
    end
    lines[g] = ("%s(%d parameters, {%s})"):format(getmetatable(self).__name, #group.params, table.concat(parts, ", "))
  end
  return table.concat(lines, "\n")
end

return Optimizer
