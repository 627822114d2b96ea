--- Two networks that learn from each other to draw digits: a task with two optimizers.
--
--   aijit examples/gan/train.lua
--   aijit examples/gan/train.lua max_epochs=20 latent=32
--   aijit examples/gan/train.lua --help

local ai = require "aijit"
local nn = ai.nn

local Config = ai.Config.extend("GanConfig", {
  latent        = ai.field(64,   {help = "Random numbers that a digit is made of"}),
  channels      = ai.field(16,   {help = "Channels of the discriminator at 14 by 14 pixels; the generator has twice as many"}),
  learning_rate = ai.field(1e-3, {help = "Learning rate of both optimizers"}),
  shown         = ai.field(40,   {help = "Digits in the picture of each validation"}),
  ema           = 0.99,          -- what is drawn and saved is the mean of the latest generators
  max_epochs    = 12,
})

local Gan = ai.class("DigitGan", ai.Task)
Gan.Config = Config

function Gan:__init(config)
  ai.Task.__init(self, config)
  local c = config.channels
  self.generator = nn.Sequential{
    nn.Linear(config.latent, 4 * c * 7 * 7), nn.Unflatten(2, {4 * c, 7, 7}), nn.BatchNorm2d(4 * c), nn.ReLU(),
    nn.ConvTranspose2d(4 * c, 2 * c, 4, {stride = 2, padding = 1}), nn.BatchNorm2d(2 * c), nn.ReLU(),     -- 14 x 14
    nn.ConvTranspose2d(2 * c, 1, 4, {stride = 2, padding = 1}), nn.Tanh(),                                 -- 28 x 28
  }
  self.discriminator = nn.Sequential{
    nn.Conv2d(1, c, 4, {stride = 2, padding = 1}), nn.LeakyReLU(0.2),
    nn.Conv2d(c, 2 * c, 4, {stride = 2, padding = 1}), nn.BatchNorm2d(2 * c), nn.LeakyReLU(0.2),
    nn.Flatten(), nn.Linear(2 * c * 7 * 7, 1),
  }
  self.fixed = ai.randn(config.shown, config.latent)
end

function Gan:get_dataset(phase)
  return ai.data.Mnist{root = ai.get_data_dir() .. "/mnist", train = phase == "train"}
end

--- Each optimizer gets the gradients of the loss of its own name, in its own parameters.
function Gan:build_optimizer()
  local function adam(net) return ai.optim.Adam(net:parameters(), {lr = self.config.learning_rate, betas = {0.5, 0.999}}) end
  return {discriminator = adam(self.discriminator), generator = adam(self.generator)}
end

--- How well logits say "real" (1) or "drawn" (0).
local function judge(logits, real) return ai.bce_with_logits(logits, ai.full_like(logits, real)) end

function Gan:get_loss(batch, state)
  local real = (batch[1]:float() / 127.5 - 1):unsqueeze(2)
  local drawn = self.generator(ai.randn(real:size(1), self.config.latent))
  self:log_step(batch, drawn, state)
  return {
    discriminator = judge(self.discriminator(real), 0.9) + judge(self.discriminator(drawn:detach()), 0),
    generator = function() return judge(self.discriminator(drawn), 1) end,           -- when the discriminator has made its step
  }
end

--- What the generator makes of the same random numbers at each validation.
function Gan:log_valid_step()
  self:log_image("drawn", function()
    local digits = self.generator(self.fixed):reshape(-1, 10, 28, 28)
    return digits:permute(1, 3, 2, 4):reshape(-1, 280) / 2 + 0.5
  end)
end

if ai.main(...) then Gan:launch(Config{batch_size = 64}) end
return Gan
