--- Losses as modules: one line of the table each. loss(input, target) is the op of that name with the options kept; some
-- take a third tensor, or a fourth.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local container = require "aijit.nn.container"
local layer = require "aijit.nn.layer".layer
local Module = require "aijit.nn.module"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- class, op, options, tensors if not two. An option that is a tensor (class weights), or a list of its
-- values, is a buffer of the module.
local rows = {
  {"CrossEntropyLoss", "cross_entropy", "weight=none ignore_index=none reduction=mean label_smoothing=0"},
  {"NLLLoss", "nll_loss", "weight=none ignore_index=none reduction=mean"},
  {"MSELoss", "mse_loss", "reduction=mean"},
  {"L1Loss", "l1_loss", "reduction=mean"},
  {"SmoothL1Loss", "smooth_l1_loss", "reduction=mean beta=1"},
  {"HuberLoss", "huber_loss", "reduction=mean delta=1"},
  {"BCELoss", "bce_loss", "weight=none reduction=mean"},
  {"BCEWithLogitsLoss", "bce_with_logits", "weight=none reduction=mean pos_weight=none"},
  {"KLDivLoss", "kl_div", "reduction=mean log_target=false"},
  {"MultiMarginLoss", "multi_margin_loss", "p=1 margin=1 weight=none reduction=mean"},
  {"MultiLabelMarginLoss", "multilabel_margin_loss", "reduction=mean"},
  {"MultiLabelSoftMarginLoss", "multilabel_soft_margin_loss", "weight=none reduction=mean"},
  {"SoftMarginLoss", "soft_margin_loss", "reduction=mean"},
  {"HingeEmbeddingLoss", "hinge_embedding_loss", "margin=1 reduction=mean"},
  {"PoissonNLLLoss", "poisson_nll_loss", "log_input=true full=false eps=1e-8 reduction=mean"},
  {"MarginRankingLoss", "margin_ranking_loss", "margin=0 reduction=mean", 3},
  {"CosineEmbeddingLoss", "cosine_embedding_loss", "margin=0 reduction=mean", 3},
  {"TripletMarginLoss", "triplet_margin_loss", "margin=1 p=2 eps=1e-6 swap=false reduction=mean", 3},
  {"GaussianNLLLoss", "gaussian_nll_loss", "full=false eps=1e-6 reduction=mean", 3},
  -- loss(log_probs, targets, input_lengths, target_lengths), log_probs: (steps, sequences, classes); blank counts from 1.
  {"CTCLoss", "ctc_loss", "blank=1 reduction=mean zero_infinity=false", 4},
}

for _, row in ipairs(rows) do
  local name, op, tensors = row[1], row[2], row[4] or 2
  local Loss = layer(name, row[3])
  nn[name] = Loss
  if name == "KLDivLoss" then Loss.argument_rules = {reduction = "reduction_of_batches"} end

  function Loss:build()
    self._options = {}
    for _, one in ipairs(Loss.arguments) do
      local value = self[one.name]
      if type(value) == "table" then value = ai.tensor(value, {dtype = self._where.dtype, device = self._where.device}) end
      if ai.is_tensor(value) then self:register_buffer(one.name, value)
      elseif value ~= one.default then self._options[one.name] = value end
    end
  end

  function Loss:forward(input, target, third, fourth)
    local options = self._options
    options.weight, options.pos_weight = self.weight, self.pos_weight
    if tensors == 4 then return f[op](input, target, third, fourth, next(options) and options) end
    if tensors == 3 then return f[op](input, target, third, next(options) and options) end
    return f[op](input, target, next(options) and options)
  end
end

nn.L2Loss = nn.MSELoss

-- -- Several at once -----------------------------------------------------------------------------------------------

--- The sum of losses, each with a weight: nn.ComboLoss{pixels = nn.L1Loss(), shape = {nn.SSIMLoss(), 0.2}}.
--- total, parts = combo(input, target): parts are the unweighted losses by name, for logs.
---@class aijit.nn.ComboLoss: aijit.nn.Module
---@overload fun(losses: table<string, aijit.nn.Module|function|{[1]: aijit.nn.Module|function, [2]: number}>): aijit.nn.ComboLoss
local ComboLoss = class("ComboLoss", Module)
nn.ComboLoss = Module.register(ComboLoss)

function ComboLoss:__init(losses)
  if type(losses) ~= "table" or getmetatable(losses) ~= nil or next(losses) == nil then
    raise "ComboLoss: a table of losses by name is wanted, as in {pixels = nn.L1Loss(), shape = {nn.SSIMLoss(), 0.2}}"
  end
  self.names, self.weights, self.losses = {}, {}, {}
  for name in pairs(losses) do
    if type(name) ~= "string" then raise(("ComboLoss: a loss has the name %s; strings are wanted"):format(tostring(name))) end
    self.names[#self.names + 1] = name
  end
  table.sort(self.names)
  for i, name in ipairs(self.names) do
    local one, weight = losses[name], 1
    if type(one) == "table" and getmetatable(one) == nil then one, weight = one[1], one[2] or 1 end
    if type(one) == "function" then one = container.Lambda(one) end
    if not Module.is_module(one) then raise(("ComboLoss: '%s' is a %s; a loss or {loss, weight} is wanted"):format(name, type(one))) end
    argument.check("ComboLoss", ("the weight of '%s'"):format(name), "finite", weight)
    self.losses[i], self.weights[i] = one, weight
  end
end

---@param ... any what each of the losses takes
---@return aijit.Tensor total
---@return table<string, aijit.Tensor> parts
function ComboLoss:forward(...)
  local total, parts = nil, {}
  for i, name in ipairs(self.names) do
    local loss = self.losses[i](...)
    parts[name] = loss:detach()
    loss = self.weights[i] == 1 and loss or loss * self.weights[i]
    total = total and total + loss or loss
  end
  return total, parts
end

-- -- Of normal distributions -----------------------------------------------------------------------------------------

local divergence = argument.declare("nn.kl_div_loss", "clamp_min:finite=-30 clamp_max:finite=20")

local function log_variance(who, x, o)
  argument.check(who, "log_var", "tensor", x)
  return f.clamp(x, o.clamp_min, o.clamp_max)
end

--- The divergence of N(mu, exp(log_var)) from N(0, 1), element by element: (mu^2 + exp(log_var) - log_var - 1) / 2 (Kingma and
--- Welling, 2014). log_var is kept between clamp_min and clamp_max.
---@param mu aijit.Tensor
---@param log_var aijit.Tensor
---@param options? {clamp_min: number, clamp_max: number} -30, 20
---@return aijit.Tensor
function nn.kl_div_single_loss(mu, log_var, options)
  argument.check("kl_div_single_loss", "mu", "tensor", mu)
  log_var = log_variance("kl_div_single_loss", log_var, divergence:options(options))
  return (mu * mu + f.exp(log_var) - log_var - 1) * 0.5
end

--- The divergence of N(mu_p, exp(log_var_p)) from N(mu_q, exp(log_var_q)), element by element:
--- (log_var_q - log_var_p + (exp(log_var_p) + (mu_p - mu_q)^2) / exp(log_var_q) - 1) / 2.
---@param mu_p aijit.Tensor
---@param log_var_p aijit.Tensor
---@param mu_q aijit.Tensor
---@param log_var_q aijit.Tensor
---@param options? {clamp_min: number, clamp_max: number} -30, 20
---@return aijit.Tensor
function nn.kl_div_pair_loss(mu_p, log_var_p, mu_q, log_var_q, options)
  local who, o = "kl_div_pair_loss", divergence:options(options)
  argument.check(who, "mu_p", "tensor", mu_p)
  argument.check(who, "mu_q", "tensor", mu_q)
  log_var_p, log_var_q = log_variance(who, log_var_p, o), log_variance(who, log_var_q, o)
  local d = mu_p - mu_q
  return (log_var_q - log_var_p + f.exp(log_var_p - log_var_q) + d * d * f.exp(-log_var_q) - 1) * 0.5
end

return nn
