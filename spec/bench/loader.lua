--- How busy a loader with threads keeps a training: an image folder whose decoding costs half of a step, on two cores.
--
--   OMP_NUM_THREADS=1 taskset -c 0,1 build/release/aijit spec/bench/loader.lua [steps 60]
--
-- Busy is the part of the time in which the training has a batch to work on; the pace is that of the same steps on a batch that is
-- there already. The training has one thread, so that one core is left for the pictures. Rounds of all ways are interleaved.

local ai = require "aijit"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
package.path = here .. "?.lua;" .. package.path
local measure = require "measure"
local image, nn, T = ai.image, ai.nn, ai.data.transforms

local STEPS, BATCH, SIDE = tonumber(arg[1] or 60), 32, 160
ai.set_num_threads(1)
ai.manual_seed(1)

local folder = os.tmpname()
os.remove(folder)
local system = require "aijit.bindings.system"
local function picture(i)
  -- Smooth with some grain, as photographs are.
  local small = ai.randint(0, 255, {3, 12, 12}, {dtype = "u8"})
  local smooth = image.resize(small, SIDE + i % 9, SIDE + 16, {layout = "chw"})
  local grain = ai.randint(0, 24, smooth.shape, {dtype = "u8"})
  return (smooth:to "f32" * 0.85 + grain:to "f32"):clamp(0, 255):to "u8"
end
for class = 1, 4 do
  local path = ("%s/class%d"):format(folder, class)
  system.make_directories(path)
  for i = 1, 64 do image.write(picture(i), ("%s/%d.jpg"):format(path, i), {layout = "chw", quality = 90}) end
end

local dataset = ai.data.ImageFolder(folder, {transform = T.Compose {
  T.RandomResizedCrop(96, {scale = {0.3, 1}}), T.RandomHorizontalFlip(), T.ToFloat(), T.Normalize({0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}),
}})
local function new_loader(workers)
  return ai.data.Loader(dataset, {batch_size = BATCH, shuffle = true, drop_last = true, workers = workers, prefetch = 3})
end

local model = nn.Sequential {
  nn.Conv2d(3, 16, 3, {stride = 2, padding = 1}), nn.ReLU(), nn.Conv2d(16, 32, 3, {stride = 2, padding = 1}), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
  nn.Flatten(), nn.Linear(32, 4),
}
local optimizer = ai.optim.AdamW(model:parameters(), {lr = 1e-3})
local kept_x, kept_y
do
  local batch = new_loader(0):next_batch()
  kept_x, kept_y = batch[1], batch[2]
end
local repeats = 1
local function train(x, y)
  for _ = 1, repeats do
    ai.scope(function()
      optimizer:zero_grad()
      ai.cross_entropy(model(x), y):backward()
      optimizer:step()
    end)
  end
end

-- A step is as many passes as take twice the time of a batch's decoding, each counted in the time of this one thread.
local function seconds(n, f)
  local start = os.clock()
  for _ = 1, n do f() end
  return (os.clock() - start) / n
end
local plain = new_loader(0)
local function load() while not plain:next_batch() do end end
load()
train(kept_x, kept_y)
local decode = seconds(6, function() ai.scope(load) end)
local pass = seconds(6, function() train(kept_x, kept_y) end)
repeats = math.max(1, math.floor(2 * decode / pass + 0.5))
local step = pass * repeats
print(("a batch of %d pictures: %s to decode; a step: %s (%d passes); the one by the other: %.2f"):format(BATCH, measure.text(decode),
  measure.text(step), repeats, decode / step))

local ways = {{name = "in memory"}, {name = "workers = 0", workers = 0}, {name = "workers = 1", workers = 1}, {name = "workers = 2", workers = 2}}
for _, way in ipairs(ways) do
  way.busy, way.total, way.waits, way.loader = 0, 0, {}, way.workers and new_loader(way.workers)
end
local function one(way)
  local start = measure.now()
  ai.scope(function()
    local x, y = kept_x, kept_y
    if way.loader then
      local batch = way.loader:next_batch() or way.loader:next_batch()
      x, y = batch[1], batch[2]
    end
    local got = measure.now()
    way.waits[#way.waits + 1] = got - start
    train(x, y)
    way.busy = way.busy + measure.now() - got
  end)
  way.total = way.total + measure.now() - start
end
local ROUNDS = 3
for _ = 1, ROUNDS do
  for _, way in ipairs(ways) do
    if way.loader then                                   -- the pipeline filled, as in the midst of a training
      ai.scope(function() local _ = way.loader:next_batch() or way.loader:next_batch() end)
      train(kept_x, kept_y)
    end
    for _ = 1, STEPS / ROUNDS do one(way) end
  end
end
print "| batches | busy | pace | median wait for a batch |"
print "|---|---|---|---|"
for _, way in ipairs(ways) do
  table.sort(way.waits)
  print(("| %s | %.1f %% | %.1f %% | %s |"):format(way.name, 100 * way.busy / way.total, 100 * ways[1].total / way.total,
    measure.text(way.waits[math.ceil(#way.waits / 2)])))
end
os.execute("rm -r " .. folder)
