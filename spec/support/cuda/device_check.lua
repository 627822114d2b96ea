--- What a CUDA device has besides kernels. Run by spec/cuda_spec.lua with the stand-in in place, or by
-- spec/support/cuda/check; runs on a GPU too.

local ai = require "aijit"

assert(ai.cuda.is_available())

local function numbers(t) return t:reshape(-1):totable() end

describe("memory of a device", function()
  it("is counted by live, peak and cached bytes", function()
    ai.empty_cache()
    local before = ai.memory({reset_peak = true})["cuda:0"]
    local live, peak = ai.scope(function()
      local x = ai.zeros(1000, 1000, {device = "cuda"})
      local m = ai.memory()["cuda:0"]
      assert.are.equal(4000000, x:numel() * 4)
      return m.live, m.peak
    end)
    assert.is_true(live >= before.live + 4000000 and live < before.live + 4100000)
    assert.is_true(peak >= live)
    local after = ai.memory()["cuda:0"]
    assert.are.equal(before.live, after.live)
    assert.is_true(after.cached >= 4000000)
    ai.empty_cache()
    assert.are.equal(0, ai.memory()["cuda:0"].cached - math.min(ai.memory()["cuda:0"].cached, 2 ^ 22))
  end)

  it("is used again without a new call of CUDA", function()
    ai.scope(function() local _ = ai.zeros(500, 1000, {device = "cuda"}) end)
    local cached = ai.memory()["cuda:0"].cached
    for _ = 1, 20 do ai.scope(function() local _ = ai.zeros(500, 1000, {device = "cuda"}) + 1 end) end
    assert.is_true(ai.memory()["cuda:0"].cached <= cached + 2000000 + 2 ^ 22)
  end)

  it("that is out is an error with the numbers, and what there is stays", function()
    local x = ai.ones(10, {device = "cuda"})
    local ok, message = pcall(ai.zeros, 2 ^ 38, {device = "cuda"})
    assert.is_false(ok)
    assert.is_truthy(message:match "out of memory: asked for 1%.0 TiB on cuda:0; live .-, cached .-, free on the device .- of", message)
    assert.are.equal(10, x:sum():item())
  end)

  it("that nobody holds any more is collected before it is out", function()
    collectgarbage() collectgarbage()
    local total = ai.cuda.properties().total
    ai.memory {reset_peak = true}
    for _ = 1, 40 do local _ = ai.zeros(math.floor(total / 30 / 4), {device = "cuda"}) end
    assert.is_true(ai.memory()["cuda:0"].peak < total / 2)
  end)

  it("goes back from the cache when it is out elsewhere", function()
    local total = ai.cuda.properties().free
    local third = math.floor(total / 3 / 4 / 2 ^ 20) * 2 ^ 20
    ai.scope(function() local _ = ai.empty(third, {device = "cuda"}) local _ = ai.empty(third, {device = "cuda"}) end)
    local larger = ai.empty(math.floor(third * 1.9), {device = "cuda"})
    assert.is_true(larger:numel() > third)
    larger:free()
    ai.empty_cache()
  end)
end)

describe("moving tensors", function()
  it("keeps values and dtypes", function()
    for _, dtype in ipairs {"f32", "f64", "bf16", "f16", "i64", "i32", "i16", "i8", "u8", "bool"} do
      local x = ai.arange(0, 11):reshape(3, 4):to(dtype)
      local y = x:to "cuda"
      assert.are.equal("cuda:0", y.device)
      assert.are.equal(dtype, y.dtype)
      assert.are.same(numbers(x), numbers(y:cpu()))
      assert.are.same(numbers(x), numbers(y))
    end
  end)
  it("takes strided, empty and rank-0 ones", function()
    local x = ai.arange(1, 12):reshape(3, 4)
    assert.are.same(numbers(x:t()), numbers(x:t():cuda()))
    assert.are.same(numbers(x:t()), numbers(x:cuda():t():cpu()))
    assert.are.same(numbers(x:slice(2, 1, 4, 2)), numbers(x:cuda():slice(2, 1, 4, 2)))
    assert.are.same({0, 3}, ai.zeros(0, 3):cuda():cpu():size())
    assert.are.equal(7, ai.tensor(7):cuda():item())
  end)
  it("is the tensor itself where it is there", function()
    local x = ai.ones(2, {device = "cuda"})
    assert.is_true(x:cuda():is_same(x))
  end)
  it("carries gradients back", function()
    local x = ai.tensor({1, 2, 3}, {requires_grad = true})
    local y = (x:cuda() * ai.tensor({4, 5, 6}, {device = "cuda"})):cpu() * 2
    y:sum():backward()
    assert.are.equal("cpu", x.grad.device)
    assert.are.same({8, 10, 12}, x.grad:totable())
  end)
  it("by copy_ broadcasts, converts and carries gradients", function()
    local y = ai.zeros(2, 3, {device = "cuda", dtype = "f64"})
    y:copy_(ai.tensor {1, 2, 3})
    assert.are.same({1, 2, 3, 1, 2, 3}, numbers(y))
    local z = ai.zeros(2, 3, {dtype = "i64"})
    z:copy_(y)
    assert.are.same({1, 2, 3, 1, 2, 3}, numbers(z))
    z:t():copy_(ai.arange(1, 6, 1, {device = "cuda"}):reshape(3, 2))
    assert.are.same({1, 3, 5, 2, 4, 6}, numbers(z))
    local x = ai.ones(3, {requires_grad = true})
    local w = ai.zeros(3, {device = "cuda"})
    w:copy_(x)
    w:sum():backward()
    assert.are.same({1, 1, 1}, x.grad:totable())
  end)
  it("gives elements by index, and sets them", function()
    local x = ai.arange(1, 6):reshape(2, 3):cuda()
    assert.are.equal(6, x[{2, 3}]:item())
    x[{2, 3}] = 9
    assert.are.same({1, 2, 3, 4, 5, 9}, numbers(x))
  end)
end)

describe("what is wrong", function()
  it("is told of tensors on different devices", function()
    local ok, message = pcall(function() return ai.ones(2) + ai.ones(2, {device = "cuda"}) end)
    assert.is_false(ok)
    assert.is_truthy(message:find("add: the inputs are on different devices (cpu and cuda:0); move one with :to", 1, true), message)
  end)
  it("is told of data that Lua cannot reach", function()
    assert.has_error(function() ai.ones(2, {device = "cuda"}):data() end)
  end)
  it("in the values is told at the next wait, once, and the device goes on", function()
    local a, b = ai.ones(3, {device = "cuda", dtype = "i64"}), ai.zeros(3, {device = "cuda", dtype = "i64"})
    local c = a:floor_divide(b)
    local ok, message = pcall(function() return c:sum():item() end)
    assert.is_false(ok)
    assert.is_truthy(message:find("floor_divide: a division by zero", 1, true), message)
    ai.cuda.synchronize()
    assert.are.equal(3, a:sum():item())
  end)
  it("is told of an op without a kernel, by its name", function()
    local missing = ai.cuda.missing()
    if #missing == 0 then return end
    assert.is_string(missing[1])
  end)
end)

describe("constructors", function()
  it("make what they make on the CPU", function()
    for name, make in pairs {
      zeros = function(o) return ai.zeros(3, 4, o) end, ones = function(o) return ai.ones(5, o) end, full = function(o) return ai.full({2, 2}, 7, o) end,
      arange = function(o) return ai.arange(1, 9, 2, o) end, linspace = function(o) return ai.linspace(0, 1, 5, o) end,
      eye = function(o) return ai.eye(3, o) end, tensor = function(o) return ai.tensor({{1, 2}, {3, 4}}, o) end,
    } do
      assert.are.same(numbers(make {device = "cpu"}), numbers(make {device = "cuda"}), name)
      assert.are.equal("cuda:0", make {device = "cuda"}.device)
    end
  end)
end)

describe("device_scope", function()
  local scope = ai.device_scope
  it("says where tensors are made, in every form, nested and restored", function()
    for _, form in ipairs {0, "cuda", "gpu", "cuda:0", "gpu:0", {0}, {"cuda:0"}, "cuda:all", "gpu:all"} do
      scope(form, function()
        assert.are.equal("cuda:0", ai.zeros(2).device)
        for _, cpu in ipairs {"cpu", -1} do scope(cpu, function() assert.are.equal("cpu", ai.zeros(2).device) end) end
        assert.are.equal("cuda:0", ai.ones(2).device)
        assert.are.equal("cuda:0", ai.randn(2).device)
        assert.are.equal("cuda:0", ai.tensor({1, 2}).device)
        assert.are.equal("cuda:0", ai.arange(1, 3).device)
      end)
      assert.are.equal("cpu", ai.zeros(2).device)
    end
  end)
  it("is restored after an error, and gives what its function gives", function()
    pcall(scope, "gpu:0", error)
    assert.are.equal("cpu", ai.zeros(2).device)
    assert.are.same({1, 2}, {scope(0, function(a, b) return a, b end, 1, 2)})
  end)
  it("takes along the module that is called there", function()
    local model = ai.nn.Sequential{ai.nn.Linear(3, 4), ai.nn.BatchNorm1d(4)}
    local x = ai.randn(5, 3)
    scope("cuda", function()
      assert.are.equal("cuda:0", model(x:cuda()).device)
      assert.are.equal("cuda:0", model[1].weight.device)
      assert.are.equal("cuda:0", model[2].running_mean.device)
    end)
    scope(-1, function() assert.are.equal("cpu", model(x).device) end)
    assert.are.equal("cpu", model[1].weight.device)
    assert.are.equal("cpu", model(x).device)
  end)
  it("refuses what is no device", function()
    for _, form in ipairs {"cuda:x", "tpu", 99, {}, {0, 0}, {"cpu"}, {0, 77}, true} do
      assert.is_false(pcall(scope, form, function() end), tostring(form))
    end
    assert.is_false(pcall(scope, "cpu"))
    assert.are.equal("cpu", ai.zeros(2).device)
  end)
end)

describe("ai.cuda", function()
  it("knows the devices", function()
    assert.is_true(ai.cuda.is_available())
    assert.is_true(ai.cuda.device_count() >= 1)
    local p = ai.cuda.properties(0)
    assert.are.equal(p.name, ai.cuda.device_name "cuda:0")
    assert.is_true(p.total >= p.free and p.free > 0)
    assert.is_truthy(p.capability:match "^%d+%.%d+$")
  end)
  it("knows the libraries that ops call", function()
    local names = {}
    for _, l in ipairs(ai.cuda.libraries()) do
      names[l.name] = true
      if l.path then assert.is_truthy(l.version:match "^%d+%.%d+%.%d+$", l.name) else assert.is_truthy(l.absence:match "^not found %(", l.name) end
    end
    assert.is_true(names.cuBLASLt and names.cuDNN and names.NVRTC)
  end)
end)
