--- Random programs (spec/fuzz/programs makes many more), and the faults that they found.

local ai = require "aijit"
local programs = require "spec.fuzz.programs"

local function leaks(f)
  local before = programs.alive()
  for _ = 1, 5 do f() end
  return programs.alive() - before
end

describe("random programs", function()
  it("have the gradients that differences show, and give the same in every way they can be run", function()
    local before = programs.alive()
    local said = {}
    local failures = programs.run(1, 300, function(text) said[#said + 1] = text end)
    assert.are.equal(0, failures, said[1])
    assert.is_true(programs.alive() <= before)           -- fewer: what earlier specs left has been collected
  end)
  it("are checked: a gradient that is wrong is found, and shrunk to its op", function()
    local check = require "spec.fuzz.check"
    local program = require "spec.fuzz.program"
    local was = ai.f.sinh
    local wrong = ai.define_op {name = "wrong", forward = function(ctx, x) ctx:save(x) return was(x) end,
      backward = function(ctx, g) return g * ctx.saved[1] end}
    rawset(ai.f, "sinh", wrong)
    local ok, message = pcall(function()
      local p = {seed = 1, leaves = {program.leaf("3x4", 1, true)}, count = 4, sinks = {4}, scopes = {}, statements = {
        {f = "exp", args = {{v = 1}}, n = 1, results = {2}}, {f = "sinh", args = {{v = 2}}, n = 1, results = {3}},
        {f = "tanh", args = {{v = 3}}, n = 1, results = {4}}}}
      local name, why = check.program(p)
      assert.are.equal("gradient", name)
      local small = check.shrink(p, name, why)
      assert.are.equal(1, #small.statements)
      assert.are.equal("sinh", small.statements[1].f)
      assert.is_truthy(program.text(small, why):find("ai.f.sinh(v2)", 1, true))
    end)
    rawset(ai.f, "sinh", was)
    assert.is_true(ok, message)
  end)
end)

describe("a write in place", function()
  local function leaf() return ai.tensor({3, 4}, {requires_grad = true}) end
  it("by a tensor with itself has the whole gradient", function()
    local w = leaf()
    local x = w * 1
    x:mul_(x)
    assert.are.same({6, 8}, ai.grad(x:sum(), {w})[1]:totable())
    x = w * 1
    local v = x[{{1, 1}}]
    v:mul_(v)
    assert.are.same({6, 1}, ai.grad(x:sum(), {w})[1]:totable())
    x = w * 1
    x:mul_(x:view(2))
    assert.are.same({6, 8}, ai.grad(x:sum(), {w})[1]:totable())
  end)
  it("of a tensor that is not read again leaves earlier gradients alone", function()
    local w = leaf()
    local x = w * 1
    local y = x * 2                                      -- reads the number only
    x:add_(1)
    assert.are.same({2, 2}, ai.grad(y:sum(), {w})[1]:totable())
  end)
  it("that makes a tensor depend on what saved it leaves no circle", function()
    assert.are.equal(0, leaks(function()
      local x = leaf() * 1
      local y = x:log()
      x:copy_(y)
    end))
    assert.are.equal(0, leaks(function()
      local x = leaf() * 1
      local v = x[{{1, 1}}]
      local y = v * v
      for _ = 1, 3 do v:copy_(y) y = v * x[{{2, 2}}] end
    end))
    assert.are.equal(0, leaks(function()
      local x = leaf() * 1
      x:t():mul_(0.5)
    end))
    local x = leaf() * 1
    local y = x:log()
    x:copy_(y)
    assert.has_error(function() x:sum():backward() end, nil, "changed in place")
  end)
  it("into a tile of one element is a write into memory of its own", function()
    local x = ai.ones(1)
    x:tile(3):add_(ai.tensor {1, 2, 3})
    assert.are.same({1}, x:totable())
  end)
  it("into windows that overlap is refused", function()
    local x = ai.zeros(5)
    assert.has_error(function() x:unfold(1, 2, 1):add_(1) end)
    x:unfold(1, 2, 2):add_(1)
    assert.are.same({1, 1, 1, 1, 0}, x:totable())
  end)
end)

it("a gradient that is an expanded tensor belongs to its leaf alone, also where no scope is open", function()
  assert.are.equal(0, leaks(function()
    local w = ai.ones(3, {requires_grad = true})
    w:sum():backward()
    w:sum():backward()
  end))
end)

it("a row with a number has second gradients where its derivative compares the operands", function()
  local w = ai.tensor({0.25, 2}, {dtype = "f64", requires_grad = true})
  local g = ai.grad((ai.f.fmax(w, 0.5) * w):sum(), {w}, {create_graph = true})[1]
  assert.are.same({0.5, 4}, g:totable())
  assert.are.same({0, 2}, ai.grad(g:sum(), {w})[1]:totable())
end)

it("an op of several results that met the end of memory gives those of its second try", function()
  local C = require("aijit.bindings.lib").C
  local x = ai.tensor {3, 1, 2}
  for n = 1, 4 do
    C.aj_fail_allocation(n)
    local values, places = ai.f.sort(x)
    C.aj_fail_allocation(0)
    collectgarbage() collectgarbage()
    assert.are.same({1, 2, 3}, values:totable())
    assert.are.same({2, 3, 1}, places:totable())
  end
end)
