-- Kills a training that saves every few steps, with SIGKILL and at random moments, and resumes it, again and again.
--   luajit spec/torture/kill.lua [kills 200] [runs to the end 30]
-- Every resume must work, and every run that comes to its end must agree with one that was never killed, bit for bit: with as many
-- threads that load the data as chance will have it, another number each time.

package.path = "spec/torture/?.lua;" .. package.path
local compare = require "compare"

local kills_wanted, ends_wanted = tonumber(arg[1] or 200), tonumber(arg[2] or 30)
local aijit = os.getenv "AIJIT" or "build/release/aijit"
local steps = 240
math.randomseed(tonumber(os.getenv "AIJIT_TORTURE_SEED" or os.time()))

local function output(command)
  local pipe = io.popen(command .. " 2>&1; echo \" status $?\"")
  local text = pipe:read("*a")
  pipe:close()
  return text:match("^(.-) status (%d+)\n$")
end

local root = output("mktemp -d"):match("%S+")
local function train(dir, limit)
  local workers = limit and math.random(0, 2) or 0
  local command = ("%s spec/torture/train.lua exp_dir=%s max_steps=%d num_workers=%d"):format(aijit, dir, steps, workers)
  if limit then command = ("timeout -s KILL %.3f %s"):format(limit, command) end
  local text, status = output(command)
  return text, tonumber(status)
end

local function fail(what, dir, text)
  io.write(("FAILED: %s\n%s\nsee %s\n"):format(what, text or "", dir))
  os.exit(1)
end

local function seconds() return tonumber((output("date +%s.%N"))) end

local whole = root .. "/whole"
local before = seconds()
local text, status = train(whole)
if status ~= 0 then fail("the run that is not killed", whole, text) end
local length = seconds() - before

local kills, ends, resumed, fresh, passed = 0, 0, 0, 0, 0
while kills < kills_wanted or ends < ends_wanted do
  local dir = ("%s/run_%d"):format(root, ends + 1)
  -- So many kills that both numbers are met together, then to the end.
  local left = math.max(1, math.ceil((kills_wanted - kills) / math.max(1, ends_wanted - ends)))
  local over, starts = false, 0
  while not over do
    local limit = left > 0 and length * (0.02 + 0.5 * math.random()) or nil
    text, status = train(dir, limit)
    starts = starts + 1
    -- The shell that timeout runs in says 137; a kill of timeout's child shows as the same.
    if status == 137 then
      kills, left = kills + 1, left - 1
    elseif status == 0 then
      over = true
    else
      fail(("start %d ended with status %d"):format(starts, status), dir, text)
    end
    if text:find("resumed at step", 1, true) then resumed = resumed + 1 elseif starts > 1 then fresh = fresh + 1 end
    if text:find("is passed over", 1, true) then passed = passed + 1 end
    if text:find("has lost", 1, true) then fail("a log has lost bytes", dir, text) end
  end
  local difference = compare.difference(whole, dir, steps)
  if difference then fail(("after %d starts: %s"):format(starts, difference), dir, text) end
  ends = ends + 1
  os.execute("rm -r " .. dir)
end
os.execute("rm -r " .. root)
io.write(("%d kills, %d resumes from a checkpoint, %d starts before there was one, %d checkpoints passed over; %d runs to the end, "
  .. "all equal to the bit\n"):format(kills, resumed, fresh, passed, ends))
