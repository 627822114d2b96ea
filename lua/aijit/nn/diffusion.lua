--- Learning to take noise away: Gaussian diffusion and consistency models around a network that is given to each call.
---
---     local diffusion = nn.GaussianDiffusion{pred_mode = "pred_v", beta_schedule = "cosine", num_beta_steps = 500}
---     local loss = diffusion:loss(net, images)                          -- net(x, t): t (N), 1 .. 500
---     local samples = diffusion:sample(net, {16, 3, 32, 32}, {steps = 50})
---
--- m.DiffusionModel is a model that is its own network; these go with any function of (x, t).

local ai = require "aijit"
local argument = require "aijit.argument"
local layer = require "aijit.nn.layer".layer
local Module = require "aijit.nn.module"
local ode = require "aijit.nn.ode"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {ode_solver = ode.ode_solver, beta_schedule = ode.beta_schedule}

-- -- What both have ------------------------------------------------------------------------------------------------

local function check_network(who, network)
  argument.check(who, "model", "function", network)
end

local function check_sample(who, name, x)
  argument.check(who, name, "tensor", x)
  if x:dim() == 0 or not x:is_floating_point() then
    raise(("%s: %s is (%s) of %s; samples of floats, (N, ...), are wanted"):format(who, name, table.concat(x.shape, ", "), x.dtype))
  end
end

--- In evaluation mode, without recording.
local function quietly(network, run)
  local training = Module.is_module(network) and network.training
  if training then network:eval() end
  local ok, first, second = pcall(ai.no_grad, run)
  if training then network:train() end
  if not ok then error(first, 0) end
  return first, second
end

--- (N) as (N, 1, ...), to go with x.
local function beside(v, x)
  local shape = {v:size(1)}
  for i = 2, x:dim() do shape[i] = 1 end
  return v:to(x.dtype):reshape(shape)
end

local function like(x) return ai.randn(x.shape, {dtype = x.dtype, device = x.device}) end

--- sqrt(|x - y|^2 + c^2) - c over all of a sample, c = factor sqrt(its size) (Song and Dhariwal, 2023): (N).
local function pseudo_huber(x, y, factor)
  local d = (x - y):reshape(x:size(1), -1)
  local c = factor * math.sqrt(d:size(2))
  return (d:square():sum{2} + c * c):sqrt() - c
end

--- The loss by name, or a function of both: unreduced, (N, ...) or (N).
local function distance(kind, x, y, factor)
  if type(kind) == "function" then return kind(x, y) end
  if kind == "mse" then return (x - y):square() end
  if kind == "l1" then return (x - y):abs() end
  return pseudo_huber(x, y, factor)
end

local kinds = {mse = true, l1 = true, pseudo_huber = true}
argument.kinds.diffusion_loss = function(value)
  if type(value) ~= "function" and not kinds[value] then return '"mse", "l1", "pseudo_huber" or a function of prediction and target' end
end

-- -- Gaussian diffusion ----------------------------------------------------------------------------------------------

--- x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, a_t the product of 1 - beta up to t, for t from 1 to num_beta_steps (Ho and others, 2020).
--- pred_mode: what the network is to say: "pred_x_0" the data, "pred_eps" the noise, "pred_v" sqrt(a) noise - sqrt(1 - a) x_0 (Salimans
--- and Ho, 2022). beta_schedule and its options: as for nn.beta_schedule. loss: "mse", "l1", "pseudo_huber", or a function.
--- sigma_type: how much noise a step back adds, "upper_bound" sqrt(1 - a_t / a_s) or "lower_bound" that times
--- sqrt((1 - a_s) / (1 - a_t)). solver: as for nn.ode_solver; the last step, to 0, is always Euler's, since the network knows no time 0.
---@class aijit.nn.GaussianDiffusion: aijit.nn.Layer
---@field signal aijit.Tensor (num_beta_steps + 1) sqrt(a_t), from t = 0
---@field noise aijit.Tensor  sqrt(1 - a_t)
local GaussianDiffusion = layer("GaussianDiffusion", ("beta_schedule:%s=linear num_beta_steps:count=1000 "
  .. "pred_mode:pred_x_0|pred_eps|pred_v=pred_x_0 loss:diffusion_loss@loss_kind=mse sigma_type:upper_bound|lower_bound=upper_bound "
  .. "solver:euler|heun|rk4=euler %s loss_factor:positive=0.00054"):format(ode.schedule_kinds, ode.schedule_options))
nn.GaussianDiffusion = GaussianDiffusion

function GaussianDiffusion:build()
  local betas, left = ode.betas("GaussianDiffusion", self.beta_schedule, self.num_beta_steps, self), {[0] = 1}
  local signal, noise = {1}, {0}
  for i, beta in ipairs(betas) do
    left[i] = left[i - 1] * (1 - beta)
    signal[i + 1], noise[i + 1] = math.sqrt(left[i]), math.sqrt(1 - left[i])
  end
  if left[#betas] == 0 and self.pred_mode == "pred_eps" then
    raise(("GaussianDiffusion: the schedule \"%s\" leaves nothing of the data at its end, where noise alone does not tell it; pred_x_0 and "
      .. "pred_v go with it"):format(self.beta_schedule))
  end
  local where = {dtype = self._where.dtype, device = self._where.device}
  self._options = {left = left}
  self:register_buffer("signal", ai.tensor(signal, where), {persistent = false})
  self:register_buffer("noise", ai.tensor(noise, where), {persistent = false})
end

--- a_t; between whole times the logarithm is interpolated.
local function left_at(self, t)
  local left = self._options.left
  local low = math.floor(t)
  if low == t then return left[t] end
  return left[low] * (left[low + 1] / left[low]) ^ (t - low)
end

local function at(self, name, t, x) return beside(f.index_select(self[name], 1, t + 1), x) end

local function check_times(self, who, t, x)
  argument.check(who, "t", "tensor", t)
  if t:dim() ~= 1 or t:size(1) ~= x:size(1) or t:is_floating_point() then
    raise(("%s: t is (%s) of %s; integers from 1 to %d, (%d), are wanted"):format(who, table.concat(t.shape, ", "), t.dtype,
      self.num_beta_steps, x:size(1)))
  end
end

--- Samples after t steps of noise.
---@param x aijit.Tensor (N, ...)
---@param t aijit.Tensor (N) i64, 0 .. num_beta_steps
---@param noise aijit.Tensor as x
---@return aijit.Tensor
function GaussianDiffusion:noisify(x, t, noise)
  check_sample("noisify", "x", x)
  check_times(self, "noisify", t, x)
  check_sample("noisify", "noise", noise)
  return at(self, "signal", t, x) * x + at(self, "noise", t, x) * noise
end

--- What the network is to say of noisify(x, t, noise).
---@param x aijit.Tensor
---@param t aijit.Tensor
---@param noise aijit.Tensor
---@return aijit.Tensor
function GaussianDiffusion:target(x, t, noise)
  if self.pred_mode == "pred_x_0" then return x end
  if self.pred_mode == "pred_eps" then return noise end
  check_times(self, "target", t, x)
  return at(self, "signal", t, x) * noise - at(self, "noise", t, x) * x
end

local loss_declared = argument.declare("diffusion:loss", "model:function x loss:diffusion_loss=none reduction:none|mean=mean t:tensor=none noise:tensor=none")

--- The distance of what a network says from what it is to say, at random times and with random noise unless they are given.
---@param model fun(x: aijit.Tensor, t: aijit.Tensor): aijit.Tensor a module or a function; t: (N) i64, 1 .. num_beta_steps
---@param x aijit.Tensor (N, ...)
---@param options? {loss: string|function, reduction: "mean"|"none", t: aijit.Tensor, noise: aijit.Tensor} reduction "mean"
---@return aijit.Tensor
function GaussianDiffusion:loss(model, x, options)
  local o = loss_declared:options(options, model, x)
  check_sample("loss", "x", x)
  local t, noise = o.t, o.noise or like(x)
  if not t then
    t = ai.empty({x:size(1)}, {dtype = "i64", device = x.device})
    t:random_(1, self.num_beta_steps + 1)
  end
  local loss = distance(o.loss or self.loss_kind, model(self:noisify(x, t, noise), t), self:target(x, t, noise), self.loss_factor)
  return o.reduction == "none" and loss or loss:mean()
end

--- diffusion(model, x, options) is its loss.
function GaussianDiffusion:forward(model, x, options) return self:loss(model, x, options) end

--- What a network says of the data.
local function data_of(self, network, x, t)
  local whole = t == math.floor(t)
  local said = network(x, ai.full({x:size(1)}, t, {dtype = whole and "i64" or "f32", device = x.device}))
  if self.pred_mode == "pred_x_0" then return said end
  local left = left_at(self, t)
  if self.pred_mode == "pred_eps" then return (x - said * math.sqrt(1 - left)) / math.sqrt(left) end
  return x * math.sqrt(left) - said * math.sqrt(1 - left)
end

--- The mean of x at an earlier time, given x at a time and the data (Ho and others, 2020, eq. 7).
local function back(self, x, data, t, earlier)
  local left, left_then = left_at(self, t), left_at(self, earlier)
  local ratio = left / left_then
  return (x * (math.sqrt(ratio) * (1 - left_then)) + data * (math.sqrt(left_then) * (1 - ratio))) / (1 - left)
end

local sample_declared = argument.declare("diffusion:sample", "model:function shape:counts steps:count=none solver:euler|heun|rk4=none all=false")
local partial_declared = argument.declare("diffusion:partial_sample",
  "model:function reference:tensor start:probability steps:count=none solver:euler|heun|rk4=none all=false")

--- From x at time `first` to 0 in n steps.
local function run_back(self, network, x, first, n, o)
  local step, all = ode.ode_solver(o.solver or self.solver), {x}
  local function data(y, t) return data_of(self, network, y, t) end
  local function add(y, slope, t, earlier) return back(self, y, slope, t, earlier) end
  local t = first
  for i = 1, n do
    local earlier = math.floor(first * (n - i) / n + 0.5)
    x = ai.scope(function()
      if earlier == 0 then return add(x, data(x, t), t, 0) end
      local y = step(x, t, earlier, data, add)
      local left, left_then = left_at(self, t), left_at(self, earlier)
      local variance = 1 - left / left_then
      if self.sigma_type == "lower_bound" then variance = variance * (1 - left_then) / (1 - left) end
      return y + like(y) * math.sqrt(variance)
    end)
    t = earlier
    if o.all then table.insert(all, 1, x) end
  end
  return x, o.all and f.stack(all, 1) or nil
end

local function check_steps(self, who, steps)
  if steps and steps > self.num_beta_steps then
    raise(("%s: steps is %d; the diffusion has %d"):format(who, steps, self.num_beta_steps))
  end
  return steps or self.num_beta_steps
end

--- New samples out of noise, without recording, the network in evaluation mode.
---@param model fun(x: aijit.Tensor, t: aijit.Tensor): aijit.Tensor t: (N), i64; between whole times, which rk4 has, f32
---@param shape integer[] {N, ...}
---@param options? {steps: integer, solver: string, all: boolean} num_beta_steps, the diffusion's, false
---@return aijit.Tensor samples
---@return aijit.Tensor? all with `all`: (steps + 1, N, ...), the samples first, the noise last
function GaussianDiffusion:sample(model, shape, options)
  local o = sample_declared:options(options, model, shape)
  local n = check_steps(self, "sample", o.steps)
  return quietly(model, function()
    return run_back(self, model, ai.randn(shape, {dtype = self.signal.dtype, device = self.signal.device}), self.num_beta_steps, n, o)
  end)
end

--- Samples like others: noise is added to them, and taken away again. start 0: all of the diffusion; 1: none of it, the reference comes back.
---@param model fun(x: aijit.Tensor, t: aijit.Tensor): aijit.Tensor
---@param reference aijit.Tensor (N, ...)
---@param start number how much of the steps is left out
---@param options? {steps: integer, solver: string, all: boolean} steps: of a whole diffusion
---@return aijit.Tensor samples
---@return aijit.Tensor? all with `all`: the samples first, the reference with its noise last
function GaussianDiffusion:partial_sample(model, reference, start, options)
  local o = partial_declared:options(options, model, reference, start)
  check_sample("partial_sample", "reference", reference)
  local steps = check_steps(self, "partial_sample", o.steps)
  local first = math.floor(self.num_beta_steps * (1 - start) + 0.5)
  local n = math.min(first, math.max(first > 0 and 1 or 0, math.floor(steps * (1 - start) + 0.5)))
  return quietly(model, function()
    local left = left_at(self, first)
    return run_back(self, model, reference * math.sqrt(left) + like(reference) * math.sqrt(1 - left), first, n, o)
  end)
end

-- -- Consistency models ----------------------------------------------------------------------------------------------

--- A network that says the data from any amount of noise in one step, trained to say the same from two near amounts (Song and others,
--- 2023; with the training of Song and Dhariwal, 2023). Amounts are standard deviations between sigma_min and sigma_max, spaced by rho.
--- total_steps: of the training, over which amounts lie ever closer, from start_scales of them to end_scales; none: end_scales always.
--- p_mean, p_std: of the logarithm of the amounts that are trained.
---@class aijit.nn.ConsistencyModel: aijit.nn.Layer
local ConsistencyModel = layer("ConsistencyModel", "total_steps:count=none sigma_data:positive=0.5 sigma_max:positive=80 sigma_min:positive=0.002 "
  .. "rho:positive=7 p_mean:finite=-1.1 p_std:positive=2 start_scales:count=20 end_scales:count=1280 loss:diffusion_loss@loss_kind=pseudo_huber "
  .. "loss_factor:positive=0.00054")
nn.ConsistencyModel = ConsistencyModel

function ConsistencyModel:check()
  if self.sigma_min >= self.sigma_max then
    raise(("ConsistencyModel: sigma_min is %g, not below sigma_max, which is %g"):format(self.sigma_min, self.sigma_max))
  end
  if self.start_scales > self.end_scales then
    raise(("ConsistencyModel: start_scales is %d, above end_scales, which is %d"):format(self.start_scales, self.end_scales))
  end
end

--- The amount of noise at place u of the way, from sigma_max at 0 to sigma_min at 1 (Karras and others, 2022).
---@param u number
---@return number
function ConsistencyModel:sigma(u)
  argument.check("sigma", "u", "not_negative", u)
  if u >= 1 then return self.sigma_min end
  local high, low = self.sigma_max ^ (1 / self.rho), self.sigma_min ^ (1 / self.rho)
  return (high + u * (low - high)) ^ self.rho
end

--- How many amounts of noise there are at a step of the training, from 0.
---@param step integer
---@return integer
function ConsistencyModel:num_scales(step)
  argument.check("num_scales", "step", "size", step)
  if not self.total_steps then return self.end_scales + 1 end
  local each = math.max(1, math.floor(self.total_steps / (math.log(self.end_scales / self.start_scales) / math.log(2) + 1)))
  return math.min(self.start_scales * 2 ^ math.floor(math.min(step, self.total_steps) / each), self.end_scales) + 1
end

--- The data that a network sees in x, of the noise sigma: c_skip x + c_out net(c_in x, 250 log sigma), which at sigma_min is x.
---@param model fun(x: aijit.Tensor, t: aijit.Tensor): aijit.Tensor t: (N) f32
---@param x aijit.Tensor (N, ...)
---@param sigma aijit.Tensor (N)
---@return aijit.Tensor
function ConsistencyModel:denoise(model, x, sigma)
  check_network("denoise", model)
  check_sample("denoise", "x", x)
  argument.check("denoise", "sigma", "tensor", sigma)
  local d, over = self.sigma_data, sigma - self.sigma_min
  local size = (sigma:square() + d * d):sqrt()
  local skip, out = (over:square() + d * d):reciprocal() * (d * d), over * d / size
  return beside(skip, x) * x + beside(out, x) * model(x / beside(size, x), f.log(sigma) * 250)
end

local consistency_loss = argument.declare("consistency:loss", "model:function x step:size loss:diffusion_loss=none reduction:none|mean=mean")

--- The distance of what the network sees in two near amounts of noise, over how near they are; the one with less noise is the target.
---@param model fun(x: aijit.Tensor, t: aijit.Tensor): aijit.Tensor
---@param x aijit.Tensor (N, ...)
---@param step integer of the training, from 0
---@param options? {loss: string|function, reduction: "mean"|"none"} "pseudo_huber", "mean"
---@return aijit.Tensor
function ConsistencyModel:loss(model, x, step, options)
  local o = consistency_loss:options(options, model, x, step)
  check_sample("loss", "x", x)
  local scales, sigmas = self:num_scales(step), {}
  for i = 1, scales do sigmas[i] = self:sigma((i - 1) / (scales - 1)) end
  local where, width = {dtype = "f32", device = x.device}, math.sqrt(2) * self.p_std
  local log = (ai.tensor(sigmas, {dtype = "f64"}):log() - self.p_mean) / width
  local weights = (f.narrow(log, 1, 1, scales - 1):erf() - f.narrow(log, 1, 2, scales - 1):erf()):to{dtype = "f32", device = x.device}
  local place = f.multinomial(weights, x:size(1), true)
  local all = ai.tensor(sigmas, where)
  local now, less = f.index_select(all, 1, place), f.index_select(all, 1, place + 1)
  local noise = like(x)
  local random = ai.get_random_state()
  local seen = self:denoise(model, x + noise * beside(now, x), now)
  local after = ai.get_random_state()
  ai.set_random_state(random)                                -- the same dropout in both
  local target = ai.no_grad(function() return self:denoise(model, x + noise * beside(less, x), less) end)
  ai.set_random_state(after)
  local loss = distance(o.loss or self.loss_kind, seen, target:detach(), self.loss_factor)
  loss = loss * beside((now - less):reciprocal(), loss)
  return o.reduction == "none" and loss or loss:mean()
end

--- consistency(model, x, step, options) is its loss.
function ConsistencyModel:forward(model, x, step, options) return self:loss(model, x, step, options) end

local consistency_sample = argument.declare("consistency:sample", "model:function shape:counts num_steps:count=1 all=false")
local consistency_partial = argument.declare("consistency:partial_sample", "model:function reference:tensor start:probability num_steps:count=1 all=false")

--- What is seen in x, then with less noise added anew, and so on.
local function refine(self, network, x, start, o)
  local n, all = o.num_steps, {}
  local sigma = self:sigma(start)
  x = x + like(x) * sigma
  all[1] = x
  for i = 1, n do
    x = self:denoise(network, x, ai.full({x:size(1)}, sigma, {dtype = "f32", device = x.device}))
    if o.all then table.insert(all, 1, x) end
    if i < n then
      sigma = self:sigma(start + (1 - start) * i / n)
      x = x + like(x) * sigma
    end
  end
  return x, o.all and f.stack(all, 1) or nil
end

--- New samples out of noise, in one step or a few, without recording, the network in evaluation mode.
---@param model fun(x: aijit.Tensor, t: aijit.Tensor): aijit.Tensor
---@param shape integer[] {N, ...}
---@param options? {num_steps: integer, all: boolean} 1, false
---@return aijit.Tensor samples
---@return aijit.Tensor? all with `all`: (num_steps + 1, N, ...), the samples first, the noise last
function ConsistencyModel:sample(model, shape, options)
  local o = consistency_sample:options(options, model, shape)
  return quietly(model, function() return refine(self, model, ai.zeros(shape), 0, o) end)
end

--- Samples like others: noise of place `start` of the way is added, and taken away.
---@param model fun(x: aijit.Tensor, t: aijit.Tensor): aijit.Tensor
---@param reference aijit.Tensor (N, ...)
---@param start number 0: all of the noise, 1: as good as none
---@param options? {num_steps: integer, all: boolean} 1, false
---@return aijit.Tensor samples
---@return aijit.Tensor? all
function ConsistencyModel:partial_sample(model, reference, start, options)
  local o = consistency_partial:options(options, model, reference, start)
  check_sample("partial_sample", "reference", reference)
  return quietly(model, function() return refine(self, model, reference, start, o) end)
end

return nn
