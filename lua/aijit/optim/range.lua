--- The learning-rate range test (Smith, 2017): a short run in which the rate rises from much too small to much too large.

local ai = require "aijit"
local argument = require "aijit.argument"
local calls = require "aijit.bindings.optim"
local frozen = require("aijit.task.snapshot").frozen
local raise = require("aijit.bindings.lib").raise

local function clones(tensors)
  local list = {}
  for i, tensor in ipairs(tensors) do list[i] = ai.keep(tensor:detach():clone()) end
  return list
end

--- What a task's steps need: its optimizer, and a function that gives the next batch's loss.
local function of_task(task)
  local loop = require "aijit.task.loop"
  local run = loop.prepare(task)
  local epoch = 1
  task:train()
  run.loader:seek(epoch, 1)
  return run.optimizer, task, function()
    local batch = loop.next_batch(run)
    if not batch then
      epoch = epoch + 1
      run.loader:seek(epoch, 1)
      batch = loop.next_batch(run) or raise("range_test: the training data give no batch")
    end
    return loop.loss(task, run, batch)
  end
end

local declared = argument.declare("optim.range_test",
  "optimizer:names=none model:module=none min:positive=1e-7 max:positive=10 steps:count=100 smooth:share=0.05 stop:positive=4", nil, "task")

local function check(options)
  local o = declared:options(options)
  if o.max <= o.min then raise(("range_test: max, %g, must be more than min, %g"):format(o.max, o.min)) end
  if o.steps < 3 then raise(("range_test: steps is %d; at least 3 are wanted"):format(o.steps)) end
  return o
end

--- The rate at which the smoothed loss falls steepest along the logarithm of the rate.
local function steepest(result)
  local best, at
  for i = 2, #result.lr - 1 do
    local slope = (result.smoothed[i + 1] - result.smoothed[i - 1]) / math.log(result.lr[i + 1] / result.lr[i - 1])
    if slope < 0 and (not best or slope < best) then best, at = slope, i end
  end
  return at and result.lr[at]
end

local RangeTest = {__name = "aijit.optim.RangeTest"}
RangeTest.__index = RangeTest

--- The losses over the rates, as a figure: `result:plot():save "lr.png"`.
---@return aijit.Figure
function RangeTest:plot()
  local curves = {loss = {x = self.lr, y = self.loss}, smoothed = {x = self.lr, y = self.smoothed}}
  return ai.plot(curves, {log_x = true, x_label = "learning rate", title = "learning-rate range test"})
end

---@class aijit.optim.RangeTest
---@field lr number[]         the rate of each step, of the group with the highest one
---@field loss number[]
---@field smoothed number[]   a moving mean of the losses, without bias
---@field best number         the rate at the lowest smoothed loss
---@field suggestion number?  the rate where the loss falls steepest; nil when it never falls
---@field diverged number?    the rate at which the loss was not finite or passed `stop` times the best; nil: the end was reached

--- Trains with a rate that rises from min to max, each step by the same factor, and tells the losses. Afterwards weights,
--- buffers, the optimizer and the random numbers are as before.
---@param what aijit.Task|fun(lr: number): aijit.Tensor a task, or a function that gives the loss of the next batch
---@param options? {optimizer: aijit.optim.Optimizer, model: aijit.nn.Module?, min: number, max: number, steps: integer, smooth: number, stop: number}
--- optimizer: for a function; model: whose buffers are to be restored
---@return aijit.optim.RangeTest
local function range_test(what, options)
  local o = check(options)
  local optimizer, model, next_loss = o.optimizer, o.model, what
  local random = ai.get_random_state()
  if type(what) == "table" and type(what.get_loss) == "function" then
    optimizer, model, next_loss = of_task(what)
  elseif type(what) ~= "function" then
    raise(("range_test: a task, or a function that gives a loss, is wanted; got a %s"):format(type(what)))
  elseif type(optimizer) ~= "table" or not optimizer.param_groups then
    raise "range_test: with a function, say whose rate is to rise: {optimizer = ...}"
  end

  local tensors, top, ratios = {}, 0, {}
  for _, group in ipairs(optimizer.param_groups) do
    for _, p in ipairs(group.params) do tensors[#tensors + 1] = p end
    top = math.max(top, group.lr)
  end
  for i, group in ipairs(optimizer.param_groups) do ratios[i] = top > 0 and group.lr / top or 1 end
  if model then for _, buffer in ipairs(model:buffers()) do tensors[#tensors + 1] = buffer end end
  local kept, state = clones(tensors), frozen(optimizer:state_dict())

  local result, mean, least = {lr = {}, loss = {}, smoothed = {}}, 0, math.huge
  local function step(i)
    local lr = o.min * (o.max / o.min) ^ ((i - 1) / (o.steps - 1))
    for g, group in ipairs(optimizer.param_groups) do group.lr = lr * ratios[g] end
    optimizer:zero_grad()
    local loss = next_loss(lr)
    if not ai.is_tensor(loss) then raise(("range_test: the function gave a %s; the loss, a tensor of one element, is wanted"):format(type(loss))) end
    local value = loss:item()
    mean = mean + o.smooth * (value - mean)
    local smoothed = mean / (1 - (1 - o.smooth) ^ i)
    if value - value ~= 0 or (i > 1 and smoothed > o.stop * least and smoothed > 0) then
      result.diverged = lr
      return false
    end
    result.lr[i], result.loss[i], result.smoothed[i] = lr, value, smoothed
    if smoothed < least then least, result.best = smoothed, lr end
    loss:backward()
    optimizer:step()
    return true
  end
  local ok, message = pcall(function()
    for i = 1, o.steps do if not ai.scope(step, i) then break end end
  end)

  ai.no_grad(function() for i, tensor in ipairs(tensors) do tensor:copy_(kept[i]) end end)
  for _, group in ipairs(optimizer.param_groups) do calls.zero_grad(group.params) end
  optimizer:load_state_dict(state)
  ai.set_random_state(random)
  if not ok then error(message, 0) end
  result.suggestion = steepest(result)
  return setmetatable(result, RangeTest)
end

return {range_test = range_test}
