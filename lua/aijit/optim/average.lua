--- Averages of weights over a training, kept beside the model and shown in their place.
---
---     local ema = ai.optim.EMA(model, 0.999)
---     opt:step() ema:update()
---     ema:average(function() validate(model) end)          -- or ema:apply() ... ema:restore()

local ai = require "aijit"
local argument = require "aijit.argument"
local calls = require "aijit.bindings.optim"
local class = require "aijit.class"
local jit = require "aijit.bindings.jit"
local grouping = require "aijit.optim.group"
local raise = require("aijit.bindings.lib").raise

---@class aijit.optim.Average
---@field t integer       updates so far
---@field applied boolean the model shows the averages now
local Average = class("Average")

local function fail(self, text, ...)
  raise(("%s: %s"):format(getmetatable(self).__name, text:format(...)))
end

local function add(self, name, tensor, averaged)
  local lists = averaged and tensor:is_floating_point() and self._averaged or self._copied
  local half = averaged and (tensor.dtype == "f16" or tensor.dtype == "bf16")
  local shadow = ai.no_grad(function()
    local source = tensor:detach()
    return ai.keep(half and source:to "f32" or source:clone())
  end)
  lists.names[#lists.names + 1], lists.live[#lists.live + 1], lists.shadow[#lists.shadow + 1] = name, tensor, shadow
end

local function begin(self, model)
  if type(model) ~= "table" then fail(self, "the first argument is a model, or its parameters; got a %s", type(model)) end
  self.t, self.applied = 0, false
  self._averaged = {names = {}, live = {}, shadow = {}}
  self._copied = {names = {}, live = {}, shadow = {}}
  if type(model.each_tensor) == "function" then
    model:parameters()                                   -- refuses layers that wait for their sizes
    model:each_tensor(function(name, tensor, kind)
      if kind ~= "scratch" then add(self, name, tensor, kind == "parameter" or self.buffers) end
    end)
  else
    for i, entry in ipairs(grouping.entries(model)) do
      if not ai.is_tensor(entry.tensor) then fail(self, "parameter %s is a %s, not a tensor", entry.name or i, type(entry.tensor)) end
      add(self, entry.name or tostring(i), entry.tensor, true)
    end
  end
  if #self._averaged.live == 0 then fail(self, "there are no parameters to average") end
end

--- Takes the present weights into the average; call it after each optimizer step, or as often as is wanted.
---@return aijit.optim.Average self
function Average:update()
  if jit.is_recording() then fail(self, "update: its weight changes with each update, and ai.jit would record one; do it after the call") end
  if self.applied then fail(self, "the model shows the averages; restore() it before update()") end
  calls.lerp_all(self._averaged.shadow, self._averaged.live, self:weight(self.t))
  ai.no_grad(function()
    for i, tensor in ipairs(self._copied.live) do self._copied.shadow[i]:copy_(tensor) end
  end)
  self.t = self.t + 1
  return self
end

--- The share of the present weights in the average after update t + 1; each class has its own.
Average.weight = class.abstract "weight"

local function each_list(self, visit)
  ai.no_grad(function()
    for _, lists in ipairs{self._averaged, self._copied} do
      for i, tensor in ipairs(lists.live) do visit(lists, i, tensor) end
    end
  end)
end

--- The model gets the averages; its own weights are kept for restore().
---@return aijit.optim.Average self
function Average:apply()
  if self.applied then fail(self, "the averages are applied already; restore() first") end
  each_list(self, function(lists, i, tensor)
    lists.kept = lists.kept or {}
    lists.kept[i] = ai.keep(tensor:detach():clone())
    tensor:copy_(lists.shadow[i])
  end)
  self.applied = true
  return self
end

--- The model gets its own weights back, to the last bit.
---@return aijit.optim.Average self
function Average:restore()
  if not self.applied then fail(self, "the averages are not applied: apply() comes first") end
  each_list(self, function(lists, i, tensor) tensor:copy_(lists.kept[i]) end)
  self._averaged.kept, self._copied.kept = nil, nil
  self.applied = false
  return self
end

--- Runs f while the model shows the averages, and restores it, also after an error.
---@param f fun(...): any
---@return any # what f returns
function Average:average(f, ...)
  self:apply()
  local function finish(ok, ...)
    self:restore()
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(f, ...))
end

--- The averages by the names that state_dict of the model has: ai.save(ema:weights(), "ema.safetensors").
---@return table<string, aijit.Tensor>
function Average:weights()
  local all = {}
  each_list(self, function(lists, i) all[lists.names[i]] = lists.shadow[i] end)
  return all
end

--- Tensors and plain data, from which load_state_dict goes on to the same bits.
---@return {t: integer, shadow: table<string, aijit.Tensor>}
function Average:state_dict() return {t = self.t, shadow = self:weights()} end

---@param dict table from state_dict
---@return aijit.optim.Average self
function Average:load_state_dict(dict)
  if type(dict) ~= "table" or type(dict.t) ~= "number" or type(dict.shadow) ~= "table" then
    fail(self, "load_state_dict: a table with `t` and `shadow` is wanted, as state_dict gives it")
  end
  each_list(self, function(lists, i)
    local name, shadow = lists.names[i], lists.shadow[i]
    local tensor = dict.shadow[name]
    if not ai.is_tensor(tensor) then fail(self, "load_state_dict: there is no tensor '%s'", name) end
    if table.concat(tensor.shape, ", ") ~= table.concat(shadow.shape, ", ") then
      fail(self, "load_state_dict: %s is (%s) in the state, (%s) in the model", name, table.concat(tensor.shape, ", "),
        table.concat(shadow.shape, ", "))
    end
  end)
  each_list(self, function(lists, i) lists.shadow[i]:copy_(dict.shadow[lists.names[i]]) end)
  self.t = dict.t
  return self
end

--- An exponential moving average: a = decay a + (1 - decay) p, from the weights that the model has now. With warmup the decay
--- is at most (1 + t) / (10 + t), so that early weights are forgotten. Buffers of floats are averaged, others copied.
---@class aijit.optim.EMA: aijit.optim.Average
---@overload fun(model: any, decay?: number, options?: {warmup: boolean}): aijit.optim.EMA
local EMA = class("EMA", Average)
EMA.buffers = true

local ema_arguments = argument.declare("optim.EMA", "decay=0.999 warmup:flag=false", nil, "model")

function EMA:__init(model, ...)
  ema_arguments:read(self, ...)
  begin(self, model)
end

--- The share of the present weights: 1 - decay, more while it warms up.
---@param t integer updates so far
---@return number
function EMA:weight(t)
  return 1 - (self.warmup and math.min(self.decay, (1 + t) / (10 + t)) or self.decay)
end

--- Stochastic weight averaging (Izmailov and others, 2018): the plain mean of the weights at each update. Batch norm's means
--- are the model's last, not averaged: optim.update_batch_norm measures them for the averages.
---@class aijit.optim.SWA: aijit.optim.Average
---@overload fun(model: any): aijit.optim.SWA
local SWA = class("SWA", Average)
SWA.buffers = false

function SWA:__init(model) begin(self, model) end
--- The share of the present weights in the mean of t + 1.
---@param t integer updates so far
---@return number
function SWA:weight(t) return 1 / (t + 1) end

--- Measures the running means and variances of a model's batch norms anew, for weights that were not trained but averaged.
---@param model aijit.nn.Module
---@param batches table a list of inputs, or an iterator that gives one at a time, its first value
---@param forward? fun(batch: any) how the model is called; else model(batch)
---@return integer n how many batches there were
local function update_batch_norm(model, batches, forward)
  local norms, modes = {}, {}
  for _, module in ipairs(model:modules()) do
    modes[module] = module.training
    if module.running_mean and module.num_batches_tracked then norms[#norms + 1] = {module, module.momentum, module._options.training.momentum} end
  end
  if #norms == 0 then return 0 end
  ai.no_grad(function()
    for _, norm in ipairs(norms) do
      norm[1].running_mean:zero_()
      norm[1].running_var:fill_(1)
      norm[1].num_batches_tracked:zero_()
      norm[1].momentum = "none"                          -- the plain mean of all batches
    end
    model:train()
  end)
  local n = 0
  local function show(batch)
    n = n + 1
    ai.no_grad(function() ai.scope(function() if forward then forward(batch) else model(batch) end end) end)
  end
  local ok, message = pcall(function()
    if type(batches) == "table" and getmetatable(batches) == nil then
      for _, batch in ipairs(batches) do show(batch) end
    else
      for batch in batches do show(batch) end
    end
  end)
  for _, norm in ipairs(norms) do norm[1].momentum, norm[1]._options.training.momentum = norm[2], norm[3] end
  for module, mode in pairs(modes) do rawset(module, "training", mode) end
  if not ok then error(message, 0) end
  return n
end

return {EMA = EMA, SWA = SWA, update_batch_norm = update_batch_norm}
