--- Losses as modules: one line of the table each. loss(input, target) is the op of that name with the options kept; some
-- take a third tensor, or a fourth.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local container = require "aijit.nn.container"
local layer = require "aijit.nn.layer".layer
local linear = require "aijit.nn.linear"
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

--- max(0, d(anchor, positive) - d(anchor, negative) + margin) with a distance of one's own: a function or a module, nn.PairwiseDistance
--- unless given. swap: the negative's distance is the smaller of those from anchor and from positive (Balntas and others, 2016).
---@class aijit.nn.TripletMarginWithDistanceLoss: aijit.nn.Module
---@overload fun(options?: {distance_function: function, margin: number, swap: boolean, reduction: string}): aijit.nn.TripletMarginWithDistanceLoss
local Triplet = class("TripletMarginWithDistanceLoss", Module)
nn.TripletMarginWithDistanceLoss = Module.register(Triplet)
Triplet.declaration = argument.declare("nn.TripletMarginWithDistanceLoss",
  "distance_function:layer=none margin:not_negative=1 swap=false reduction=mean")

---@param options? {distance_function: function|aijit.nn.Module, margin: number, swap: boolean, reduction: string} 1, false, "mean"
function Triplet:__init(...)
  local o = Triplet.declaration:read({}, ...)
  local distance = o.distance_function
  self.distance_function = type(distance) == "function" and container.Lambda(distance) or distance or require("aijit.nn.place").PairwiseDistance()
  self.margin, self.swap, self.reduction = o.margin, o.swap, o.reduction
end

function Triplet:forward(anchor, positive, negative)
  local near, far = self.distance_function(anchor, positive), self.distance_function(anchor, negative)
  if self.swap then far = f.minimum(far, self.distance_function(positive, negative)) end
  local loss = f.relu(near - far + self.margin)
  if self.reduction == "none" then return loss end
  return self.reduction == "sum" and loss:sum() or loss:mean()
end

--- A softmax over many classes that works little for the rare ones (Grave and others, 2017): classes are sorted by how often they come;
--- those up to the first cutoff stand in the head, beside one entry for each further group, whose classes a smaller matrix tells apart,
--- its inner features in_features / div_value^group. log_probs, loss = adaptive(x, target): of the targets, (N), and their negative mean.
---@class aijit.nn.AdaptiveLogSoftmaxWithLoss: aijit.nn.Layer
---@field head aijit.nn.Linear
---@field tail aijit.nn.ModuleList of a group: to the inner features, and to the classes
---@overload fun(in_features: integer, n_classes: integer, cutoffs: integer[], options?: table): aijit.nn.AdaptiveLogSoftmaxWithLoss
local Adaptive = layer("AdaptiveLogSoftmaxWithLoss", "in_features? n_classes:count cutoffs:counts div_value:positive=4 head_bias=false")
nn.AdaptiveLogSoftmaxWithLoss = Adaptive

function Adaptive:check()
  local before = 0
  for _, cutoff in ipairs(self.cutoffs) do
    if cutoff <= before or cutoff >= self.n_classes then
      raise(("AdaptiveLogSoftmaxWithLoss: cutoffs are %s; each above the one before, and below n_classes, which is %d, is wanted"):format(
        Module.quoted(self.cutoffs), self.n_classes))
    end
    before = cutoff
  end
end

function Adaptive:sizes(x) self.in_features = x:size(-1) end
function Adaptive:sizes_from(state) self.in_features = state["head.weight"]:size(2) end

function Adaptive:build()
  local where, ends = self._where, {unpack(self.cutoffs)}
  ends[#ends + 1] = self.n_classes
  local function dense(a, b, bias) return linear.Linear(a, b, {bias = bias, dtype = where.dtype, device = where.device}) end
  self._options = {ends = ends}
  self.head = dense(self.in_features, ends[1] + #ends - 1, self.head_bias)
  self.tail = container.ModuleList()
  for i = 1, #ends - 1 do
    local inner = math.max(1, math.floor(self.in_features / self.div_value ^ i))
    self.tail:append(container.Sequential{dense(self.in_features, inner, false), dense(inner, ends[i + 1] - ends[i], false)})
  end
end

local function check_rows(self, x)
  if not ai.is_tensor(x) or x:dim() ~= 2 or x:size(2) ~= self.in_features then
    raise(("%s: the input is %s; (N, %d) is wanted"):format(self:title(), ai.is_tensor(x) and "(" .. table.concat(x.shape, ", ") .. ")" or "a " .. type(x),
      self.in_features))
  end
end

---@param x aijit.Tensor (N, in_features)
---@return aijit.Tensor (N, n_classes)
function Adaptive:log_prob(x)
  check_rows(self, x)
  local first, head = self.cutoffs[1], f.log_softmax(self.head(x), -1)
  local parts = {f.narrow(head, 2, 1, first)}
  for i, tail in ipairs(self.tail) do parts[i + 1] = f.log_softmax(tail(x), -1) + f.narrow(head, 2, first + i, 1) end
  return f.cat(parts, 2)
end

--- The likeliest class of each row.
---@param x aijit.Tensor (N, in_features)
---@return aijit.Tensor (N) i64, from 1
function Adaptive:predict(x) return f.argmax(self:log_prob(x), -1) end

---@param x aijit.Tensor (N, in_features)
---@param target aijit.Tensor (N) classes, from 1
---@return aijit.Tensor log_probs (N)
---@return aijit.Tensor loss
function Adaptive:forward(x, target)
  check_rows(self, x)
  if not ai.is_tensor(target) or target:dim() ~= 1 or target:size(1) ~= x:size(1) or target:is_floating_point() then
    raise(("%s: the targets are %s; integers, (%d), are wanted"):format(self:title(),
      ai.is_tensor(target) and "(" .. table.concat(target.shape, ", ") .. ") of " .. target.dtype or "a " .. type(target), x:size(1)))
  end
  local ends, head = self._options.ends, f.log_softmax(self.head(x), -1)
  if f.logical_or(f.lt(target, 1), f.gt(target, self.n_classes)):any():item() then
    raise(("%s: a target is not between 1 and %d"):format(self:title(), self.n_classes))
  end
  -- The entry of the head: the class, or its group's.
  local entry = f.clamp_max(target, ends[1])
  for i = 1, #ends - 1 do entry = f.where(f.gt(target, ends[i]), ai.full({}, ends[1] + i, {dtype = "i64", device = x.device}), entry) end
  local out = f.squeeze(f.gather(head, 2, f.unsqueeze(entry, 2)), 2)
  for i, tail in ipairs(self.tail) do
    local of_group = f.select(f.nonzero(f.logical_and(f.gt(target, ends[i]), f.le(target, ends[i + 1]))), 2, 1)
    if of_group:size(1) > 0 then
      local own = f.log_softmax(tail(f.index_select(x, 1, of_group)), -1)
      local at = f.unsqueeze(f.index_select(target, 1, of_group) - ends[i], 2)
      out = f.index_add(out, 1, of_group, f.squeeze(f.gather(own, 2, at), 2))
    end
  end
  return out, -out:mean()
end

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
