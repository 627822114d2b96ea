--- The networks that spec/gpu measures: GPT-2, ResNet and ViT, of any size.

local ai = require "aijit"
local nn = ai.nn
local F = ai.f

local M = {}

--- GPT-2 (Radford and others, 2019): 124 million parameters as it stands here. The last layer's weight is the embedding's.
---@param o {vocabulary: integer, context: integer, layers: integer, heads: integer, width: integer}?
---@return table  model(tokens, targets): the loss, of (batch, time) tokens from 1 up; model:parameters()
function M.gpt2(o)
  o = o or {vocabulary = 50304, context = 1024, layers = 12, heads = 12, width = 768}
  local GPT = ai.class("GPT", nn.Module)
  function GPT:__init()
    nn.Module.__init(self)
    self.wte, self.wpe = nn.Embedding(o.vocabulary, o.width), nn.Embedding(o.context, o.width)
    local layer = nn.TransformerEncoderLayer(o.width, o.heads, 4 * o.width,
      {dropout = 0, activation = "gelu_tanh", batch_first = true, norm_first = true})
    self.blocks = nn.TransformerEncoder(layer, o.layers)
    self.norm = nn.LayerNorm(o.width)
    for _, p in pairs(self:parameters()) do if #p:size() > 1 then nn.init.normal_(p, 0, 0.02) end end
  end
  function GPT:forward(tokens, targets)
    local B, T = tokens:size(1), tokens:size(2)
    local place = ai.arange(1, T, 1, {dtype = "i64", device = tokens.device})
    local x = self.norm(self.blocks(self.wte(tokens) + self.wpe(place), {is_causal = true}))
    return F.cross_entropy(F.linear(x, self.wte.weight):reshape(B * T, o.vocabulary), targets:reshape(B * T))
  end
  return GPT()
end

-- A bottleneck block of ResNet: 1x1, 3x3, 1x1, and a shortcut.
local Bottleneck = ai.class("Bottleneck", nn.Module)
function Bottleneck:__init(from, width, stride)
  nn.Module.__init(self)
  self.body = nn.Sequential{
    nn.Conv2d(from, width, 1, {bias = false}), nn.BatchNorm2d(width), nn.ReLU(),
    nn.Conv2d(width, width, 3, {stride = stride, padding = 1, bias = false}), nn.BatchNorm2d(width), nn.ReLU(),
    nn.Conv2d(width, 4 * width, 1, {bias = false}), nn.BatchNorm2d(4 * width),
  }
  if from ~= 4 * width or stride ~= 1 then
    self.shortcut = nn.Sequential{nn.Conv2d(from, 4 * width, 1, {stride = stride, bias = false}), nn.BatchNorm2d(4 * width)}
  end
end
function Bottleneck:forward(x) return F.relu(self.body(x) + (self.shortcut and self.shortcut(x) or x)) end

--- ResNet (He and others, 2015) of bottleneck blocks: ResNet-50 with {3, 4, 6, 3} of them.
---@param blocks integer[]?
---@param width integer?     64
---@param classes integer?   1000
function M.resnet(blocks, width, classes)
  blocks, width, classes = blocks or {3, 4, 6, 3}, width or 64, classes or 1000
  local layers = {nn.Conv2d(3, width, 7, {stride = 2, padding = 3, bias = false}), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, {stride = 2, padding = 1})}
  local from = width
  for i, count in ipairs(blocks) do
    local w = width * 2 ^ (i - 1)
    for k = 1, count do
      layers[#layers + 1] = Bottleneck(from, w, k == 1 and i > 1 and 2 or 1)
      from = 4 * w
    end
  end
  layers[#layers + 1] = nn.AdaptiveAvgPool2d(1)
  layers[#layers + 1] = nn.Flatten()
  layers[#layers + 1] = nn.Linear(from, classes)
  return nn.Sequential(layers)
end

--- ViT (Dosovitskiy and others, 2020): ViT-S/16 as it stands here. The mean over patches is classified.
---@param o {image: integer, patch: integer, layers: integer, heads: integer, width: integer, classes: integer}?
function M.vit(o)
  o = o or {image = 224, patch = 16, layers = 12, heads = 6, width = 384, classes = 1000}
  local ViT = ai.class("ViT", nn.Module)
  function ViT:__init()
    nn.Module.__init(self)
    self.patches = nn.Conv2d(3, o.width, o.patch, {stride = o.patch})
    self.place = nn.Parameter(ai.randn(1, (o.image / o.patch) ^ 2, o.width) * 0.02)
    local layer = nn.TransformerEncoderLayer(o.width, o.heads, 4 * o.width, {dropout = 0, activation = "gelu", batch_first = true, norm_first = true})
    self.blocks = nn.TransformerEncoder(layer, o.layers)
    self.norm, self.head = nn.LayerNorm(o.width), nn.Linear(o.width, o.classes)
  end
  function ViT:forward(x)
    x = self.patches(x):flatten(3):transpose(2, 3)
    return self.head(self.norm(self.blocks(x + self.place)):mean(2))
  end
  return ViT()
end

--- One step of training: loss() is minimised by AdamW, in mixed precision where a dtype is given.
---@param model table
---@param precision string?  "bf16" or "f16"
---@param loss function      returns the loss
---@return function step     returns the loss
function M.step(model, precision, loss)
  local optimizer = ai.optim.AdamW(model:parameters(), {lr = 3e-4})
  return function()
    local l = precision and ai.autocast(precision, loss) or loss()
    optimizer:zero_grad()
    l:backward()
    optimizer:step()
    return l:detach()
  end
end

return M
