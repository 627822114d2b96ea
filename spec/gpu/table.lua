--- The newest report of spec/gpu/check as the README's table: `aijit spec/gpu/table.lua [REPORTS]`.
--
-- A row has our speed, that of the recorded step where there is one, and how many times each peer's speed the quicker is.

local json = require "aijit.json"
local root = require "aijit.tree".root
local folder = arg[1] or root .. "/spec/gpu/reports"

local newest
local list = io.popen(("ls '%s'/*.json 2>/dev/null"):format(folder))
for path in list:lines() do newest = path end             -- names begin with the date
list:close()
if not newest then
  io.stderr:write("no report in " .. folder .. "; spec/gpu/check makes one, on a machine with a GPU\n")
  os.exit(1)
end
local file = assert(io.open(newest))
local report = json.decode(file:read "*a")
file:close()

local units = {bytes = "B", flops = "FLOP"}
local prefixes = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}}
local function speed(row)
  if not row then return "" end
  if not row.per_second then return "-" end
  local unit = units[row.unit] or row.unit
  for _, p in ipairs(prefixes) do
    if row.per_second >= p[1] then return ("%.3g %s%s/s"):format(row.per_second / p[1], p[2], unit) end
  end
  return ("%.3g %s/s"):format(row.per_second, unit)
end

local peers = {}
for name in pairs(report.against) do peers[#peers + 1] = name end
table.sort(peers)
local names = {}
for name in pairs(report.bench) do if not name:match "%.graph$" then names[#names + 1] = name end end
table.sort(names)

print(("%s, CUDA %s, driver for %s, %s"):format(report.gpu, report.cuda, report.driver, report.date:sub(1, 10)))
print ""
local head, rule = {"row", "aijit", "recorded"}, {"---", "---", "---"}
for _, peer in ipairs(peers) do
  head[#head + 1] = ("against %s %s"):format(peer, report.peers[peer].version or "")
  rule[#rule + 1] = "---"
end
print("| " .. table.concat(head, " | ") .. " |")
print("| " .. table.concat(rule, " | ") .. " |")
for _, name in ipairs(names) do
  local cells = {name, speed(report.bench[name]), speed(report.bench[name .. ".graph"])}
  for _, peer in ipairs(peers) do
    local ratio = report.against[peer][name]
    cells[#cells + 1] = ratio and ("%.2f x"):format(ratio) or ""
  end
  print("| " .. table.concat(cells, " | ") .. " |")
end
