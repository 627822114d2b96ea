--- What optimizers share: parameter groups, options, state. A step is one call into the core for each group.
---
--- An optimizer holds tensors. When they are given data of another dtype or device (a model's :to()), its state follows at
--- the next step. Parameters in f16 or bf16 have
--- their state in f32, and an f32 copy in it, in which small steps add up.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local grouping = require "aijit.optim.group"
local raise = require("aijit.bindings.lib").raise
local calls = require "aijit.bindings.optim"
local jit = require "aijit.bindings.jit"

---@class aijit.optim.Group
---@field params aijit.Tensor[]
---@field lr number
---@field [string] any the other options

---@class aijit.optim.Optimizer
---@field param_groups aijit.optim.Group[]  may be changed between steps: opt.param_groups[1].lr = 1e-4
---@field defaults table<string, any>       of the class: every option with its default; takes() makes it
---@field method string                     of the class: the core's name of the step
local Optimizer = class("Optimizer")

--- Of the class: what is counted beside the updates of each parameter, at most two numbers, by the names they are saved under.
Optimizer.number_names = {}

local function fail(self, text, ...)
  raise(("%s: %s"):format(getmetatable(self).__name, text:format(...)))
end
Optimizer.fail = fail

local function value_text(value)
  return type(value) == "table" and "{" .. table.concat(value, ", ") .. "}" or tostring(value)
end

--- Says what a class's options are: a text as of aijit.argument.
function Optimizer.takes(cls, text)
  cls.declaration = argument.declare("optim." .. cls.__name, text, nil, "params")
  cls.defaults = cls.declaration.defaults
  cls.declared_at = debug.getinfo(2, "Sl")                     -- for ai.help
end

local function check_options(self, options) self.declaration:options(options) end

--- What every parameter must be; `seen` holds those of earlier groups.
local function check_params(self, params, seen)
  local list, names = {}, {}
  for i, entry in ipairs(grouping.entries(params)) do
    local p = entry.tensor
    if not ai.is_tensor(p) then fail(self, "parameter %s is a %s, not a tensor", entry.name or i, type(p)) end
    if not p.is_leaf then fail(self, "parameter %s was made by an op; only leaf tensors can be trained", entry.name or i) end
    if not seen[p] then
      seen[p] = true
      list[#list + 1] = p
      names[#list] = entry.name or false
    end
  end
  return list, names
end

--- Groups as tables with params, from what a program gives.
local function as_groups(self, params, selectors)
  if type(params) ~= "table" then
    fail(self, "a list of parameters is wanted, such as model:parameters(); got a %s", type(params))
  end
  local name = getmetatable(self).__name
  if type(params[1]) == "table" and params[1].params then
    if selectors then fail(self, "groups choose among the parameters of a model; here they are in groups already") end
    return params
  end
  local groups = {}
  for i, one in ipairs(grouping.sort(grouping.entries(params), selectors, name)) do
    groups[i] = one.options
    groups[i].params = {}
    groups[i]._entries = one.entries
    for j, entry in ipairs(one.entries) do groups[i].params[j] = entry.tensor end
  end
  return groups
end

--- For a class that treats parameters of one group differently: more groups in place of one.
function Optimizer:split(group) return {group} end

---@param params aijit.Tensor[]|aijit.optim.Group[]|aijit.nn.Module|table a list, groups, a model, or a tree of tensors
---@param options? table<string, any> defaults for all groups; `groups`: see optim/group.lua
function Optimizer:__init(params, options)
  local own, selectors = {}, options and options.groups
  for name, value in pairs(options or {}) do if name ~= "groups" then own[name] = value end end
  check_options(self, own)
  self._seen = {}
  self.param_groups = {}
  for _, group in ipairs(as_groups(self, params, selectors)) do
    local merged = {}
    for name, value in pairs(own) do merged[name] = value end
    for name, value in pairs(group) do merged[name] = value end
    self:add_param_group(merged)
  end
  local n = 0
  for _, group in ipairs(self.param_groups) do n = n + #group.params end
  if n == 0 then fail(self, "there are no parameters to train") end
end

local function copy_of(value)
  return type(value) == "table" and {unpack(value)} or value
end

local function same_list(a, b)
  return a == b or type(a) == "table" and type(b) == "table" and a[1] == b[1] and a[2] == b[2] and a[3] == b[3]
end

-- By the defaults of a class: a function that tells whether two tables have the same options. It has no loop, since it is
-- part of every step.
local comparisons = setmetatable({}, {__mode = "k"})
local function comparison_of(defaults)
  if not comparisons[defaults] then
    local terms = {}
    for name, value in pairs(defaults) do
      terms[#terms + 1] = (type(value) == "table" and "same_list(a.%s, b.%s)" or "a.%s == b.%s"):format(name, name)
    end
    comparisons[defaults] = loadstring("local same_list = ... return function(a, b) return " .. table.concat(terms, " and ") .. " end")(same_list)
  end
  return comparisons[defaults]
end

local function add_group(self, group)
  local options = {}
  for name, value in pairs(group) do if name ~= "params" and name ~= "_entries" then options[name] = value end end
  check_options(self, options)
  local params, names = check_params(self, group.params, self._seen)
  local new = {params = params, _names = names}
  for i, entry in ipairs(group._entries or {}) do new._names[i] = entry.name or false end
  for name, default in pairs(self.defaults) do
    local value = options[name]
    if value == nil then value = default end
    new[name] = copy_of(value)
  end
  self:check(new)
  new._sent, new._is_same = {}, comparison_of(self.defaults)        -- the options that the core has
  new._count = calls.counters(#new.params)
  new._options = calls.options()
  new._waiting = #new.params
  -- Lists by their place in the core's call; what else is kept, by name.
  new._state, new._kept = {}, {master = {}}
  for place in pairs(self:state_names(new)) do new._state[place] = {} end
  self.param_groups[#self.param_groups + 1] = new
  self._version = (self._version or 0) + 1
end

--- More parameters, with options of their own.
---@param group {params: aijit.Tensor[], [string]: any}
---@return aijit.optim.Optimizer self
function Optimizer:add_param_group(group)
  for _, part in ipairs(self:split(group)) do add_group(self, part) end
  return self
end

--- Refuses options that do not go together.
function Optimizer:check() end

--- The names of what is kept for each parameter, as PyTorch has them, by their place in the core's call (core/optim.c).
function Optimizer:state_names() return {} end

--- What a parameter's state begins with: a number, or a tensor to copy.
function Optimizer:first_value() return 0 end

-- -- Steps ----------------------------------------------------------------------------------------------------

local function is_half(p) return p.dtype == "f16" or p.dtype == "bf16" end

local function make_state(self, group, i)
  local p = group.params[i]
  ai.no_grad(function()
    local dtype = p.dtype == "f64" and "f64" or "f32"
    for place, name in pairs(self:state_names(group)) do
      local value = self:first_value(name, group, p)
      group._state[place] = group._state[place] or {}
      if ai.is_tensor(value) then
        group._state[place][i] = ai.keep(ai.empty(p.shape, {dtype = dtype, device = p.device}):copy_(value))
      else
        group._state[place][i] = ai.keep(ai.full(p.shape, value, {dtype = dtype, device = p.device}))
      end
    end
    if is_half(p) then group._kept.master[i] = ai.keep(p:detach():to "f32") end
  end)
end

--- A parameter may have been given data of another dtype or device since its state was made (set_data, a model's :to()).
local function follow(self, group)
  for i, p in ipairs(group.params) do
    if group._ready and group._ready[i] then
      local where, changed = {dtype = p.dtype == "f64" and "f64" or "f32", device = p.device}, false
      for place in pairs(self:state_names(group)) do
        local old = group._state[place][i]
        if old.dtype ~= where.dtype or old.device ~= where.device then
          group._state[place][i], changed = ai.keep(old:to(where)), true
        end
      end
      local master = group._kept.master[i]
      if is_half(p) ~= (master ~= nil) or master and master.device ~= p.device then
        group._kept.master[i], changed = is_half(p) and ai.keep(p:detach():to "f32") or nil, true
      end
      if changed then self._version = self._version + 1 end
    end
  end
end

--- State is made for a parameter when its first gradient comes: one that is never trained costs nothing.
local function prepare(self, group)
  local waiting = 0
  for i, p in ipairs(group.params) do
    if not group._ready or not group._ready[i] then
      if p.grad ~= nil then
        group._ready = group._ready or {}
        group._ready[i] = true
        make_state(self, group, i)
        self._version = self._version + 1
      else
        waiting = waiting + 1
      end
    end
  end
  group._waiting = waiting
end

--- Options whose names are the core's own.
local plain = {}
for name in ("lr eps weight_decay momentum dampening alpha rho lr_decay momentum_decay maximize amsgrad nesterov centered no_prox")
  :gmatch "%S+" do plain[name] = true end

--- The options of a step, by the core's names; a class adds those that are its own.
function Optimizer:fill(o, group)
  for name in pairs(self.defaults) do if plain[name] then o[name] = group[name] end end
  local betas = group.betas
  if betas then o.beta1, o.beta2, o.beta3 = betas[1], betas[2], betas[3] or 0 end
  o.decoupled = self.decoupled or group.decoupled_weight_decay or false
end

--- The core's name of a group's step.
function Optimizer:method_of() return self.method end

--- Refuses a step that cannot be taken.
function Optimizer:check_step() end

--- A group's options as they are now, to where the core reads them.
local function fill(self, group)
  if group._is_same(group, group._sent) then return end
  self:fill(group._options, group)
  for name in pairs(self.defaults) do group._sent[name] = copy_of(group[name]) end
end

--- A step in a function that ai.jit records has the rates of each later run; other parameters, or another state, make
--- another recording.
local function record(self)
  for _, group in ipairs(self.param_groups) do jit.unrecorded(prepare, self, group) end
  local version = self._version
  jit.before_run(function()
    if self._version ~= version then return false end
    self:check_step()
    local groups = self.param_groups
    fill(self, groups[1])
    for i = 2, #groups do fill(self, groups[i]) end
    return true
  end)
end

local function follow_all(self, moved)
  for _, group in ipairs(self.param_groups) do jit.unrecorded(follow, self, group) end
  self._moved = moved
end

--- Updates every parameter that has a gradient.
function Optimizer:step()
  self:check_step()
  local groups = self.param_groups
  local moved = calls.data_moved()
  if self._moved ~= moved then follow_all(self, moved) end
  if jit.is_recording() then record(self) end
  for i = 1, #groups do
    local group = groups[i]
    if group._waiting > 0 then prepare(self, group) end
    fill(self, group)
    calls.step(self:method_of(group), group._options, group.params, group._state, group._kept.master, group._count)
  end
end

--- Forgets all gradients.
function Optimizer:zero_grad()
  for _, group in ipairs(self.param_groups) do calls.zero_grad(group.params) end
end

--- Weights as they are trained. Only optimizers that show others in evaluation have something to do here.
---@return aijit.optim.Optimizer self
function Optimizer:train() return self end

--- Weights as they are to be used: for validation, and to be saved.
---@return aijit.optim.Optimizer self
function Optimizer:eval() return self end

-- -- State ------------------------------------------------------------------------------------------------------

--- The options and the state as plain data and tensors; parameters are counted through all groups.
---@return {state: table<integer, table>, param_groups: table[]}
function Optimizer:state_dict()
  local dict, n = {state = {}, param_groups = {}}, 0
  for g, group in ipairs(self.param_groups) do
    local saved = {params = {}}
    for name in pairs(self.defaults) do saved[name] = copy_of(group[name]) end
    saved.initial_lr = group.initial_lr
    if self.evaluating then saved.evaluating = true end
    for i = 1, #group.params do
      n = n + 1
      saved.params[i] = n
      local step, first, second = calls.count(group._count, i)
      if step > 0 then
        local entry, numbers = {step = step}, {first, second}
        for k, name in ipairs(self.number_names) do entry[name] = numbers[k] end
        for place, name in pairs(self:state_names(group)) do entry[name] = group._state[place] and group._state[place][i] end
        for name, list in pairs(group._kept) do entry[name] = list[i] end
        dict.state[n] = entry
      end
    end
    dict.param_groups[g] = saved
  end
  return dict
end

local function shape_text(tensor)
  return "(" .. table.concat(tensor.shape, ", ") .. ")"
end

--- Refuses a state that does not fit, before anything is changed.
local function check_dict(self, dict)
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
    local options = {}
    for name in pairs(self.defaults) do options[name] = saved[name] end
    check_options(self, options)
    for i, place in ipairs(saved.params) do
      local p, entry = groups[g].params[i], dict.state[place]
      if entry then
        if type(entry.step) ~= "number" then fail(self, "load_state_dict: parameter %d has no number 'step'", place) end
        local merged = setmetatable(options, {__index = groups[g]})
        for _, name in pairs(self:state_names(merged)) do
          if not ai.is_tensor(entry[name]) then fail(self, "load_state_dict: parameter %d has no tensor '%s'", place, name) end
        end
        for name, tensor in pairs(entry) do
          if ai.is_tensor(tensor) and shape_text(tensor) ~= shape_text(p) then
            fail(self, "load_state_dict: %s of parameter %d is %s, and the parameter %s", name, place, shape_text(tensor), shape_text(p))
          end
        end
      end
    end
  end
end

--- Takes over options and state. The groups must have as many parameters as those that were saved.
---@param dict table from state_dict
---@return aijit.optim.Optimizer self
function Optimizer:load_state_dict(dict)
  check_dict(self, dict)
  for g, saved in ipairs(dict.param_groups) do
    local group = self.param_groups[g]
    for name in pairs(self.defaults) do if saved[name] ~= nil then group[name] = copy_of(saved[name]) end end
    group.initial_lr = saved.initial_lr
    self.evaluating = saved.evaluating or nil
    group._ready = {}
    for _, list in pairs(group._kept) do for i in pairs(list) do list[i] = nil end end
    for i, place in ipairs(saved.params) do
      local entry = dict.state[place]
      calls.set_count(group._count, i, 0)
      if entry then
        calls.set_count(group._count, i, entry.step, entry[self.number_names[1]], entry[self.number_names[2]])
        make_state(self, group, i)
        group._ready[i] = true
        ai.no_grad(function()
          for at, name in pairs(self:state_names(group)) do group._state[at][i]:copy_(entry[name]) end
          for name, list in pairs(group._kept) do
            if entry[name] then list[i] = ai.keep(entry[name]:clone()) end
          end
        end)
      end
    end
    group._waiting = #group.params
  end
  self._version = self._version + 1
  return self
end

function Optimizer:__tostring()
  local lines, names = {}, {}
  for name in pairs(self.defaults) do names[#names + 1] = name end
  table.sort(names)
  for g, group in ipairs(self.param_groups) do
    local parts = {}
    for i, name in ipairs(names) do parts[i] = name .. " = " .. value_text(group[name]) end
    lines[g] = ("%s(%d parameters, {%s})"):format(getmetatable(self).__name, #group.params, table.concat(parts, ", "))
  end
  return table.concat(lines, "\n")
end

return Optimizer
