--- Promises about LuaJIT: every op's function compiles, and a hot loop over it stays compiled.

local ai = require "aijit"
local op = require "aijit.bindings.op"
local sample = require "spec.support.sample"

if not jit.status() then
  pending "traces: the compiler is off in this run"
  return
end

local function traces_of(f, ...)
  local stops, aborts = 0, {}
  local function watch(what, _, _, _, code, reason)
    if what == "stop" then stops = stops + 1
    elseif what == "abort" then aborts[#aborts + 1] = tostring(code) .. " " .. tostring(reason) end
  end
  jit.flush()
  require("jit.opt").start "hotloop=56"                  -- the default, but it sets all counters anew: some hold penalties of other code
  jit.attach(watch, "trace")
  local ok, message = pcall(f, ...)
  jit.attach(watch)
  if not ok then error(message, 0) end
  return stops, aborts
end

-- Ops that build Lua tables from options on each call, or read values to learn a size, are not promised.
for _, row in ipairs(op.rows) do
  it(row.name .. " compiles in a hot loop", function()
    sample.seed(row.index + 1)
    local args, n = sample.arguments(row, function(input) return sample.tensor(input, "f32") end)
    local f = ai.f[row.name]
    assert.is_true(n <= 16)
    -- A loop of its own: LuaJIT gives up on a loop in which it has failed too often, for every closure of the same source.
    local names = {}
    for i = 1, n do names[i] = "a" .. i end
    local list = table.concat(names, ", ")
    local source = ("local f%s = ... return function() for _ = 1, 200 do f(%s) end end"):format(n > 0 and ", " .. list or "", list)
    local run = loadstring(source)(f, unpack(args, 1, n))
    local stops, aborts = ai.scope(function() return traces_of(run) end)
    assert.is_true(stops > 0, row.name .. " was never compiled: " .. table.concat(aborts, "; "))
  end)
end

it("operators compile together, in a scope", function()
  local a, b = ai.ones(4), ai.ones(4)
  local function run()
    local x = a
    for _ = 1, 300 do x = (x * b + 1) / 2 - b end
    return x
  end
  assert.is_true(ai.scope(function() return (traces_of(run)) end) > 0)
end)

it("sizes and properties compile", function()
  local a = ai.ones(4, 5)
  local function run()
    local s = 0
    for _ = 1, 300 do s = s + a:size(2) + #a + a:dim() end
    return s
  end
  assert.is_true(traces_of(run) > 0)
end)
