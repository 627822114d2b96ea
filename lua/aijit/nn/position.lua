--- Positions told to a model: learned, sinusoidal, rotary, and Fourier features of times.
---
--- Positions count from 0, as in the papers: the first of a sequence has the angle 0. `offset` is the position of the first
--- one; `times` are positions of their own, (N, T) or (T).

local ai = require "aijit"
local init = require "aijit.nn.initial"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- (T) positions as numbers, or the given times.
local function times_of(x, length, o)
  local dtype = x.dtype == "f64" and "f64" or "f32"
  if o and o.times then return o.times:to{dtype = dtype, device = x.device} end
  local first = o and o.offset or 0
  return ai.arange(first, first + length - 1, 1, {dtype = dtype, device = x.device})
end

--- base^(-i / n) for i from 0 to n - 1.
local function frequencies(n, base, like)
  return f.exp(ai.arange(0, n - 1, 1, {dtype = like.dtype, device = like.device}) * (-math.log(base) / n))
end

--- (..., T) times -> (..., T, n) angles.
local function angles(times, n, base) return f.unsqueeze(times, -1) * frequencies(n, base, times) end

-- -- Rotary ------------------------------------------------------------------------------------------------------

--- Turns pairs of features by angles that grow with the position (Su and others, 2021): feature i with feature i + D / 2,
--- or with interleaved each with the next one, by position * base^(-2 i / D).
---@param x aijit.Tensor (..., T, D), D even
---@param options? {base: number, offset: integer, times: aijit.Tensor, interleaved: boolean} 10000, 0
---@return aijit.Tensor
function nn.rotate(x, options)
  local o = options or {}
  local t, d = x:size(-2), x:size(-1)
  if d % 2 ~= 0 then raise(("rotate: %d features do not make pairs"):format(d)) end
  local angle = angles(times_of(x, t, o), d / 2, o.base or 10000)
  if angle:dim() == 3 and x:dim() == 4 then angle = f.unsqueeze(angle, 2) end
  local cos, sin = f.cos(angle):to(x.dtype), f.sin(angle):to(x.dtype)
  if o.interleaved then
    local shape = x.shape
    shape[#shape], shape[#shape + 1] = d / 2, 2
    local pairs_of = x:reshape(shape)
    local a, b = f.select(pairs_of, -1, 1), f.select(pairs_of, -1, 2)
    return f.flatten(f.stack({a * cos - b * sin, b * cos + a * sin}, -1), -2, -1)
  end
  local a, b = f.slice(x, -1, 1, d / 2), f.slice(x, -1, d / 2 + 1, d)
  return f.cat({a * cos - b * sin, b * cos + a * sin}, -1)
end

--- nn.rotate as a layer, for queries and keys (..., T, D).
---@class aijit.nn.RotaryEmbeddings: aijit.nn.Layer
local RotaryEmbeddings = layer("RotaryEmbeddings", "base=10000 interleaved=false")
nn.RotaryEmbeddings = RotaryEmbeddings

---@param x aijit.Tensor
---@param options? {offset: integer, times: aijit.Tensor}
---@return aijit.Tensor
function RotaryEmbeddings:forward(x, options)
  local o = options or {}
  return nn.rotate(x, {base = self.base, interleaved = self.interleaved, offset = o.offset, times = o.times})
end

-- -- Added to the input ------------------------------------------------------------------------------------------

--- x plus sines and cosines of the position (Vaswani and others, 2017): (N, T, D); feature 2 i is
--- sin(position base^(-2 i / D)), feature 2 i + 1 (from 0) its cosine.
---@class aijit.nn.SinusoidalEmbeddings: aijit.nn.Layer
local SinusoidalEmbeddings = layer("SinusoidalEmbeddings", "base=10000")
nn.SinusoidalEmbeddings = SinusoidalEmbeddings

---@param x aijit.Tensor
---@param options? {offset: integer, times: aijit.Tensor}
---@return aijit.Tensor
function SinusoidalEmbeddings:forward(x, options)
  local d = x:size(-1)
  local angle = angles(times_of(x, x:size(-2), options), math.ceil(d / 2), self.base)
  local both = f.flatten(f.stack({f.sin(angle), f.cos(angle)}, -1), -2, -1)
  return x + f.slice(both, -1, 1, d):to(x.dtype)
end

--- x plus a learned vector for each position: (N, T, embed_dim), T + offset up to max_len.
---@class aijit.nn.LearnedPositionalEmbeddings: aijit.nn.Layer
---@field weight aijit.Tensor (max_len, embed_dim)
local LearnedPositionalEmbeddings = layer("LearnedPositionalEmbeddings", "max_len embed_dim? std=0.02")
nn.LearnedPositionalEmbeddings = LearnedPositionalEmbeddings

function LearnedPositionalEmbeddings:sizes(x) self.embed_dim = x:size(-1) end
function LearnedPositionalEmbeddings:sizes_from(state) self.embed_dim = state.weight:size(2) end
function LearnedPositionalEmbeddings:build() self:parameter("weight", self.max_len, self.embed_dim) end
function LearnedPositionalEmbeddings:reset() init.normal_(self.weight, 0, self.std) end

---@param x aijit.Tensor
---@param options? {offset: integer, times: aijit.Tensor} times: integers from 0
---@return aijit.Tensor
function LearnedPositionalEmbeddings:forward(x, options)
  local o = options or {}
  if o.times then return x + f.embedding(self.weight, o.times:long() + 1) end
  local first, last = (o.offset or 0) + 1, (o.offset or 0) + x:size(-2)
  if last > self.max_len then
    raise(("%s: the input reaches position %d, and there are %d"):format(self:title(), last, self.max_len))
  end
  return x + f.slice(self.weight, 1, first, last)
end

--- What goes in comes out; it takes the options of the others.
local IdentityPositionalEmbeddings = layer("IdentityPositionalEmbeddings", "")
nn.IdentityPositionalEmbeddings = IdentityPositionalEmbeddings
function IdentityPositionalEmbeddings:forward(x) return x end

-- -- Of times ----------------------------------------------------------------------------------------------------

--- Times as features: (...) -> (..., dim): cosines, then sines, of t * max_period^(-i / (dim / 2)) (Nichol and Dhariwal,
--- 2021).
---@class aijit.nn.FourierEmbeddings: aijit.nn.Layer
local FourierEmbeddings = layer("FourierEmbeddings", "dim max_period=10000")
nn.FourierEmbeddings = FourierEmbeddings

function FourierEmbeddings:check()
  if type(self.dim) ~= "number" or self.dim < 2 or self.dim % 2 ~= 0 then
    raise(("%s: dim must be even"):format(self:title()))
  end
end

function FourierEmbeddings:forward(t)
  if not t:is_floating_point() then t = t:float() end
  local angle = angles(t, self.dim / 2, self.max_period)
  return f.cat({f.cos(angle), f.sin(angle)}, -1)
end

local kinds = {
  identity = function() return IdentityPositionalEmbeddings() end,
  learned = function(o) return LearnedPositionalEmbeddings(o) end,
  sinusoidal = function(o) return SinusoidalEmbeddings(o) end,
  rotary = function(o) return RotaryEmbeddings(o) end,
}

--- Positional embeddings by name.
---@param kind "identity"|"learned"|"sinusoidal"|"rotary"
---@param options? table as for the class
---@return aijit.nn.Layer
function nn.positional_embeddings(kind, options)
  if not kinds[kind] then
    raise(("positional_embeddings: there is no kind '%s': %s"):format(
      tostring(kind), require("aijit.nearest").hint(tostring(kind), {"identity", "learned", "sinusoidal", "rotary"})))
  end
  return kinds[kind](options or {})
end

return nn
