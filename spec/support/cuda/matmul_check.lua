--- Products of matrices on a CUDA device, by cuBLASLt and without it. Run by spec/cuda_spec.lua with the stand-in in place,
-- once with AIJIT_CUDA_LIBRARIES naming no library; runs on a GPU too.

local ai = require "aijit"

assert(ai.cuda.is_available())

local library
for _, l in ipairs(ai.cuda.libraries()) do if l.name == "cuBLASLt" then library = l.path end end

local tolerance = {f64 = 1e-12, f32 = 2e-5, bf16 = 1.6e-2, f16 = 2e-3}

-- y, made on the device, and should, made on the CPU in f64 from the same numbers, with sums of k products.
local function close(should, y, dtype, k, what)
  local off = (y:cpu():to "f64" - should):abs():max():item()
  local most = tolerance[dtype] * math.max(1, math.sqrt(k)) * 4
  assert.is_true(off <= most, ("%s in %s is off by %.3g, and may be by %.3g"):format(what, dtype, off, most))
end

local function numbers(shape, dtype) return ai.randn(shape):to(dtype) end

-- The product of a and b, and of what `view` makes of each, on the device against the CPU.
local function product(what, a, b, dtype, view_a, view_b)
  view_a, view_b = view_a or function(x) return x end, view_b or function(x) return x end
  local x, y = view_a(a), view_b(b)
  local should = x:to "f64":matmul(y:to "f64")
  local c = view_a(a:cuda()):matmul(view_b(b:cuda()))
  assert.are.equal(dtype, c.dtype)
  assert.are.same(should:size(), c:size(), what)
  close(should, c, dtype, x:size(-1), what)
end

describe("a product on the device", function()
  for _, dtype in ipairs {"f32", "f64", "bf16", "f16"} do
    it("of " .. dtype .. " is the CPU's for vectors, matrices, batches and what is broadcast", function()
      ai.manual_seed(1)
      for _, case in ipairs {
        {{7}, {7}}, {{5, 7}, {7}}, {{7}, {7, 3}}, {{1, 1}, {1, 1}}, {{5, 7}, {7, 3}}, {{70, 33}, {33, 65}}, {{1, 40}, {40, 9}},
        {{9, 40}, {40, 1}},
        {{4, 5, 7}, {7, 3}}, {{5, 7}, {4, 7, 3}}, {{4, 5, 7}, {4, 7, 3}},
        {{2, 1, 5, 7}, {3, 7, 4}}, {{2, 3, 5, 7}, {2, 1, 7, 4}}, {{2, 3, 4, 7}, {7}}, {{7}, {2, 7, 3}},
      } do
        local what = ("%s x %s"):format(table.concat(case[1], "x"), table.concat(case[2], "x"))
        product(what, numbers(case[1], dtype), numbers(case[2], dtype), dtype)
      end
    end)
  end

  it("is the CPU's for transposed, sliced, expanded and permuted operands", function()
    ai.manual_seed(2)
    for _, dtype in ipairs {"f32", "bf16"} do
      local function t(x) return x:transpose(-1, -2) end
      product("a'", numbers({7, 5}, dtype), numbers({7, 3}, dtype), dtype, t)
      product("b'", numbers({5, 7}, dtype), numbers({3, 7}, dtype), dtype, nil, t)
      product("a' b'", numbers({4, 7, 5}, dtype), numbers({4, 3, 7}, dtype), dtype, t, t)
      product("rows and columns from the second on", numbers({6, 9}, dtype), numbers({9, 5}, dtype), dtype,
        function(x) return x:slice(1, 2, 6) end, function(x) return x:slice(2, 2, 4) end)
      product("columns from the second on", numbers({6, 10}, dtype), numbers({9, 5}, dtype), dtype, function(x) return x:slice(2, 2, 10) end)
      product("every other column", numbers({6, 18}, dtype), numbers({9, 5}, dtype), dtype, function(x) return x:slice(2, 1, 18, 2) end)
      product("one row for all", numbers({1, 9}, dtype), numbers({9, 5}, dtype), dtype, function(x) return x:expand(6, 9) end)
      product("one column for all", numbers({6, 9}, dtype), numbers({9, 1}, dtype), dtype, nil, function(x) return x:expand(9, 5) end)
      product("one matrix for all", numbers({1, 6, 9}, dtype), numbers({3, 9, 5}, dtype), dtype, function(x) return x:expand(3, 6, 9) end)
      -- (batch, time, heads, features), as attention has it: no stride is common to batch and heads.
      local function heads(x) return x:permute(1, 3, 2, 4) end
      product("heads", numbers({2, 6, 3, 4}, dtype), numbers({2, 6, 3, 4}, dtype), dtype, heads, function(x) return x:permute(1, 3, 4, 2) end)
      product("many heads", numbers({20, 6, 3, 4}, dtype), numbers({20, 6, 3, 4}, dtype), dtype, heads, function(x) return x:permute(1, 3, 4, 2) end)
    end
  end)

  it("copies no operand that lies by rows, by columns or at one stride for each of a batch", function()
    if not library then return pending "without cuBLASLt another kernel does it" end
    local x, y = ai.randn({4, 64, 96}, {device = "cuda"}), ai.randn({4, 96, 64}, {device = "cuda"})
    local function most(f)
      ai.scope(f)
      ai.cuda.synchronize()
      local before = ai.memory({reset_peak = true})["cuda:0"].live
      ai.scope(f)
      return ai.memory()["cuda:0"].peak - before
    end
    local bytes = 4 * 64 * 64 * 4
    assert.is_true(most(function() return x:matmul(y) end) < bytes + 20000)
    assert.is_true(most(function() return y:transpose(2, 3):matmul(x:transpose(2, 3)) end) < bytes + 20000)
    assert.is_true(most(function() return x:slice(3, 1, 64):matmul(y:slice(2, 1, 64)) end) < bytes + 20000)
  end)

  it("of no terms is zero, of no rows is empty", function()
    assert.are.same({{0, 0}, {0, 0}}, ai.zeros({2, 0}, {device = "cuda"}):matmul(ai.zeros({0, 2}, {device = "cuda"})):cpu():totable())
    assert.are.same({0, 2}, ai.zeros({0, 3}, {device = "cuda"}):matmul(ai.zeros({3, 2}, {device = "cuda"})):size())
    local y = ai.f.linear(ai.zeros({2, 0}, {device = "cuda"}), ai.zeros({3, 0}, {device = "cuda"}), ai.tensor({1, 2, 3}, {device = "cuda"}))
    assert.are.same({{1, 2, 3}, {1, 2, 3}}, y:cpu():totable())
  end)

  it("of integers is exact, and wraps as on the CPU", function()
    for _, dtype in ipairs {"i64", "i32", "i16", "i8", "u8"} do
      local a, b = ai.randint(1, 100, {5, 7}):to(dtype), ai.randint(1, 100, {7, 3}):to(dtype)
      assert.are.same(a:matmul(b):totable(), a:cuda():matmul(b:cuda()):cpu():totable(), dtype)
    end
  end)

  it("has the CPU's gradients", function()
    ai.manual_seed(3)
    for _, case in ipairs {{{5, 7}, {7, 3}}, {{4, 5, 7}, {7, 3}}, {{4, 5, 7}, {4, 7, 3}}, {{5, 7}, {4, 7, 3}}, {{7}, {7, 3}}, {{5, 7}, {7}}} do
      local a, b = numbers(case[1], "f64"), numbers(case[2], "f64")
      local function gradients(device)
        local x, y = a:to(device):detach():requires_grad_(), b:to(device):detach():requires_grad_()
        x:matmul(y):square():sum():backward()
        return x.grad:cpu(), y.grad:cpu()
      end
      local ga, gb = gradients "cpu"
      local ha, hb = gradients "cuda"
      assert.is_true((ga - ha):abs():max():item() < 1e-9)
      assert.is_true((gb - hb):abs():max():item() < 1e-9)
    end
  end)

  it("is the same again", function()
    local a, b = ai.randn({128, 300}, {device = "cuda"}), ai.randn({300, 90}, {device = "cuda"})
    local first = a:matmul(b):cpu()
    for _ = 1, 3 do assert.are.equal(0, (a:matmul(b):cpu() - first):abs():max():item()) end
  end)
end)

describe("a linear layer on the device", function()
  it("adds its bias, in every dtype, with gradients", function()
    ai.manual_seed(4)
    for _, dtype in ipairs {"f32", "f64", "bf16", "f16"} do
      local x, w, b = numbers({3, 5, 7}, dtype), numbers({4, 7}, dtype), numbers({4}, dtype)
      close(ai.f.linear(x:to "f64", w:to "f64", b:to "f64"), ai.f.linear(x:cuda(), w:cuda(), b:cuda()), dtype, 7, "linear")
      close(ai.f.linear(x:to "f64", w:to "f64"), ai.f.linear(x:cuda(), w:cuda()), dtype, 7, "linear without bias")
      local y = ai.f.linear(x:cuda():permute(2, 1, 3), w:cuda(), b:cuda())
      close(ai.f.linear(x:permute(2, 1, 3):to "f64", w:to "f64", b:to "f64"), y, dtype, 7, "linear of rows in no order")
    end
    local function gradients(device)
      ai.manual_seed(5)
      local x, w, b = ai.randn(3, 5, 7), ai.randn(4, 7), ai.randn(4)
      local list = {}
      for i, t in ipairs {x, w, b} do list[i] = t:to(device):detach():requires_grad_() end
      ai.f.linear(list[1], list[2], list[3]):square():sum():backward()
      return {list[1].grad:cpu(), list[2].grad:cpu(), list[3].grad:cpu()}
    end
    local there, here = gradients "cpu", gradients "cuda"
    for i, g in ipairs(there) do assert.is_true((g - here[i]):abs():max():item() < 1e-3, "gradient " .. i) end
  end)
end)

describe("addmm on the device", function()
  it("is the CPU's for a bias, a matrix and factors", function()
    ai.manual_seed(6)
    local a, b = ai.randn(5, 7), ai.randn(7, 3)
    for _, x in ipairs {ai.randn(3), ai.randn(5, 3), ai.randn(5, 1), ai.randn(1)} do
      for _, factors in ipairs {{1, 1}, {0.5, 2}, {0, 1}} do
        local o = {beta = factors[1], alpha = factors[2]}
        local should = x:to "f64" * o.beta + a:to "f64":matmul(b:to "f64") * o.alpha
        close(should, ai.f.addmm(x:cuda(), a:cuda(), b:cuda(), o), "f32", 7, "addmm")
        close(should, ai.f.addmm(x, a, b, o), "f32", 7, "addmm on the CPU")
      end
    end
    local x = ai.randn(3):requires_grad_()
    ai.f.addmm(x, a, b):sum():backward()
    assert.is_true((x.grad - 5):abs():max():item() < 1e-6)
  end)
end)

describe("TF32", function()
  it("rounds what products of f32 read, when it is on, and nothing else", function()
    if not library then return pending "without cuBLASLt products are of f32" end
    local a, b = ai.randn({33, 65}):cuda(), ai.randn({65, 17}):cuda()
    local should = a:cpu():to "f64":matmul(b:cpu():to "f64")
    local function off(x, y) return (x:matmul(y):cpu():to "f64" - should):abs():max():item() end
    assert.is_false(ai.cuda.tf32())
    assert.is_true(off(a, b) < 1e-4)
    ai.cuda.tf32(true)
    local rough = off(a, b)
    local wide = off(a:to "f64", b:to "f64")
    ai.cuda.tf32(false)
    assert.is_true(rough > 2e-4 and rough < 5e-2, "off by " .. rough)
    assert.is_true(wide < 1e-11)
    assert.is_true(off(a, b) < 1e-4)
  end)
end)

describe("an algorithm", function()
  -- Lines of the file of choices, by how many products of one shape were done.
  local folder = os.getenv "AIJIT_CACHE_DIR"
  local function kept()
    local n = 0
    local list = io.popen("cat '" .. folder .. "'/cuda/cublaslt-*.txt 2>/dev/null")
    for _ in list:lines() do n = n + 1 end
    list:close()
    return n
  end
  it("is timed once for a shape that comes again, and kept on disk, unless results must be the same everywhere", function()
    if not library then return pending "without cuBLASLt there is one" end
    if not folder or folder == "" then return pending "AIJIT_CACHE_DIR names no folder" end
    local rows = 100 + os.time() % 1000                  -- as no earlier run had
    local a, b = ai.randn({rows, 96}, {device = "cuda"}), ai.randn({96, 128}, {device = "cuda"})
    local before = kept()
    local first = a:matmul(b):cpu()
    a:matmul(b)
    assert.are.equal(before, kept())
    for _ = 1, 4 do assert.is_true((a:matmul(b):cpu() - first):abs():max():item() < 1e-4) end
    assert.are.equal(before + 1, kept())
    local was = ai.deterministic()
    ai.deterministic(true)
    local c = ai.randn({96, 144}, {device = "cuda"})
    for _ = 1, 6 do a:matmul(c) end
    ai.deterministic(was)
    ai.cuda.synchronize()
    assert.are.equal(before + 1, kept())
  end)
end)
