--- Whole training steps, recorded by ai.jit: with gradients, clipping and optimizers, they train to the bit as they do eager.

local ai = require "aijit"
local nn = ai.nn

local function fails(f, part)
  local ok, message = pcall(f)
  assert.is_false(ok)
  assert.is_truthy(tostring(message):find(part, 1, true), ("%q lacks %q"):format(tostring(message), part))
end

describe("a recorded training step", function()
  local function net_of()
    ai.manual_seed(5)
    return nn.Sequential{nn.Linear(20, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Dropout(0.3), nn.Linear(32, 5)}
  end
  local x, y = ai.randn(16, 20), ai.randint(1, 5, 16)

  it("trains as the plain one does, to the bit, dropout and running statistics included", function()
    local function train(record)
      local net = net_of()
      local optimizer = ai.optim.AdamW(net:parameters(), {lr = 1e-2})
      local function step(a, b)
        optimizer:zero_grad()
        local loss = ai.cross_entropy(net(a), b)
        loss:backward()
        return loss:detach()
      end
      local f = record and ai.jit(step) or step
      ai.manual_seed(3)
      local losses = {}
      for i = 1, 15 do
        losses[i] = ai.scope(function() return f(x, y):item() end)
        optimizer:step()
      end
      if record then assert.are.equal(1, f:count()) end
      return losses, net
    end
    local plain, net1 = train(false)
    local recorded, net2 = train(true)
    assert.are.same(plain, recorded)
    for i, p in ipairs(net1:parameters()) do assert.is_true(ai.equal(p, net2:parameters()[i]):item()) end
    assert.is_true(ai.equal(net1[2].running_mean, net2[2].running_mean):item())
  end)
  it("is another recording in eval mode's function and without gradients", function()
    local net = net_of()
    net:eval()
    local f = ai.jit(function(a) return net(a) end)
    local out = ai.no_grad(function() return f(x) end)
    assert.is_true(ai.equal(out, ai.no_grad(net, x)):item())
    fails(function() f(x) end, "requires gradients")
  end)
  it("adds to gradients that it does not clear", function()
    local w = ai.ones(2, {requires_grad = true})
    local f = ai.jit(function(a) local l = (w * a):sum() l:backward() return l:detach() end)
    local a = ai.ones(2)
    f(a)
    f(a)
    f(a)
    assert.are.same({3, 3}, w.grad:totable())
    w.grad = nil
    f(a)
    assert.are.same({1, 1}, w.grad:totable())
  end)
end)

describe("a whole training step, recorded,", function()
  local function net_of()
    ai.manual_seed(8)
    return nn.Sequential {nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)}
  end
  local function train(record, name, change)
    local net = net_of()
    local optimizer = ai.optim[name](net, {lr = 1e-2, groups = {{match = "bias$", lr = 5e-3}}})
    local schedule = ai.optim.CosineLR(optimizer, {total = 12, warmup = 3})
    local function step(x, y)
      optimizer:zero_grad()
      local loss = ai.cross_entropy(net(x), y)
      loss:backward()
      ai.optim.clip_grad_norm(net:parameters(), 0.5)
      optimizer:step()
      return loss:detach()
    end
    local f = record and ai.jit(step) or step
    local losses = {}
    ai.manual_seed(9)
    for i = 1, 12 do
      local x, y = ai.randn(5, 6), ai.randint(1, 3, 5)
      if change then change(i, optimizer) end
      losses[i] = ai.scope(f, x, y):item()
      schedule:step()
    end
    for _, p in ipairs(net:parameters()) do losses[#losses + 1] = p:detach():totable() end
    return losses, record and f:count()
  end
  for _, name in ipairs {"SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Rprop",
    "Lion", "Adan", "LAMB", "Muon", "ScheduleFreeAdamW"} do
    it("trains to the bit as the plain one does, with a schedule and clipping: " .. name, function()
      local losses, count = train(true, name)
      assert.are.same((train(false, name)), losses)
      assert.are.equal(1, count)
    end)
  end
  it("sees options changed between calls", function()
    local function change(i, optimizer)
      if i == 5 then optimizer.param_groups[1].weight_decay = 0.3 end
      if i == 8 then optimizer.param_groups[1].betas[1] = 0.5 end
    end
    local losses, count = train(true, "AdamW", change)
    assert.are.same((train(false, "AdamW", change)), losses)
    assert.are_not.same((train(false, "AdamW")), losses)
    assert.are.equal(1, count)
  end)
  it("is recorded anew when the optimizer's state is another", function()
    local function change(i, optimizer)
      if i == 6 then optimizer:load_state_dict(optimizer:state_dict()) end
    end
    local losses, count = train(true, "Adam", change)
    assert.are.same((train(false, "Adam", change)), losses)
    assert.are.equal(1, count)
  end)
  it("follows another model by soft_update", function()
    local function run(record)
      local net, target = net_of(), net_of()
      net:eval() target:eval()
      local optimizer = ai.optim.SGD(net:parameters(), {lr = 0.1})
      local function step(x)
        optimizer:zero_grad()
        net(x):square():mean():backward()
        optimizer:step()
        target:soft_update(net, 0.1)
        return (ai.no_grad(target, x))
      end
      local f, y = record and ai.jit(step) or step, nil
      for _ = 1, 4 do y = f(ai.ones(2, 6)):totable() end
      return y
    end
    assert.are.same(run(false), run(true))
  end)
  it("of a schedule-free optimizer refuses while the weights are those of evaluation", function()
    local w = nn.Parameter(ai.ones(2))
    local optimizer = ai.optim.ScheduleFreeAdamW({w}, {lr = 0.1})
    local f = ai.jit(function(x) optimizer:zero_grad() local l = (w * x):sum() l:backward() optimizer:step() return x + 0 end)
    f(ai.ones(2))
    f(ai.ones(2))
    optimizer:eval()
    fails(function() f(ai.ones(2)) end, "call optimizer:train()")
    optimizer:train()
    f(ai.ones(2))
  end)
end)

it("modules set to training or evaluation have recordings of their own", function()
  local net = nn.Sequential {nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)}
  local calls = 0
  local f = ai.jit(function(x) calls = calls + 1 return net(x):detach() end)
  local x = ai.randn(8, 4)
  for _ = 1, 2 do
    net:train()
    f(x)
    f(x)
    net:eval()
    assert.is_true(ai.equal(f(x), net(x)):item())
    assert.is_true(ai.equal(f(x), net(x)):item())
  end
  assert.are.equal(2, calls)
  net[3]:train()
  f(x)
  assert.are.equal(3, f:count())
end)

it("a leaf that is frozen, or no longer, is trained as it is and not as it was", function()
  local w = ai.ones(2, {requires_grad = true})
  local v = ai.ones(2, {requires_grad = true})
  local f = ai.jit(function(x)
    w.grad, v.grad = nil, nil
    local l = (w * x * v):sum()
    l:backward()
    return l:detach()
  end)
  f(ai.ones(2))
  w:requires_grad_(false)
  f(ai.ones(2))
  assert.is_nil(w.grad)
  assert.are.same({1, 1}, v.grad:totable())
  w:requires_grad_(true)
  f(ai.ones(2))
  assert.are.same({1, 1}, w.grad:totable())
  assert.are.equal(2, f:count())
end)

it("the recorded run gives memory back as it goes, also what views, gradients and results need to the end", function()
  local w = nn.Parameter(ai.randn(64, 64))
  local function f(x)
    local h, half = x, nil
    for i = 1, 60 do
      h = (h:matmul(w) * 0.3):tanh()
      if i == 30 then half = h end
    end
    w.grad = nil
    (h:sum() + half:sum()):backward()
    local z = x
    for _ = 1, 60 do z = z * 1.01 + half:detach():sum(2, {keepdim = true}):tanh() end
    return h:detach(), half[{{1, 3}}]:detach(), w.grad * 1, z
  end
  local x = ai.randn(4096, 64)                           -- 1 MiB
  collectgarbage() collectgarbage()
  ai.memory{reset_peak = true}
  local before = ai.memory().cpu.live
  local g = ai.jit(f)
  local first = {g(x)}
  local used = (ai.memory().cpu.peak - before) / 2 ^ 20
  assert(used < 250, ("%.0f MiB where all results together are 450"):format(used))
  local wanted = {f(x)}
  for _ = 1, 2 do
    for i, y in ipairs(first) do assert.is_true(y:equal(wanted[i]):item(), "result " .. i) end
    first = {g(x)}
  end
end)

it("a value is not read through views, detached tensors, parts or windows either", function()
  local w = nn.Parameter(ai.ones(2, 2))
  for i, read in ipairs{
    function(a) return (a * 2)[1][2]:item() end,
    function(a) return (a * 2):reshape(4)[2]:item() end,
    function(a) return (a * 2):detach()[1][1]:item() end,
    function(a) return (a * 2):sum():detach():item() end,
    function(a) return (a * 2):chunk(2)[1]:unbind()[1]:expand(3, 2)[1]:narrow(1, 1, 1):item() end,
    function(a) return (a * 2):t():contiguous():view(4):totable()[1] end,
    function(a) local v = ai.zeros(4) v[{{1, 2}}]:add_(a[1]) return v[1]:item() end,
    function(a) local v = ai.zeros(2, 2) v:copy_(a) return v[1][1]:item() end,
    function(a) return (select(2, a:max(1)))[1]:item() end,
    function() return w[1][1]:item() end,
    function() return w:detach()[2][1]:item() end,
  } do
    local ok, message = pcall(ai.jit(function(a) return a * read(a) end), ai.ones(2, 2))
    assert(not ok, "case " .. i)
    assert.matches("cannot read a value", message)
  end
end)
