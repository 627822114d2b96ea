--- m.fc: a matrix, and what commonly follows it.

local ai = require "aijit"
local argument = require "aijit.argument"
local name = require "aijit.model.name"
local sequence = require "aijit.model.sequence"

local nn = ai.nn
local init = nn.init
local linear = {}

--- A linear layer with an equalised learning rate (Karras and others, 2018): the weight is N(0, 1) / lr_mul, and is used
--- times lr_mul / sqrt(in_features); the bias is used times lr_mul.
local EqualLinear = nn.layer("EqualLinear", "in_features? out_features bias=true bias_init=0 lr_mul=1 scale_w=true")
linear.EqualLinear = EqualLinear

EqualLinear.sizes, EqualLinear.sizes_from, EqualLinear.build = nn.Linear.sizes, nn.Linear.sizes_from, nn.Linear.build

EqualLinear.argument_rules = {lr_mul = "positive"}

function EqualLinear:reset()
  init.normal_(self.weight, 0, 1 / self.lr_mul)
  if self.bias then init.constant_(self.bias, self.bias_init) end
end

EqualLinear.init_params = EqualLinear.reset

function EqualLinear:forward(x)
  local gain = self.scale_w and self.lr_mul / math.sqrt(self.in_features) or self.lr_mul
  local bias = self.bias
  return ai.f.linear(x, self.weight * gain, bias and self.lr_mul ~= 1 and bias * self.lr_mul or bias)
end

local declared = argument.declare("m.fc",
  "n1? n2 actv:actv=none norm:model_norm=none dropout=none bias=true bias_init:finite=none scale_w:flag=none lr_mul:positive=none")

--- linear -> norm -> activation -> dropout. The plain Linear, unless bias_init, scale_w or lr_mul ask for the equalised one.
---@param n1 integer inputs; fc(n2, options) infers them
---@param n2? integer outputs
---@param options? {actv: string, norm: string, dropout: number, bias: boolean}
--- also {bias_init: number, scale_w: boolean, lr_mul: number}
---@return aijit.nn.Module
---@overload fun(n2: integer, options?: table): aijit.nn.Module
function linear.fc(...)
  local o = declared:read({}, ...)
  local norm, idle_bias = name.norm(o.norm, 0, o.n2)
  local args = {in_features = o.n1, out_features = o.n2, bias = o.bias and not idle_bias}
  local layer
  if o.scale_w or o.lr_mul or o.bias_init then
    args.scale_w, args.lr_mul, args.bias_init = o.scale_w or false, o.lr_mul, o.bias_init
    layer = EqualLinear(args)
  else
    layer = nn.Linear(args)
  end
  return sequence.several{layer, norm or false, name.activation(o.actv) or false, o.dropout and nn.Dropout(o.dropout) or false}
end

return linear
