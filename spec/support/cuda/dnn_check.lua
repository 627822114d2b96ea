--- What cuDNN does for a CUDA device, against the CPU: convolutions and attention. Run by spec/cuda_spec.lua over the stand-in,
-- with cuDNN and without it, where kernels of aijit's own do the same; runs on a GPU too.

local ai = require "aijit"
local f = ai.f

assert(ai.cuda.is_available())

local TOLERANCE = {f64 = 1e-10, f32 = 1e-4, f16 = 4e-3, bf16 = 3e-2}

-- What `make` gives on the CPU and on the device: a result and gradients of it with respect to inputs, of tensors of these sizes.
local function both(sizes, dtype, make)
  local function go(device)
    ai.manual_seed(3)
    local xs = {}
    for i, size in ipairs(sizes) do xs[i] = (ai.randn(size) * 0.5):to(dtype):to(device):requires_grad_() end
    local y = make(unpack(xs))
    local g = ai.randn(y:size()):to(dtype):to(device)
    y:backward(g)
    local list = {y:detach()}
    for i, x in ipairs(xs) do list[i + 1] = x.grad end
    return list
  end
  local there, here = go "cpu", go "cuda"
  assert.are.equal(#there, #here)
  for i, t in ipairs(there) do
    assert.are.same(t:size(), here[i]:size())
    local a, b = t:to "f64", here[i]:cpu():to "f64"
    local off = (a - b):abs():max():item() / math.max(1, a:abs():max():item())
    assert.is_true(off <= TOLERANCE[dtype], ("tensor %d of %s is off by %g"):format(i, dtype, off))
  end
end

describe("a convolution on a CUDA device", function()
  for _, dtype in ipairs {"f32", "f64", "bf16", "f16"} do
    it("is that of the CPU over one to three dimensions, in " .. dtype, function()
      both({{2, 4, 9}, {6, 4, 3}, {6}}, dtype, function(x, w, b) return f.conv1d(x, w, b, 2, 1) end)
      both({{2, 4, 7, 6}, {6, 4, 3, 2}, {6}}, dtype, function(x, w, b) return f.conv2d(x, w, b, {2, 1}, {1, 0}) end)
      both({{1, 2, 4, 5, 3}, {3, 2, 2, 3, 1}, {3}}, dtype, function(x, w, b) return f.conv3d(x, w, b, 1, {1, 0, 1}) end)
    end)
    it("has groups, dilation and images without a batch, in " .. dtype, function()
      both({{2, 4, 7, 6}, {8, 2, 3, 3}}, dtype, function(x, w) return f.conv2d(x, w, nil, 1, 2, 2, 2) end)
      both({{2, 4, 5, 5}, {4, 1, 3, 3}, {4}}, dtype, function(x, w, b) return f.conv2d(x, w, b, 1, 1, 1, 4) end)
      both({{3, 6, 6}, {2, 3, 1, 1}}, dtype, function(x, w) return f.conv2d(x, w) end)
    end)
    it("transposed has output padding, groups and a bias, in " .. dtype, function()
      both({{2, 4, 5}, {4, 3, 3}, {3}}, dtype, function(x, w, b) return f.conv_transpose1d(x, w, b, 2, 1, 1) end)
      both({{2, 4, 4, 3}, {4, 3, 3, 2}, {6}}, dtype, function(x, w, b) return f.conv_transpose2d(x, w, b, {2, 1}, 1, {1, 0}, 2) end)
      both({{2, 4, 4}, {4, 3, 3}, {3}}, dtype, function(x, w, b) return f.conv_transpose1d(x, w, b, 1, 0, 1, 1, 2) end)
      both({{1, 2, 2, 3, 2}, {2, 3, 2, 2, 2}, {3}}, dtype, function(x, w, b) return f.conv_transpose3d(x, w, b, 1) end)
    end)
  end
  it("is of tensors that are transposed or sliced", function()
    both({{3, 2, 8, 4}, {3, 8, 2, 3}}, "bf16", function(x, w) return f.conv2d(x:transpose(1, 2), w:transpose(1, 2):narrow(1, 1, 4), nil, 1, 1, 1) end)
  end)
  it("is the same again, from a plan that was kept", function()
    for _ = 1, 3 do both({{2, 4, 7, 6}, {6, 4, 3, 2}}, "f16", function(x, w) return f.conv2d(x, w) end) end
  end)
  it("is the same where nothing is chosen by timing", function()
    local was = ai.deterministic()
    ai.deterministic(true)
    both({{2, 4, 7, 6}, {6, 4, 3, 2}, {6}}, "bf16", function(x, w, b) return f.conv2d(x, w, b, 1, 1) end)
    both({{2, 4, 7, 6}, {6, 4, 3, 2}, {6}}, "f32", function(x, w, b) return f.conv2d(x, w, b, 1, 1) end)
    ai.deterministic(was)
  end)
end)

describe("images with channels last on a CUDA device", function()
  local function net(x, w, v, weight, bias)
    local h = f.conv2d(x, w, nil, 1, 1)
    h = f.max_pool2d(f.relu(f.batch_norm(h, nil, nil, weight, bias, true)), 3, 2, 1)
    h = f.conv2d(h, v, nil, 1, 1) + f.avg_pool2d(h, 3, 1, 1)
    return f.adaptive_avg_pool2d(f.conv_transpose2d(h, v, nil, 2, 1), 2)
  end
  local sizes = {{2, 4, 9, 8}, {8, 4, 3, 3}, {8, 8, 3, 3}, {8}, {8}}
  for _, dtype in ipairs {"f64", "f32"} do
    it("go through a network as others do, in " .. dtype, function()
      both(sizes, dtype, net)
      both(sizes, dtype, function(x, ...) return net(x:channels_last(), ...) end)
    end)
  end
  it("give convolutions, norms, pools and elementwise rows that keep the order", function()
    if not ai.cuda.libraries()[1].version then return end
    local x = ai.randn(2, 4, 9, 8, {device = "cuda"}):to("bf16"):channels_last()
    local w, seen = ai.randn(8, 4, 3, 3, {device = "cuda"}):to "bf16", {}
    local y = f.conv2d(x, w, nil, 1, 1)
    seen.norm, seen.relu, seen.sum = f.batch_norm(y, nil, nil, nil, nil, true), f.relu(y), y + y
    seen.largest, seen.mean, seen.cast = f.max_pool2d(y, 2), f.avg_pool2d(y, 2), y:to "f32"
    for name, t in pairs(seen) do
      assert.are.equal(1, t:stride(2), name)
      local order = t:contiguous()
      assert.are.equal(0, (t - order):abs():max():item(), name)
    end
  end)
  it("and such in order are computed with together", function()
    both({{2, 3, 4, 5}, {2, 3, 4, 5}}, "f32", function(a, b) return f.relu(a:channels_last() * b) + b:channels_last() end)
  end)
end)

describe("attention on a CUDA device", function()
  local function attend(...)
    local rest = {n = select("#", ...), ...}
    return function(q, k, v) return f.scaled_dot_product_attention(q, k, v, unpack(rest, 1, rest.n)) end
  end
  for _, dtype in ipairs {"bf16", "f16", "f32"} do
    it("is that of the CPU, causal or not, in " .. dtype, function()
      for _, causal in ipairs {false, true} do
        both({{2, 3, 9, 8}, {2, 3, 9, 8}, {2, 3, 9, 8}}, dtype, attend(nil, 0, causal))
        both({{1, 2, 5, 16}, {1, 2, 70, 16}, {1, 2, 70, 8}}, dtype, attend(nil, 0, causal))
        both({{1, 2, 70, 8}, {1, 2, 5, 8}, {1, 2, 5, 8}}, dtype, attend(nil, 0, causal, 0.3))
      end
    end)
    it("has heads that share keys, in " .. dtype, function()
      both({{2, 4, 9, 8}, {2, 2, 9, 8}, {2, 2, 9, 8}}, dtype, attend(nil, 0, true, 0, true))
      both({{1, 4, 6, 8}, {1, 1, 7, 8}, {1, 1, 7, 8}}, dtype, attend(nil, 0, false, 0, true))
    end)
    it("is of one tensor of queries, keys and values, in " .. dtype, function()
      both({{2, 6, 3, 4, 8}}, dtype, function(x)
        local q, k, v = unpack(x:permute(3, 1, 4, 2, 5):unbind(1))
        return f.scaled_dot_product_attention(q, k, v, nil, 0, true)
      end)
    end)
  end
  it("has masks of bools and numbers, of rows that see nothing too, with causality", function()
    for _, dtype in ipairs {"bf16", "f16"} do
      local bools = ai.tensor {{1, 0, 1, 1}, {0, 0, 0, 0}, {0, 1, 1, 0}}:to "bool"
      local keys = ai.tensor {{1, 0, 1, 1}, {0, 0, 0, 0}}:to "bool":reshape(2, 1, 1, 4)
      local low = -math.huge
      for _, mask in ipairs {bools, keys, ai.randn(2, 2, 3, 4), ai.tensor {{0, low, 0, 0}, {low, low, low, low}, {1, 2, 3, 4}}} do
        for _, causal in ipairs {false, true} do
          both({{2, 2, 3, 8}, {2, 2, 4, 8}, {2, 2, 4, 8}}, dtype, function(q, k, v)
            return f.scaled_dot_product_attention(q, k, v, mask:to(q.device), 0, causal)
          end)
        end
      end
    end
  end)
  it("has masks and dropout", function()
    local mask = ai.tensor {{0, -1e9, 0, 0}, {0, 0, -1e9, 0}, {0.5, 0, 0, -1e9}}
    both({{2, 2, 3, 8}, {2, 2, 4, 8}, {2, 2, 4, 8}}, "bf16", function(q, k, v) return f.scaled_dot_product_attention(q, k, v, mask:to "bf16":to(q.device)) end)
    both({{2, 2, 3, 8}, {2, 2, 4, 8}, {2, 2, 4, 8}}, "f32", attend(nil, 0.3))
  end)
end)
