--- aijit's side of spec/bench/compare: reads "check ROW", "time ROW COUNT" and "peak ROW" from standard input, and answers
-- one line each; "threads N" sets the number of threads, "clock cpu" counts the processor's time.

local ai = require "aijit"
local nn = ai.nn
local now = require("aijit.bindings.system").monotonic

ai.set_num_threads(1)

local function make(sizes, scale, shift)
  local t = ai.arange(0, math.max(0, ai.prod(sizes) - 1), 1, {dtype = "f64"})
  return ((t * 0.37 + 0.1):sin() * (scale or 1) + (shift or 0)):float():reshape(sizes)
end

local rows = {}

-- A row is {run = function(), check = function() -> tensor}; run is called in a scope of its own, or in one for many when
-- it is small, as a program would.
local function row(name, build, per_scope) rows[name] = {build = build, per_scope = per_scope or 1} end

row("op.add", function()
  local a, b = make {10}, make({10}, 1, 1)
  return {run = function() return a + b end, check = function() return (a + b):sum() end}
end, 64)
row("op.scalar", function()
  local a = make {10}
  return {run = function() return a * 2 end, check = function() return (a * 2):sum() end}
end, 64)
row("op.view", function()
  local a = make {4, 6}
  local function f() return a:reshape(2, 12):t():slice(1, 3, 6) end
  return {run = f, check = function() return f():sum() end}
end, 64)
row("op.grad", function()
  local w, c = make({10}):requires_grad_(), make({10}, 0.1, 1)
  local function f()
    local x = w
    for _ = 1, 100 do x = x * c end
    w.grad = nil
    x:sum():backward()
  end
  return {run = f, check = function() f() return w.grad:sum() end}
end)

for name, kb in pairs {["1KiB"] = 1, ["1MiB"] = 1024, ["64MiB"] = 65536} do
  row("alloc." .. name, function()
    local n = kb * 256
    return {run = function() return ai.empty(n) end, check = function() return ai.tensor(n) end}
  end)
end

for _, s in ipairs {{32, 128, 784}, {64, 64, 64}, {128, 128, 128}, {256, 256, 256}, {512, 512, 512}, {1024, 1024, 1024}} do
  row(("gemm.%dx%dx%d"):format(s[1], s[2], s[3]), function()
    local a, b = make {s[1], s[3]}, make {s[3], s[2]}
    return {run = function() return a:matmul(b) end, check = function() return a:matmul(b):abs():sum() end}
  end)
end

row("linear.bias.relu", function()
  local x, w, b = make {32, 784}, make({128, 784}, 0.05), make {128}
  local function f() return ai.f.linear(x, w, b):relu() end
  return {run = f, check = function() return f():sum() end}
end)

for name, n in pairs {["4k"] = 4096, ["64k"] = 65536, ["1M"] = 2 ^ 20, ["16M"] = 2 ^ 24} do
  local function chain(a, b, c)
    local u = (a * b + c) * 1.7 - a
    return u:relu() * u:sigmoid()
  end
  for _, kind in ipairs {"ew", "jit"} do
    row(kind .. ".chain7." .. name, function()
      local a, b, c = make {n}, make({n}, 1, 0.5), make({n}, 1, -0.5)
      local g = kind == "jit" and ai.jit(chain) or chain
      return {run = function() return g(a, b, c) end, check = function() g(a, b, c) return g(a, b, c):sum() end}
    end)
  end
end

for _, name in ipairs {"tanh", "exp", "gelu"} do
  row("ew." .. name, function()
    local x, op = make {2 ^ 22}, ai.f[name]
    return {run = function() return op(x) end, check = function() return op(x):sum() end}
  end)
end

for name, dim in pairs {all = 0, dim0 = 1, dim1 = 2} do
  row("red." .. name, function()
    local x = make {4096, 1024}
    local function f() if dim == 0 then return x:sum() end return x:sum(dim) end
    return {run = f, check = function() return f():abs():sum() end}
  end)
end

row("softmax.fb", function()
  local x, g = make({4096, 1024}):requires_grad_(), make({4096, 1024}, 1, 0.3)
  local function f() x.grad = nil x:softmax(2):backward(g) end
  return {run = f, check = function() f() return x.grad:abs():sum() end}
end)
row("layernorm.fb", function()
  local x, g = make({4096, 1024}):requires_grad_(), make({4096, 1024}, 1, 0.3)
  local w, b = make({1024}, 1, 1):requires_grad_(), make({1024}):requires_grad_()
  local size = {1024}
  local function f()
    x.grad, w.grad, b.grad = nil, nil, nil
    ai.f.layer_norm(x, size, w, b):backward(g)
  end
  return {run = f, check = function() f() return x.grad:abs():sum() + w.grad:abs():sum() end}
end)

for _, s in ipairs {{16, 32, 32, 28}, {16, 32, 64, 14}, {16, 64, 64, 14}, {128, 64, 64, 14}} do
  row(("conv3x3.%dx%d-%d@%d"):format(unpack(s)), function()
    local N, K, O, S = unpack(s)
    local x, w = make({N, K, S, S}):requires_grad_(), make({O, K, 3, 3}, 0.1):requires_grad_()
    local g, o = ai.ones(N, O, S, S), {padding = 1}
    local function f()
      x.grad, w.grad = nil, nil
      ai.f.conv2d(x, w, nil, o):backward(g)
    end
    return {run = f, check = function() f() return x.grad:abs():sum() + w.grad:abs():sum() end}
  end)
end

row("maxpool.fb", function()
  local x, g = make({16, 32, 28, 28}):requires_grad_(), ai.ones(16, 32, 14, 14)
  local function f() x.grad = nil ai.f.max_pool2d(x, 2):backward(g) end
  return {run = f, check = function() f() return x.grad:abs():sum() end}
end)
row("bn.relu.fb", function()
  local x, g = make({16, 32, 28, 28}):requires_grad_(), make({16, 32, 28, 28}, 1, 0.2)
  local w, b = make({32}, 1, 1):requires_grad_(), make({32}):requires_grad_()
  local m, v, o = ai.zeros(32), ai.ones(32), {training = true}
  local function f()
    x.grad, w.grad, b.grad = nil, nil, nil
    ai.f.batch_norm(x, m, v, w, b, o):relu():backward(g)
  end
  return {run = f, check = function() f() return x.grad:abs():sum() + w.grad:abs():sum() end}
end)

local function net_of(name)
  if name == "mlp" then
    return nn.Sequential{nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)}, {32, 784}, 10
  elseif name == "rl_mlp" then
    return nn.Sequential{nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2)}, {128, 4}, 2
  end
  local layers = {}
  local function block(i, o)
    for _, layer in ipairs {nn.Conv2d(i, o, 3, {padding = 1}), nn.BatchNorm2d(o), nn.ReLU()} do layers[#layers + 1] = layer end
  end
  block(1, 32) block(32, 32) layers[#layers + 1] = nn.MaxPool2d(2)
  block(32, 64) block(64, 64)
  for _, layer in ipairs {nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 49, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10)} do
    layers[#layers + 1] = layer
  end
  return nn.Sequential(layers), {16, 1, 28, 28}, 10
end

local function fill(net)
  ai.no_grad(function()
    for _, p in ipairs(net:parameters()) do
      local s = p:size()
      p:copy_(#s > 1 and make(s, 0.5 / math.sqrt(p:numel() / s[1])) or make(s, 0.1, 1))
    end
  end)
end

for _, s in ipairs {{"mnist_cnn", 16}, {"mnist_cnn", 128}, {"mlp", 32}, {"rl_mlp", 128}} do
  for _, kind in ipairs {"step", "jit"} do row(("%s.%s.b%d"):format(kind, s[1], s[2]), function()
    local net, sizes, classes = net_of(s[1])
    fill(net)
    sizes[1] = s[2]
    local x, labels = make(sizes), {}
    for i = 1, s[2] do labels[i] = (i - 1) % classes + 1 end
    local y = ai.tensor(labels, {dtype = "i64"})
    local optimizer = ai.optim.Adam(net:parameters(), {lr = 1e-4})
    local function gradients(a, b)
      optimizer:zero_grad()
      local loss = ai.cross_entropy(net(a), b)
      loss:backward()
      return loss:detach()
    end
    local function step(a, b)
      local loss = gradients(a, b)
      optimizer:step()
      return loss
    end
    local g = kind == "jit" and ai.jit(step) or step
    local function f() return g(x, y) end
    return {run = f, check = function()
      fill(net)
      local total = f()
      for _, p in ipairs(net:parameters()) do total = total + p.grad:abs():sum() end
      return total
    end}
  end) end
end

-- Transformers: char-GPT (4 layers, 4 heads, width 128, 64 characters, batch 12) and ViT-tiny/4 (12 layers, 3 heads, width
-- 192, 32 x 32 pixels, batch 32), whole steps with AdamW.
local Block = ai.class("BenchBlock", nn.Module)
function Block:__init(d, heads, causal)
  self.heads, self.options = heads, {is_causal = causal}
  self.ln1, self.qkv, self.proj = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
  self.ln2, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
end
function Block:forward(x)
  local n, t, d = x:size(1), x:size(2), x:size(3)
  local function split(z) return z:reshape(n, t, self.heads, -1):transpose(2, 3) end
  local q, k, v = unpack(self.qkv(self.ln1(x)):split(d, 3))
  local y = ai.f.scaled_dot_product_attention(split(q), split(k), split(v), self.options)
  x = x + self.proj(y:transpose(2, 3):reshape(n, t, d))
  return x + self.down(self.up(self.ln2(x)):gelu())
end

local function blocks(count, d, heads, causal)
  local list = {}
  for i = 1, count do list[i] = Block(d, heads, causal) end
  return list
end

local transformers = {}

function transformers.chargpt()
  local net = ai.class("BenchGPT", nn.Module)()
  net.wte, net.wpe = nn.Embedding(65, 128), nn.Embedding(64, 128)
  net.h, net.ln = nn.Sequential(blocks(4, 128, 4, true)), nn.LayerNorm(128)
  local tokens, labels = {}, {}
  for i = 1, 12 * 64 do tokens[i], labels[i] = (i * 7) % 65 + 1, (i * 7 + 7) % 65 + 1 end
  local x, y, places = ai.tensor(tokens, {dtype = "i64"}):reshape(12, 64), ai.tensor(labels, {dtype = "i64"}), ai.arange(64)
  return net, function()
    local h = net.ln(net.h(net.wte(x) + net.wpe(places)))
    return ai.cross_entropy(h:matmul(net.wte.weight:t()):reshape(-1, 65), y)
  end
end

function transformers.vit_tiny()
  local net = ai.class("BenchViT", nn.Module)()
  net.patch, net.places = nn.Conv2d(3, 192, 4, {stride = 4}), nn.Parameter(ai.zeros(64, 192))
  net.h, net.ln, net.head = nn.Sequential(blocks(12, 192, 3, false)), nn.LayerNorm(192), nn.Linear(192, 10)
  local labels = {}
  for i = 1, 32 do labels[i] = (i - 1) % 10 + 1 end
  local x, y = make {32, 3, 32, 32}, ai.tensor(labels, {dtype = "i64"})
  return net, function()
    local h = net.patch(x):flatten(3):transpose(2, 3) + net.places
    return ai.cross_entropy(net.head(net.ln(net.h(h)):mean(2)), y)
  end
end

for name, build in pairs(transformers) do
  for _, kind in ipairs {"step", "jit", "bf16"} do row(kind .. "." .. name, function()
    local net, loss_of = build()
    fill(net)
    local optimizer = ai.optim.AdamW(net:parameters(), {lr = 1e-4})
    local function step()
      optimizer:zero_grad()
      local loss = kind == "bf16" and ai.autocast("bf16", loss_of) or loss_of()
      loss:backward()
      optimizer:step()
      return loss:detach()
    end
    local f = kind == "jit" and ai.jit(step) or step
    return {run = function() f() end, check = function()
      fill(net)
      local total = f()
      for _, p in ipairs(net:parameters()) do total = total + p.grad:abs():sum() end
      return total
    end}
  end) end
end

row("policy.b1", function()
  local net = net_of "rl_mlp"
  fill(net)
  local x = make {1, 4}
  return {run = function() return net(x) end, check = function() return net(x):sum() end, mode = false}
end, 16)

for name, sizes in pairs {["4.6k"] = {64 * 64, 64, 64 * 8}, ["109k"] = {784 * 128, 128, 128 * 64, 64}, ["467k"] = {784 * 512, 512, 512 * 128, 128}} do
  row("adam." .. name, function()
    local ps = {}
    for i, n in ipairs(sizes) do
      ps[i] = make({n}):requires_grad_()
      ps[i].grad = make({n}, 0.01)
    end
    local optimizer = ai.optim.Adam(ps, {lr = 1e-9})
    return {run = function() optimizer:step() end, check = function()
      local total = ai.tensor(0)
      for _, p in ipairs(ps) do total = total + p:detach():abs():sum() end
      return total
    end}
  end)
end

local built = {}
local function get(name)
  if not rows[name] then error("no such row: " .. name, 0) end
  if not built[name] then
    for k in pairs(built) do built[k] = nil end
    collectgarbage()
    jit.flush()                                          -- each row is a program of its own, whose loops become hot by themselves
    built[name] = rows[name].build()
  end
  return built[name], rows[name].per_scope
end

local function several(f, n) for _ = 1, n do f() end end

local function time(name, count)
  local r, per = get(name)
  local before = ai.set_grad_enabled(r.mode ~= false)
  local start = now()
  local left = count
  while left > 0 do
    local n = math.min(per, left)
    ai.scope(several, r.run, n)
    left = left - n
  end
  local t = now() - start
  ai.set_grad_enabled(before)
  return t
end

--- A line of /proc/self/status in bytes.
local function status(key)
  for line in io.lines "/proc/self/status" do
    local kb = line:match("^" .. key .. ":%s*(%d+) kB")
    if kb then return kb * 1024 end
  end
end

--- Bytes by which the process grows at most, over building a row and running it three times.
local function peak(name)
  make({8, 8}):matmul(make {8, 8})
  collectgarbage()
  local before = status "VmRSS"
  time(name, 3)
  return status "VmHWM" - before
end

for line in io.lines() do
  local verb, name, count = line:match "^(%S+)%s*(%S*)%s*(%S*)$"
  local ok, answer = pcall(function()
    if verb == "version" then return ai._VERSION .. ", CPU level " .. ai.cpu_level() end
    if verb == "check" then
      local r = get(name)
      return ("%.17g"):format(ai.scope(function() return r.check():item() end))
    end
    if verb == "peak" then return ("%d"):format(peak(name)) end
    if verb == "clock" then now = os.clock return name end
    if verb == "threads" then return ai.set_num_threads(tonumber(name)) end
    return ("%.9g"):format(time(name, tonumber(count)))
  end)
  io.write(ok and "ok " or "error ", (tostring(answer):gsub("\n", " ")), "\n")
  io.flush()
end
