--- Memory that runs out at every allocation of a training step in turn (with AIJIT_OOM_ALL also at every one of a recording, which
-- spec/fuzz/oom does, as it fails the core's own bookkeeping).

local ai = require "aijit"
local lib = require "aijit.bindings.lib"
local steps = require "spec.fuzz.steps"

local function live()
  collectgarbage() collectgarbage()
  local m = ai.memory().cpu
  return tonumber(m.tensors), tonumber(m.live)
end

describe("memory that runs out at any allocation of a training step", function()
  after_each(function() lib.C.aj_fail_allocation(0) end)
  for _, name in ipairs(steps.names) do
    for _, way in ipairs {"", ", recorded by ai.jit", ", run again by ai.jit"} do
      it("is an error, loses nothing, and the next step is right: " .. name .. way, function()
        local step = steps.make(name, way ~= "")
        step.warm()
        step.reset()
        local loss, sum = step.run()
        step.reset()
        step.run()
        step.reset()
        local tensors, bytes = live()
        local n, failed = 0, 0
        while true do
          n = n + (way:find "recorded" and not os.getenv "AIJIT_OOM_ALL" and 7 or 1)
          if way:find "recorded" then step.forget() end
          lib.C.aj_fail_allocation(-n)                   -- also the second try after a collection
          local ok, message = pcall(step.run)
          lib.C.aj_fail_allocation(0)
          if ok then break end
          failed = failed + 1
          assert.is_truthy(tostring(message):find("out of memory", 1, true), ("allocation %d: %s"):format(n, tostring(message)))
          -- A recording that was given up is made anew: then its memory is as before.
          step.reset()
          local again, total = step.run()
          assert.are.same({loss, sum}, {again, total}, "the step after allocation " .. n)
          step.reset()
          local t, b = live()
          -- Less than before: what earlier specs left was collected.
          assert.is_true(t <= tensors and b <= bytes, ("allocation %d leaves %d tensors of %d bytes, not %d of %d"):format(n, t, b, tensors, bytes))
          tensors, bytes = t, b
        end
        assert.is_true(failed >= (way == "" and 20 or 1), failed .. " allocations")
      end)
    end
  end
end)

describe("a result larger than the last cache, which is written past it,", function()
  local n = 2 ^ 22 + 1029
  for name, f in pairs {
    ["of one operand"] = function(x) return x:exp() end,
    ["of two"] = function(x) return x * x end,
    ["of a broadcast operand"] = function(x) return x:reshape(-1, 1) - ai.ones(1, 1) end,
    ["of a narrow type"] = function(x) return x:repeat_interleave(2):bfloat16() + 1 end,
    ["of bools"] = function(x) return x:repeat_interleave(5):gt(0) end,
    ["of strided operands"] = function(x) return ai.stack({x, x}, 2):select(2, 1) + 1 end,
    ["of a derivative"] = function(x)
      local v = x:detach():requires_grad_()
      v:tanh():sum():backward()
      return v.grad
    end,
  } do
    it("is that of its parts: " .. name, function()
      ai.scope(function()
        local x, parts = (ai.arange(n) * 0.001):sin(), {}
        for from = 1, n, 2 ^ 18 do parts[#parts + 1] = f(x:slice(1, from, math.min(n, from + 2 ^ 18 - 1))):reshape(-1) end
        local y = f(x)
        assert.is_true(y:reshape(-1):equal(ai.cat(parts, 1)):item())
      end)
    end)
  end

  it("takes a page more than its size where that is a power of two", function()
    ai.scope(function()
      local before = tonumber(ai.memory().cpu.live)
      local _ = ai.empty(2 ^ 22)
      assert.is_true(tonumber(ai.memory().cpu.live) - before <= 2 ^ 24 + 4096)
    end)
  end)
end)
