--- The optimizers of a task, one or several, each with its schedule and its own parameters.
--
-- build_optimizer gives an optimizer and perhaps a schedule; or a table of several, `{generator = g, discriminator = d}` or
-- `{d, g}`, each an optimizer or `{optimizer, schedule}`. Those with names go in the order of the names.

local class = require "aijit.class"

---@class aijit.task.Entry
---@field name string|integer
---@field optimizer any
---@field schedule table? an object whose step() follows each optimizer step
---@field factor (fun(state: aijit.State): number)? of the rates that the groups began with
---@field rates number[]?
---@field params aijit.Tensor[]

---@class aijit.task.Optimizers
---@field entries aijit.task.Entry[]
---@field single boolean build_optimizer gave one, not a table of them
local Optimizers = class("Optimizers")

local function is_optimizer(value) return type(value) == "table" and type(value.step) == "function" and value.param_groups ~= nil end

local function entry(name, optimizer, schedule, who)
  if not is_optimizer(optimizer) then
    error(("%s:build_optimizer gave a %s as optimizer %s"):format(who, type(optimizer), tostring(name)), 0)
  end
  local made = {name = name, optimizer = optimizer, params = {}}
  for _, group in ipairs(optimizer.param_groups) do
    for _, p in ipairs(group.params) do table.insert(made.params, p) end
  end
  if type(schedule) == "function" then
    made.factor, made.rates = schedule, {}
    for i, group in ipairs(optimizer.param_groups) do made.rates[i] = group.lr end
  else
    made.schedule = schedule
  end
  return made
end

---@param who string the task's name
---@param given any what build_optimizer gave
---@param schedule any
function Optimizers:__init(who, given, schedule)
  if given == nil then error(("%s:build_optimizer gave nothing"):format(who), 0) end
  self.entries, self.single = {}, is_optimizer(given)
  if self.single then
    self.entries[1] = entry(1, given, schedule, who)
    return
  end
  if type(given) ~= "table" then error(("%s:build_optimizer gave a %s"):format(who, type(given)), 0) end
  local names = {}
  for name in pairs(given) do
    if type(name) == "string" and (name:find("/", 1, true) or name:match("^#%d+$")) then
      error(("%s:build_optimizer: '%s' cannot be an optimizer's name"):format(who, name), 0)
    end
    names[#names + 1] = name
  end
  table.sort(names, function(a, b)
    if type(a) == type(b) then return a < b end
    return type(a) == "number"
  end)
  if #names == 0 then error(("%s:build_optimizer gave an empty table"):format(who), 0) end
  local owner = {}
  for i, name in ipairs(names) do
    local one = given[name]
    local made = is_optimizer(one) and entry(name, one, nil, who)
      or type(one) == "table" and entry(name, one[1], one[2], who) or entry(name, one, nil, who)
    for _, p in ipairs(made.params) do
      if owner[p] then
        error(("%s:build_optimizer: optimizers %s and %s train one parameter both"):format(who, tostring(owner[p]), tostring(name)), 0)
      end
      owner[p] = name
    end
    self.entries[i] = made
  end
end

--- Some optimizers train other weights than those to be used: "train" or "eval".
---@param mode "train"|"eval"
function Optimizers:show(mode)
  for _, one in ipairs(self.entries) do
    if type(one.optimizer[mode]) == "function" then one.optimizer[mode](one.optimizer) end
  end
end

--- Forgets the gradients of all.
function Optimizers:zero_grad()
  for _, one in ipairs(self.entries) do one.optimizer:zero_grad() end
end

--- One step of an entry, at the rate that its schedule gives.
---@param one aijit.task.Entry
---@param state aijit.State
---@return number rate of the first group
function Optimizers.step(one, state)
  local groups = one.optimizer.param_groups
  if one.factor then
    for i, group in ipairs(groups) do group.lr = one.rates[i] * one.factor(state) end
  end
  local rate = groups[1].lr
  one.optimizer:step()
  return rate
end

--- After a step, also one that was left out: the schedules go on.
function Optimizers:advance()
  for _, one in ipairs(self.entries) do
    if one.schedule then one.schedule:step() end
  end
end

--- Tells the schedules that want it a validation's loss.
---@param loss number?
function Optimizers:observe(loss)
  for _, one in ipairs(self.entries) do
    if loss and one.schedule and one.schedule.observe then one.schedule:observe(loss) end
  end
end

--- Tensors and plain data of the optimizers: one's own dictionary, or those of several by name.
---@return table?
function Optimizers:state_dict()
  if self.single then
    local optimizer = self.entries[1].optimizer
    return optimizer.state_dict and optimizer:state_dict()
  end
  local dicts = {}
  for _, one in ipairs(self.entries) do
    if one.optimizer.state_dict then dicts[one.name] = one.optimizer:state_dict() end
  end
  return dicts
end

---@param dict table?
function Optimizers:load_state_dict(dict)
  if not dict then return end
  for _, one in ipairs(self.entries) do
    local own = dict
    if not self.single then own = dict[one.name] end
    if own and one.optimizer.load_state_dict then one.optimizer:load_state_dict(own) end
  end
end

--- Plain data of the schedules, in the order of the entries.
---@return table[]
function Optimizers:schedules()
  local list = {}
  for i, one in ipairs(self.entries) do
    list[i] = one.schedule and one.schedule.state_dict and one.schedule:state_dict() or {}
  end
  return list
end

---@param list table[] from `schedules`
function Optimizers:load_schedules(list)
  for i, one in ipairs(self.entries) do
    if one.schedule and one.schedule.load_state_dict and list[i] then one.schedule:load_state_dict(list[i]) end
  end
end

return Optimizers
