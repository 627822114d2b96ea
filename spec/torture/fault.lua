-- Lets each call that changes a file fail, one after another, while a run resumes, logs and saves: once that call alone, once
-- that and all after it, as on a disk that is full.
--   luajit spec/torture/fault.lua [every 1] [first 1]
-- A run that fails must say why, and the next one must go on from a checkpoint to the same bits as a run without faults.

package.path = "spec/torture/?.lua;" .. package.path
local compare = require "compare"

local every, first = tonumber(arg[1] or 1), tonumber(arg[2] or 1)
local aijit = os.getenv "AIJIT" or "build/release/aijit"
local from, to = 12, 18

local function output(command)
  local pipe = io.popen(command .. " 2>&1; echo \" status $?\"")
  local text = pipe:read("*a")
  pipe:close()
  local out, status = text:match("^(.-) status (%d+)\n$")
  return out, tonumber(status)
end

local function must(command)
  local text, status = output(command)
  if status ~= 0 then error(command .. "\n" .. text, 0) end
  return text
end

local root = must("mktemp -d"):match("%S+")
local library = root .. "/faults.so"
must(("cc -shared -fPIC -O1 -Wall -Wextra -Werror -D_GNU_SOURCE -o %s spec/torture/faults.c -ldl"):format(library))

local function train(dir, max_steps, environment)
  return output(("env %s %s spec/torture/train.lua exp_dir=%s max_steps=%d valid_every_n_steps=6"):format(environment or "A=1", aijit, dir, max_steps))
end

local function fail(what, dir, text)
  io.write(("FAILED: %s\n%s\nsee %s\n"):format(what, text or "", dir))
  os.exit(1)
end

local base, whole, work = root .. "/base", root .. "/whole", root .. "/work"
local text, status = train(base, from)
if status ~= 0 then fail("the run before the faults", base, text) end
must(("cp -r %s %s"):format(base, whole))
local counts = root .. "/counts"
text, status = train(whole, to, ("LD_PRELOAD=%s AIJIT_FAULT_COUNT=%s"):format(library, counts))
if status ~= 0 then fail("the run without faults", whole, text) end
local calls = 0                 -- of the process with most of them: those for git have their own
for line in io.lines(counts) do calls = math.max(calls, tonumber(line)) end

local faults, failed, bare = 0, 0, 0
for n = first, calls, every do
  for mode = 0, 1 do
    os.execute("rm -rf " .. work)
    must(("cp -r %s %s"):format(base, work))
    local errno = n % 2 == 0 and 28 or 5
    local reason = n % 2 == 0 and "No space left on device" or "Input/output error"
    text, status = train(work, to, ("LD_PRELOAD=%s AIJIT_FAULT_AT=%d AIJIT_FAULT_FROM=%d AIJIT_FAULT_ERRNO=%d"):format(library, n, mode, errno))
    faults = faults + 1
    if status > 2 then fail(("fault %d (mode %d): status %d"):format(n, mode, status), work, text) end
    if status ~= 0 then
      failed = failed + 1
      if not text:find(reason, 1, true) then fail(("fault %d (mode %d): the error does not say '%s'"):format(n, mode, reason), work, text) end
    elseif not text:find(reason, 1, true) then
      bare = bare + 1
    end
    text, status = train(work, to)
    if status ~= 0 then fail(("fault %d (mode %d): the next run"):format(n, mode), work, text) end
    if not text:find("resumed at step", 1, true) then fail(("fault %d (mode %d): the next run did not resume"):format(n, mode), work, text) end
    local difference = compare.difference(whole, work, to)
    if difference then fail(("fault %d (mode %d): %s"):format(n, mode, difference), work, text) end
  end
end
os.execute("rm -r " .. root)
io.write(("%d calls; %d faults, of which %d ended the run with a reason and %d were of no matter; every next run resumed and came to the "
  .. "same bits\n"):format(calls, faults, failed, bare))
