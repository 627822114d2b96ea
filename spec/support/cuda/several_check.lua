--- Several CUDA devices in one process. Run as device_check.lua is, where there are at least two.

local ai = require "aijit"

if ai.cuda.device_count() < 2 then
  pending "several CUDA devices: there is one"
  return
end

local function numbers(t) return t:reshape(-1):totable() end

describe("several devices", function()
  it("each have their memory, and work of their own", function()
    collectgarbage() collectgarbage()
    local before = {ai.memory()["cuda:0"].live, ai.memory()["cuda:1"].live}
    local x = ai.ones(500000, {device = "cuda:1"})
    assert.are.equal(before[1], ai.memory()["cuda:0"].live)
    assert.is_true(ai.memory()["cuda:1"].live >= before[2] + 2000000)
    assert.are.equal(1000000, ai.scope(function() return (x * 2):sum():item() end))
    x:free()
    assert.are.equal(before[2], ai.memory()["cuda:1"].live)
  end)
  it("copy from one to another, in the order of what is called", function()
    local x = ai.arange(1, 12):reshape(3, 4):cuda(0)
    local y = (x * 2):to "cuda:1"
    x:fill_(0)
    local z = (y + 1):to "cuda:0"
    y:fill_(-1)
    assert.are.equal("cuda:1", y.device)
    assert.are.same({3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25}, numbers(z))
    assert.are.same(numbers(ai.arange(1, 12):reshape(3, 4):t()), numbers(ai.arange(1, 12):reshape(3, 4):cuda(0):t():to "cuda:1"))
    local w = ai.zeros(2, 3, {device = "cuda:1", dtype = "f64"})
    w:copy_(ai.tensor({1, 2, 3}, {device = "cuda:0"}))
    assert.are.same({1, 2, 3, 1, 2, 3}, numbers(w))
  end)
  it("carry gradients between them", function()
    local x = ai.ones(3, {device = "cuda:0", requires_grad = true})
    local y = (x * 3):to "cuda:1"
    ;(y * y):sum():backward()
    assert.are.equal("cuda:0", x.grad.device)
    assert.are.same({18, 18, 18}, numbers(x.grad))
  end)
  it("are not mixed by an op", function()
    local ok, message = pcall(function() return ai.ones(2, {device = "cuda:0"}) + ai.ones(2, {device = "cuda:1"}) end)
    assert.is_false(ok)
    assert.is_truthy(message:find("add: the inputs are on different devices (cuda:0 and cuda:1); move one with :to", 1, true), message)
  end)
  it("are told apart in errors of values, which stay with their device", function()
    local one = ai.ones(2, {device = "cuda:1", dtype = "i64"})
    local _ = one:floor_divide(ai.zeros(2, {device = "cuda:1", dtype = "i64"}))
    assert.are.equal(2, ai.ones(2, {device = "cuda:0"}):sum():item())
    assert.is_false(pcall(ai.cuda.synchronize, 1))
    ai.cuda.synchronize()
    assert.are.equal(2, one:sum():item())
  end)
  it("take parameters of one optimizer", function()
    local function train(devices)
      local list = {}
      for i = 1, 4 do
        list[i] = ai.full({3, i}, i, {device = devices[i], requires_grad = true})
        list[i].grad = ai.full({3, i}, 0.5 * i, {device = devices[i]})
      end
      local norm = ai.optim.clip_grad_norm(list, 1)
      ai.optim.AdamW(list, {lr = 0.1}):step()
      local all = {norm}
      for i = 1, 4 do all[#all + 1] = list[i]:sum():item() end
      return all
    end
    local there, here = train {"cpu", "cpu", "cpu", "cpu"}, train {"cuda:0", "cuda:1", "cpu", "cuda:0"}
    for i, v in ipairs(there) do assert.is_true(math.abs(v - here[i]) < 1e-4, i .. ": " .. here[i] .. " for " .. v) end
  end)
  it("are in a scope by number, list, or all", function()
    ai.device_scope(1, function() assert.are.equal("cuda:1", ai.zeros(2).device) end)
    ai.device_scope({1, 0}, function() assert.are.equal("cuda:1", ai.zeros(2).device) end)
    ai.device_scope("cuda:all", function() assert.are.equal("cuda:0", ai.zeros(2).device) end)
    ai.device_scope(1, function()
      local model = ai.nn.Linear(3, 2)
      ai.device_scope(0, function() model(ai.zeros(1, 3)) end)
      assert.are.equal("cuda:0", model.weight.device)
    end)
  end)
  it("each get batches ahead", function()
    local set = ai.data.TensorDataset(ai.arange(1, 12):view(12, 1))
    local loader = ai.data.Loader(set, {batch_size = 3, device = "cuda:1"})
    local sum = 0
    for x in loader do
      assert.are.equal("cuda:1", x.device)
      sum = sum + x:sum():item()
    end
    assert.are.equal(78, sum)
  end)
end)
