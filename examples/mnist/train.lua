--- Handwritten digits: a convolutional network, trained as a task.
--
--   aijit examples/mnist/train.lua
--   aijit examples/mnist/train.lua learning_rate=4e-3 max_epochs=1
--   aijit examples/mnist/train.lua --help

local ai = require "aijit"
local nn = ai.nn

local Config = ai.Config.extend("MnistConfig", {
  in_dim        = ai.field(1,    {help = "Number of input dimensions"}),
  learning_rate = ai.field(2e-3, {help = "Learning rate to use for optimizer"}),
  betas         = ai.field({0.9, 0.999}, {help = "Beta values for Adam optimizer"}),
  weight_decay  = ai.field(1e-4, {help = "Weight decay to use for the optimizer"}),
  warmup_steps  = ai.field(50,   {help = "Number of warmup steps to use for the optimizer"}),
  max_epochs    = 3,
})

local Mnist = ai.class("MnistClassification", ai.Task)
Mnist.Config = Config

function Mnist:__init(config)
  ai.Task.__init(self, config)
  self.model = nn.Sequential{
    nn.Conv2d(config.in_dim, 32, 3, {padding = 1}), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Conv2d(32, 32, 3, {padding = 1}), nn.BatchNorm2d(32), nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, {padding = 1}), nn.BatchNorm2d(64), nn.ReLU(),
    nn.Conv2d(64, 64, 3, {padding = 1}), nn.BatchNorm2d(64), nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(64 * 7 * 7, 128), nn.BatchNorm1d(128), nn.ReLU(),
    nn.Linear(128, 10),
  }
end

function Mnist:set_loggers()
  self:add_logger(ai.log.Stdout(), ai.log.Jsonl(self.exp_dir), ai.log.Images(self.exp_dir), ai.log.TensorBoard(self.exp_dir))
end

function Mnist:get_dataset(phase)
  return ai.data.Mnist{root = ai.get_data_dir() .. "/mnist", train = phase == "train"}
end

--- AdamW; its rate rises over the warm-up, then falls along half a cosine to the end of the last epoch.
function Mnist:build_optimizer()
  local c = self.config
  local optimizer = ai.optim.AdamW(self:parameters(), {lr = c.learning_rate, betas = c.betas, weight_decay = c.weight_decay})
  local total = self:total_steps() or 10000
  return optimizer, ai.optim.CosineLR(optimizer, {total = math.max(total, c.warmup_steps + 1), warmup = c.warmup_steps})
end

function Mnist:forward(x) return self.model(x) end

function Mnist:get_loss(batch, state)
  local x, y = batch[1], batch[2]                       -- u8 (B, 28, 28); labels 1..10
  local yhat = self:forward((x:float() / 255):unsqueeze(2))
  self:log_step(batch, yhat, state)
  return ai.cross_entropy(yhat, y)
end

function Mnist:log_valid_step(batch, output, state)
  self:log_labeled_images("images", function()
    local pred, captions = output:argmax(-1), {}
    for i = 1, #pred do captions[i] = ("ytrue=%d, ypred=%d"):format(batch[2][i]:item() - 1, pred[i]:item() - 1) end
    return batch[1], captions
  end)
end

if ai.main(...) then Mnist:launch(Config{batch_size = 64}) end
return Mnist
