--- Layers that act in training only: dropout in its kinds.

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

local function check(self)
  if type(self.p) ~= "number" or self.p < 0 or self.p > 1 then
    raise(("%s: p is a probability, between 0 and 1"):format(self:summary()))
  end
  self._options = {p = self.p, training = true}
end

--- Zeroes each element with probability p and divides the rest by 1 - p (Srivastava and others, 2014).
---@class aijit.nn.Dropout: aijit.nn.Layer
local Dropout = layer("Dropout", "p=0.5")
nn.Dropout = Dropout

Dropout.build = check

function Dropout:forward(x)
  if not self.training or self.p == 0 then return x end
  return f.dropout(x, self._options)
end

--- (N, C, *): zeroes whole channels (Tompson and others, 2015).
for n = 1, 3 do
  local Channels = layer(("Dropout%dd"):format(n), "p=0.5")
  nn[Channels.__name] = Channels

  Channels.build = check

  function Channels:forward(x)
    if not self.training or self.p == 0 then return x end
    local shape = {x:size(1), x:size(2)}
    for i = 3, x:dim() do shape[i] = 1 end
    return x * f.dropout(ai.ones(shape, {dtype = x.dtype, device = x.device}), self._options)
  end
end

return nn
