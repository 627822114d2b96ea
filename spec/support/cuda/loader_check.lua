--- Batches that a loader copies to a CUDA device ahead of their use; pinned memory. Run as device_check.lua is.

local ai = require "aijit"
local data = require "aijit.data"
local device = require "aijit.bindings.device"

assert(ai.cuda.is_available())

local function dataset(n)
  return data.TensorDataset(ai.arange(1, n):view(n, 1):expand(n, 300):contiguous(), ai.arange(1, n, 1, {dtype = "i64"}))
end
local function firsts(loader, most)
  local list = {}
  for x, y in loader do
    list[#list + 1] = x:select(2, 300):sum():item() + 1000 * y:sum():item()
    if #list == most then break end
  end
  return list
end

describe("pinned memory", function()
  it("holds what a tensor holds, of any layout and dtype", function()
    for _, x in ipairs {ai.randn(3, 4), ai.randn(3, 4):t(), ai.arange(1, 5, 1, {dtype = "i64"}), ai.zeros(0, 3), ai.tensor(7)} do
      local p = x:pin_memory()
      assert.is_true(p:is_pinned())
      assert.is_false(x:is_pinned())
      assert.are.same(x:totable(), p:totable())
      assert.are.same(x:totable(), p:cuda():totable())
      assert.is_true(p:pin_memory():is_same(p))
    end
    assert.is_true(ai.randn(4):pin_memory():slice(1, 2, 3):is_pinned())
  end)
  it("may be written after a copy that waits, and after a synchronisation where it does not", function()
    local p = ai.ones(1000):pin_memory()
    local a = p:to "cuda"
    p:fill_(2)
    local b = p:to("cuda", {non_blocking = true})
    ai.cuda.synchronize()
    p:fill_(3)
    assert.are.equal(1000, a:sum():item())
    assert.are.equal(2000, b:sum():item())
  end)
  it("that is let go of while it is copied from is not used again before that is done", function()
    local sums = {}
    for i = 1, 8 do
      local p = ai.full({5000}, i):pin_memory()
      sums[i] = p:to("cuda", {non_blocking = true})
      p:free()
    end
    for i = 1, 8 do assert.are.equal(5000 * i, sums[i]:sum():item()) end
  end)
  it("is of the CPU alone", function()
    local ok, message = pcall(function() return ai.ones(2, {device = "cuda"}):pin_memory() end)
    assert.is_false(ok)
    assert.is_truthy(message:find("pin_memory: the tensor is on a CUDA device, and only memory of the CPU is pinned", 1, true), message)
    assert.is_false(ai.ones(2, {device = "cuda"}):is_pinned())
    assert.has_error(function() ai.ones(2):to("cuda", {non_blokcing = true}) end)
  end)
end)

describe("a loader with a device", function()
  it("gives what it gives on the CPU, epoch after epoch", function()
    local plain = data.Loader(dataset(23), {batch_size = 4, shuffle = true, seed = 3})
    local ahead = data.Loader(dataset(23), {batch_size = 4, shuffle = true, seed = 3, device = "cuda"})
    for _ = 1, 3 do assert.are.same(firsts(plain), firsts(ahead)) end
    local batch = ahead:next_batch()
    assert.are.equal("cuda:0", batch[1].device)
    assert.are.equal("cuda:0", batch[2].device)
  end)
  it("waits for the copy: without that a batch is not what it should be", function()
    local want = firsts(data.Loader(dataset(8), {batch_size = 4}))
    local join = device.join
    device.join = function() end
    local ok, got = pcall(firsts, data.Loader(dataset(8), {batch_size = 4, device = "cuda"}))
    device.join = join
    if ai.cuda.device_name():match "stand%-in" then assert.are_not.same(want, ok and got) end
  end)
  it("keeps the place of what it has handed out", function()
    local function make() return data.Loader(dataset(20), {batch_size = 3, shuffle = true, seed = 5, device = "cuda"}) end
    local whole = firsts(make())
    local loader = make()
    local first = firsts(loader, 2)
    assert.are.same({epoch = 1, batch = 2}, loader:state_dict())
    local rest = firsts(make():load_state_dict(loader:state_dict()))
    for _, v in ipairs(rest) do first[#first + 1] = v end
    assert.are.same(whole, first)
    loader:seek(1, 4)
    assert.are.equal(whole[4], firsts(loader, 1)[1])
    loader:close()
    assert.are.same({epoch = 1, batch = 4}, loader:state_dict())
  end)
  it("takes workers, pinned or not, nested fields and what is no tensor", function()
    local set = data.Transformed(dataset(9), function(x, y) return {a = x, b = {y}}, "name" end)
    for _, o in ipairs {{workers = 0}, {workers = 0, pin_memory = false}} do
      local n = 0
      for fields, names in data.Loader(set, {batch_size = 3, device = 0, workers = o.workers, pin_memory = o.pin_memory}) do
        n = n + 1
        assert.are.equal("cuda:0", fields.a.device)
        assert.are.equal("cuda:0", fields.b[1].device)
        assert.are.equal("name", names[1])
      end
      assert.are.equal(3, n)
    end
    assert.are.same(firsts(data.Loader(dataset(9), {batch_size = 2})), firsts(data.Loader(dataset(9), {batch_size = 2, workers = 2, device = "cuda"})))
  end)
  it("leaves its batches to the scope that asks for them", function()
    local loader = data.Loader(dataset(40), {batch_size = 2, device = "cuda"})
    local function one() return ai.scope(function() return loader:next_batch() ~= nil end) end
    one() one()
    local before = ai.memory()["cuda:0"].live
    for _ = 1, 10 do one() end
    assert.are.equal(before, ai.memory()["cuda:0"].live)
  end)
  it("raises what went wrong when the batch is asked for", function()
    local bad = data.Transformed(dataset(9), function(x, y) if y:item() == 5 then error "broken sample" end return x, y end)
    local loader = data.Loader(bad, {batch_size = 2, device = "cuda"})
    assert.is_table(loader:next_batch())
    assert.is_table(loader:next_batch())
    local ok, message = pcall(loader.next_batch, loader)
    assert.is_false(ok)
    assert.is_truthy(tostring(message):find("broken sample", 1, true), tostring(message))
  end)
  it("is refused with a device that is not there", function()
    assert.has_error(function() data.Loader(dataset(4), {device = "cuda:7"}) end)
    assert.has_error(function() data.Loader(dataset(4), {device = {}}) end)
  end)
  it("may have pinned batches alone", function()
    for x in data.Loader(dataset(4), {batch_size = 2, pin_memory = true}) do assert.is_true(x:is_pinned()) end
  end)
end)
