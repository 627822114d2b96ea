--- Sets that are made, not read: small problems to try a model on. Each is a function of its seed.

local ai = require "aijit"
local class = require "aijit.class"
local combine = require "aijit.data.combine"
local Dataset = require("aijit.data.dataset").Dataset
local option = require "aijit.data.option"
local order = require "aijit.data.order"

local synthetic = {}

local function generator(seed, stream)
  local draw = order.generator(seed, stream)
  local function uniform() return (draw() + 0.5) / 2 ^ 32 end
  local function normal() return math.sqrt(-2 * math.log(uniform())) * math.cos(2 * math.pi * uniform()) end
  return uniform, normal
end

-- n points in the plane, each of a class; point(class, uniform, normal) gives one.
local function points(who, n, o, known, classes, point)
  n = option.whole(who, "n", n, 1)
  known.noise, known.seed = 0, 0
  o = option.read(who, o, known)
  local uniform, normal = generator(option.whole(who, "seed", o.seed or 0, 0), 1)
  local places, labels = {}, {}
  for i = 1, n do
    local label = (i - 1) % classes + 1
    local x, y = point(label, o, uniform, normal)
    places[i] = {x + normal() * (o.noise or 0.1), y + normal() * (o.noise or 0.1)}
    labels[i] = label
  end
  return combine.TensorDataset(ai.keep(ai.tensor(places)), ai.keep(ai.tensor(labels, {dtype = "i64"})))
end

--- Two half circles that reach into each other: f32 (2), and a label 1 or 2.
---@param n integer samples
---@param o? {noise: number, seed: integer} 0.1: standard deviation of what is added to each point; 0
---@return aijit.TensorDataset
function synthetic.moons(n, o)
  return points("data.moons", n, o, {}, 2, function(label, _, uniform)
    local t = math.pi * uniform()
    if label == 1 then return math.cos(t), math.sin(t) end
    return 1 - math.cos(t), 0.5 - math.sin(t)
  end)
end

--- A circle within another: f32 (2), and a label 1 (outer) or 2 (inner).
---@param n integer samples
---@param o? {noise: number, factor: number, seed: integer} 0.1; 0.5: radius of the inner one; 0
---@return aijit.TensorDataset
function synthetic.circles(n, o)
  return points("data.circles", n, o, {factor = 0.5}, 2, function(label, given, uniform)
    local t, r = 2 * math.pi * uniform(), label == 1 and 1 or given.factor or 0.5
    return r * math.cos(t), r * math.sin(t)
  end)
end

--- Arms of a spiral: f32 (2), and a label from 1 to `classes`.
---@param n integer samples
---@param o? {noise: number, classes: integer, turns: number, seed: integer} 0.1, 2, 1
---@return aijit.TensorDataset
function synthetic.spirals(n, o)
  local classes = type(o) == "table" and o.classes or 2
  option.whole("data.spirals", "classes", classes, 1)
  return points("data.spirals", n, o, {classes = 2, turns = 1}, classes, function(label, given, uniform)
    local r = math.sqrt(uniform())
    local t = 2 * math.pi * ((given.turns or 1) * r + (label - 1) / classes)
    return r * math.cos(t), r * math.sin(t)
  end)
end

--- Pictures of noise with labels, made when they are asked for: to measure a program without its data.
---@class aijit.FakeData: aijit.Dataset
local FakeData = class("FakeData", Dataset)
---@param n integer samples
---@param o? {shape: integer[], classes: integer, seed: integer} {3, 224, 224}, 10, 0
function FakeData:__init(n, o)
  o = option.read("data.FakeData", o, {shape = {}, classes = 1, seed = 0})
  self.n, self.shape = option.whole("data.FakeData", "n", n, 0), o.shape or {3, 224, 224}
  self.classes, self.seed = option.whole("data.FakeData", "classes", o.classes or 10, 1), option.whole("data.FakeData", "seed", o.seed or 0, 0)
end
function FakeData:size() return self.n end
function FakeData:get(index)
  option.index("data.FakeData", index, self.n)
  local draw = order.generator(self.seed, index)
  local state = ai.get_random_state()
  ai.manual_seed(draw() * 2 ^ 21 + draw() % 2 ^ 21)
  local picture = ai.randint(0, 255, self.shape, {dtype = "u8"})
  ai.set_random_state(state)
  return picture, ai.full({}, math.floor(draw() * (self.classes / 2 ^ 32)) + 1, {dtype = "i64"})
end
function FakeData:version() return self.seed + 1 end

synthetic.FakeData = FakeData

return synthetic
