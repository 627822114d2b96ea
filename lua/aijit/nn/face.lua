--- Who is in a picture: the network of ArcFace with squeeze-excite blocks, and the loss of two faces.

local ai = require "aijit"
local activation = require "aijit.nn.activation"
local class = require "aijit.class"
local container = require "aijit.nn.container"
local conv = require "aijit.nn.conv"
local layer = require "aijit.nn.layer".layer
local linear = require "aijit.nn.linear"
local Module = require "aijit.nn.module"
local norm = require "aijit.nn.norm"
local pool = require "aijit.nn.pool"
local pretrained = require "aijit.nn.pretrained"
local regular = require "aijit.nn.regular"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

local function plain_conv(from, to, kernel, stride) return conv.Conv2d(from, to, kernel, {stride = stride, padding = math.floor(kernel / 2), bias = false}) end

--- Squeeze and excite without biases: fc1, fc2.
local Excite = class("FaceExcite", Module)
Module.register(Excite)

function Excite:__init(channels)
  local inner = math.max(1, math.floor(channels / 16))
  self.fc1, self.fc2 = plain_conv(channels, inner, 1, 1), plain_conv(inner, channels, 1, 1)
end

function Excite:forward(x)
  return x * f.sigmoid(self.fc2(f.relu(self.fc1(x:mean({3, 4}, {keepdim = true})))))
end

--- norm, convolution, PReLU, convolution, norm, excite, beside a shortcut.
local Block = class("FaceBlock", Module)
Module.register(Block)

function Block:__init(from, to, stride)
  self.shortcut_layer = from == to and pool.MaxPool2d(1, stride) or container.Sequential{plain_conv(from, to, 1, stride), norm.BatchNorm2d(to)}
  self.res_layer = container.Sequential{
    norm.BatchNorm2d(from), plain_conv(from, to, 3, 1), activation.PReLU(to), plain_conv(to, to, 3, stride), norm.BatchNorm2d(to), Excite(to),
  }
end

function Block:forward(x) return self.res_layer(x) + self.shortcut_layer(x) end

--- Faces as unit vectors that are near for one person (Deng and others, 2019): (N, 3, input_size, input_size), from -1 to 1, ->
--- (N, dim). The modules have the names of the published ones of 50 layers: input_layer, body, output_layer.
---@class aijit.nn.FaceEmbedding: aijit.nn.Layer
---@field body aijit.nn.Sequential
local FaceEmbedding = layer("FaceEmbedding", "input_size:count=112 channels:counts={64,64,128,256,512} blocks:counts={3,4,14,3} dim:count=512 dropout=0.6")
nn.FaceEmbedding = FaceEmbedding

function FaceEmbedding:check()
  if #self.channels ~= #self.blocks + 1 then
    raise(("FaceEmbedding: %d numbers of channels for %d groups of blocks; one more than groups is wanted"):format(#self.channels, #self.blocks))
  end
  if self.input_size % 2 ^ #self.blocks ~= 0 then
    raise(("FaceEmbedding: %d groups do not halve a size of %d"):format(#self.blocks, self.input_size))
  end
end

function FaceEmbedding:build()
  local channels = self.channels
  self.input_layer = container.Sequential{plain_conv(3, channels[1], 3, 1), norm.BatchNorm2d(channels[1]), activation.PReLU(channels[1])}
  self.body = container.Sequential()
  for i, n in ipairs(self.blocks) do
    for k = 1, n do self.body:append(Block(k == 1 and channels[i] or channels[i + 1], channels[i + 1], k == 1 and 2 or 1)) end
  end
  local last, size = channels[#channels], self.input_size / 2 ^ #self.blocks
  self.output_layer = container.Sequential{norm.BatchNorm2d(last), regular.Dropout(self.dropout), container.Flatten(),
                                           linear.Linear(last * size * size, self.dim), norm.BatchNorm1d(self.dim)}
  local where = {dtype = self._where.dtype, device = self._where.device}
  if next(where) then self:to(where) end
end

function FaceEmbedding:forward(x)
  local n = self.input_size
  if not ai.is_tensor(x) or x:dim() ~= 4 or x:size(2) ~= 3 or x:size(3) ~= n or x:size(4) ~= n then
    raise(("FaceEmbedding: the input is %s; (N, 3, %d, %d) is wanted"):format(
      ai.is_tensor(x) and "(" .. table.concat(x.shape, ", ") .. ")" or "a " .. type(x), n, n))
  end
  return f.normalize(self.output_layer(self.body(self.input_layer(x))), {dim = 2})
end

--- 1 - the cosine of two faces' embeddings. weights: of the network, a path or a list of them, safetensors or .pt, as the published
--- ones of 50 layers (input_layer.0.weight, body.0.res_layer.0.weight, ..., output_layer.4.weight). Pictures of any size of at least
--- input_size are averaged down to it; crop: the face's part of an aligned one is cut out first, {top, bottom, left, right} in parts of
--- its sides, or false. detach_y: no gradient flows to y.
---@class aijit.nn.FaceIdentityLoss: aijit.nn.Layer
---@field net aijit.nn.FaceEmbedding
---@overload fun(options: {weights: any, crop: number[]|false, detach_y: boolean}): aijit.nn.FaceIdentityLoss
local FaceIdentityLoss = layer("FaceIdentityLoss", "weights:weights=none crop:crop={0.13671875,0.87109375,0.125,0.859375} detach_y=true reduction=mean "
  .. "input_size:count=112 channels:counts={64,64,128,256,512} blocks:counts={3,4,14,3} dim:count=512")
nn.FaceIdentityLoss = FaceIdentityLoss

FaceIdentityLoss.argument_rules = {crop = function(value)
  local wanted = "four numbers between 0 and 1, {top, bottom, left, right}, or false"
  if value == false then return end
  if type(value) ~= "table" or #value ~= 4 then return wanted end
  for _, part in ipairs(value) do if type(part) ~= "number" or not (part >= 0 and part <= 1) then return wanted end end
  if value[1] >= value[2] or value[3] >= value[4] then return wanted end
end}

function FaceIdentityLoss:build()
  self.net = FaceEmbedding{input_size = self.input_size, channels = self.channels, blocks = self.blocks, dim = self.dim}
  pretrained.fill("FaceIdentityLoss", self, self.weights, function(name)
    local own = name:match "^net%.(.*)" or name:match "^facenet%.(.*)" or name
    return "net." .. own:gsub("^module%.", "")
  end, "those of ArcFace's network of 50 layers with squeeze-excite, input_layer.0.weight, body.0.res_layer.0.weight, ...")
  if type(self.weights) == "table" and type(self.weights[1]) ~= "string" then self.weights = "random" end
end

--- The face's part, at the network's size.
local function framed(self, x)
  local h, w, crop = x:size(3), x:size(4), self.crop
  if crop then
    local top, left = math.floor(h * crop[1] + 0.5), math.floor(w * crop[3] + 0.5)
    x = x:narrow(3, top + 1, math.floor(h * crop[2] + 0.5) - top):narrow(4, left + 1, math.floor(w * crop[4] + 0.5) - left)
  end
  if x:size(3) == self.input_size and x:size(4) == self.input_size then return x end
  return f.adaptive_avg_pool2d(x, {self.input_size, self.input_size})
end

---@param x aijit.Tensor (N, 3, H, W), from -1 to 1
---@param y aijit.Tensor as x
---@return aijit.Tensor () or with reduction "none" (N)
function FaceIdentityLoss:forward(x, y)
  for i = 1, 2 do
    local name, t = ("xy"):sub(i, i), (select(i, x, y))
    if not ai.is_tensor(t) or t:dim() ~= 4 or t:size(2) ~= 3 then
      raise(("FaceIdentityLoss: %s is %s; pictures, (N, 3, H, W), are wanted"):format(name,
        ai.is_tensor(t) and "(" .. table.concat(t.shape, ", ") .. ")" or "a " .. type(t)))
    end
  end
  if x:size(1) ~= y:size(1) then raise(("FaceIdentityLoss: %d pictures and %d; as many are wanted"):format(x:size(1), y:size(1))) end
  if self.detach_y then y = y:detach() end
  if self.net.training then self.net:eval() end               -- also where a model that holds this loss is trained
  local d = 1 - (self.net(framed(self, x)) * self.net(framed(self, y))):sum{2}
  if self.reduction == "none" then return d end
  return self.reduction == "sum" and d:sum() or d:mean()
end

return nn
