--- Makes random programs: which makers (spec/fuzz/make) add their statements, and what of a program counts.

local ai = require "aijit"
local build = require "spec.fuzz.build"

local generate = {random = build.random, used = build.used, refusals = build.refusals, rows = build.rows}

local makers = {}
for _, family in ipairs {"elementwise", "network", "place", "row"} do
  for name, maker in pairs(require("spec.fuzz.make." .. family)) do makers[name] = maker end
end

local function fresh_sizes()
  local n = build.big and build.random(3) or build.random(4)
  if not build.big and build.chance(0.05) then return {} end
  local sizes = {}
  for i = 1, n do sizes[i] = build.big and (n == 3 and 16 + build.random(48) or 200 + build.random(300)) or build.random(5) end
  if build.big and n == 1 then sizes[1] = 150000 + build.random(1000) end
  if not build.big and build.chance(0.01) then sizes[n] = 0 end
  return sizes
end

local CHOICE = {}
for name, weight in pairs {unary = 6, binary = 6, reduction = 4, view = 6, matmul = 2, conv = 2, pool = 2, norm = 2, join = 2, index = 3,
  detach = 0.5, cast = 1, row = 8, write = 5, update = 2} do CHOICE[#CHOICE + 1] = {name, weight} end
table.sort(CHOICE, function(a, b) return a[1] < b[1] end)
local IN_BIG = {unary = true, binary = true, reduction = true, view = true, matmul = true, conv = true, pool = true, norm = true, write = true}

local function choose()
  local total = 0
  for _, c in ipairs(CHOICE) do if not build.big or IN_BIG[c[1]] then total = total + c[2] end end
  local at = build.random() * total
  for _, c in ipairs(CHOICE) do
    if not build.big or IN_BIG[c[1]] then
      at = at - c[2]
      if at <= 0 then return c[1] end
    end
  end
  return "unary"
end

--- The program of a seed.
---@param seed integer
---@return aijit.FuzzProgram
function generate.program(seed)
  local p = build.begin(seed)
  local info = build.info
  ai.scope(function()
    for _ = 1, build.random(3) do build.add_leaf(build.text_of(fresh_sizes(), build.pick {"", "", "+", "~", "u"})) end
    local want = build.big and 3 + build.random(4) or 3 + build.random(10)
    local tries = 0
    while #p.statements < want and tries < 60 do
      tries = tries + 1
      local ok, message = pcall(makers[choose()])
      if not ok and message ~= build.TOO_LARGE then error(message, 0) end
    end
    -- What nothing reads counts; some of the rest too.
    local read = {}
    for _, s in ipairs(p.statements) do
      for k = 1, s.n do
        local a = s.args[k]
        if type(a) == "table" then
          if a.v then read[a.v] = true end
          for _, x in ipairs(a.list or {}) do read[x.v] = true end
        end
      end
    end
    p.sinks = {}
    for id = 1, p.count do
      if info[id] and not info[id].hidden and not p.leaves[id] and (not read[id] or build.chance(0.1)) then p.sinks[#p.sinks + 1] = id end
    end
    local at = 1
    while at < #p.statements do
      local first = at + build.random(3) - 1
      local last = first + build.random(4) - 1
      if last <= #p.statements and first <= last then p.scopes[#p.scopes + 1] = {first, last} end
      at = last + 1
    end
  end)
  return p
end

return generate
