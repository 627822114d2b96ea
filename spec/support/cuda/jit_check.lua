--- ai.jit on a CUDA device: all of spec/jit_spec.lua and spec/jit_step_spec.lua there, and what is of graphs alone. Run by spec/cuda_spec.lua over the
-- stand-in, and by spec/gpu/check on a GPU.

local ai = require "aijit"
local nn = ai.nn

-- The file's tests with new tensors on the device; those of an op that has no kernel there wait for it.
local here = getfenv()
local function in_scope(f) return function() return ai.device_scope("cuda", f) end end
-- Sums of fused rows are added in another order: those tests are for AIJIT_FUSE=none.
local SUMS = {
  ["sums and the like over rows, and what is made of them"] = true, ["rows of rows"] = true, ["on several threads"] = true,
  ["the recorded run gives memory back as it goes, also what views, gradients and results need to the end"] = true,
}
local function on_device(name, f)
  return here.it(name, function()
    if SUMS[name] and os.getenv "AIJIT_FUSE" ~= "none" then return here.pending "they are of AIJIT_FUSE=none" end
    local ok, message = pcall(in_scope(f))
    if ok then return end
    if tostring(message):find "there is no CUDA kernel for it" then here.pending(message) end
    error(message, 0)
  end)
end
local names = {it = on_device, describe = function(name, f) return here.describe(name, in_scope(f)) end}
setmetatable(names, {__index = here})
for _, file in ipairs {"spec/jit_spec.lua", "spec/jit_step_spec.lua"} do setfenv(assert(loadfile(file)), names)() end

local function fails(f, part)
  local ok, message = pcall(f)
  assert.is_false(ok)
  assert.is_truthy(tostring(message):find(part, 1, true), ("%q lacks %q"):format(tostring(message), part))
end

local function scoped(name, f) return it(name, in_scope(f)) end

-- A network and a step that trains it: dropout, clipping, Adam with a rate that changes from step to step.
local function training(seed)
  ai.manual_seed(seed)
  local net = nn.Sequential {nn.Linear(12, 16), nn.LayerNorm(16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 4)}
  local optimizer = ai.optim.AdamW(net, {lr = 1e-2})
  local schedule = ai.optim.CosineLR(optimizer, {total = 40, warmup = 5})
  local function step(x, y)
    optimizer:zero_grad()
    local loss = ai.cross_entropy(net(x), y)
    loss:backward()
    ai.optim.clip_grad_norm(net:parameters(), 0.5)
    optimizer:step()
    return loss:detach()
  end
  return step, net, optimizer, schedule
end

describe("a recording on a CUDA device", function()
  scoped("trains to the bit as the plain step does, over 20 steps of changing inputs", function()
    local function run(record)
      local step, net, _, schedule = training(7)
      local f, losses = record and ai.jit(step) or step, {}
      for i = 1, 20 do
        local x, y = ai.randn(8, 12), ai.randint(1, 4, {8})
        losses[i] = ai.scope(f, x, y):item()
        schedule:step()
      end
      for _, p in ipairs(net:parameters()) do losses[#losses + 1] = p:detach():totable() end
      return losses
    end
    assert.are.same(run(false), run(true))
  end)

  scoped("counts an optimizer's steps, and goes on from them as a plain step", function()
    local function run(record)
      local step, net, optimizer = training(8)
      local f = record and ai.jit(step) or step
      ai.manual_seed(2)
      local x, y = ai.randn(8, 12), ai.randint(1, 4, {8})
      for _ = 1, 5 do f(x, y) end
      step(x, y)
      f(x, y)
      return net:parameters()[1]:detach():totable(), optimizer:state_dict()
    end
    local plain, state = run(false)
    local recorded, same = run(true)
    assert.are.same(plain, recorded)
    assert.are.equal(require("aijit.inspect")(state), require("aijit.inspect")(same))
  end)

  scoped("takes no more memory from one replay to the next", function()
    local w, x = nn.Parameter(ai.randn(4)), ai.randn(4)
    local optimizer = ai.optim.Adam({w}, {lr = 1e-3})
    local f = ai.jit(function(a)
      optimizer:zero_grad()
      local loss = (ai.f.dropout(a, 0.5, {training = true}) * w):square()
      loss:backward(a)
      optimizer:step()
      return loss:detach()
    end)
    local function live() return ai.memory()["cuda:0"].live end
    for _ = 1, 3 do ai.scope(f, x):totable() end
    collectgarbage() collectgarbage()
    local before = live()                                 -- what earlier tests left goes at any time
    for i = 1, 1000 do
      ai.scope(function() f(x) end)
      if i % 100 == 0 then ai.cuda.synchronize() end
    end
    collectgarbage() collectgarbage()
    assert.is_true(live() <= before)
  end)

  scoped("gives back what it took when it goes", function()
    collectgarbage() collectgarbage()
    local before = ai.memory()["cuda:0"].live
    for _ = 1, 3 do
      local f = ai.jit(function(x, y) return x:matmul(y):softmax(2), (x:t() * 2):sum(1) end)
      local x, y = ai.randn(30, 40), ai.randn(40, 50)
      f(x, y)
      f(x, y)
    end
    collectgarbage() collectgarbage()
    assert.are.equal(before, ai.memory()["cuda:0"].live)
  end)

  scoped("gives results that later replays do not touch, and that hold what is asked for after inputs have changed", function()
    local f = ai.jit(function(x) local y = x * 2 return y, y:sum(), y:t() end)
    local x = ai.ones(3, 4)
    local kept = {f(x)}
    for i = 2, 5 do
      x:fill_(i)
      local y, s, t = f(x)
      x:fill_(-1)
      assert.are.equal(2 * i, y[2][3]:item())
      assert.are.equal(24 * i, s:item())
      assert.are.same({4, 3}, {t:size()[1], t:size()[2]})
      assert.are.equal(2 * i, t[4][1]:item())
    end
    assert.are.equal(24, kept[2]:item())
    assert.are.equal(2, kept[3][1][1]:item())
  end)

  scoped("writes to inputs in place where the function does, and gives them back as they are", function()
    local f = ai.jit(function(x) x:add_(1) return x, x:sum() end)
    f(ai.zeros(5))
    for _ = 1, 3 do
      local x = ai.zeros(5)
      local same, s = f(x)
      assert.are.same({1, 1, 1, 1, 1}, x:totable())
      same:fill_(3)
      assert.are.same({3, 3, 3, 3, 3}, x:totable())
      assert.are.equal(5, s:item())
    end
  end)

  scoped("reports an index out of range that it met, and can be run again", function()
    local table_ = ai.randn(5, 3)
    local f = ai.jit(function(i) return ai.f.embedding(table_, i) end)
    local good = ai.tensor({1, 5}, {dtype = "i64"})
    f(good)
    f(good)
    f(ai.tensor({1, 9}, {dtype = "i64"}))
    fails(ai.cuda.synchronize, "out of range")
    assert.are.same(table_[5]:totable(), f(good)[2]:totable())
  end)

  it("refuses tensors of two devices, and moves between them", function()
    local w = ai.ones(2)
    fails(function() ai.jit(function(x) return x * w:to "cuda" end)(ai.ones(2, {device = "cuda"})) end, "cannot move a tensor to another device")
    fails(function() ai.jit(function(x) return (x * 2):cpu() end)(ai.ones(2, {device = "cuda"})) end, "nor move a tensor to the CPU")
    fails(function() ai.jit(function(x, y) return x * 2, y * 2 end)(ai.ones(2, {device = "cuda"}), w) end, "uses tensors on cuda:0 and on the CPU")
  end)

  scoped("takes numbers of Lua for constants", function()
    local f = ai.jit(function(x) return x * ai.tensor {1, 2, 3} + ai.tensor({1, 1, 1}):to "cuda" + ai.arange(1, 3) end)
    for _ = 1, 3 do assert.are.same({3, 5, 7}, f(ai.ones(3)):totable()) end
  end)
end)

-- With AIJIT_TEST_DEVICE=cuda, on which sample.lua makes its tensors.
it("every op that has a kernel is part of a graph to the bit, or says what it reads", function()
  local op, sample = require "aijit.bindings.op", require "spec.support.sample"
  if sample.device == "cpu" or os.getenv "AIJIT_FUSE" ~= "none" then return pending "it is of AIJIT_TEST_DEVICE=cuda AIJIT_FUSE=none" end
  local passed = 0
  for _, row in ipairs(op.rows) do
    sample.seed(row.index + 1)
    local args, n = sample.arguments(row, function(input) return sample.tensor(input) end)
    local function call(f)
      local given = {}
      for i = 1, n do given[i] = ai.is_tensor(args[i]) and args[i]:clone() or args[i] end
      ai.manual_seed(3)
      return {f(unpack(given, 1, n))}
    end
    local ok, message = pcall(function()
      local plain = op.functions[row.name]
      local f = ai.jit(function(...) return plain(...) end)
      call(f)
      local have, want = call(f), call(plain)
      for i = 1, #want do
        if ai.is_tensor(want[i]) then
          local a, b = have[i]:to "f64", want[i]:to "f64"
          assert(a:eq(b):logical_or(a:ne(a):logical_and(b:ne(b))):all():item(), "its values differ")
        end
      end
    end)
    message = tostring(message)
    local told = message:find "cannot read a value" or message:find "a recording is of one device" or message:find "there is no CUDA kernel"
    assert.is_true(ok or told ~= nil, row.name .. ": " .. message)
    if ok then passed = passed + 1 end
  end
  assert.is_true(passed > 400, passed .. " ops are")
end)
