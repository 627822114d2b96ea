--- Mixed precision on a CUDA device. Run as device_check.lua is.

local ai = require "aijit"
local nn, F = ai.nn, ai.f

assert(ai.cuda.is_available())

-- Six steps of a small transformer over what a convolution makes of pictures.
local function train(device, precision)
  ai.manual_seed(5)
  local patches, head = nn.Conv2d(3, 16, 4, {stride = 4}), nn.Linear(16, 5)
  local block = nn.TransformerEncoderLayer(16, 2, 32, {dropout = 0, activation = "gelu", batch_first = true, norm_first = true})
  local model = nn.ModuleList{patches, block, head}
  model:to(device)
  local x, y = ai.randn(8, 3, 8, 8):to(device), ai.randint(1, 5, {8}):to(device)
  local optimizer = ai.optim.AdamW(model:parameters(), {lr = 3e-3})
  local losses = {}
  local function forward()
    local h = patches(x)
    local z = block(h:flatten(3):transpose(2, 3)):mean(2)
    return F.cross_entropy(head(z), y), h
  end
  for i = 1, 6 do
    losses[i] = ai.scope(function()
      local loss, hidden
      if precision then loss, hidden = ai.autocast(precision, forward) else loss, hidden = forward() end
      assert.are.equal(precision or "f32", hidden.dtype)
      assert.are.equal("f32", loss.dtype)
      optimizer:zero_grad()
      loss:backward()
      for _, p in pairs(model:parameters()) do
        assert.are.equal("f32", p.dtype)
        assert.are.equal("f32", p.grad.dtype)
      end
      optimizer:step()
      return loss:item()
    end)
  end
  return losses
end

describe("mixed precision", function()
  local exact = train("cpu")
  for precision, most in pairs {bf16 = 0.03, f16 = 0.01} do
    it("in " .. precision .. " computes in it, keeps parameters in f32, and learns as f32 does and as the CPU does", function()
      local there, here = train("cpu", precision), train("cuda", precision)
      for i, v in ipairs(exact) do
        assert.is_true(math.abs(here[i] - v) < most * v, ("step %d: %.6g, and in f32 %.6g"):format(i, here[i], v))
        assert.is_true(math.abs(here[i] - there[i]) < most * v, ("step %d: %.6g, and on the CPU %.6g"):format(i, here[i], there[i]))
      end
      assert.is_true(here[6] < here[1])
    end)
  end

  it("is left alone by f64 and integers", function()
    local x = ai.randn({3, 4}, {device = "cuda", dtype = "f64"})
    assert.are.equal("f64", ai.autocast("bf16", F.matmul, x, x:t()).dtype)
    local n = ai.ones({2, 2}, {device = "cuda", dtype = "i64"})
    assert.are.equal("i64", ai.autocast("bf16", F.matmul, n, n).dtype)
  end)

  it("takes small parameter updates that bf16 alone would lose", function()
    local w = ai.ones(64, {device = "cuda", dtype = "bf16"}):requires_grad_()
    local optimizer = ai.optim.SGD({w}, {lr = 1e-4})
    for _ = 1, 40 do
      w.grad = ai.ones(64, {device = "cuda", dtype = "bf16"})
      optimizer:step()
    end
    assert.are.equal("bf16", w.dtype)
    assert.is_true(math.abs(w:float():mean():item() - 0.996) < 1e-3)
  end)
end)
