--- Convolutions of a sequence that comes in pieces: y, state = layer(x, state), and the y of all pieces side by side are that of
--- the whole. Without a state a sequence begins; what is returned is for the next piece, and is never changed.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local conv = require "aijit.nn.conv"
local layer = require "aijit.nn.layer".layer
local Module = require "aijit.nn.module"
local named = require "aijit.nn.named"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

local plain = {kernel_size = "count", stride = "count", dilation = "count", padding = "size"}

local function check(self, x, state)
  local rank = x:dim()
  if rank ~= 2 and rank ~= 3 or x:size(-2) ~= self.in_channels then
    raise(("%s: the input is (%s); (N, %d, T) or (%d, T) is wanted"):format(
      self:title(), table.concat(x.shape, ", "), self.in_channels, self.in_channels))
  end
  if state == nil then return end
  local rest = type(state) == "table" and state.rest
  if not ai.is_tensor(rest) then
    raise(("%s: the state is what the layer returned for the piece before, not a %s"):format(self:title(), type(state)))
  end
  local same = rest:dim() == x:dim() and (x:dim() == 2 or rest:size(1) == x:size(1))
  if not same then
    raise(("%s: the input is (%s), and the state is of (%s)"):format(
      self:title(), table.concat(x.shape, ", "), table.concat(rest.shape, ", ")))
  end
end

--- Conv1d: (N, in, T) -> (N, out, T'), T' as many as are complete, which may be 0. padding: zeros before the sequence; none
--- come after it. state: {rest: what is yet to be used, skip: how many of what comes are not, for a stride beyond the kernel}.
---@class aijit.nn.StreamingConv1d: aijit.nn.Layer
local Conv = layer("StreamingConv1d", "in_channels? out_channels kernel_size stride=1 padding=0 dilation=1 groups=1 bias=true")
nn.StreamingConv1d = Conv
Conv.argument_rules = plain
Conv.sizes, Conv.sizes_from, Conv.reset = conv.Conv1d.sizes, conv.Conv1d.sizes_from, conv.Conv1d.reset

function Conv:build()
  conv.Conv1d._check_groups(self)
  self:parameter("weight", self.out_channels, self.in_channels / self.groups, self.kernel_size)
  self.bias = self.bias and self:parameter("bias", self.out_channels) or nil
  self._options = {stride = self.stride, dilation = self.dilation, groups = self.groups}
end

---@param x aijit.Tensor (N, in, T) or (in, T)
---@param state? table
---@return aijit.Tensor y
---@return table state
function Conv:forward(x, state)
  check(self, x, state)
  local skip = 0
  if state then
    if type(state.skip) ~= "number" then raise(("%s: the state is that of another kind of layer"):format(self:title())) end
    skip, x = state.skip, f.cat({state.rest, x}, -1)
  elseif self.padding > 0 then
    x = f.pad(x, {self.padding, 0})
  end
  local cut = math.min(skip, x:size(-1))
  if cut > 0 then x, skip = f.narrow(x, -1, cut + 1, x:size(-1) - cut), skip - cut end
  local n = x:size(-1)
  if n < self.dilation * (self.kernel_size - 1) + 1 then
    local shape = x.shape
    shape[#shape - 1], shape[#shape] = self.out_channels, 0
    return ai.empty(shape, {dtype = x.dtype, device = x.device}), {rest = x, skip = skip}
  end
  local y = f.conv1d(x, self.weight, self.bias, self._options)
  local used = self.stride * y:size(-1)
  local kept = math.min(used, n)
  return y, {rest = f.narrow(x, -1, kept + 1, n - kept), skip = used - kept}
end

--- ConvTranspose1d: (N, in, T) -> (N, out, T stride), all to which no later piece adds. state: {rest: what later pieces add
--- to}; finish gives it, at the end.
---@class aijit.nn.StreamingConvTranspose1d: aijit.nn.Layer
local ConvTranspose = layer("StreamingConvTranspose1d", "in_channels? out_channels kernel_size stride=1 dilation=1 groups=1 bias=true")
nn.StreamingConvTranspose1d = ConvTranspose
ConvTranspose.argument_rules = plain
ConvTranspose.sizes, ConvTranspose.reset = conv.ConvTranspose1d.sizes, conv.ConvTranspose1d.reset
ConvTranspose.sizes_from = conv.ConvTranspose1d.sizes_from

function ConvTranspose:build()
  conv.Conv1d._check_groups(self)
  self:parameter("weight", self.in_channels, self.out_channels / self.groups, self.kernel_size)
  self.bias = self.bias and self:parameter("bias", self.out_channels) or nil
  self._options = {stride = self.stride, dilation = self.dilation, groups = self.groups}
end

local function biased(self, y) return self.bias and y + f.unsqueeze(self.bias, 2) or y end

---@param x aijit.Tensor (N, in, T) or (in, T), T at least 1
---@param state? table
---@return aijit.Tensor y
---@return table state
function ConvTranspose:forward(x, state)
  check(self, x, state)
  if x:size(-1) == 0 then raise(("%s: the piece has no steps"):format(self:title())) end
  local all, done = f.conv_transpose1d(x, self.weight, nil, self._options), self.stride * x:size(-1)
  if all:size(-1) < done then all = f.pad(all, {0, done - all:size(-1)}) end
  local rest = state and state.rest
  if rest and rest:size(-1) > 0 then all = all + f.pad(rest, {0, all:size(-1) - rest:size(-1)}) end
  return biased(self, f.narrow(all, -1, 1, done)), {rest = f.narrow(all, -1, done + 1, all:size(-1) - done)}
end

--- The end of the sequence: what the kernel writes beyond its last step, (N, out, dilation (kernel - 1) + 1 - stride).
---@param state table
---@return aijit.Tensor
function ConvTranspose:finish(state)
  if type(state) ~= "table" or not ai.is_tensor(state.rest) then
    raise(("%s: finish takes the state that the layer returned, not a %s"):format(self:title(), type(state)))
  end
  return biased(self, state.rest)
end

--- Norms that know each place by itself, or what they saw in training, and so go with pieces.
local streams = {batch = true, layer = true, rms = true, no_norm = true}

--- A convolution that looks back alone, a norm, and an activation: y, state = block(x, state), (N, in, T) -> (N, out, T), as many
--- steps as came. The y of pieces is that of the whole in evaluation, and with norms that do not look along the sequence.
---@class aijit.nn.StreamableCBR: aijit.nn.Module
---@field conv aijit.nn.StreamingConv1d
---@overload fun(in_channels: integer, out_channels: integer, kernel_size: integer, options?: table): aijit.nn.StreamableCBR
local CBR = class("StreamableCBR", Module)
nn.StreamableCBR = Module.register(CBR)
CBR.declaration = argument.declare("nn.streamable_cbr", "in_channels? out_channels kernel_size:count dilation:count=1 norm:text=batch_affine "
  .. "activation=gelu bias=false groups=1 group_norm_groups:count=none")

---@param in_channels? integer inferred when left out
---@param out_channels integer
---@param kernel_size integer
---@param options? {dilation: integer, norm: string, activation: string, bias: boolean, groups: integer, group_norm_groups: integer}
--- 1, "batch_affine", "gelu", false, 1; norm and activation by name, as for nn.norm and nn.activation
function CBR:__init(...)
  local o = CBR.declaration:read({}, ...)
  self.norm_name = o.norm:lower():gsub("_affine$", "")
  self.conv = Conv{in_channels = o.in_channels, out_channels = o.out_channels, kernel_size = o.kernel_size, dilation = o.dilation,
                   padding = (o.kernel_size - 1) * o.dilation, groups = o.groups, bias = o.bias}
  self.norm = named.norm(o.norm, 1, {channels = o.out_channels, groups = o.group_norm_groups})
  self.act = type(o.activation) == "string" and named.activation(o.activation) or o.activation
end

---@param x aijit.Tensor (N, in, T)
---@param state? table
---@return aijit.Tensor y
---@return table state
function CBR:forward(x, state)
  if state ~= nil and not streams[self.norm_name] then
    raise(("StreamableCBR: the norm \"%s\" looks along the whole sequence, which does not come in pieces; batch, layer or rms does"):format(
      self.norm_name))
  end
  local y
  y, state = self.conv(x, state)
  return self.act(self.norm(y)), state
end

--- The block as a call: nn.streamable_cbr(3, 8, 5, {dilation = 2}).
---@return aijit.nn.StreamableCBR
function nn.streamable_cbr(...) return CBR(...) end

--- The sum of two sequences that come in pieces of different lengths, as far as both have come.
---@param x aijit.Tensor (..., T1)
---@param y aijit.Tensor (..., T2)
---@param state? table
---@return aijit.Tensor sum
---@return table state {x, y}: what is left of each
function nn.streaming_add(x, y, state)
  if not ai.is_tensor(x) or not ai.is_tensor(y) then raise("streaming_add: two tensors are wanted") end
  if state ~= nil and not (type(state) == "table" and ai.is_tensor(state[1]) and ai.is_tensor(state[2])) then
    raise(("streaming_add: the state is what the sum before returned, not a %s"):format(type(state)))
  end
  if state then x, y = f.cat({state[1], x}, -1), f.cat({state[2], y}, -1) end
  local n = math.min(x:size(-1), y:size(-1))
  local function rest(t) return f.narrow(t, -1, n + 1, t:size(-1) - n) end
  return f.narrow(x, -1, 1, n) + f.narrow(y, -1, 1, n), {rest(x), rest(y)}
end

return nn
