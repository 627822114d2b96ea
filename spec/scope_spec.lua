--- Lifetimes: scopes, finalizers, the governor, and memory that runs out.

local ai = require "aijit"
local lib = require "aijit.bindings.lib"

local function collect() collectgarbage() collectgarbage() end
local function live() collect() return ai.memory().cpu end
local function fails(f, part)
  local ok, message = pcall(f)
  assert.is_false(ok)
  assert.is_truthy(tostring(message):find(part, 1, true), ("%q lacks %q"):format(tostring(message), part))
end

describe("a scope", function()
  it("frees what was made inside and keeps what it returns", function()
    local before = live().tensors
    local kept = ai.scope(function()
      local a = ai.ones(100)
      return a * 3 + 1
    end)
    assert.are.equal(before + 1, live().tensors)
    assert.are.equal(4, kept[1]:item())
  end)
  it("keeps tensors in returned tables, and several results", function()
    local t, n, s = ai.scope(function() return {a = ai.ones(1), {ai.ones(2)}}, 5, ai.ones(3) end)
    assert.are.equal(5, n)
    assert.are.same({1}, t.a.shape)
    assert.are.same({2}, t[1][1].shape)
    assert.are.same({3}, s.shape)
  end)
  it("nests", function()
    local outside
    ai.scope(function()
      local x = ai.ones(1)
      local y = ai.scope(function() return x + 1 end)
      outside = y
      assert.are.equal(2, y:item())
    end)
    assert.is_false(outside:is_live())
  end)
  it("frees all when an error leaves it", function()
    local before = live().tensors
    fails(function() ai.scope(function() local _ = ai.ones(5) error("stop", 0) end) end, "stop")
    assert.are.equal(before, live().tensors)
    assert.are.equal(0, lib.state.scopes)
  end)
  it("makes a handle that outlives it an error, not a crash", function()
    local stale
    ai.scope(function() stale = ai.ones(3) end)
    fails(function() return stale + 1 end, "freed when its scope ended")
    fails(function() return stale.shape end, "freed")
    fails(function() return #stale end, "freed")
    fails(function() stale:item() end, "freed")
    assert.is_truthy(tostring(stale):find "freed")
    for _ = 1, 1000 do ai.scope(function() return nil, ai.ones(3) end) end
    fails(function() return stale + 1 end, "freed")
  end)
  it("lets go of what is kept by hand", function()
    local kept
    ai.scope(function() kept = ai.keep(ai.ones(2) * 2) end)
    assert.are.same({2, 2}, kept:totable())
    local before = live().tensors
    kept = nil -- luacheck: ignore
    assert.are.equal(before - 1, live().tensors)
  end)
  it("does not free what was made outside, also when that is returned", function()
    local w = ai.ones(2)
    for _ = 1, 3 do ai.scope(function() return w end) end
    collect()
    assert.are.same({1, 1}, w:totable())
  end)
  it("keeps a returned tensor's graph", function()
    local w = ai.ones(2, {requires_grad = true})
    local loss = ai.scope(function() return ((w * 3) ^ 2):sum() end)
    loss:backward()
    assert.are.same({18, 18}, w.grad:totable())
  end)
end)

describe("outside scopes", function()
  it("the collector frees", function()
    local before = live().tensors
    for _ = 1, 1000 do local _ = ai.ones(10) end
    assert.are.equal(before, live().tensors)
  end)
  it("the governor runs it before the bytes are too many", function()
    lib.set_governor(64 * 2 ^ 20)
    ai.memory {reset_peak = true}
    for _ = 1, 500 do local _ = ai.empty(2 ^ 20) end
    local peak = ai.memory().cpu.peak
    lib.set_governor(2 ^ 30)
    assert.is_true(peak < 200 * 2 ^ 20, "peak " .. peak)
  end)
end)

describe("memory that runs out", function()
  after_each(function() ai.set_memory_limit(0) lib.C.aj_fail_allocation(0) end)
  it("is an error that tells what was asked and what is live, and work goes on", function()
    ai.set_memory_limit(ai.memory().cpu.live + 10 * 2 ^ 20)
    fails(function() return ai.zeros(100 * 2 ^ 20) end, "asked for 400.0 MiB")
    assert.are.equal(3, ai.ones(3):sum():item())
  end)
  it("is first met by a collection", function()
    ai.set_memory_limit(live().live + 100 * 2 ^ 20)
    for _ = 1, 50 do
      local t = ai.empty(4 * 2 ^ 20) + 0
      assert.are.equal(4 * 2 ^ 20, t:numel())
    end
  end)
  it("is first met by a collection where a tensor is made, too", function()
    ai.set_memory_limit(live().live + 100 * 2 ^ 20)
    for _, make in ipairs {ai.empty, ai.zeros, ai.rand, ai.randn} do
      for _ = 1, 20 do assert.are.equal(2 ^ 22, make(2 ^ 22):numel()) end
    end
    for _ = 1, 20 do ai.arange(1, 2 ^ 21) ai.eye(1024) end
  end)
  it("at any allocation of a step leaves no leak", function()
    local w = ai.ones(4, 4, {requires_grad = true})
    local function step()
      ai.scope(function() ((w * w + w:exp()):sum(1) * 2):sum():backward() end)
      w.grad = nil
    end
    step()
    local before = live().tensors
    local failed = 0
    for n = 1, 60 do
      lib.C.aj_fail_allocation(n)
      -- The retry after a collection would hide the failure: it fails as well.
      local ok = pcall(function() ai.no_grad(function() end) step() end)
      lib.C.aj_fail_allocation(0)
      if not ok then failed = failed + 1 end
      w.grad = nil
      assert.are.equal(before, live().tensors, "after allocation " .. n)
    end
    assert.is_true(failed > 3, "only " .. failed .. " failed")       -- those of backward, which has no second try
    step()
  end)
end)

it("memory tells live, peak and cached bytes", function()
  local m = ai.memory().cpu
  assert.is_true(m.live > 0 and m.peak >= m.live and m.cached >= 0)
  assert.is_truthy(tostring(ai.memory()):find "cpu: live")
end)

it("10,000 steps take no more memory than ten", function()
  local w = ai.ones(8, 8, {requires_grad = true})
  local function steps(n)
    for _ = 1, n do ai.scope(function() (w * w):sum():backward() w.grad = nil end) end
    collect()
    return ai.memory().cpu.live, collectgarbage "count"
  end
  steps(500)
  local live1, heap1 = steps(10)
  local live2, heap2 = steps(10000)
  assert.are.equal(live1, live2)
  assert.is_true(heap2 < heap1 + 200)
end)

it("an error that C saw first is the one that is raised, and none is left behind", function()
  local gone
  ai.scope(function() gone = ai.ones(3) end)
  fails(function() ai.ones(2):to(gone) end, "was freed when its scope ended")
  fails(function() ai.ones(2):type_as(gone) end, "was freed when its scope ended")
  fails(function() return ai.f.masked_fill(ai.ones(2), ai.ones({2}, {dtype = "bool"}), gone) end, "was freed when its scope ended")
  assert.are.equal(2, ai.scope(function() return ai.ones(2):sum():item() end))
end)
