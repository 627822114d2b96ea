-- Ten thousand steps with logs, validations and checkpoints: what the process holds after them.
--   aijit spec/torture/leak.lua exp_dir=DIR [max_steps=10000]
-- Prints, at a fifth of the steps and at the end, the resident memory in KiB after a full collection, open files and live
-- tensors; ends with status 1 when files or tensors have become more, or memory by more than 768 KiB, which 100 bytes
-- a step would exceed.

local ai = require "aijit"
package.path = arg[0]:match("^(.*/)") .. "?.lua;" .. package.path
local Torture = require "train"

local function resident()
  local file = assert(io.open "/proc/self/statm")
  local pages = tonumber(file:read("*a"):match("^%d+ (%d+)"))
  file:close()
  return pages * 4
end

local function open_files() return #require("aijit.bindings.system").list "/proc/self/fd" end

local Leak = ai.class("LeakTask", Torture)
local seen = {}

function Leak:on_step_end(state)
  local steps = self.config.max_steps
  if state.num_steps ~= math.floor(steps / 5) and state.num_steps ~= steps - 1 then return end
  for _ = 1, 3 do collectgarbage() end
  local now = {step = state.num_steps, kib = resident(), files = open_files(), tensors = ai.memory().cpu.live, lua = collectgarbage "count"}
  seen[#seen + 1] = now
  print(("step %d: %d KiB resident, %d files open, %d bytes in tensors, %d KiB of Lua"):format(now.step, now.kib, now.files, now.tensors, now.lua))
end

function Leak:set_loggers()
  self:add_logger(ai.log.Jsonl(self.exp_dir, {interval = 0}), ai.log.TensorBoard(self.exp_dir, {interval = 0}))
end

Leak:launch {
  batch_size = 8, max_steps = 10000, valid_every_n_steps = 100, save_every_n_steps = 50, keep_best = 1, ema = 0.9,
  nonfinite = "rollback", snapshot_every_n_steps = 100,
}

local first, last = seen[1], seen[2]
local grown = last.kib - first.kib
print(("%d KiB more in %d steps"):format(grown, last.step - first.step))
if last.files > first.files or last.tensors > first.tensors or grown > 768 then os.exit(1) end
