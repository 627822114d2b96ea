--- The bench table of the README. Every row: what, measured, target, how much the rounds differed.

local ai = require "aijit"
local here = debug.getinfo(1, "S").source:match "^@(.*/)"
package.path = here .. "?.lua;" .. package.path
local measure = require "measure"
local text = measure.text

local rows = {}
local function row(name, value, target, spread)
  rows[#rows + 1] = {name, value, target, spread and ("%.0f %%"):format(spread * 100) or ""}
  print(("| %-44s | %-34s | %-22s | %-6s |"):format(unpack(rows[#rows])))
end

local wanted = {}
for i = 1, #arg do wanted[arg[i]] = true end
local function bench(name, f)
  if next(wanted) == nil or wanted[name] then f() end
end

print(("aijit %s, %s, CPU level %s, one thread"):format(ai._VERSION, jit.version,
  ai.cpu_level()))
print(("| %-44s | %-34s | %-22s | %-6s |"):format("what", "measured", "target", "spread"))
print("|" .. ("-"):rep(46) .. "|" .. ("-"):rep(36) .. "|" .. ("-"):rep(24) .. "|" .. ("-"):rep(8) .. "|")

ai.set_num_threads(1)

-- -- Small work -----------------------------------------------------------------------------------------------------------

local a, b = ai.ones(10), ai.ones(10)
local function adds(n)
  local x = a
  for _ = 1, n do x = x + b end
  return x
end
local function add_steps(n) for _ = 1, n do ai.scope(adds, 64) end end

local w = ai.tensor({0.5, 1, 2}, {requires_grad = true})
local c = ai.ones(3)
local function chain()
  local x = w
  for _ = 1, 64 do x = x * c end
  x:sum():backward()
end
local function chain_steps(n) for _ = 1, n do ai.scope(chain) end end

bench("op", function()
  for _, mode in ipairs {"compiled", "interpreted"} do
    if mode == "compiled" then jit.on() else jit.off() end
    jit.flush()
    local t = measure.compare {add_steps, chain_steps}
    row("a + b of 10 floats, in a scope, " .. mode, text(t[1].median / 64), mode == "compiled" and "100 ns" or "350 ns", t[1].spread)
    row("forward + backward an op, chain of 64, " .. mode, text(t[2].median / 65), mode == "compiled" and "150 ns" or "", t[2].spread)
  end
  jit.on()
end)

-- A training step with nothing to compute: what is left is what each op costs around its arithmetic.
bench("jit", function()
  local nn = ai.nn
  local net = nn.Sequential {nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)}
  local optimizer = ai.optim.AdamW(net:parameters(), {lr = 1e-4})
  local x, y = ai.randn(1, 2), ai.randn(1, 1)
  local function step(input, target)
    optimizer:zero_grad()
    local loss = ai.mse_loss(net(input), target)
    loss:backward()
    optimizer:step()
    return loss:detach()
  end
  local replay = ai.jit(step)
  local t = measure.compare {
    function(n) for _ = 1, n do ai.scope(step, x, y) end end,
    function(n) for _ = 1, n do ai.scope(replay, x, y) end end,
  }
  row("training step of a tiny MLP, eager", text(t[1].median), "", t[1].spread)
  row("  the same replayed by ai.jit", ("%s, %.2f of eager"):format(text(t[2].median), t[2].median / t[1].median), "0.33 of eager", t[2].spread)
end)

-- -- Matrices -----------------------------------------------------------------------------------------------------------------

bench("gemm", function()
  local ok, direct = pcall(require, "direct_gemm")
  if not ok then print("gemm: the libraries cannot be called directly here: " .. tostring(direct)) return end
  for _, n in ipairs {64, 128, 256, 512, 1024} do
    ai.scope(function()
      local x, y = ai.randn(n, n), ai.randn(n, n)
      local out = ai.empty(n, n)
      local ours = x:matmul(y)
      local function product() x:matmul(y) end           -- returns nothing, so that its result is freed at once
      direct.onednn(out, x, y, n)
      assert((out - ours):abs():max():item() < 1e-3 * n ^ 0.5, "oneDNN's product differs")
      direct.openblas(out, x, y, n)
      assert((out - ours):abs():max():item() < 1e-3 * n ^ 0.5, "OpenBLAS's product differs")
      local t = measure.compare({
        function(k) for _ = 1, k do ai.scope(product) end end,
        function(k) for _ = 1, k do direct.onednn(out, x, y, n) end end,
        function(k) for _ = 1, k do direct.openblas(out, x, y, n) end end,
      }, {rounds = 15, target = 0.01})
      local best = math.min(t[2].median, t[3].median)
      row(("matmul f32 %d"):format(n), ("%.0f GFLOP/s, %.0f %% of the better"):format(2 * n ^ 3 / t[1].median / 1e9, 100 * best / t[1].median),
        "92 %", t[1].spread)
    end)
  end
end)

-- -- A process ------------------------------------------------------------------------------------------------------------------

bench("start", function()
  local paths = require "aijit.tree"
  local function start(code)
    return function(n)
      for _ = 1, n do os.execute(("%s -e '%s' >/dev/null"):format(paths.exe, code)) end
    end
  end
  local t = measure.compare({start 'print(require("aijit").tensor{1, 2})', start ""}, {rounds = 9, target = 0.05})
  row("start to first tensor printed", text(t[1].median), "30 ms", t[1].spread)
  row("  of which the bare interpreter", text(t[2].median), "", t[2].spread)
end)

bench("memory", function()
  local x, target = ai.randn(32, 20), ai.randn(32, 1)
  local nn = ai.nn
  local model = nn.Sequential {nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1)}
  local optimizer = ai.optim.AdamW(model:parameters(), {lr = 1e-3})
  local function steps(n)
    for _ = 1, n do
      ai.scope(function()
        optimizer:zero_grad()
        ai.mse_loss(model(x), target):backward()
        optimizer:step()
      end)
    end
    collectgarbage() collectgarbage()
    return ai.memory().cpu.live, collectgarbage "count"
  end
  local live0, heap0 = steps(200)
  local live1, heap1 = steps(10000)
  row("growth over 10,000 training steps", ("%d bytes of tensors, %.0f KiB of Lua"):format(live1 - live0, math.max(0, heap1 - heap0)), "none")
end)

bench("adamw", function()
  -- The parameters of an MLP of 784, 500, 149 and 10 units, all with gradients.
  local parameters = {}
  for i, shape in ipairs {{500, 784}, {500}, {149, 500}, {149}, {10, 149}, {10}} do
    parameters[i] = ai.nn.Parameter(ai.randn(unpack(shape)))
    parameters[i].grad = ai.randn(unpack(shape))
  end
  local optimizer, n = ai.optim.AdamW(parameters, {lr = 1e-6}), 0
  for _, p in ipairs(parameters) do n = n + p:numel() end
  local t = measure.compare({function(k) for _ = 1, k do optimizer:step() end end})
  row(("adamw, a step of %d parameters"):format(n), ("%s, %.3f ns an element"):format(text(t[1].median), t[1].median / n * 1e9),
    "0.36 ns an element", t[1].spread)
end)

bench("int8", function()
  local nn = ai.nn
  local function compare(name, model, q, x)
    local t = ai.no_grad(measure.compare, {
      function(n) for _ = 1, n do ai.scope(function() model(x) end) end end,
      function(n) for _ = 1, n do ai.scope(function() q(x) end) end end,
    })
    row(name, ("%s, %.1f times f32"):format(text(t[2].median), t[1].median / t[2].median), "1.8 times", t[2].spread)
  end
  local linear, conv = nn.Linear(1024, 1024), nn.Conv2d(64, 64, 3, {padding = 1})
  local x, images = ai.rand(128, 1024), ai.rand(128, 64, 14, 14)
  compare("int8: linear, 128 rows, 1024 to 1024", linear, nn.quantize(linear, {x}), x)
  compare("int8: convolution 3 x 3, 128 x 64-64 @ 14", conv, nn.quantize(conv, {images}), images)

  ai.manual_seed(1)
  local net = nn.Sequential{
    nn.Conv2d(1, 32, 3, {padding = 1}), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, {padding = 1}), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, {padding = 1}), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, {padding = 1}), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(64 * 49, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10),
  }
  local root = ai.get_data_dir() .. "/mnist"
  local function batches(train, size) return ai.data.Loader(ai.data.Mnist{root = root, train = train}, {batch_size = size, shuffle = train}) end
  local function image(digits) return (digits:float() / 255):unsqueeze(2) end
  local optimizer = ai.optim.Adam(net:parameters(), {lr = 2e-3})
  for digits, labels in batches(true, 64) do
    ai.scope(function()
      optimizer:zero_grad()
      ai.cross_entropy(net(image(digits)), labels):backward()
      optimizer:step()
    end)
  end
  net:eval()
  local seen, held_out = {}, {}
  for digits in batches(true, 128) do if #seen < 4 then seen[#seen + 1] = ai.keep(image(digits)) end end
  for digits, labels in batches(false, 128) do held_out[#held_out + 1] = {ai.keep(image(digits)), ai.keep(labels)} end
  local q = nn.quantize(net, seen)
  local function accuracy(model)
    local right, total = 0, 0
    ai.no_grad(function()
      for _, pair in ipairs(held_out) do
        ai.scope(function() right = right + model(pair[1]):argmax(-1):eq(pair[2]):sum():item() end)
        total = total + pair[2]:size(1)
      end
    end)
    return 100 * right / total
  end
  local before, after = accuracy(net), accuracy(q)
  compare("int8: MNIST CNN, batch 128", net, q, seen[1])
  row("  right of the digits held out", ("%.2f %% in f32, %.2f %% in int8"):format(before, after), "within 0.5")
end)

bench("mnist", function()
  -- A process of its own, on two cores.
  local paths = require "aijit.tree"
  local folder = os.tmpname()
  os.remove(folder)
  local start = measure.now()
  local p = io.popen(("OMP_NUM_THREADS=2 taskset -c 0,1 %s %s/mnist/train.lua run_dir=%s 2>&1"):format(paths.exe, paths.examples, folder))
  local out = p:read "*a"
  p:close()
  local seconds = measure.now() - start
  os.execute("rm -rf " .. folder)
  local accuracy
  for v in out:gmatch "valid step[^\n]*accuracy=([%d.]+)" do accuracy = tonumber(v) end
  assert(accuracy, "the example did not end:\n" .. out)
  row("MNIST on the shipped digits, two threads", ("%.2f %% of 2,000 held out, %s"):format(100 * accuracy, text(seconds)), "98 %, 60 s")
end)
