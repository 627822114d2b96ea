--- The op table is the test table: every row is run on its sample, and checked against itself in other layouts, dtypes and
-- sizes, and against differences for its gradients.

local ai = require "aijit"
local op = require "aijit.bindings.op"
local sample = require "spec.support.sample"
local gradcheck = require "spec.support.gradcheck"

-- Rows whose results are random or are not a function of their inputs' values alone.
local RANDOM = {uniform_ = true, normal_ = true, bernoulli_ = true, exponential_ = true, random_ = true, bernoulli = true, dropout = true,
  dropout1d = true, dropout2d = true, dropout3d = true, alpha_dropout = true, multinomial = true, feature_dropout = true}

-- Rows that read one triangle of a symmetric matrix, and whose gradient is symmetric: differences are taken of that too.
local SYMMETRIC = {cholesky = true, eigh = true, eigvalsh = true}

-- Rows that compute in f32 whatever the dtype.
local SINGLE = {quantized_linear = true, quantized_conv2d = true}

local function call(row, args, n)
  if SYMMETRIC[row.name] and args[1].requires_grad then
    local x = args[1]
    args = {unpack(args, 1, n)}
    args[1] = (x + x:transpose(-2, -1)) / 2
  end
  return {ai.f[row.name](unpack(args, 1, n))}
end

local function run(row, dtype, layout)
  sample.seed(row.index + 1)
  if RANDOM[row.name] then ai.manual_seed(1) end
  local args, n = sample.arguments(row, function(input) return sample.tensor(input, dtype, layout) end)
  return call(row, args, n), args
end

local TOLERANCE = {f64 = 1e-12, f32 = 2e-4, bf16 = 6e-2, f16 = 1e-2}

local function near(a, b, tolerance)
  assert.are.same(a:size(), b:size())
  if a:numel() == 0 then return end
  local x, y = a:to "f64":contiguous():view(-1):totable(), b:to "f64":contiguous():view(-1):totable()
  for i = 1, #x do
    local same = x[i] == y[i] or (x[i] ~= x[i] and y[i] ~= y[i])
    if not same and not (math.abs(x[i] - y[i]) <= tolerance * (1 + math.abs(y[i]))) then
      error(("element %d is %.9g, and should be %.9g"):format(i, x[i], y[i]), 2)
    end
  end
end

local function all_near(results, wanted, tolerance)
  assert.are.equal(#wanted, #results)
  for i, y in ipairs(wanted) do near(results[i], y, tolerance) end
end

local function leaves(row)
  local xs = {}
  sample.seed(row.index + 1)
  local args, n = sample.arguments(row, function(input)
    local t = sample.tensor(input)
    if sample.is_differentiable(input) then xs[#xs + 1] = t:requires_grad_() end
    return t
  end)
  return xs, args, n
end

-- With AIJIT_TEST_DEVICE all of this runs on another device; what it has no kernels for yet is pending.
local it = it
if sample.device ~= "cpu" then
  local plain = it
  it = function(title, f)
    plain(title, function()
      local ok, message = pcall(f)
      if ok then return end
      local missing = tostring(message):match "(%S+): there is no CUDA kernel"
      if missing then return pending("no CUDA kernel for " .. missing) end
      error(message, 0)
    end)
  end
end

for _, row in ipairs(op.rows) do
  describe("op " .. row.name, function()
    local updates = row.kind == "UPDATE" or row.name:match "_$" ~= nil   -- what writes its first argument
    local wanted
    local function result()
      wanted = wanted or run(row)
      return wanted
    end

    it("runs on its sample", function()
      assert.is_true(#result() >= #row.returns)
      assert.is_truthy(row.doc ~= "")
    end)

    if sample.device ~= "cpu" then
      it("gives what the CPU gives, in every dtype that it takes", function()
        for _, dtype in ipairs {"f64", "f32", "bf16", "f16", "i64", "i32", "i16", "i8", "u8", "bool"} do
          local device = sample.device
          sample.device = "cpu"
          local ok, there = pcall(run, row, dtype)
          sample.device = device
          -- What a gradient of integers is, no kernel need agree on.
          if ok and not (TOLERANCE[dtype] == nil and row.name:match "_grad$") then
            local here = run(row, dtype)
            for i, y in ipairs(there) do
              assert.are.equal(y.dtype, here[i].dtype)
              near(here[i], y, SINGLE[row.name] and TOLERANCE.f32 or TOLERANCE[dtype] or 1e-6)
            end
          end
        end
      end)
    end

    it("gives the same for transposed and sliced inputs", function()
      if RANDOM[row.name] and not updates then return end
      for _, layout in ipairs {"transposed", "sliced"} do
        if row.name ~= "as_strided" and row.name ~= "view" then all_near(run(row, nil, layout), result(), 1e-12) end
      end
    end)

    it("gives the same for expanded inputs as for copies of them", function()
      if updates or row.kind == "VIEW" or RANDOM[row.name] then return end
      for _, which in ipairs {"first", "last", "all"} do
        local function go(copy)
          sample.seed(row.index + 1)
          local args, n = sample.arguments(row, function(input)
            local t, sizes = sample.tensor(input), input.sizes
            if not sample.is_differentiable(input) or input.kind == "s" or t:numel() == 0 or #sizes == 0 then return t end
            for d = 1, #sizes do
              if which == "all" or d == (which == "first" and 1 or #sizes) then t = t:narrow(d, 1, 1) end
            end
            t = t:expand(sizes)
            return copy and t:clone() or t
          end)
          return {pcall(call, row, args, n)}
        end
        local expanded, copied = go(false), go(true)
        assert.are.equal(copied[1], expanded[1])
        if expanded[1] then all_near(expanded[2], copied[2], 1e-12) end
      end
    end)

    it("gives the same again", function() all_near(run(row), result(), 0) end)

    it("agrees with double in every dtype that it takes", function()
      for _, dtype in ipairs {"f32", "bf16", "f16"} do
        if not (row.domain == "INT") and not RANDOM[row.name] then
          -- The double result of the same rounded numbers.
          local ok, results = pcall(run, row, dtype)
          if not ok then error(dtype .. ": " .. tostring(results), 0) end
          sample.seed(row.index + 1)
          local args, n = sample.arguments(row, function(input)
            local t = sample.tensor(input, dtype)
            return t:is_floating_point() and t:to "f64" or t
          end)
          local exact = call(row, args, n)
          for i, y in ipairs(exact) do
            if row.name ~= "cast" then near(results[i], y, TOLERANCE[dtype]) end
          end
        end
      end
    end)

    local xs = leaves(row)
    if #xs > 0 and not updates then
      local ok, differentiable = pcall(call, row, select(2, leaves(row)), select(3, leaves(row)))
      if not ok then
        assert(sample.device ~= "cpu", differentiable)   -- the row has no kernel there, as its other tests say
        differentiable = {}
      end
      local any = false
      for _, y in ipairs(differentiable) do any = any or (ai.is_tensor(y) and y.requires_grad) end
      if any and row.name ~= "cast" then
        it("has the gradient that differences show", function()
          local inputs, args, n = leaves(row)
          local worst, where = gradcheck.first(function()
            if RANDOM[row.name] then ai.manual_seed(1) end
            return gradcheck.total(call(row, args, n))
          end, inputs)
          assert.is_true(worst < 1e-6, where)
        end)
        it("has the second gradient that differences show", function()
          local inputs, args, n = leaves(row)
          local worst, where = gradcheck.second(function()
            if RANDOM[row.name] then ai.manual_seed(1) end
            return gradcheck.total(call(row, args, n))
          end, inputs)
          assert.is_true(worst < 1e-5, where)
        end)
      end
    end

    if row.kind == "UNARY" or row.kind == "BINARY" or row.kind == "BINARY_S" then
      it("gives the same in place, and its gradient", function()
        local inputs, args, n = leaves(row)
        local y = ai.f[row.name](unpack(args, 1, n))
        local copies = {unpack(args, 1, n)}
        copies[1] = copies[1] * 1
        if y.dtype == copies[1].dtype and table.concat(y:size(), "x") == table.concat(copies[1]:size(), "x") then
          local z = copies[1]
          ai.f[row.name .. "_"](unpack(copies, 1, n))
          near(z, y, 1e-14)
          if y.requires_grad then
            local a = ai.grad(gradcheck.total {y}, inputs, {allow_unused = true})
            local b = ai.grad(gradcheck.total {z}, inputs, {allow_unused = true})
            for i = 1, #a do if a[i] then near(b[i], a[i], 1e-12) end end
          end
        end
      end)
    end

    if row.kind == "UNARY" or row.kind == "BINARY" or row.kind == "COMPARE" or row.kind == "TEST" then
      it("takes zero-size and rank-0 inputs and broadcasts", function()
        local count = row.params[2] and row.params[2].type == "aj_tensor *" and 2 or 1
        local rest = {select(2, sample.read(row.sample))}
        local extra, n_extra = rest[1], rest[2]
        local kind = sample.read(row.sample)[1].kind
        local function make(sizes)
          local t = ai.full(sizes, 1.25, {dtype = "f64", device = sample.device})
          if kind == "%" then t = t * 0.5 end
          return kind == "b" and t:bool() or kind == "i" and t:long() or t
        end
        local function go(a, b)
          local args = {a, b}
          if count == 1 then args = {a} end
          for i = 1, n_extra do args[count + i] = extra[i] end
          return ai.f[row.name](unpack(args, 1, count + n_extra))
        end
        assert.are.same({0, 3}, go(make {0, 3}, make {0, 3}):size())
        assert.are.same({}, go(make {}, make {}):size())
        if count == 2 then
          assert.are.same({2, 3, 4}, go(make {3, 1}, make {2, 1, 4}):size())
          assert.has_error(function() go(make {3}, make {4}) end)
        end
      end)
    end
  end)
end
