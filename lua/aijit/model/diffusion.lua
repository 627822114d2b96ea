--- m.DiffusionModel: a base class for models that learn to take noise away (Ho and others, 2020).
---
---     local Mlp = ai.class("Mlp", m.DiffusionModel)
---     function Mlp:__init() m.DiffusionModel.__init(self, {2}); self.net = ... end
---     function Mlp:forward(x, t) return ... end               -- the noise in x, (N, unpack(shape)); t: (N), 1 .. n_timesteps
---
---     local loss = model:loss(x)                              -- for training
---     local samples = model:sample(100)

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local Model = require "aijit.model.model"
local ode = require "aijit.nn.ode"
local raise = require("aijit.bindings.lib").raise

local nn, f = ai.nn, ai.f

---@class aijit.model.DiffusionModel: aijit.model.Model
---@field n_timesteps integer
---@field sample_shape integer[]
---@field betas aijit.Tensor (n_timesteps) the variance that each step adds
---@field alphas_cumprod aijit.Tensor (n_timesteps) what is left of the variance of the data after each
local DiffusionModel = class("DiffusionModel", Model)
nn.register(DiffusionModel)

local declared = argument.declare("m.DiffusionModel",
  "shape:count_or_counts n_timesteps:count=50 beta_start:positive=1e-4 beta_end:positive=0.02 schedule:" .. ode.schedule_kinds .. "=linear")

--- schedule: as for nn.beta_schedule; beta_start 1e-4 and beta_end 0.02, which suit about 1000 steps.
---@param shape integer[] of one sample
---@param options? {n_timesteps: integer, beta_start: number, beta_end: number, schedule: string}
function DiffusionModel:__init(shape, options)
  Model.__init(self)
  local o = declared:options(options, shape)
  if type(shape) == "number" then shape = {shape} end
  local n = o.n_timesteps
  self.sample_shape, self.n_timesteps = {unpack(shape)}, n
  local betas, left, product = ode.betas("DiffusionModel", o.schedule, n, {
    beta_start = o.beta_start, beta_end = o.beta_end, warmup = 0.1, cosine_offset = 0.008}), {}, 1
  for i, beta in ipairs(betas) do
    if beta >= 1 then raise(("DiffusionModel: the variance of step %d is %g, not between 0 and 1"):format(i, beta)) end
    product = product * (1 - beta)
    left[i] = product
  end
  self:register_buffer("betas", ai.tensor(betas), {persistent = false})
  self:register_buffer("alphas_cumprod", ai.tensor(left), {persistent = false})
end

---@return integer # the number of timesteps
function DiffusionModel:len() return self.n_timesteps end

--- Values of a table at times, to broadcast with samples.
local function at(values, t, x)
  local shape = {t:size(1)}
  for i = 2, x:dim() do shape[i] = 1 end
  return f.index_select(values, 1, t):to(x.dtype):reshape(shape)
end

local function check_sample(self, who, x)
  local same = ai.is_tensor(x) and x:dim() == #self.sample_shape + 1
  for i, size in ipairs(self.sample_shape) do same = same and x:size(i + 1) == size end
  if not same then
    raise(("%s: the samples are %s; (N, %s) is wanted"):format(who,
      ai.is_tensor(x) and "(" .. table.concat(x.shape, ", ") .. ")" or "a " .. type(x), table.concat(self.sample_shape, ", ")))
  end
end

--- N(0, 1), of the shape of n samples.
---@param n integer
---@return aijit.Tensor
function DiffusionModel:gen_noise(n)
  argument.check("gen_noise", "n", "size", n)
  return ai.randn({n, unpack(self.sample_shape)}, {device = self.betas.device})
end

--- Samples after t steps of noise: sqrt(left) x + sqrt(1 - left) noise.
---@param x aijit.Tensor (N, ...)
---@param t aijit.Tensor (N) i64, 1 .. n_timesteps
---@param noise aijit.Tensor as x
---@return aijit.Tensor
function DiffusionModel:noisify(x, t, noise)
  check_sample(self, "noisify", x)
  argument.check("noisify", "t", "tensor", t)
  argument.check("noisify", "noise", "tensor", noise)
  check_sample(self, "noisify", noise)
  local left = at(self.alphas_cumprod, t, x)
  return left:sqrt() * x + (1 - left):sqrt() * noise
end

--- The mean squared error of the noise that the model sees, at random times.
---@param x aijit.Tensor (N, ...)
---@return aijit.Tensor
function DiffusionModel:loss(x)
  check_sample(self, "loss", x)
  local t = ai.empty(x:size(1), {dtype = "i64", device = x.device})
  t:random_(1, self.n_timesteps + 1)
  local noise = ai.empty(x.shape, {dtype = x.dtype, device = x.device})
  noise:normal_(0, 1)
  return f.mse_loss(self(self:noisify(x, t, noise), t), noise)
end

--- One step back: from samples after `step` steps of noise to samples after one less.
---@param x aijit.Tensor (N, ...)
---@param step integer 1 .. n_timesteps
---@return aijit.Tensor
function DiffusionModel:denoise(x, step)
  check_sample(self, "denoise", x)
  if type(step) ~= "number" or step % 1 ~= 0 or step < 1 or step > self.n_timesteps then
    raise(("denoise: the step is %s; they count from 1 to %d"):format(tostring(step), self.n_timesteps))
  end
  local noise = self(x, ai.full({x:size(1)}, step, {dtype = "i64", device = x.device}))
  local beta, left = self.betas[step]:item(), self.alphas_cumprod[step]:item()
  local mean = (x - noise * (beta / math.sqrt(1 - left))) / math.sqrt(1 - beta)
  if step == 1 then return mean end
  local variance = beta * (1 - self.alphas_cumprod[step - 1]:item()) / (1 - left)
  return mean + ai.empty(x.shape, {dtype = x.dtype, device = x.device}):normal_(0, math.sqrt(variance))
end

--- The steps back, in order: `for step in model:denoise_iter() do x = model:denoise(x, step) end`.
---@return fun(): integer?
function DiffusionModel:denoise_iter()
  local step = self.n_timesteps + 1
  return function()
    step = step - 1
    if step >= 1 then return step end
  end
end

local sample_arguments = argument.declare("model:sample", "n frame_rate:count=none")

--- New samples, made of noise, without recording. With frame_rate also what they looked like on the way: first the noise,
--- then every frame_rate steps, at last the samples: (frames, n, ...).
---@param n integer
---@param options? {frame_rate: integer}
---@return aijit.Tensor (n, ...)
function DiffusionModel:sample(n, options)
  local rate = sample_arguments:options(options, n).frame_rate
  local training = self.training
  self:eval()
  local ok, result = pcall(ai.no_grad, function()
    local x = self:gen_noise(n)
    local frames = {x}
    for step in self:denoise_iter() do
      x = ai.scope(self.denoise, self, x, step)
      if rate and (self.n_timesteps + 1 - step) % rate == 0 or step == 1 then frames[#frames + 1] = x end
    end
    return rate and f.stack(frames, 1) or x
  end)
  self:train(training)
  if not ok then error(result, 0) end
  return result
end

return DiffusionModel
