--- Losses as modules: one line of the table each. loss(input, target) is the op of that name with the options kept; some
-- take a third tensor, or a fourth.

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer

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
    for _, argument in ipairs(Loss.arguments) do
      local value = self[argument.name]
      if type(value) == "table" then value = ai.tensor(value, {dtype = self._where.dtype, device = self._where.device}) end
      if ai.is_tensor(value) then self:register_buffer(argument.name, value)
      elseif value ~= argument.default then self._options[argument.name] = value end
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

return nn
