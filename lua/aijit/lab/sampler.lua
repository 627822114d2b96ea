--- How a study chooses the next values: at random, or by TPE from what came out so far.
--
-- TPE, the tree-structured Parzen estimator (Bergstra and others, "Algorithms for Hyper-Parameter Optimization", 2011, section 4):
-- the finished trials are split into the best ones and the others; for each dimension a density l of the places of the first
-- and g of the others is estimated, places are drawn from l, and the one with the largest l / g is taken. A density is a
-- mixture of normal distributions cut to [0, 1], one at each place, as wide as the way to the farther neighbour, and a wide one
-- in the middle; of a choice it is counts, each plus one.

local class = require "aijit.class"
local space = require "aijit.lab.space"

local sampler = {}

--- Numbers that depend on a seed and nothing else (L'Ecuyer, "Efficient and portable combined random number generators", 1988).
---@param seed integer
---@param stream integer
---@return fun(): number from 0 to 1, neither in it
function sampler.random(seed, stream)
  local a = (seed * 7919 + stream * 104729 + 12345) % 2147483562 + 1
  local b = (seed * 15485863 + stream * 32452843 + 67890) % 2147483398 + 1
  local function draw()
    a = 40014 * a % 2147483563
    b = 40692 * b % 2147483399
    return ((a - b) % 2147483562 + 0.5) / 2147483563
  end
  for _ = 1, 8 do draw() end
  return draw
end

local function draw_place(d, draw)
  if d.kind == "choice" then return math.floor(draw() * #d.list) + 1 end
  return draw()
end

---@class aijit.lab.Random
---@overload fun(): aijit.lab.Random
local Random = class("Random")
sampler.Random = Random

--- The values of a trial.
---@param dims {name: string, dimension: aijit.lab.Dimension}[]
---@param history {params: table<string, any>, value: number}[] finished trials; smaller values are better
---@param draw fun(): number
---@return table<string, any>
function Random:suggest(dims, history, draw)                                    -- luacheck: no unused args
  local params = {}
  for _, entry in ipairs(dims) do
    if space.counts(entry.dimension, params) then params[entry.name] = entry.dimension:value(draw_place(entry.dimension, draw)) end
  end
  return params
end

---@class aijit.lab.TPE
---@overload fun(o?: {startup: integer?, candidates: integer?, part: number?}): aijit.lab.TPE
local TPE = class("TPE")
sampler.TPE = TPE

---@param o? {startup: integer?, candidates: integer?, part: number?} startup: trials at random before (10); candidates: places drawn
---  from l (24); part: of the trials that count as the best (0.1, at most 25)
function TPE:__init(o)
  o = o or {}
  self.startup, self.candidates, self.part = o.startup or 10, o.candidates or 24, o.part or 0.1
end

-- P(X < x) of the normal distribution, by Zelen and Severo's formula (Abramowitz and Stegun 26.2.17), to 1e-7.
local function normal_below(x)
  local t = 1 / (1 + 0.2316419 * math.abs(x))
  local q = math.exp(-x * x / 2) * 0.3989422804014327
    * t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
  return x < 0 and q or 1 - q
end

--- The density of places in [0, 1].
local function density(places)
  table.sort(places)
  local parts, n = {}, #places
  for i, p in ipairs(places) do
    local left, right = p - (places[i - 1] or 0), (places[i + 1] or 1) - p
    parts[i] = {mean = p, width = math.min(1, math.max(left, right, 1 / math.min(100, n + 2)))}
  end
  parts[n + 1] = {mean = 0.5, width = 1}
  for _, c in ipairs(parts) do c.mass = normal_below((1 - c.mean) / c.width) - normal_below(-c.mean / c.width) end
  return parts
end

local function density_at(parts, u)
  local sum = 0
  for _, c in ipairs(parts) do
    local z = (u - c.mean) / c.width
    sum = sum + math.exp(-z * z / 2) / (c.width * c.mass)
  end
  return sum / #parts
end

local function draw_from(parts, draw)
  local c = parts[math.floor(draw() * #parts) + 1]
  for _ = 1, 100 do
    local u = c.mean + c.width * math.sqrt(-2 * math.log(draw())) * math.cos(2 * math.pi * draw())
    if u >= 0 and u <= 1 then return u end
  end
  return draw()
end

local function counts(places, n)
  local list, total = {}, #places + n
  for i = 1, n do list[i] = 1 end
  for _, p in ipairs(places) do list[p] = list[p] + 1 end
  for i = 1, n do list[i] = list[i] / total end
  return list
end

local function choose(self, d, good, rest, draw)
  if d.kind == "choice" then
    local l, g = counts(good, #d.list), counts(rest, #d.list)
    local best, most
    for _ = 1, self.candidates do
      local r, at = draw(), 1
      while at < #l and r > l[at] do
        r = r - l[at]
        at = at + 1
      end
      if not most or l[at] / g[at] > most then best, most = at, l[at] / g[at] end
    end
    return best
  end
  local l, g = density(good), density(rest)
  local best, most
  for _ = 1, self.candidates do
    local u = draw_from(l, draw)
    local ratio = density_at(l, u) / density_at(g, u)
    if not most or ratio > most then best, most = u, ratio end
  end
  return best
end

---@param dims {name: string, dimension: aijit.lab.Dimension}[]
---@param history {params: table<string, any>, value: number}[]
---@param draw fun(): number
---@return table<string, any>
function TPE:suggest(dims, history, draw)
  if #history < self.startup then return Random.suggest(self, dims, history, draw) end
  local order = {}
  for i, h in ipairs(history) do order[i] = {i, h.value, h.params} end
  table.sort(order, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    return a[1] < b[1]
  end)
  local few = math.max(1, math.min(25, math.ceil(self.part * #order)))
  local params = {}
  for _, entry in ipairs(dims) do
    local d = entry.dimension
    if space.counts(d, params) then
      local good, rest = {}, {}
      for i, h in ipairs(order) do
        local value = h[3][entry.name]
        local place = value ~= nil and d:place(value)
        if place then table.insert(i <= few and good or rest, place) end
      end
      params[entry.name] = d:value(choose(self, d, good, rest, draw))
    end
  end
  return params
end

return sampler
