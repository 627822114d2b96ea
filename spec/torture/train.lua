-- A training with all that a checkpoint must hold: random layers, Lua's own random numbers, a schedule, an average, several
-- batches a step, a validation, early stopping, three logs. It saves every few steps.

local ai = require "aijit"
local nn = ai.nn

local Waves = ai.class("Waves", ai.data.Dataset)
function Waves:__init(n) self.n = n end
function Waves:size() return self.n end
function Waves:get(i)
  local a, b = math.sin(12.9 * i), math.cos(78.2 * i)
  return {a, b, a * b}, {a + 2 * b + 0.01 * math.random()}
end

local Config = ai.Config.extend("TortureConfig", {
  hidden = ai.field(16, {help = "Width of the model"}),
  slow = ai.field(0.0, {help = "Seconds that a step lasts at least"}),
  tensorboard = ai.field(true, {help = "Write event files too"}),
})

local Torture = ai.class("TortureTask", ai.Task)
Torture.Config = Config

function Torture:__init(config)
  ai.Task.__init(self, config)
  local n = config.hidden
  self.model = nn.Sequential {nn.Linear(3, n), nn.BatchNorm1d(n), nn.GELU(), nn.Dropout(0.2), nn.Linear(n, 1)}
end
function Torture:get_dataset(phase) return Waves(phase == "train" and 100 or 40) end
function Torture:set_loggers()
  self:add_logger(ai.log.Stdout(), ai.log.Jsonl(self.exp_dir, {interval = 0}))
  if self.config.tensorboard then self:add_logger(ai.log.TensorBoard(self.exp_dir, {interval = 0})) end
end
function Torture:build_optimizer()
  local optimizer = ai.optim.AdamW(self, {lr = 1e-2})
  return optimizer, ai.optim.CosineLR(optimizer, {total = 200})
end
function Torture:get_loss(batch)
  local clock = os.clock()
  while os.clock() - clock < self.config.slow do end
  local y = self.model(batch[1])
  local noise = math.random()
  self:log_scalar("noise", noise)
  return ai.mse_loss(y, batch[2] + 0.1 * noise)
end

if ai.main(...) then
  Torture:launch {
    batch_size = 8, batches_per_step = 2, max_steps = 90, valid_every_n_steps = 7, save_every_n_steps = 3, keep_last = 2,
    keep_best = 1, ema = 0.9, early_stopping = {patience = 1000},
  }
end
return Torture
