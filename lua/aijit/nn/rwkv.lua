--- RWKV, a recurrent network trained like a transformer (Peng and others, 2023; the fourth version): time mix, channel mix,
--- and the block of both, with that model's names of weights.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local container = require "aijit.nn.container"
local layers = require "aijit.nn.layer"
local linear = require "aijit.nn.linear"
local Module = require "aijit.nn.module"
local norm = require "aijit.nn.norm"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local layer = layers.layer
local nn = {}

local function check_input(self, x)
  if x:dim() ~= 3 or x:size(3) ~= self.dim then
    raise(("%s: the input is (%s); (N, T, %s) is wanted"):format(self:title(), table.concat(x.shape, ", "), tostring(self.dim)))
  end
end

--- Refuses what is not the last step of as many sequences.
local function check_last(self, last, x)
  if last == nil then return end
  if not ai.is_tensor(last) or last:dim() ~= 2 or last:size(1) ~= x:size(1) or last:size(2) ~= self.dim then
    raise(("%s: the state is of %s; what was returned for the piece before, of (%d, %d), is wanted"):format(self:title(),
      ai.is_tensor(last) and "(" .. table.concat(last.shape, ", ") .. ")" or "a " .. type(last), x:size(1), self.dim))
  end
end

--- The steps before: of the first one that of `last`, or zeros.
local function previous(x, last)
  local first = last and f.unsqueeze(last, 2) or ai.zeros({x:size(1), 1, x:size(3)}, {dtype = x.dtype, device = x.device})
  if x:size(2) == 1 then return first end
  return f.cat({first, f.slice(x, 2, 1, -2)}, 2)
end

local function mix(x, before, weight) return before + (x - before) * weight end

local function dense(self, a, b)
  return linear.Linear(a, b, {bias = false, dtype = self._where.dtype, device = self._where.device})
end

--- y_t: the mean of v_1 .. v_t with the weights exp(k_i + (t - 1 - i) w) before t, exp(u + k_t) at t. Numerators and
--- denominators are kept over exp(p), p the largest exponent so far, and so nothing overflows.
local function wkv(w, u, k, v, state)
  local out = {}
  local a, b, p
  if state then a, b, p = state[1], state[2], state[3]
  else
    a = ai.zeros({k:size(1), k:size(3)}, {dtype = k.dtype, device = k.device})
    b, p = a, a - 1e38
  end
  for t = 1, k:size(2) do
    local kt, vt = f.select(k, 2, t), f.select(v, 2, t)
    local now = u + kt
    local q = f.maximum(p, now)
    local e1, e2 = f.exp(p - q), f.exp(now - q)
    out[t] = (e1 * a + e2 * vt) / (e1 * b + e2)
    local decayed = p + w
    q = f.maximum(decayed, kt)
    e1, e2 = f.exp(decayed - q), f.exp(kt - q)
    a, b, p = e1 * a + e2 * vt, e1 * b + e2, q
  end
  return f.stack(out, 2), {a, b, p}
end

--- y, state = layer(x, state): attention by decaying means, (N, T, dim) -> (N, T, dim). What is returned as the state may be
--- given again for what follows.
---@class aijit.nn.RwkvTimeMix: aijit.nn.Layer
local TimeMix = layer("RwkvTimeMix", "dim?")
nn.RwkvTimeMix = TimeMix

function TimeMix:sizes(x) self.dim = x:size(-1) end
function TimeMix:sizes_from(state) self.dim = state.time_decay:size(1) end

function TimeMix:build()
  local d = self.dim
  self:parameter("time_decay", d)
  self:parameter("time_first", d)
  for _, name in ipairs{"time_mix_k", "time_mix_v", "time_mix_r"} do self:parameter(name, 1, 1, d) end
  for _, name in ipairs{"key", "value", "receptance", "output"} do self[name] = dense(self, d, d) end
end

--- Decays from quick to slow over the channels, as the first layer of the paper's model has them.
function TimeMix:reset()
  local d = self.dim
  local decay, first, part = {}, {}, {}
  for i = 0, d - 1 do
    decay[i + 1] = -5 + 8 * (i / math.max(1, d - 1)) ^ 0.7
    first[i + 1] = math.log(0.3) + ((i + 1) % 3 - 1) * 0.5
    part[i + 1] = i / d
  end
  ai.no_grad(function()
    self.time_decay:copy_(ai.tensor(decay))
    self.time_first:copy_(ai.tensor(first))
    for _, name in ipairs{"time_mix_k", "time_mix_v"} do self[name]:copy_(ai.tensor(part):reshape(1, 1, d)) end
    self.time_mix_r:copy_((ai.tensor(part) * 0.5):reshape(1, 1, d))
  end)
end

---@param x aijit.Tensor (N, T, dim)
---@param state? table {x = (N, dim), wkv = {a, b, p}}
---@return aijit.Tensor y
---@return table state
function TimeMix:forward(x, state)
  check_input(self, x)
  if state ~= nil then
    check_last(self, type(state) == "table" and state.x or state, x)
    if type(state) ~= "table" or type(state.wkv) ~= "table" then raise(("%s: the state is that of another kind of layer"):format(self:title())) end
  end
  local before = previous(x, state and state.x)
  local k = self.key(mix(x, before, self.time_mix_k))
  local v = self.value(mix(x, before, self.time_mix_v))
  local r = f.sigmoid(self.receptance(mix(x, before, self.time_mix_r)))
  local y, last = wkv(-f.exp(self.time_decay), self.time_first, k, v, state and state.wkv)
  return self.output(r * y), {x = f.select(x, 2, -1), wkv = last}
end

--- y, state = layer(x, state): sigmoid(r) * value(relu(key)^2), keys and gates from a mix of each step and the one before.
---@class aijit.nn.RwkvChannelMix: aijit.nn.Layer
local ChannelMix = layer("RwkvChannelMix", "dim? hidden=none")
nn.RwkvChannelMix = ChannelMix

ChannelMix.sizes = TimeMix.sizes
function ChannelMix:sizes_from(state) self.dim = state.time_mix_k:size(3) end

function ChannelMix:build()
  local d, hidden = self.dim, self.hidden or 4 * self.dim
  self:parameter("time_mix_k", 1, 1, d)
  self:parameter("time_mix_r", 1, 1, d)
  self.key, self.receptance, self.value = dense(self, d, hidden), dense(self, d, d), dense(self, hidden, d)
end

function ChannelMix:reset()
  local part = {}
  for i = 0, self.dim - 1 do part[i + 1] = i / self.dim end
  ai.no_grad(function()
    for _, name in ipairs{"time_mix_k", "time_mix_r"} do self[name]:copy_(ai.tensor(part):reshape(1, 1, self.dim)) end
  end)
end

---@param x aijit.Tensor (N, T, dim)
---@param state? aijit.Tensor (N, dim)
---@return aijit.Tensor y
---@return aijit.Tensor state
function ChannelMix:forward(x, state)
  check_input(self, x)
  check_last(self, state, x)
  local before = previous(x, state)
  local k = f.square(f.relu(self.key(mix(x, before, self.time_mix_k))))
  return f.sigmoid(self.receptance(mix(x, before, self.time_mix_r))) * self.value(k), f.select(x, 2, -1)
end

--- x + time mix(norm(x)), then the same with the channel mix: y, state = block(x, state). pre_norm: a norm before all, ln0, as
--- the first block of the paper's model has.
---@class aijit.nn.RwkvBlock: aijit.nn.Module
---@overload fun(dim: integer, options?: {hidden: integer, pre_norm: boolean}): aijit.nn.RwkvBlock
local Block = class("RwkvBlock", Module)
nn.RwkvBlock = Module.register(Block)
Block.declaration = argument.declare("nn.RwkvBlock", "dim hidden=none pre_norm=false")

---@param dim integer
---@param options? {hidden: integer, pre_norm: boolean} hidden: of the channel mix, 4 dim; pre_norm false
function Block:__init(...)
  local o = Block.declaration:read({}, ...)
  local dim = o.dim
  if o.pre_norm then self.ln0 = norm.LayerNorm(dim) end
  self.ln1, self.ln2 = norm.LayerNorm(dim), norm.LayerNorm(dim)
  self.att = TimeMix(dim)
  self.ffn = ChannelMix(dim, {hidden = o.hidden})
end

---@param x aijit.Tensor (N, T, dim)
---@param state? table {att =, ffn =}
---@return aijit.Tensor y
---@return table state
function Block:forward(x, state)
  if self.ln0 then x = self.ln0(x) end
  local y, att = self.att(self.ln1(x), state and state.att)
  x = x + y
  local z, ffn = self.ffn(self.ln2(x), state and state.ffn)
  return x + z, {att = att, ffn = ffn}
end

--- Blocks one after another, the first one with a norm before all: y, states = stack(x, states). What is returned as the states, one
--- a block, may be given again for what follows.
---@class aijit.nn.RwkvStack: aijit.nn.Module
---@field blocks aijit.nn.ModuleList
---@overload fun(dim: integer, num_layers: integer, options?: {hidden: integer}): aijit.nn.RwkvStack
local Stack = class("RwkvStack", Module)
nn.RwkvStack = Module.register(Stack)
Stack.declaration = argument.declare("nn.RwkvStack", "dim num_layers hidden=none")

---@param dim integer
---@param num_layers integer
---@param options? {hidden: integer} of the channel mixes, 4 dim
function Stack:__init(...)
  local o = Stack.declaration:read({}, ...)
  self.blocks = container.ModuleList()
  for i = 1, o.num_layers do self.blocks:append(Block(o.dim, {hidden = o.hidden, pre_norm = i == 1})) end
end

---@param x aijit.Tensor (N, T, dim)
---@param states? table[]
---@return aijit.Tensor y
---@return table[] states
function Stack:forward(x, states)
  if states ~= nil and (type(states) ~= "table" or #states ~= #self.blocks) then
    raise(("RwkvStack: states is a %s; the list of %d states that was returned for the piece before is wanted"):format(type(states), #self.blocks))
  end
  local after = {}
  for i, block in ipairs(self.blocks) do x, after[i] = block(x, states and states[i]) end
  return x, after
end

return nn
