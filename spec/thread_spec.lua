--- The C core used by several threads at a time. spec/fuzz/threads watches the same program under the thread sanitizer.

local paths = require "aijit.tree"
local process = require "spec.support.process"

it("several threads with tensors of their own and shared ones find the same numbers, and leave nothing behind", function()
  local root = paths.root
  if not paths.source or not process.has "cc" then return pending "needs the source tree and a C compiler" end
  local folder = process.folder()
  local library = paths.lib:match "^(.*)/[^/]*$"
  -- The library under test may itself be one of a sanitizer.
  local flags = paths.lib:find "/asan/" and "-fsanitize=address,undefined" or paths.lib:find "/tsan/" and "-fsanitize=thread" or ""
  local q = process.quote
  local built = process.run(("cc -std=gnu11 -O1 %s -I%s -o %s %s -L%s -Wl,-rpath,%s -laijit -lm -lpthread"):format(flags, q(root .. "/core"),
    q(folder .. "/threads"), q(root .. "/spec/fuzz/threads.c"), q(library), q(library)))
  assert.are.equal(0, built.status, built.err)
  local ran = process.run("OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive ASAN_OPTIONS=detect_leaks=0 " .. q(folder .. "/threads"))
  os.execute("rm -r " .. q(folder))
  assert.are.equal("4 threads, 3 times over, 12 rounds each: 0 faults\n", ran.out, ran.err)
  assert.are.equal(0, ran.status)
end)
