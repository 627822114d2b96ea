--- Handwritten digits: a fully connected network of `aijit.model`, trained by a loop of one's own, without a task.
--
--   aijit examples/mnist/fc.lua
--   aijit examples/mnist/fc.lua epochs=5 dim=256

local ai = require "aijit"
local m = require "aijit.model"

local FullyConnected = ai.class("FullyConnected", m.Model)

function FullyConnected:__init(o)
  o = o or {}
  local shape_in, n_out, dim, n_layers = o.shape_in or {1, 28, 28}, o.n_out or 10, o.dim or 128, o.n_layers or 4
  m.Model.__init(self, m.seq{
    m.flatten(),
    m.fc(ai.prod(shape_in), dim, {actv = "relu"}),
    m.rep(n_layers, m.fc(dim, dim, {actv = "relu"})),
    m.fc(dim, n_out),
  })
end

local Config = require("aijit.config").BareConfig.extend("FullyConnectedConfig", {
  epochs = ai.field(5, {help = "Passes over the training digits", type = "integer", min = 1}),
  batch_size = ai.field(64, {help = "Digits in a batch", type = "integer", min = 1}),
  lr = ai.field(2e-3, {help = "Highest learning rate"}),
  dim = ai.field(128, {help = "Width of the hidden layers", type = "integer", min = 1}),
  n_layers = ai.field(4, {help = "Hidden layers of that width", type = "integer", min = 0}),
  seed = ai.field(1, {help = "Seed of the parameters and the shuffling"}),
})

--- Bytes (B, 28, 28) as what the network takes.
local function pixels(images) return (images:float() / 255):unsqueeze(2) end

--- The share of a loader's digits that a model names rightly.
local function accuracy(model, loader)
  local right, n = 0, 0
  model:eval()
  ai.no_grad(function()
    for images, labels in loader do
      right = right + model(pixels(images)):argmax(-1):eq(labels):sum():item()
      n = n + #labels
    end
  end)
  model:train()
  return right / n
end

--- Trains a model and tells how good it became on the digits that were held out.
local function train(config)
  ai.manual_seed(config.seed)
  local digits = ai.data.Loader(ai.data.Mnist{train = true}, {batch_size = config.batch_size, shuffle = true, seed = config.seed})
  local held_out = ai.data.Loader(ai.data.Mnist{train = false}, {batch_size = 500})
  local model = FullyConnected{dim = config.dim, n_layers = config.n_layers}:init()
  local optimizer = ai.optim.AdamW(model:parameters(), {lr = config.lr})
  local schedule = ai.optim.CosineLR(optimizer, {total = config.epochs * digits:size()})

  local function step(images, labels)
    optimizer:zero_grad()
    local loss = ai.cross_entropy(model(pixels(images)), labels)
    loss:backward()
    optimizer:step()
    schedule:step()
    return loss:item()
  end

  local result
  for epoch = 1, config.epochs do
    local sum = 0
    for images, labels in digits do
      sum = sum + ai.scope(function() return step(images, labels) end)
    end
    result = accuracy(model, held_out)
    print(("epoch %d: loss %.4f, accuracy on held-out digits %.2f %%"):format(epoch, sum / digits:size(), result * 100))
  end
  return model, result
end

if ai.main(...) then train(Config.parse()) end
return {FullyConnected = FullyConnected, Config = Config, train = train}
