--- Every malloc that the core makes in a first training step fails in turn, and all that follow: an error each time, and the
-- next step is right. With fail.c preloaded; each n is a process of its own, whose caches are empty.

local ffi = require "ffi"
local root = debug.getinfo(1, "S").source:match "^@(.*)spec/fuzz/[^/]*$" or ""
package.path = root .. "?.lua;" .. package.path
local steps = require "spec.fuzz.steps"

ffi.cdef [[ void fail_from(long n); long fail_count(void); int fork(void); int waitpid(int pid, int *status, int options); void _exit(int status); ]]
local C = ffi.C
local BAD, DONE, FAILED = 1, 2, 3

-- In a child: what it finds is its exit status.
local function child(name, compiled, n)
  local step = steps.make(name, compiled)
  C.fail_from(n)
  local ok, message = pcall(step.run)
  local met = tonumber(C.fail_count()) >= n
  C.fail_from(0)
  if not ok and not tostring(message):find("out of memory", 1, true) and not tostring(message):find("no room", 1, true) then
    io.stderr:write(("%s: allocation %d: %s\n"):format(name, n, tostring(message)))
    return BAD
  end
  if met and ok then return FAILED end                   -- a failure that was got around: a cache that did not grow
  if ok then return DONE end
  local other = steps.make(name, compiled)
  other.reset()
  local loss = other.run()
  step.forget()
  step.reset()
  local again = step.run()
  if loss ~= again then
    io.stderr:write(("%s: after allocation %d the next step gives %.17g, not %.17g\n"):format(name, n, again, loss))
    return BAD
  end
  return FAILED
end

local status = ffi.new "int[1]"
local bad = 0
for _, name in ipairs(steps.names) do
  for _, compiled in ipairs {false, true} do
    local n = 0
    repeat
      n = n + 1
      io.flush()
      local pid = C.fork()
      if pid == 0 then
        local ok, r = pcall(child, name, compiled, n)
        if not ok then io.stderr:write(tostring(r), "\n") r = BAD end
        C._exit(r)
      end
      C.waitpid(pid, status, 0)
      local code = bit.rshift(status[0], 8)
      if bit.band(status[0], 127) ~= 0 then
        io.stderr:write(("%s: allocation %d: the process died of signal %d\n"):format(name, n, bit.band(status[0], 127)))
        bad = bad + 1
      elseif code == BAD then bad = bad + 1 end
    until code == DONE or n > 5000
    print(("step %-10s%-8s %d allocations, each of which may fail"):format(name, compiled and " jit" or "", n - 1))
  end
end
os.exit(bad == 0)
