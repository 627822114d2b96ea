--- The report of spec/gpu/check: what the tests said, whole trainings, and measured speeds beside those of PyTorch and JAX.
--
--     aijit spec/gpu/report.lua BUILD REPORTS     in the source tree; BUILD holds what busted said, NAME.out
--
-- AIJIT_BENCH_SCALE   below 1: tiny sizes, whose numbers do not count
-- AIJIT_BENCH_ONLY    a part of the names of the rows that are measured
-- AIJIT_PYTHON        the interpreter that has the peers, python3 otherwise; empty: none is run

local ai = require "aijit"
local json = require "aijit.json"
local root = require "aijit.tree".root
package.path = root .. "/?.lua;" .. package.path
local build, folder = arg[1], arg[2]
local scale, only = tonumber(os.getenv "AIJIT_BENCH_SCALE") or 1, os.getenv "AIJIT_BENCH_ONLY"

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

-- The peers run in a process of their own, before ours has the device's memory.
local function peers()
  local python = os.getenv "AIJIT_PYTHON" or "python3"
  if python == "" then return {} end
  local path = os.tmpname()
  local device = os.getenv "AIJIT_PEER_DEVICE" or "cuda"
  local words = {"'" .. python .. "'", "'" .. root .. "/spec/gpu/peer.py'", scale, device, "'" .. (only or "") .. "'", ">" .. path}
  os.execute(table.concat(words, " "))
  local text = read(path)
  os.remove(path)
  local ok, value = pcall(json.decode, text)
  return ok and value or {}
end

local report = {date = os.date "!%Y-%m-%dT%H:%M:%SZ", scale = scale, peers = peers()}
local p = ai.cuda.properties()
report.gpu, report.capability, report.multiprocessors, report.memory = p.name, p.capability, p.multiprocessors, p.total
report.cuda, report.driver = p.runtime, p.driver
report.libraries = ai.cuda.libraries()
report.tests = {device = tests "device", ops = tests "ops"}
report.missing = ai.cuda.missing()
report.bench = require "spec.gpu.bench".measure(scale, "cuda", only)
report.training = require "spec.gpu.train".all("cuda", scale < 1)

-- How many times a peer's speed ours is; the recorded step stands for the row where it is the quicker.
report.against = {}
for peer, told in pairs(report.peers) do
  local ratios = {}
  for name, row in pairs(told.rows or {}) do
    local ours, graph = report.bench[name] or {}, report.bench[name .. ".graph"] or {}
    local best = math.max(ours.per_second or 0, graph.per_second or 0)
    if row.per_second and best > 0 then ratios[name] = best / row.per_second end
  end
  report.against[peer] = ratios
end

os.execute("mkdir -p '" .. folder .. "'")
local path = ("%s/%s-%s.json"):format(folder, os.date "!%Y-%m-%d", (p.name:lower():gsub("[^%w]+", "-")))
local file = assert(io.open(path, "w"))
file:write(json.encode(report, {pretty = true}), "\n")
file:close()
print(path)
