--- Steps along an ordinary differential equation, by name; and how much noise the steps of a diffusion add.

local ai = require "aijit"
local argument = require "aijit.argument"
local raise = require("aijit.bindings.lib").raise

local ode = {}

-- -- Solvers -------------------------------------------------------------------------------------------------------

local function along(x, slope, t, next_t) return x + slope * (next_t - t) end

local solvers = {}

function solvers.euler(x, t, next_t, f, add) return add(x, f(x, t), t, next_t) end

--- Heun's method: the mean of the slopes at both ends.
function solvers.heun(x, t, next_t, f, add)
  local first = f(x, t)
  local last = f(add(x, first, t, next_t), next_t)
  return add(x, (first + last) * 0.5, t, next_t)
end

--- Runge and Kutta's of the fourth order.
function solvers.rk4(x, t, next_t, f, add)
  local half = (t + next_t) / 2
  local a = f(x, t)
  local b = f(add(x, a, t, half), half)
  local c = f(add(x, b, t, half), half)
  local d = f(add(x, c, t, next_t), next_t)
  return add(x, (a + (b + c) * 2 + d) * (1 / 6), t, next_t)
end

local solver_declared = argument.declare("nn.ode_solver", "name:euler|heun|rk4")

--- A step by name: x = step(x, t, next_t, f), f(x, t) the slope; the error of a step falls with its length squared ("euler"), to the
--- third ("heun") or to the fifth power ("rk4"). add(x, slope, t, next_t) is how a slope moves x, along a line unless it is given.
---@param name "euler"|"heun"|"rk4"
---@return fun(x: aijit.Tensor, t: number, next_t: number, f: fun(x: aijit.Tensor, t: number): aijit.Tensor, add?: function): aijit.Tensor
function ode.ode_solver(name)
  solver_declared:options(nil, name)
  local step = solvers[name]
  return function(x, t, next_t, f, add) return step(x, t, next_t, f, add or along) end
end

-- -- Schedules of noise ----------------------------------------------------------------------------------------------

--- kind -> the variance that step i of n adds.
local schedules = {}

function schedules.linear(i, n, o)
  if n == 1 then return o.beta_start end
  return o.beta_start + (o.beta_end - o.beta_start) * (i - 1) / (n - 1)
end

function schedules.quad(i, n, o)
  return schedules.linear(i, n, {beta_start = math.sqrt(o.beta_start), beta_end = math.sqrt(o.beta_end)}) ^ 2
end

function schedules.warmup(i, n, o)
  local rising = math.floor(n * o.warmup)
  return i <= rising and schedules.linear(i, rising, o) or o.beta_end
end

function schedules.const(_, _, o) return o.beta_end end

function schedules.cosine(i, n, o)
  local function left(t) return math.cos((t / n + o.cosine_offset) / (1 + o.cosine_offset) * math.pi / 2) ^ 2 end
  return math.min(0.999, 1 - left(i) / left(i - 1))
end

function schedules.jsd(i, n) return 1 / (n + 1 - i) end

schedules.quadratic, schedules.constant = schedules.quad, schedules.const

local kinds = "linear|quad|quadratic|warmup|const|constant|cosine|jsd"
ode.schedule_options = ("beta_start:share=1e-4 beta_end:share=0.02 warmup:share=0.1 cosine_offset:not_negative=0.008")
ode.schedule_kinds = kinds
local schedule_declared = argument.declare("nn.beta_schedule", ("kind:%s n:count %s"):format(kinds, ode.schedule_options))

--- The variances as a list of numbers.
---@param who string
---@param kind string
---@param n integer
---@param o table with every option
---@return number[]
function ode.betas(who, kind, n, o)
  local list = {}
  for i = 1, n do
    list[i] = schedules[kind](i, n, o)
    if not (list[i] > 0 and list[i] <= 1) then
      raise(("%s: the variance of step %d of the schedule \"%s\" is %g, not between 0 and 1"):format(who, i, kind, list[i]))
    end
  end
  return list
end

--- The variances that the steps of a diffusion add, (n). "linear": from beta_start to beta_end; "quad": so that their roots lie on a
--- line; "warmup": linear over the first part, then beta_end; "const": beta_end; "cosine": what is left of the data falls as a
--- squared cosine (Nichol and Dhariwal, 2021); "jsd": 1 / n, 1 / (n - 1), ..., 1 (Sohl-Dickstein and others, 2015).
---@param kind string
---@param n integer
---@param options? {beta_start: number, beta_end: number, warmup: number, cosine_offset: number} 1e-4, 0.02, 0.1, 0.008
---@return aijit.Tensor
function ode.beta_schedule(kind, n, options)
  return ai.tensor(ode.betas("beta_schedule", kind, n, schedule_declared:options(options, kind, n)))
end

return ode
