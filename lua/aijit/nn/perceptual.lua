--- Losses of pictures as networks see them: LPIPS and the perceptual loss. Pictures are (N, 3, H, W), their values from -1 to 1.

local ai = require "aijit"
local argument = require "aijit.argument"
local activation = require "aijit.nn.activation"
local container = require "aijit.nn.container"
local conv = require "aijit.nn.conv"
local layer = require "aijit.nn.layer".layer
local pool = require "aijit.nn.pool"
local pretrained = require "aijit.nn.pretrained"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

-- -- The networks ----------------------------------------------------------------------------------------------------

--- How many convolutions of 64, 128, 256, 512 and 512 channels (Simonyan and Zisserman, 2015).
local convolutions = {vgg16 = {2, 2, 3, 3, 3}, vgg19 = {2, 2, 4, 4, 4}}

--- VGG's part without the classifier, its modules in the order and so under the names that torchvision has. width: of the first
--- channels.
local function vgg(kind, width)
  local net, from = container.Sequential(), 3
  for i, n in ipairs(convolutions[kind]) do
    local to = width * 2 ^ math.min(i - 1, 3)
    for _ = 1, n do
      net:append(conv.Conv2d(from, to, 3, {padding = 1})):append(activation.ReLU())
      from = to
    end
    net:append(pool.MaxPool2d(2, 2))
  end
  return net
end

--- AlexNet's (Krizhevsky, 2014).
local function alex(_, width)
  local a, b, c, d = width, 3 * width, 6 * width, 4 * width
  return container.Sequential{
    conv.Conv2d(3, a, 11, {stride = 4, padding = 2}), activation.ReLU(), pool.MaxPool2d(3, 2), conv.Conv2d(a, b, 5, {padding = 2}), activation.ReLU(),
    pool.MaxPool2d(3, 2), conv.Conv2d(b, c, 3, {padding = 1}), activation.ReLU(), conv.Conv2d(c, d, 3, {padding = 1}), activation.ReLU(),
    conv.Conv2d(d, d, 3, {padding = 1}), activation.ReLU(),
  }
end

--- kind -> how it is made, after which modules it is looked at, and the channels there, in widths.
local networks = {
  vgg16 = {make = vgg, taps = {4, 9, 16, 23, 30}, channels = {1, 2, 4, 8, 8}, least = 16},
  vgg19 = {make = vgg, taps = {2, 7, 12, 21, 30}, channels = {1, 2, 4, 8, 8}, least = 16},
  alex = {make = alex, taps = {2, 5, 8, 10, 12}, channels = {1, 3, 6, 4, 4}, least = 35},
}

--- What a network makes of pictures at its taps.
local function seen(net, taps, x)
  local list, at = {}, 1
  for i = 1, taps[#taps] do
    x = net[i](x)
    if i == taps[at] then list[at], at = x, at + 1 end
  end
  return list
end

local function check_pair(self, x, y, least)
  for i = 1, 2 do
    local name, t = ("xy"):sub(i, i), (select(i, x, y))
    if not ai.is_tensor(t) or t:dim() ~= 4 or t:size(2) ~= 3 or t:size(3) < least or t:size(4) < least then
      raise(("%s: %s is %s; pictures, (N, 3, H, W) of %d x %d or more, are wanted"):format(getmetatable(self).__name, name,
        ai.is_tensor(t) and "(" .. table.concat(t.shape, ", ") .. ")" or "a " .. type(t), least, least))
    end
  end
  if table.concat(x.shape, ",") ~= table.concat(y.shape, ",") then
    raise(("%s: (%s) and (%s): both must have the same sizes"):format(getmetatable(self).__name, table.concat(x.shape, ", "), table.concat(y.shape, ", ")))
  end
end

--- x - mean over std, for each of the colours.
local function scaled(x, mean, std)
  local where = {dtype = x.dtype, device = x.device}
  return (x - ai.tensor(mean, where):reshape(1, 3, 1, 1)) / ai.tensor(std, where):reshape(1, 3, 1, 1)
end

local function reduced(self, y)
  if self.reduction == "none" then return y end
  return self.reduction == "sum" and y:sum() or y:mean()
end

-- -- LPIPS ---------------------------------------------------------------------------------------------------------

--- The learned perceptual distance (Zhang and others, 2018): at five places of a network the features of both pictures, of unit length
--- over the channels, subtracted and squared, weighted by a learned weight for each channel, and averaged. net: "vgg" or "alex".
--- weights: a path or a list of them, safetensors or .pt: the network's as torchvision saves it (features.0.weight, ...) and the
--- channels' as the package lpips does (lin0.model.1.weight, ...), or one file with both. normalize: the values are from 0 to 1.
---@class aijit.nn.LPIPS: aijit.nn.Layer
---@field features aijit.nn.Sequential
---@field lin aijit.nn.ModuleList five convolutions to one channel
---@overload fun(options: {weights: any, net: string, normalize: boolean, reduction: string}): aijit.nn.LPIPS
local LPIPS = layer("LPIPS", "weights:weights=none net:vgg|alex=vgg normalize=false reduction=mean width:count=64")
nn.LPIPS = LPIPS

--- Names of files -> of the module.
local function lpips_name(name)
  local at, rest = name:match "features%.(%d+)%.(%a+)$"
  if not at then at, rest = name:match "slice%d%.(%d+)%.(%a+)$" end
  if at then return ("features.%s.%s"):format(at, rest) end
  at = name:match "lins?%.?(%d)%.model%.1%.weight$" or name:match "in_projs%.(%d)%.1%.weight$" or name:match "in_projs%.(%d)%.weight$"
    or name:match "lin%.(%d)%.weight$"
  return at and ("lin.%s.weight"):format(at)
end

function LPIPS:build()
  local network = networks[self.net == "vgg" and "vgg16" or "alex"]
  self.features = network.make("vgg16", self.width)
  self.lin = container.ModuleList()
  for i, c in ipairs(network.channels) do self.lin[i] = conv.Conv2d(c * self.width, 1, 1, {bias = false}) end
  self._options = network
  -- Distances want weights that are not negative.
  ai.no_grad(function() for _, lin in ipairs(self.lin) do lin.weight:copy_(lin.weight:abs()) end end)
  pretrained.fill("LPIPS", self, self.weights, lpips_name, ("%s, features.N.weight, and those of the five linear layers, linN.model.1.weight"):format(
    self.net == "vgg" and "those of VGG16" or "those of AlexNet"))
  if type(self.weights) == "table" and type(self.weights[1]) ~= "string" then self.weights = "random" end
end

local function unit(x) return x / (x:square():sum({2}, {keepdim = true}) + 1e-10):sqrt() end

---@param x aijit.Tensor (N, 3, H, W), from -1 to 1
---@param y aijit.Tensor
---@return aijit.Tensor () or with reduction "none" (N)
function LPIPS:forward(x, y)
  check_pair(self, x, y, self._options.least)
  local function features(t)
    if self.normalize then t = t * 2 - 1 end
    return seen(self.features, self._options.taps, scaled(t, {-0.030, -0.088, -0.188}, {0.458, 0.448, 0.450}))
  end
  local a, b, total = features(x), features(y), nil
  for i, lin in ipairs(self.lin) do
    local d = lin((unit(a[i]) - unit(b[i])):square()):mean{2, 3, 4}
    total = total and total + d or d
  end
  return reduced(self, total)
end

argument.kinds.perceptual_kind = function(value)
  if value ~= "lpips-vgg" and value ~= "lpips-alex" and value ~= "trad-vgg" then return '"lpips-vgg", "lpips-alex" or "trad-vgg"' end
end

-- -- The perceptual loss ---------------------------------------------------------------------------------------------

--- The distance of pictures as a network sees them. kind "lpips-vgg" or "lpips-alex": LPIPS; "trad-vgg": the mean distance of VGG19's
--- features after the first activation of each size, weighted 1/32, 1/16, 1/8, 1/4 and 1 (Johnson and others, 2016; the weights of Wang
--- and others, 2018). weights: as for LPIPS; of "trad-vgg" VGG19's as torchvision saves them. detach_y: no gradient flows to y.
---@class aijit.nn.PerceptualLoss: aijit.nn.Layer
---@overload fun(kind: string, options: {weights: any, detach_y: boolean, normalize: boolean}): aijit.nn.PerceptualLoss
local PerceptualLoss = layer("PerceptualLoss",
  "kind:perceptual_kind weights:weights=none detach_y=true normalize=false reduction=mean width:count=64")
nn.PerceptualLoss = PerceptualLoss

function PerceptualLoss:build()
  if self.kind == "trad-vgg" then
    self.features = networks.vgg19.make("vgg19", self.width)
    pretrained.fill("PerceptualLoss", self, self.weights, lpips_name, "those of VGG19, features.N.weight")
  else
    self.lpips = LPIPS{net = self.kind:match "%-(.*)", weights = self.weights, normalize = self.normalize, reduction = self.reduction,
                       width = self.width}
    self:freeze():eval()
  end
  if type(self.weights) == "table" and type(self.weights[1]) ~= "string" then self.weights = "random" end
end

---@param x aijit.Tensor (N, 3, H, W), from -1 to 1
---@param y aijit.Tensor
---@return aijit.Tensor () or with reduction "none" (N)
function PerceptualLoss:forward(x, y)
  if self.detach_y and ai.is_tensor(y) then y = y:detach() end
  if self.lpips then return self.lpips(x, y) end
  check_pair(self, x, y, networks.vgg19.least)
  local function features(t)
    if not self.normalize then t = (t + 1) * 0.5 end
    return seen(self.features, networks.vgg19.taps, scaled(t, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}))
  end
  local a, b, total = features(x), features(y), 0
  for i, weight in ipairs{1 / 32, 1 / 16, 1 / 8, 1 / 4, 1} do total = total + f.abs(a[i] - b[i]):mean{2, 3, 4} * weight end
  return reduced(self, total)
end

return nn
