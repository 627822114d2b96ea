--- Random programs: makes N of them from SEED on, checks each, and prints those that fail, shrunk, as programs of their own.

local ai = require "aijit"
local root = debug.getinfo(1, "S").source:match "^@(.*)spec/fuzz/[^/]*$" or ""
package.path = root .. "?.lua;" .. package.path

local generate = require "spec.fuzz.generate"
local build = require "spec.fuzz.build"
local program = require "spec.fuzz.program"
local check = require "spec.fuzz.check"

local programs = {}

---@param seed integer
---@return string? failure  the shrunk program and why it fails
function programs.one(seed)
  local made, p = pcall(generate.program, seed)
  if not made then return ("-- seed %d: %s\n"):format(seed, tostring(p)) end
  local name, message = check.program(p, {second = seed % 5 == 0 and not p.big, threads = p.big})
  if not name then return nil end
  local whole = #p.statements
  local small, why = check.shrink(p, name, message)
  return program.text(small, ("seed %d, %s: %s\n(%d statements of %d)"):format(seed, name, why, #small.statements, whole)), name
end

--- Checks programs first..last; what failed.
---@param first integer
---@param last integer
---@param on_failure fun(text: string)?
---@return integer failures
function programs.run(first, last, on_failure)
  local failures = 0
  for seed = first, last do
    local text = programs.one(seed)
    if text then
      failures = failures + 1
      if on_failure then on_failure(text) end
    end
  end
  return failures
end

--- How many tensors live, once the collector has run.
function programs.alive()
  collectgarbage() collectgarbage()
  return ai.memory().cpu.tensors
end

if arg and arg[0] and arg[0]:find "spec/fuzz/programs%.lua$" then
  local n, first = tonumber(arg[1]) or 1000, tonumber(arg[2]) or 1
  local start, before = os.time(), programs.alive()
  local failures = 0
  for seed = first, first + n - 1 do
    local text = programs.one(seed)
    if text then
      failures = failures + 1
      io.write(text, "\n")
      io.flush()
      if failures >= (tonumber(os.getenv "AIJIT_FUZZ_STOP") or 10) then n = seed - first + 1 break end
    end
    if (seed - first) % 1000 == 999 then io.stderr:write(("%d programs, %d failed, %d s\n"):format(seed - first + 1, failures, os.time() - start)) end
  end
  local left = programs.alive() - before
  local used = 0
  for _ in pairs(generate.used) do used = used + 1 end
  local s = check.stats
  print(("%d programs, %d failed; %d ops of %d; %d directions (%d too rough to tell), %d second gradients, %d comparisons;"):format(
    n, failures, used, generate.rows, s.directions, s.rough, s.second, s.compared))
  print(("%d writes that gradients refused; %d tensors left; %d s"):format(build.undone, left, os.time() - start))
  os.exit(failures == 0 and left == 0 and 0 or 1)
end

return programs
