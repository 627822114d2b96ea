--- A task on a CUDA device: the CPU's curve of losses, checkpoints, and what moves between devices. Run as device_check.lua is.

local ai = require "aijit"
local files = require "spec.support.files"
local paths = require "aijit.tree"

assert(ai.cuda.is_available())

local nn = ai.nn
local folder
before_each(function() folder = files.folder() end)
after_each(function() files.remove(folder) end)

local Keeper = ai.class("DeviceKeeper", ai.log.Logger)
function Keeper:__init() self.losses, self.interval = {}, 0 end
function Keeper:write(line)
  if line.phase ~= "train" then return end
  for _, pair in ipairs(line.scalars) do if pair[1] == "loss" then table.insert(self.losses, pair[2]) end end
end
function Keeper:status() end

-- The digits that come with the example, a quarter of their size, and its network, as much smaller.
local digits
local function dataset()
  if not digits then
    local set = ai.data.Mnist{root = (paths.root or ".") .. "/examples/mnist/data", train = true}
    local images, labels = {}, {}
    for i = 1, 120 do
      local x, y = set:get(i)
      images[i], labels[i] = x:float():view(1, 28, 28), y
    end
    digits = {ai.f.avg_pool2d(ai.stack(images), 4) / 255, ai.is_tensor(labels[1]) and ai.stack(labels) or ai.tensor(labels, {dtype = "i64"})}
  end
  return ai.data.TensorDataset(digits[1], digits[2])
end

local Digits = ai.class("DeviceDigits", ai.Task)
function Digits:__init(config)
  ai.Task.__init(self, config)
  self.model = nn.Sequential{
    nn.Conv2d(1, 4, 3, {padding = 1}), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1), nn.Flatten(), nn.Linear(36, 10),
  }
  self.keeper = Keeper()
end
function Digits:set_loggers() self:add_logger(self.keeper) end
function Digits:get_dataset() return dataset() end
function Digits:build_optimizer() return ai.optim.AdamW(self, {lr = 0.02}) end
function Digits:get_loss(batch) return ai.cross_entropy(self.model(batch[1]), batch[2]) end

local function launch(values)
  values.batch_size, values.valid_every_n_steps, values.tensorboard = 20, 1000, nil
  values.exp_dir = values.exp_dir or folder .. "/" .. values.device:gsub(":", "")
  return Digits:launch(Digits.Config(values), {})
end
local function weights(task)
  local all = {}
  for name, t in pairs(task:state_dict()) do if ai.is_tensor(t) then all[name] = t:cpu():double():totable() end end
  return all
end

describe("a task on a CUDA device", function()
  it("has the CPU's losses, batch for batch", function()
    local there, here = launch {device = "cpu", max_steps = 8}, launch {device = "cuda", max_steps = 8}
    assert.are.equal("cuda:0", here.model[1].weight.device)
    assert.are.equal(8, #here.keeper.losses)
    for i, v in ipairs(there.keeper.losses) do
      assert.is_true(math.abs(v - here.keeper.losses[i]) < 2e-3 * (1 + v), ("step %d: %.6f, and %.6f on the CPU"):format(i, here.keeper.losses[i], v))
    end
    assert.is_true(here.keeper.losses[8] < here.keeper.losses[1])
  end)
  it("goes on from a checkpoint to the same bits", function()
    local whole = launch {device = "cuda", max_steps = 7, exp_dir = folder .. "/whole"}
    launch {device = "cuda", max_steps = 4, exp_dir = folder .. "/parts"}
    local parts = launch {device = "cuda", max_steps = 7, exp_dir = folder .. "/parts"}
    assert.are.equal(7, parts.state.num_steps)
    assert.are.equal(3, #parts.keeper.losses)
    for i = 1, 3 do assert.are.equal(whole.keeper.losses[4 + i], parts.keeper.losses[i]) end
    assert.are.same(weights(whole), weights(parts))
  end)
  it("leaves a checkpoint that the CPU goes on from", function()
    launch {device = "cuda", max_steps = 3, exp_dir = folder .. "/moved"}
    local cpu = launch {device = "cpu", max_steps = 5, exp_dir = folder .. "/moved"}
    local whole = launch {device = "cpu", max_steps = 5, exp_dir = folder .. "/all"}
    assert.are.equal(2, #cpu.keeper.losses)
    for i = 1, 2 do assert.near(whole.keeper.losses[3 + i], cpu.keeper.losses[i], 5e-3) end
  end)
end)

describe("states", function()
  local function trained(device)
    ai.manual_seed(9)
    local model = nn.Sequential{nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)}
    model:to(device)
    local optimizer = ai.optim.Adam(model:parameters(), {lr = 0.05})
    local x = ai.randn(8, 5)
    local function step()
      return ai.scope(function()
        local loss = model(x:to(device)):square():mean()
        optimizer:zero_grad()
        loss:backward()
        optimizer:step()
        return loss:item()
      end)
    end
    for _ = 1, 3 do step() end
    return model, optimizer, step
  end
  it("of models and optimizers move between devices and go on alike", function()
    local model, optimizer, step = trained "cuda"
    local other, other_optimizer, other_step = trained "cpu"
    other:load_state_dict(model:state_dict())
    other_optimizer:load_state_dict(optimizer:state_dict())
    assert.are.equal("cpu", other[1].weight.device)
    for _ = 1, 3 do assert.near(step(), other_step(), 1e-5) end
    model:load_state_dict(other:state_dict())
    optimizer:load_state_dict(other_optimizer:state_dict())
    assert.are.equal("cuda:0", model[1].weight.device)
    for _ = 1, 3 do assert.near(step(), other_step(), 1e-5) end
  end)
end)
