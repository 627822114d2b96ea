--- The report of spec/gpu/check: what the tests said, and measured speeds. `aijit spec/gpu/report.lua BUILD REPORTS`

local ai = require "aijit"
local nn, optim = ai.nn, require "aijit.optim"
local build, folder = arg[1], arg[2]

local function read(path)
  local file = io.open(path)
  if not file then return "" end
  local text = file:read "*a"
  file:close()
  return text
end

-- What busted's closing line counts, and the titles of what failed.
local function tests(name)
  local text = read(("%s/%s.out"):format(build, name))
  local passed, failed, errors, waiting = text:match "(%d+) success%a* / (%d+) failure%a* / (%d+) error%a* / (%d+) pending"
  if not passed then return {ended = false, output = text:sub(-2000)} end
  local names = {}
  for kind, title, message in text:gmatch "\n(%a+) %-> [^\n]*\n([^\n]*)\n([^\n]*)" do
    if kind == "Failure" or kind == "Error" then names[#names + 1] = title .. ": " .. message end
  end
  return {ended = true, passed = tonumber(passed), failed = tonumber(failed) + tonumber(errors), pending = tonumber(waiting), failures = names}
end

local now = require "aijit.bindings.system".monotonic

local small = tonumber(os.getenv "AIJIT_BENCH_SCALE") or 1      -- a fraction, where the numbers do not count
local ROUNDS, SPAN = small == 1 and 7 or 1, small == 1 and 0.05 or 0

-- Seconds that one call of f takes: the median of rounds, each of as many calls as take a twentieth of a second.
local function time(f)
  local calls = 1
  local function round()
    ai.cuda.synchronize()
    local start = now()
    for _ = 1, calls do ai.scope(f) end
    ai.cuda.synchronize()
    return (now() - start) / calls
  end
  round()
  local once = round()
  calls = math.max(1, math.min(1000, math.ceil(SPAN / math.max(once, 1e-7))))
  local rounds = {}
  for i = 1, ROUNDS do rounds[i] = round() end
  table.sort(rounds)
  return rounds[math.ceil(ROUNDS / 2)]
end

local bench = {}
local device = {device = "cuda"}
local function measure(name, f, work, unit)
  local ok, seconds = pcall(time, f)
  if not ok then bench[name] = {error = tostring(seconds)} return end
  bench[name] = {seconds = seconds, [unit or "per_second"] = work and work / seconds or nil}
end

local n = math.floor(2 ^ 26 * small)
local x, y, out = ai.randn(n, device), ai.randn(n, device), ai.empty(n, device)
local tiny = ai.randn(1024, device)
measure("op_overhead_add_1k", function() return tiny + tiny end)
measure("copy", function() out:copy_(x) end, 8 * n, "bytes_per_second")
measure("add", function() return x + y end, 12 * n, "bytes_per_second")
measure("gelu", function() return ai.f.gelu(x) end, 8 * n, "bytes_per_second")
measure("sum", function() return x:sum() end, 4 * n, "bytes_per_second")
local rows = math.max(1, math.floor(16384 * small))
local wide = ai.randn(rows, 4096, device)
measure("sum_rows", function() return wide:sum(2) end, 4 * wide:numel(), "bytes_per_second")
measure("sum_columns", function() return wide:sum(1) end, 4 * wide:numel(), "bytes_per_second")
measure("softmax", function() return ai.f.softmax(wide, 2) end, 8 * wide:numel(), "bytes_per_second")
measure("layer_norm", function() return ai.f.layer_norm(wide, {4096}) end, 8 * wide:numel(), "bytes_per_second")
for _, dtype in ipairs {"f32", "bf16"} do
  local m = math.max(64, math.floor(4096 * math.sqrt(small)))
  local a = ai.randn(m, m, device):to(dtype)
  measure("matmul_" .. dtype, function() return a:matmul(a) end, 2 * m ^ 3, "flops")
end

-- A step of a small network: what launching costs.
do
  local model = nn.Sequential{nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)}
  model:to "cuda"
  local images, labels = ai.randn(32, 784, device), ai.randint(1, 10, {32}):to "cuda"
  local optimizer = optim.Adam(model:parameters(), {lr = 1e-3})
  measure("mlp_step", function()
    optimizer:zero_grad()
    ai.f.cross_entropy(model(images), labels):backward()
    optimizer:step()
  end)
end

local p = ai.cuda.properties()
local report = {
  date = os.date "!%Y-%m-%dT%H:%M:%SZ", gpu = p.name, capability = p.capability, multiprocessors = p.multiprocessors, memory = p.total,
  cuda = p.runtime, driver = p.driver, tests = {device = tests "device", ops = tests "ops"}, missing = ai.cuda.missing(), bench = bench,
}
os.execute("mkdir -p '" .. folder .. "'")
local path = ("%s/%s-%s.json"):format(folder, os.date "!%Y-%m-%d", (p.name:lower():gsub("[^%w]+", "-")))
local file = assert(io.open(path, "w"))
file:write(require("aijit.json").encode(report, {pretty = true}), "\n")
file:close()
print(path)
