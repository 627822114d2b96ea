--- Layers that put elements elsewhere: views, pieces, pixels for channels, windows as columns.

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- Other sizes for the same elements: nn.View{-1, 12}; one size may be -1.
local View = layer("View", "sizes")
nn.View = View
function View:forward(x) return x:reshape(self.sizes) end

--- A part of the input, as x[index] is: nn.Slice{{}, {2, 3}} is x[{{}, {2, 3}}].
local Slice = layer("Slice", "index")
nn.Slice = Slice
Slice.argument_rules = {index = function(value)
  if type(value) ~= "number" and (type(value) ~= "table" or getmetatable(value) ~= nil) then return "an index, as in x[{{}, {2, 3}}]," end
end}
function Slice:forward(x)
  if type(x) ~= "cdata" and type(x) ~= "table" then raise(("%s: the input is a %s, not a tensor"):format(self:title(), type(x))) end
  return x[self.index]
end

--- (N, C r^2, H, W) -> (N, C, H r, W r) (Shi and others, 2016).
local PixelShuffle = layer("PixelShuffle", "upscale_factor")
nn.PixelShuffle = PixelShuffle
function PixelShuffle:forward(x) return f.pixel_shuffle(x, self.upscale_factor) end

--- (N, C, H r, W r) -> (N, C r^2, H, W).
local PixelUnshuffle = layer("PixelUnshuffle", "downscale_factor")
nn.PixelUnshuffle = PixelUnshuffle
function PixelUnshuffle:forward(x) return f.pixel_unshuffle(x, self.downscale_factor) end

--- The channels of (N, C, *) dealt out among groups (Zhang and others, 2018).
local ChannelShuffle = layer("ChannelShuffle", "groups")
nn.ChannelShuffle = ChannelShuffle
function ChannelShuffle:forward(x) return f.channel_shuffle(x, self.groups) end

local function windows(self)
  return {dilation = self.dilation, padding = self.padding, stride = self.stride}
end

--- The windows of images (N, C, H, W) as columns (N, C * kernel, positions).
local Unfold = layer("Unfold", "kernel_size dilation=1 padding=0 stride=1")
nn.Unfold = Unfold
function Unfold:build() self._options = windows(self) end
function Unfold:forward(x) return f.im2col(x, self.kernel_size, self._options) end

--- Columns (N, C * kernel, positions) added up to images (N, C, *output_size).
local Fold = layer("Fold", "output_size kernel_size dilation=1 padding=0 stride=1")
nn.Fold = Fold
function Fold:build() self._options = windows(self) end
function Fold:forward(x) return f.col2im(x, self.output_size, self.kernel_size, self._options) end

--- The cosine of the angle between two tensors, along a dimension.
local CosineSimilarity = layer("CosineSimilarity", "dim=2 eps=1e-08")
nn.CosineSimilarity = CosineSimilarity
function CosineSimilarity:forward(a, b) return f.cosine_similarity(a, b, {dim = self.dim, eps = self.eps}) end

--- |a - b + eps|_p of the last dimension.
local PairwiseDistance = layer("PairwiseDistance", "p=2 eps=1e-06 keepdim=false")
nn.PairwiseDistance = PairwiseDistance
function PairwiseDistance:forward(a, b) return f.pairwise_distance(a, b, {p = self.p, eps = self.eps, keepdim = self.keepdim}) end

-- -- Of recurrent layers ----------------------------------------------------------------------------------------------

--- The output alone of what a recurrent layer returns: nn.GetRNNOutput()(rnn(x)); {last = true}: that of the last step,
--- dropping the dimension of time, which is the second with batch_first.
local GetRNNOutput = layer("GetRNNOutput", "last=false batch_first=false")
nn.GetRNNOutput = GetRNNOutput
function GetRNNOutput:forward(y)
  if not self.last then return y end
  return f.select(y, self.batch_first and y:dim() == 3 and 2 or 1, -1)
end

--- The state that a recurrent layer returns beside its output, nn.GetRNNState "h"(rnn(x)): "h", the LSTM's "c", or both as
--- one with "concat", along the features.
local GetRNNState = layer("GetRNNState", "part=h")
nn.GetRNNState = GetRNNState
GetRNNState.argument_rules = {part = function(value)
  if value ~= "h" and value ~= "c" and value ~= "concat" then return '"h", "c" or "concat"' end
end}
function GetRNNState:forward(_, state)
  if state == nil then raise "GetRNNState: there is no state: give all that the layer returned, as in state(rnn(x))" end
  local both = type(state) == "table"
  if self.part == "h" then return both and state[1] or state end
  if not both then raise(('GetRNNState: this layer has no c, which "%s" asks for; an LSTM has'):format(self.part)) end
  if self.part == "c" then return state[2] end
  return f.cat({state[1], state[2]}, -1)
end

return nn
