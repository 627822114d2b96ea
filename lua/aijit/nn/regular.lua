--- Layers that act in training only: dropout in its kinds.

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- class, op. Dropout zeroes each element with probability p and divides the rest by 1 - p (Srivastava and others, 2014);
--- Dropout1d to 3d whole channels of (N, C, *) (Tompson and others, 2015); AlphaDropout goes with selu (Klambauer and
--- others, 2017).
local rows = {
  {"Dropout", "dropout"},
  {"Dropout1d", "dropout1d"},
  {"Dropout2d", "dropout2d"},
  {"Dropout3d", "dropout3d"},
  {"AlphaDropout", "alpha_dropout"},
}

for _, row in ipairs(rows) do
  local name, op = row[1], row[2]
  local Dropout = layer(name, "p=0.5")
  nn[name] = Dropout

  function Dropout:build()
    if type(self.p) ~= "number" or self.p < 0 or self.p > 1 then
      raise(("%s: p is a probability, between 0 and 1"):format(self:summary()))
    end
    self._options = {p = self.p, training = true}
  end

  function Dropout:forward(x)
    if not self.training or self.p == 0 then return x end
    return f[op](x, self._options)
  end
end

return nn
