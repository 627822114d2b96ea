-- Loaders with threads, for the thread sanitizer: spec/fuzz/threads. Gone through, left in the midst, let go of, ended by an error.

local ai = require "aijit"
local data = ai.data
local T = data.transforms

local ds = data.Transformed(data.FakeData(40, {shape = {3, 12, 10}}), T.Compose {
  T.RandomCrop(8, {padding = 1}), T.RandomHorizontalFlip(), T.ColorJitter {brightness = 0.2, hue = 0.1}, T.ToFloat(),
})

local function sum_of(workers)
  local loader, sum = data.Loader(ds, {batch_size = 4, shuffle = true, seed = 3, workers = workers}), 0
  for _ = 1, 2 do
    for x, y in loader do sum = sum + x:to("f64"):sum():item() + y:sum():item() end
  end
  loader:seek(1)
  loader:next_batch()
  loader:close()
  return sum
end

local want = sum_of(0)
for _, workers in ipairs {1, 3} do assert(sum_of(workers) == want) end
for _ = 1, 3 do data.Loader(ds, {batch_size = 4, workers = 2}):next_batch() end
collectgarbage()
local bad = data.Transformed(ds, function() error "torn" end)
assert(not pcall(function() data.Loader(bad, {workers = 2}):next_batch() end))
print "loaders: 0 faults"
