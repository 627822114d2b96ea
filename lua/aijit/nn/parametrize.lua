--- A weight that is computed from others before each call of its layer, as PyTorch's parametrizations are.
---
---     local layer = nn.spectral_norm(nn.Conv2d(3, 64, 3))
---
--- The layer keeps its class. Its weight moves to layer.parametrizations.weight: in the state of weight_norm it is
--- parametrizations.weight.original0 (the lengths) and .original1 (the directions), in that of spectral_norm
--- parametrizations.weight.original, with the vectors parametrizations.weight.0._u and ._v, as in PyTorch 2.
--- layer.parametrizations.weight() is the computed weight; layer.weight is there only while the layer runs.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local container = require "aijit.nn.container"
local init = require "aijit.nn.initial"
local Module = require "aijit.nn.module"
local registry = require "aijit.nn.registry"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

local function parameter(module, name, tensor, trained)
  module:register_parameter(name, tensor:detach():clone():requires_grad_(trained))
end

--- 1-based and positive.
local function dimension(who, dim, n)
  local d = dim < 0 and n + 1 + dim or dim
  if d < 1 or d > n then raise(("%s: there is no dimension %d of %d"):format(who, dim, n)) end
  return d
end

-- -- Kinds -------------------------------------------------------------------------------------------------------

--- The length of each slice along dim and its direction apart: w = g v / |v| (Salimans and Kingma, 2016).
local WeightNorm = class("ParametrizedByWeightNorm", container.ModuleList)
Module.register(WeightNorm)

function WeightNorm:__init(weight, o)
  container.ModuleList.__init(self)
  self.others, self.whole = {}, o.dim == false
  if not self.whole then
    local dim = dimension("weight_norm", o.dim, weight:dim())
    for d = 1, weight:dim() do if d ~= dim then self.others[#self.others + 1] = d end end
  end
  ai.no_grad(function() parameter(self, "original0", self:length(weight), weight.requires_grad) end)
  parameter(self, "original1", weight, weight.requires_grad)
end

--- The norm over all dimensions but one; of a vector each element's; or one of all.
function WeightNorm:length(v)
  if self.whole then return v:square():sum():sqrt() end
  if #self.others == 0 then return v:abs() end
  return v:square():sum(self.others, {keepdim = true}):sqrt()
end

function WeightNorm:forward()
  return self.original1 * (self.original0 / self:length(self.original1))
end

--- The vectors of spectral_norm's power iteration.
local SpectralState = class("SpectralNormState", Module)
Module.register(SpectralState)

--- The weight over its largest singular value, which a step of power iteration in each training call follows (Miyato and
--- others, 2018).
local SpectralNorm = class("ParametrizedBySpectralNorm", container.ModuleList)
Module.register(SpectralNorm)

local function unit(x, eps) return x / math.max(x:square():sum():sqrt():item(), eps) end

function SpectralNorm:__init(weight, o, module)
  container.ModuleList.__init(self)
  if weight:dim() < 2 then raise "spectral_norm: a weight of two dimensions or more is wanted" end
  self.dim = dimension("spectral_norm", o.dim or getmetatable(module).__name:find "^ConvTranspose" and 2 or 1, weight:dim())
  self.iterations, self.eps = o.n_power_iterations, o.eps
  parameter(self, "original", weight, weight.requires_grad)
  local state = SpectralState()
  self[1] = state
  ai.no_grad(function()
    local matrix = self:matrix()
    local where = {dtype = weight.dtype, device = weight.device}
    state:register_buffer("_u", unit(ai.randn(matrix:size(1), where), self.eps))
    state:register_buffer("_v", unit(ai.randn(matrix:size(2), where), self.eps))
    self:iterate(matrix, 15)
  end)
end

--- The weight as a matrix, dim first.
function SpectralNorm:matrix()
  local w = self.original
  if self.dim ~= 1 then w = f.movedim(w, self.dim, 1) end
  return f.flatten(w, 2, -1)
end

--- n steps of power iteration on u and v.
function SpectralNorm:iterate(matrix, n)
  local state = self[1]
  for _ = 1, n do
    state._u:copy_(f.normalize(matrix:matmul(state._v), {dim = 1, eps = self.eps}))
    state._v:copy_(f.normalize(f.transpose(matrix, 1, 2):matmul(state._u), {dim = 1, eps = self.eps}))
  end
end

function SpectralNorm:forward()
  local matrix = self:matrix()
  if self.training then ai.no_grad(function() self:iterate(matrix, self.iterations) end) end
  local u, v = self[1]._u:clone(), self[1]._v:clone()
  return self.original / (u * matrix:matmul(v)):sum()
end

--- A weight plus a product of two thin matrices, alone trained: w + alpha / r * b a (Hu and others, 2021); the weight is
--- taken as a matrix of its first dimension and the others together. dropout: in training, columns of a become 0 with that
--- probability, and the product does not see these inputs, in any sample of the batch.
local Lora = class("ParametrizedByLora", container.ModuleList)
Module.register(Lora)

function Lora:__init(weight, o)
  container.ModuleList.__init(self)
  if weight:dim() < 2 then raise "lora: a weight of two dimensions or more is wanted" end
  local where = {dtype = weight.dtype, device = weight.device}
  local rows = weight:size(1)
  parameter(self, "original", weight, false)
  self.scale, self.dropout = (o.alpha or o.r) / o.r, o.dropout or 0
  self:register_parameter("lora_a", ai.empty({o.r, weight:numel() / rows}, where):requires_grad_(true))
  self:register_parameter("lora_b", ai.empty({rows, o.r}, where):requires_grad_(true))
  self:reset()
end

--- b becomes 0, so that the weight is the original one; a is uniform as a Linear's weight.
function Lora:reset()
  init.default_(self.lora_a)
  init.zeros_(self.lora_b)
end

function Lora:forward()
  local a = self.lora_a
  if self.training and self.dropout > 0 then
    local kept = ai.empty({1, a:size(2)}, {dtype = a.dtype, device = a.device}):bernoulli_(1 - self.dropout)
    a = a * (kept / (1 - self.dropout))
  end
  return self.original + (self.lora_b:matmul(a) * self.scale):reshape(self.original.shape)
end

-- -- Making and removing -------------------------------------------------------------------------------------------

local kinds = {weight_norm = WeightNorm, spectral_norm = SpectralNorm, lora_weight = Lora}
argument.kinds.norm_dim = function(value) if value ~= false and argument.kinds.position(value) then return "a dimension, or false for one of all," end end
local declared = {
  weight_norm = argument.declare("nn.weight_norm", "module name:text=weight dim:norm_dim=1"),
  spectral_norm = argument.declare("nn.spectral_norm", "module name:text=weight n_power_iterations:count=1 eps:positive=1e-12 dim:position=none"),
  lora_weight = argument.declare("nn.lora_weight", "module name:text r:count alpha:positive=none dropout:part=none"),
}
local lora_arguments = argument.declare("nn.lora", "module r:count alpha:positive=none dropout:part=none where:function=none")

--- The parameter `name` of a module becomes one that is computed before each call.
local function parametrize(who, ...)
  local o, given = declared[who]:read({}, ...)
  local module, name, options = o.module, o.name, {}
  for key, value in pairs(given or {}) do if key ~= "module" and key ~= "name" then options[key] = value end end
  if rawget(module, "_unbuilt") then
    raise(("%s: %s has no weights yet; give its sizes, or call it once before"):format(who, module:title()))
  end
  local weight = rawget(module, name)
  if not ai.is_tensor(weight) then raise(("%s: %s has no parameter '%s'"):format(who, module:title(), tostring(name))) end
  local computed = kinds[who](weight, o, module)
  module:drop_part(name)
  if not rawget(module, "parametrizations") then module.parametrizations = Module() end
  module.parametrizations[name] = computed
  local applied = rawget(module, "_applied") or {}
  applied[#applied + 1] = {who, name, options}
  rawset(module, "_applied", applied)
  module:take_detour()
  return module
end

--- Weight norm. dim: the dimension that keeps a length for each slice, the first (PyTorch's 0); false: one for all.
---@param module aijit.nn.Module with its sizes known
---@param name? string the parameter, "weight"
---@param options? {dim: integer|false}
---@return aijit.nn.Module module
function nn.weight_norm(...)
  return parametrize("weight_norm", ...)
end

--- Spectral norm. dim: the dimension of the outputs, the first; 2 for transposed convolutions.
---@param module aijit.nn.Module with its sizes known
---@param name? string the parameter, "weight"
---@param options? {n_power_iterations: integer, eps: number, dim: integer} 1, 1e-12, the first
---@return aijit.nn.Module module
function nn.spectral_norm(...)
  return parametrize("spectral_norm", ...)
end

--- Low-rank adaptation of one weight.
---@param module aijit.nn.Module with its sizes known
---@param name string the parameter
---@param options {r: integer, alpha: number, dropout: number} alpha: r, so that the product is used as it is; dropout 0
---@return aijit.nn.Module module
function nn.lora_weight(...)
  return parametrize("lora_weight", ...)
end

--- Which weights of which layers get a low-rank addition.
local adapted = {"weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"}
local adaptable = {"Linear", "Embedding", "MultiheadAttention", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d",
                   "ConvTranspose3d", "RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell", "StreamingConv1d", "StreamingConvTranspose1d"}

--- Layers of these classes, and of classes derived from them.
local function is_adaptable(module)
  for _, name in ipairs(adaptable) do if class.is(module, registry.find(name)) then return true end end
  return false
end

--- Low-rank adaptation of a model (Hu and others, 2021): the weights of its linear layers, convolutions, embeddings,
--- attention and recurrent layers are frozen, and products of two thin matrices added to them, 0 at first. Everything else
--- keeps being trained; see freeze_non_lora. The model's state has other names then; one from before still loads.
---@param module aijit.nn.Module
---@param r integer the rank
---@param options? {alpha: number, dropout: number, where: fun(name: string, module: aijit.nn.Module): boolean} alpha: r;
--- dropout 0, as for nn.lora_weight; where: which layers
---@return aijit.nn.Module module
function nn.lora(...)
  local o, found = lora_arguments:read({}, ...), 0
  local module, r = o.module, o.r
  for name, inner in module:named_modules() do
    if is_adaptable(inner) and (not o.where or o.where(name, inner)) then
      local names = {}
      for _, slot in ipairs(inner:slots "parameter") do
        local wanted = slot.name:find "^weight_[ih]h" ~= nil
        for _, field in ipairs(adapted) do wanted = wanted or slot.name == field end
        if wanted then names[#names + 1] = slot.name end
      end
      for _, field in ipairs(names) do nn.lora_weight(inner, field, {r = r, alpha = o.alpha, dropout = o.dropout}) end
      found = found + #names
    end
  end
  if found == 0 then raise("lora: the model has no layer that can be adapted") end
  return module
end

--- nn.lora where there is a rank; without one the module as it is: for models whose config says whether to adapt them.
---@param module aijit.nn.Module
---@param r? integer
---@param options? table as for nn.lora
---@return aijit.nn.Module module
function nn.maybe_lora(module, r, options)
  if r == nil or r == false then return module end
  return nn.lora(module, r, options)
end

--- nn.lora where there is a rank, without one nn.weight_norm.
---@param module aijit.nn.Module
---@param r? integer
---@param options? table as for nn.lora
---@return aijit.nn.Module module
function nn.maybe_lora_weight_norm(module, r, options)
  if r == nil or r == false then return nn.weight_norm(module) end
  return nn.lora(module, r, options)
end

local function each_lora(module, visit)
  for _, inner in ipairs(module:modules()) do
    for _, entry in ipairs(rawget(inner, "_applied") or {}) do
      if entry[1] == "lora_weight" then visit(inner, entry[2], inner.parametrizations[entry[2]]) end
    end
  end
end

--- Freezes everything but the low-rank matrices.
---@param module aijit.nn.Module
---@return aijit.nn.Module module
function nn.freeze_non_lora(module)
  module:freeze()
  each_lora(module, function(_, _, computed)
    computed.lora_a:requires_grad_(true)
    computed.lora_b:requires_grad_(true)
  end)
  return module
end

--- Makes the additions 0 again.
---@param module aijit.nn.Module
---@return aijit.nn.Module module
function nn.reset_lora(module)
  each_lora(module, function(_, _, computed) computed:reset() end)
  return module
end

--- Adds the products to the weights, which become plain parameters of their old names again.
---@param module aijit.nn.Module
---@return aijit.nn.Module module
function nn.merge_lora(module)
  local list = {}
  each_lora(module, function(inner, name) list[#list + 1] = {inner, name} end)
  for _, entry in ipairs(list) do nn.remove_parametrizations(entry[1], entry[2]) end
  return module
end

--- The computed weight becomes a plain parameter again.
---@param module aijit.nn.Module
---@param name? string "weight"
---@return aijit.nn.Module module
function nn.remove_parametrizations(module, name)
  name = name or "weight"
  local all = rawget(module, "parametrizations")
  local computed = all and rawget(all, name)
  if not computed then raise(("remove_parametrizations: '%s' of %s is not parametrized"):format(name, module:title())) end
  local weight = ai.no_grad(function() return computed() end)
  all:drop_part(name)
  local rest = {}
  for _, entry in ipairs(module._applied) do if entry[2] ~= name then rest[#rest + 1] = entry end end
  rawset(module, "_applied", #rest > 0 and rest or nil)
  if #rest == 0 then module:drop_part "parametrizations" end
  module:register_parameter(name, ai.keep(weight:detach():clone()):requires_grad_(true))
  return module
end

return nn
