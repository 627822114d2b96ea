--- Losses as modules: one line of the table each. loss(input, target, ...) is the op of that name with the options kept.

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer

local f = ai.f
local nn = {}

--- class, op, options. An option that is a tensor (class weights) is a buffer of the module.
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
}

for _, row in ipairs(rows) do
  local name, op = row[1], row[2]
  local Loss = layer(name, row[3])
  nn[name] = Loss

  function Loss:build()
    self._options = {}
    for _, argument in ipairs(Loss.arguments) do
      local value = self[argument.name]
      if ai.is_tensor(value) then self:register_buffer(argument.name, value)
      elseif value ~= argument.default then self._options[argument.name] = value end
    end
  end

  function Loss:forward(input, target)
    local options = self._options
    options.weight, options.pos_weight = self.weight, self.pos_weight
    return f[op](input, target, options)
  end
end

return nn
