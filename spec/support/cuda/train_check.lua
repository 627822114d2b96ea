--- Training on a CUDA device: optimizers, and tensors of every kind that they meet at once. Run as device_check.lua is.

local ai = require "aijit"
local nn, optim = ai.nn, require "aijit.optim"

assert(ai.cuda.is_available())

describe("training", function()
  local function losses(device, method, dtype)
    ai.manual_seed(3)
    local model = nn.Sequential{nn.Linear(12, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 5)}
    local x, y = ai.randn(32, 12), ai.randint(1, 5, {32})
    model:to(device):to(dtype)
    x, y = x:to(device):to(dtype), y:to(device)
    local optimizer = optim[method](model:parameters(), {lr = 0.01})
    local list = {}
    for i = 1, 6 do
      list[i] = ai.scope(function()
        local loss = ai.f.cross_entropy(model(x), y)
        optimizer:zero_grad()
        loss:backward()
        optim.clip_grad_norm(model:parameters(), 0.5)
        optimizer:step()
        return loss:item()
      end)
    end
    return list
  end
  for _, method in ipairs {"SGD", "Adam", "AdamW", "Lion", "Adan", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "LAMB", "Muon"} do
    it("by " .. method .. " goes as on the CPU", function()
      local there, here = losses("cpu", method, "f32"), losses("cuda", method, "f32")
      for i, v in ipairs(there) do assert.is_true(math.abs(v - here[i]) < 1e-4, ("step %d: %.8g, and should be %.8g"):format(i, here[i], v)) end
      assert.is_true(here[6] < here[1])
    end)
  end
  it("in bf16 keeps f32 copies of parameters", function()
    local there, here = losses("cpu", "AdamW", "bf16"), losses("cuda", "AdamW", "bf16")
    for i, v in ipairs(there) do assert.is_true(math.abs(v - here[i]) < 0.03, ("step %d: %.8g, and should be %.8g"):format(i, here[i], v)) end
  end)

  -- Of one optimizer: large and empty ones, a view that is not aligned, a transposed one, of several dtypes, some without gradients.
  local function odd(device)
    ai.manual_seed(4)
    local list = {}
    local function add(x, dtype) list[#list + 1] = x:to(dtype or "f32"):to(device) end
    for i = 1, 60 do add(ai.randn(3, i)) end
    add(ai.randn(20001)) add(ai.zeros(0, 4)) add(ai.randn(7), "f64") add(ai.randn(9, 5), "bf16") add(ai.randn(33), "f16") add(ai.randn(1))
    list[#list + 1] = ai.randn(6, 5):to(device):t()
    list[#list + 1] = ai.randn(12):to(device):slice(1, 2, 12)
    list[#list + 1] = ai.randn(4, 6):to(device):slice(2, 1, 6, 2)
    for i, x in ipairs(list) do
      list[i] = x:detach()
      list[i]:requires_grad_()
      if i % 7 ~= 0 then list[i].grad = (ai.randn(list[i]:size()) * 0.1):to(x.dtype):to(device) end
    end
    return list
  end
  for _, method in ipairs {"AdamW", "SGD", "LAMB"} do
    it("by " .. method .. " takes tensors of all kinds at once", function()
      local there, here = odd "cpu", odd "cuda"
      for _, list in ipairs {there, here} do
        local optimizer = optim[method](list, {lr = 0.05})
        local norm = optim.clip_grad_norm(list, 3)
        list.norm = norm
        for _ = 1, 3 do optimizer:step() end
        optim.clip_grad_value(list, 0.02)
      end
      assert.is_true(math.abs(there.norm - here.norm) < 1e-4 * there.norm)
      for i, x in ipairs(there) do
        local y = here[i]:cpu()
        local tolerance = x.dtype == "bf16" and 1e-2 or x.dtype == "f16" and 2e-3 or 1e-5
        if x:numel() > 0 then
          assert.is_true((x:double() - y:double()):abs():max():item() < tolerance, method .. " of tensor " .. i)
          if x.grad then assert.is_true((x.grad:double() - here[i].grad:cpu():double()):abs():max():item() < tolerance) end
        end
      end
    end)
  end
end)
