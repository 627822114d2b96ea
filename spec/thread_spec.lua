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
  local ran = process.run("OMP_NUM_THREADS=3 OMP_WAIT_POLICY=passive ASAN_OPTIONS=detect_leaks=0 " .. q(folder .. "/threads"))
  os.execute("rm -r " .. q(folder))
  assert.are.equal("4 threads, 3 times over, 12 rounds each: 0 faults\n", ran.out, ran.err)
  assert.are.equal(0, ran.status)
end)

local ai = require "aijit"
local thread = ai.thread

local function message(f, ...)
  local ok, problem = pcall(f, ...)
  assert.is_false(ok)
  return tostring(problem)
end

describe("a thread", function()
  it("runs a function on copies of its arguments, and gives what it returns", function()
    local given = {1, {a = "b"}, true}
    local t = thread(function(list, text, none, last) list[1] = 5 return list, text .. "!", none, last, nil end, given, "hi", nil, 4)
    local list, text, none, last, nothing = t:join()
    assert.same({{5, {a = "b"}, true}, "hi!", 4}, {list, text, last})
    assert.is_nil(none)
    assert.is_nil(nothing)
    assert.equal(1, given[1])
    assert.equal("hi!", select(2, t:join()))             -- as often as one likes
  end)

  it("shares the memory of tensors, and copies none", function()
    local x = ai.zeros(3, 4)
    local y = thread(function(t)
      t:fill_(7)
      return t:t()
    end, x):join()
    assert.equal(12 * 7, x:sum():item())
    x:fill_(2)
    assert.same({{2, 2, 2}, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}}, y:totable())
  end)

  it("takes the upvalues of its function along: numbers, tables, functions, modules, classes and tensors", function()
    local class, factor, weights = require "aijit.class", 3, ai.tensor {1, 2, 3}
    local Base = class("Base")
    function Base:value() return self.n * factor end
    local Derived = class("Derived", Base)
    function Derived:__init(n) self.n = n end
    function Derived:name() return string.upper("n") end
    local object, shared = Derived(5), {}
    shared.own = shared
    local function helper(v) return v + factor end
    local function count() factor = factor + 1 return factor end
    local n, name, sum, circle, is, counted, again = thread(function()
      local own = shared.own == shared
      return object:value(), object:name(), weights:sum():item(), own, class.is(object, Base), count(), helper(0)
    end):join()
    assert.same({15, "N", 6, true, true, 4, 4}, {n, name, sum, circle, is, counted, again})
    assert.equal(3, factor)
  end)

  it("has Lua, and aijit, of its own", function()
    require("aijit").answer = 42                         -- luacheck: ignore
    assert.is_nil(thread(function() return rawget(require "aijit", "answer") end):join())
    rawset(ai, "answer", nil)
    assert.equal("table", thread(function() return type(package.loaded["aijit.bindings.lib"]) end):join())
  end)

  it("may be given a module's name", function()
    local folder = process.folder()
    local file = assert(io.open(folder .. "/job_of_spec.lua", "w"))
    file:write "return function(a, b) return a * b end"
    file:close()
    local kept = package.path
    package.path = folder .. "/?.lua;" .. kept
    local t, bad = thread("job_of_spec", 6, 7), thread("no_such_module_of_spec")
    package.path = kept
    assert.equal(42, t:join())
    assert.matches("module 'no_such_module_of_spec' not found", message(bad.join, bad))
    os.execute("rm -r " .. process.quote(folder))
  end)

  it("is refused what cannot cross, by its name", function()
    local file = io.stderr
    local function inner() return file end
    assert.matches("thread: upvalue file of the function of .*thread_spec.lua:%d+: a userdata cannot cross to another thread",
      message(thread, function() return inner() end))
    assert.matches("argument 2%.deep%[3%]: a coroutine cannot cross", message(thread, print, 1, {deep = {1, 2, coroutine.create(print)}}))
    assert.matches("a function or the name of a module is wanted, not a number", message(thread, 5))
  end)

  it("hands its errors over, with the place there", function()
    local t = thread(function() error("it went wrong") end)
    local text = message(t.join, t)
    assert.matches("it went wrong\nin a thread:\n", text)
    assert.matches("thread_spec.lua:%d+: in function", text)
    local coded = thread(function() error({code = 7}) end)
    local ok, problem = pcall(coded.join, coded)
    assert.is_false(ok)
    assert.equal(7, problem.code)
    local tensor = thread(function() local a = require "aijit" return a.ones(2):matmul(a.ones(3)) end)
    assert.matches("%(2%) and %(3%)", message(tensor.join, tensor))
    local unsent = thread(function() return function() end end)
    assert.matches("thread: result 1: the function of .*thread_spec.lua:%d+ cannot cross", message(unsent.join, unsent))
  end)

  it("is waited for no longer than one wants, and can be asked to end", function()
    local c = thread.Channel(1)
    local t = thread(function(channel) return channel:get() end, c)
    assert.same({nil, "timeout"}, {t:join(0.05)})
    assert.is_false(t:is_done())
    t:stop()
    assert.matches("interrupted", message(t.join, t))
    local busy = thread(function() local a = require "aijit" while true do a.ones(10):sum() end end)
    busy:stop()
    assert.matches("interrupted", message(busy.join, busy))
  end)

  it("leaves nothing behind, in many lives", function()
    local function life()
      for _ = 1, 3 do thread(function() local a = require "aijit" return a.ones(100000), {a.ones(5)} end):join() end
      collectgarbage() collectgarbage()
      return ai.memory().cpu
    end
    life()
    local before = life()
    for _ = 1, 3 do life() end
    local after = ai.memory().cpu
    assert.equal(before.tensors, after.tensors)
    assert.equal(before.live, after.live)
  end)

  it("does not outlive the program that leaves in the midst of it", function()
    local ran = process.run(process.quote(paths.exe) .. [[ -e 'local ai = require "aijit"
      local t = ai.thread(function() local a = require "aijit" while true do a.ones(1000):sum() end end)
      local u = ai.thread(function(c) c:get() end, ai.thread.Channel(1))
      print("left")']])
    assert.equal("left\n", ran.out, ran.err)
    assert.equal(0, ran.status)
  end)

  it("lets Ctrl-C end the program that waits for it", function()
    local ran = process.run("timeout --foreground --preserve-status -s INT 1 " .. process.quote(paths.exe) .. [[ -e 'local ai = require "aijit"
      local t = ai.thread(function(c) c:get() end, ai.thread.Channel(1))
      t:join()']])
    assert.equal(130, ran.status)
    assert.matches("interrupted", ran.err)
  end)
end)

describe("a channel", function()
  it("keeps the order of messages, and each one's values", function()
    local c = thread.Channel(3)
    assert.is_true(c:put(1, nil, "three"))
    c:put({a = {b = ai.ones(2)}})
    c:put()
    assert.equal(3, c:size())
    assert.same({1, nil, "three"}, {c:get()})
    assert.equal(2, c:get().a.b:sum():item())
    assert.equal(0, select("#", c:get()))
  end)

  it("holds no more than its capacity", function()
    local c = thread.Channel(2)
    c:put(1)
    c:put(2)
    assert.same({nil, "timeout"}, {c:try_put({3}, 0.03)})
    c:get()
    assert.is_true(c:try_put({3}, 0.03))
    assert.same({nil, "timeout"}, {thread.Channel(1):try_get(0.03)})
  end)

  it("gives what waits in it when it is closed, and takes no more", function()
    local c = thread.Channel(2)
    c:put("last")
    c:close()
    assert.is_true(c:is_closed())
    assert.same({nil, "closed"}, {c:put("more")})
    assert.equal("last", c:get())
    assert.same({nil, "closed"}, {c:try_get(1)})
    assert.equal(0, select("#", c:get()))
  end)

  it("joins several producers and consumers: nothing is lost, nothing comes twice", function()
    local work, done = thread.Channel(4), thread.Channel(4)
    local threads = {}
    for i = 1, 3 do
      threads[i] = thread(function(from, to)
        for n in from:each() do to:put(n, require("aijit").full({10}, n)) end
      end, work, done)
    end
    local seen, count = {}, 0
    local feeder = thread(function(to) for n = 1, 60 do to:put(n) end to:close() end, work)
    for _ = 1, 60 do
      local n, t = done:get()
      assert.equal(n * 10, t:sum():item())
      seen[n], count = true, count + 1
    end
    feeder:join()
    for _, t in ipairs(threads) do t:join() end
    assert.equal(60, #seen)
    assert.equal(60, count)
  end)

  it("crosses within a message", function()
    local c = thread.Channel(1)
    local t = thread(function(outer) local inner = outer:get() inner.reply:put("hello") end, c)
    local reply = thread.Channel(1)
    c:put({reply = reply})
    assert.equal("hello", reply:get())
    t:join()
  end)

  it("takes data only", function()
    local c = thread.Channel(1)
    assert.matches("put: argument 1%.f: the function of .* cannot cross", message(c.put, c, {f = function() end}))
    assert.matches("an object %(", message(c.put, c, require("aijit.class")("Thing")()))
    assert.matches("the capacity is a whole number from 1 on, not 0", message(thread.Channel, 0))
    assert.matches("the timeout is a number of seconds", message(c.try_get, c, "soon"))
  end)

  it("does not pile up the memory that one thread makes and another lets go", function()
    local c = thread.Channel(2)
    local t = thread(function(to, n)
      local a = require "aijit"
      for _ = 1, n do a.scope(function() to:put(a.ones(200000)) end) end
      to:close()
    end, c, 200)
    ai.empty_cache()
    local before, largest, seen = ai.memory().cpu.cached, 0, 0
    local function take()
      local x = c:get()
      if x then seen = seen + #x / 200000 end
      return x ~= nil
    end
    while ai.scope(take) do largest = math.max(largest, ai.memory().cpu.cached - before) end
    assert.equal(200, seen)
    t:join()
    assert.is_true(largest < 20 * 1e6, tostring(largest))        -- of 160 MB
  end)
end)
