--- Vectors as codes: vector quantisation, residual, finite scalar, without a table, and k-means.
---
--- Each but KMeans is called as y, codes, loss = layer(x), x: (..., dim). y has the values of the codes and, going backward, the gradient
--- of x (Bengio and others, 2013); codes count from 1.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local cluster = require "aijit.nn.cluster"
local container = require "aijit.nn.container"
local init = require "aijit.nn.initial"
local layer = require "aijit.nn.layer".layer
local Module = require "aijit.nn.module"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- The value of y, the gradient of x.
local function straight_through(x, y) return x + (y - x):detach() end

local function leading(x)
  local shape = {}
  for i = 1, x:dim() - 1 do shape[i] = x:size(i) end
  return shape
end

-- -- Vector quantisation ---------------------------------------------------------------------------------------------

--- The nearest of codebook_size vectors (van den Oord and others, 2017). In training they follow the means of what they
--- stand for, by exponential averages, start from the means of the first batch (k-means), and one that is used less than
--- threshold times on average is replaced by a vector of the batch. loss: commitment * mean (y - x)^2, gradient to x alone.
---@class aijit.nn.VectorQuantization: aijit.nn.Layer
---@field embed aijit.Tensor        (codebook_size, dim)
---@field embed_avg aijit.Tensor    sums of what each stands for
---@field cluster_size aijit.Tensor how many each stands for
---@field inited aijit.Tensor       1 once the codebook has its first values
local options = "decay=0.99 commitment=1 threshold=2 kmeans_iters=10 eps=1e-05"
local VectorQuantization = layer("VectorQuantization", "dim? codebook_size " .. options)
nn.VectorQuantization = VectorQuantization

function VectorQuantization:sizes(x) self.dim = x:size(-1) end
function VectorQuantization:sizes_from(state) self.dim = state.embed:size(2) end

function VectorQuantization:build()
  local k, d = self.codebook_size, self.dim
  self:buffer("inited", 0, {1})
  self:buffer("cluster_size", 0, {k})
  self:buffer("embed", 0, {k, d})
  self:buffer("embed_avg", 0, {k, d})
end

function VectorQuantization:reset() init.kaiming_uniform_(self.embed) end

--- First values of the codebook: means of the rows.
local function start(self, rows)
  local embed, counts = cluster.improve(rows, cluster.pick(rows, self.codebook_size), self.kmeans_iters)
  counts = counts or ai.ones({self.codebook_size}, {dtype = rows.dtype, device = rows.device})
  self.embed:copy_(embed)
  self.embed_avg:copy_(embed * f.unsqueeze(counts, 2))
  self.cluster_size:copy_(counts)
  self.inited:fill_(1)
end

local function follow(self, rows, codes)
  local counts, sums = cluster.tally(rows, codes, self.codebook_size)
  self.cluster_size:mul_(self.decay):add_(counts, {alpha = 1 - self.decay})
  self.embed_avg:mul_(self.decay):add_(sums, {alpha = 1 - self.decay})
  local total = self.cluster_size:sum()
  local smooth = (self.cluster_size + self.eps) / (total + self.codebook_size * self.eps) * total
  self.embed:copy_(self.embed_avg / f.unsqueeze(smooth, 2))
  if self.threshold > 0 then
    local dead = self.cluster_size:lt(self.threshold)
    if dead:any():item() then
      local fresh, mask = cluster.pick(rows, self.codebook_size), f.unsqueeze(dead, 2)
      self.embed:copy_(f.where(mask, fresh, self.embed))
      self.embed_avg:copy_(f.where(mask, fresh * self.threshold, self.embed_avg))
      self.cluster_size:copy_(f.where(dead, ai.full_like(self.cluster_size, self.threshold), self.cluster_size))
    end
  end
end

--- The vectors of codes: (...) -> (..., dim).
---@param codes aijit.Tensor
---@return aijit.Tensor
function VectorQuantization:decode(codes) return f.embedding(self.embed, codes) end

---@param x aijit.Tensor (..., dim)
---@return aijit.Tensor y
---@return aijit.Tensor codes (...)
---@return aijit.Tensor loss
function VectorQuantization:forward(x)
  if x:size(-1) ~= self.dim then raise(("%s: the input has %d features, and %d are wanted"):format(self:title(), x:size(-1), self.dim)) end
  local codes = ai.no_grad(function()
    local rows = x:detach():reshape(-1, self.dim)
    if self.training and self.inited:item() == 0 then start(self, rows) end
    return cluster.nearest(rows, self.embed)
  end)
  local y = f.embedding(self.embed:clone(), codes):reshape(x.shape)
  if self.training then ai.no_grad(function() follow(self, x:detach():reshape(-1, self.dim), codes) end) end
  return straight_through(x, y), codes:reshape(leading(x)), f.mse_loss(x, y) * self.commitment
end

--- Several quantisers, each of what those before it left (Zeghidour and others, 2021). codes: (quantisers, ...); loss: the
--- mean of theirs.
---@class aijit.nn.ResidualVectorQuantization: aijit.nn.Module
---@field layers aijit.nn.ModuleList
---@overload fun(n: integer, codebook_size: integer, options?: table): aijit.nn.ResidualVectorQuantization
local ResidualVectorQuantization = class("ResidualVectorQuantization", Module)
nn.ResidualVectorQuantization = Module.register(ResidualVectorQuantization)
ResidualVectorQuantization.declaration = argument.declare("nn.ResidualVectorQuantization", "n codebook_size dim:count=none " .. options)

---@param n integer quantisers
---@param codebook_size integer
---@param options? table as for VectorQuantization
function ResidualVectorQuantization:__init(...)
  local each = ResidualVectorQuantization.declaration:read({}, ...)
  local n = each.n
  self.quantizers, each.n = container.ModuleList(), nil
  for _ = 1, n do self.quantizers:append(VectorQuantization(each)) end
end

function ResidualVectorQuantization:forward(x)
  local rest, y, codes, loss = x, nil, {}, nil
  for i, quantizer in ipairs(self.quantizers) do
    local part, code, own = quantizer(rest)
    rest = rest - part:detach()
    y, loss, codes[i] = y and y + part:detach() or part:detach(), loss and loss + own or own, code
  end
  return straight_through(x, y), f.stack(codes, 1), loss / #codes
end

--- The vectors of codes: (quantisers, ...) -> (..., dim); of fewer quantisers a coarser one.
---@param codes aijit.Tensor
---@return aijit.Tensor
function ResidualVectorQuantization:decode(codes)
  local y
  for i = 1, codes:size(1) do
    local part = self.quantizers[i]:decode(codes[i])
    y = y and y + part or part
  end
  return y
end

-- -- Finite scalars ----------------------------------------------------------------------------------------------------

--- Each feature becomes one of levels[i] values between -1 and 1 (Mentzer and others, 2023): y, codes = layer(x), x:
--- (..., #levels). There is nothing to learn.
---@class aijit.nn.FiniteScalarQuantization: aijit.nn.Layer
local FiniteScalarQuantization = layer("FiniteScalarQuantization", "levels eps=0.001")
nn.FiniteScalarQuantization = FiniteScalarQuantization

function FiniteScalarQuantization:build()
  local half, offset, shift, width, basis, step = {}, {}, {}, {}, {}, 1
  for i, n in ipairs(self.levels) do
    half[i] = (n - 1) * (1 + self.eps) / 2
    offset[i] = n % 2 == 0 and 0.5 or 0
    local ratio = offset[i] / half[i]
    shift[i] = 0.5 * math.log((1 + ratio) / (1 - ratio))                    -- atanh
    width[i] = math.floor(n / 2)
    basis[i], step = step, step * n
  end
  for name, list in pairs{reach = half, offset = offset, shift = shift, width = width, basis = basis} do
    self:register_buffer(name, ai.tensor(list, {dtype = self._where.dtype, device = self._where.device}), {persistent = false})
  end
end

---@param x aijit.Tensor (..., #levels)
---@return aijit.Tensor y
---@return aijit.Tensor codes (...)
function FiniteScalarQuantization:forward(x)
  if x:size(-1) ~= #self.levels then
    raise(("%s: the input has %d features, and there are %d levels"):format(self:title(), x:size(-1), #self.levels))
  end
  local bound = f.tanh(x + self.shift) * self.reach - self.offset
  local whole = straight_through(bound, f.round(bound))
  local codes = ((whole:detach() + self.width) * self.basis):sum{-1}:round():long() + 1
  return whole / self.width, codes
end

--- The vectors of codes: (...) -> (..., #levels).
---@param codes aijit.Tensor
---@return aijit.Tensor
function FiniteScalarQuantization:decode(codes)
  local list, left = {}, codes - 1
  for i, n in ipairs(self.levels) do
    list[i] = (f.remainder(left, n):to(self.width.dtype) - math.floor(n / 2)) / math.floor(n / 2)
    left = f.floor_divide(left, n)
  end
  return f.stack(list, -1)
end

-- -- Signs ---------------------------------------------------------------------------------------------------------------

--- Each feature becomes its sign (Yu and others, 2023): y, codes, loss = layer(x), x: (..., dim). loss: the mean entropy of a
--- sample's codes, less diversity times the entropy of the mean, with codes taken as softmax of -(distance)^2 / temperature.
---@class aijit.nn.LookupFreeQuantization: aijit.nn.Layer
local LookupFreeQuantization = layer("LookupFreeQuantization", "dim? diversity=1 temperature=1")
nn.LookupFreeQuantization = LookupFreeQuantization

function LookupFreeQuantization:sizes(x) self.dim = x:size(-1) end

function LookupFreeQuantization:build()
  if self.dim > 16 then raise(("%s: the entropy of %d bits has too many codes; 16 bits at most"):format(self:title(), self.dim)) end
  local where = {dtype = self._where.dtype, device = self._where.device}
  local basis, table_of = {}, {}
  for i = 1, self.dim do basis[i] = 2 ^ (i - 1) end
  for code = 0, 2 ^ self.dim - 1 do
    for i = 1, self.dim do table_of[#table_of + 1] = math.floor(code / 2 ^ (i - 1)) % 2 * 2 - 1 end
  end
  self:register_buffer("basis", ai.tensor(basis, where), {persistent = false})
  self:register_buffer("codebook", ai.tensor(table_of, where):reshape(-1, self.dim), {persistent = false})
end

local function entropy(p) return -(p * f.log(f.clamp_min(p, 1e-12))):sum{-1} end

---@param x aijit.Tensor (..., dim)
---@return aijit.Tensor y
---@return aijit.Tensor codes (...)
---@return aijit.Tensor loss
function LookupFreeQuantization:forward(x)
  if x:size(-1) ~= self.dim then raise(("%s: the input has %d features, and %d are wanted"):format(self:title(), x:size(-1), self.dim)) end
  local positive = x:detach():gt(0):to(x.dtype)
  local y = positive * 2 - 1
  -- |x - code|^2 = |x|^2 - 2 x . code + dim
  local p = f.softmax(f.matmul(x:reshape(-1, self.dim), self.codebook:t()) * (2 / self.temperature), -1)
  local loss = entropy(p):mean() - self.diversity * entropy(p:mean{1})
  return straight_through(x, y), (positive * self.basis):sum{-1}:round():long() + 1, loss
end

--- The signs of codes: (...) -> (..., dim).
---@param codes aijit.Tensor
---@return aijit.Tensor
function LookupFreeQuantization:decode(codes) return f.embedding(self.codebook, codes) end

-- -- k-means -------------------------------------------------------------------------------------------------------------

--- The nearest of n_clusters centers: codes = layer(x), (..., n_features) -> (...), from 1. The centers are random until fit is
--- called, or they are loaded.
---@class aijit.nn.KMeans: aijit.nn.Layer
---@field centers aijit.Tensor (n_clusters, n_features)
local KMeans = layer("KMeans", "n_features? n_clusters kmeans_iters=10")
nn.KMeans = KMeans

KMeans.argument_rules = {n_features = "count", n_clusters = "count"}
function KMeans:sizes(x) self.n_features = x:size(-1) end
function KMeans:sizes_from(state) self.n_features = state.centers:size(2) end
function KMeans:build()
  if self.n_features < 1 then raise(("%s: there are no features"):format(self:title())) end
  self:buffer("centers", 0, {self.n_clusters, self.n_features})
end
function KMeans:reset() init.normal_(self.centers) end

local function rows_of(self, x)
  if not ai.is_tensor(x) or not x:is_floating_point() then
    raise(("%s: the input is %s; a tensor of floats is wanted"):format(self:title(), ai.is_tensor(x) and "one of " .. x.dtype or "a " .. type(x)))
  end
  if x:size(-1) ~= self.n_features then
    raise(("%s: the input is (%s), and %d features are wanted"):format(self:title(), table.concat(x.shape, ", "), self.n_features))
  end
  return x:detach():reshape(-1, self.n_features)
end

---@param x aijit.Tensor (..., n_features)
---@return aijit.Tensor codes (...)
function KMeans:forward(x)
  return cluster.nearest(rows_of(self, x), self.centers):reshape(leading(x))
end

--- Makes the centers means of x: from rows far from each other, kmeans_iters times.
---@param x aijit.Tensor (..., n_features)
---@return aijit.nn.KMeans self
---@return number mean of the squares of the distances to the nearest center
function KMeans:fit(x)
  if self._unbuilt then self:build_for(x) end
  local rows = rows_of(self, x)
  if rows:size(1) == 0 then raise(("%s: there is nothing to fit in (%s)"):format(self:title(), table.concat(x.shape, ", "))) end
  local mean = ai.no_grad(function()
    return ai.scope(function()
      local centers = cluster.improve(rows, cluster.spread(rows, self.n_clusters), self.kmeans_iters)
      self.centers:copy_(centers)
      return (rows - f.index_select(centers, 1, cluster.nearest(rows, centers))):square():sum{2}:mean():item()
    end)
  end)
  return self, mean
end

--- The centers of codes: (...) -> (..., n_features).
---@param codes aijit.Tensor
---@return aijit.Tensor
function KMeans:decode(codes) return f.embedding(self.centers, codes) end

return nn
