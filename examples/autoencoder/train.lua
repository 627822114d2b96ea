--- Handwritten digits through a bottleneck of 64 numbers and back: the image autoencoder of aijit.model, trained as a task.
--
--   aijit examples/autoencoder/train.lua
--   aijit examples/autoencoder/train.lua bottleneck=4 max_epochs=4
--   aijit examples/autoencoder/train.lua --help

local ai = require "aijit"
local m = require "aijit.model"

local Config = ai.Config.extend("AutoencoderConfig", {
  bottleneck    = ai.field(2,    {help = "Height and width of the code: 1, 2, 4, 8 or 16"}),
  nc_min        = ai.field(8,    {help = "Channels at the size of the image"}),
  nc_max        = ai.field(16,   {help = "Channels of the code"}),
  learning_rate = ai.field(5e-3, {help = "Highest learning rate of AdamW"}),
  shown         = ai.field(12,   {help = "Digits in the picture of each validation"}),
  max_epochs    = 5,
})

local Autoencoder = ai.class("DigitAutoencoder", ai.Task)
Autoencoder.Config = Config

function Autoencoder:__init(config)
  ai.Task.__init(self, config)
  self.model = m.ae.ImgAutoencoder(32, config.bottleneck, {nc_img = 1, nc_min = config.nc_min, nc_max = config.nc_max}):init()
end

function Autoencoder:get_dataset(phase)
  return ai.data.Mnist{root = ai.get_data_dir() .. "/mnist", train = phase == "train"}
end

function Autoencoder:build_optimizer()
  local optimizer = ai.optim.AdamW(self:parameters(), {lr = self.config.learning_rate})
  return optimizer, ai.optim.CosineLR(optimizer, {total = self:total_steps() or 10000, warmup = 50})
end

--- From bytes (B, 28, 28) to numbers from -1 to 1, with a margin to a power of two: (B, 1, 32, 32).
local function prepare(bytes)
  return ai.f.pad(bytes:float() / 127.5 - 1, {2, 2, 2, 2}, {value = -1}):unsqueeze(2)
end

function Autoencoder:get_loss(batch, state)
  local x = prepare(batch[1])
  local y = self.model(x)
  self:log_step({x}, y, state)
  return ai.mse_loss(y, x)
end

--- The signal-to-noise ratio of pixels from 0 to 1, in decibels.
function Autoencoder:get_metrics(batch, output)
  return {psnr = -10 * math.log10(ai.mse_loss(output, batch[1]):item() / 4)}
end

--- A row of digits, and under each what the decoder made of its code.
function Autoencoder:log_valid_step(batch, output)
  self:log_image("reconstructions", function()
    local function row(images) return images:narrow(1, 1, self.config.shown):permute(2, 3, 1, 4):reshape(32, -1) end
    return ai.cat({row(batch[1]), row(output)}, 1):clamp(-1, 1) / 2 + 0.5
  end)
end

if ai.main(...) then Autoencoder:launch(Config{batch_size = 64}) end
return Autoencoder
