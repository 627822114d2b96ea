--- Whole trainings on a device, held against the CPU: digits by a convolutional network, characters by a small GPT.

local ai = require "aijit"
local nn = ai.nn
local F = ai.f
local model = require "spec.gpu.model"
local paths = require "aijit.tree"

local M = {}

--- The ten thousand digits in examples/: an epoch over 8,000 of them, then how many of 2,000 others are told right.
---@param device string
---@param small boolean  a few steps, whose accuracy does not count
---@return {accuracy: number, steps: integer, loss: number}
function M.mnist(device, small)
  ai.manual_seed(1)
  local train, test = ai.data.Mnist{train = true}, ai.data.Mnist{train = false}
  local function pictures(set, from, to)
    return (set.images:slice(1, from, to):float() / 255):unsqueeze(2):to(device), set.labels:slice(1, from, to):to(device)
  end
  local c = small and 4 or 32
  local net = nn.Sequential{
    nn.Conv2d(1, c, 3, {padding = 1}), nn.BatchNorm2d(c), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(c, 2 * c, 3, {padding = 1}), nn.BatchNorm2d(2 * c), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(2 * c * 7 * 7, 10),
  }
  net:to(device)
  local optimizer = ai.optim.AdamW(net:parameters(), {lr = 2e-3})
  local batch, steps, loss = small and 8 or 64, 0, nil
  for epoch = 1, small and 1 or 3 do
    local order = ai.randperm(train.images:size(1))
    for from = 1, small and 2 * batch or train.images:size(1) - batch + 1, batch do
      loss = ai.scope(function()
        local which = order:slice(1, from, from + batch - 1)
        local x = (train.images:index_select(1, which):float() / 255):unsqueeze(2):to(device)
        local l = F.cross_entropy(net(x), train.labels:index_select(1, which):to(device))
        optimizer:zero_grad()
        l:backward()
        optimizer:step()
        steps = steps + 1
        return (epoch == 3 or small) and l:item() or nil
      end)
    end
  end
  net:eval()
  local right, count = 0, small and 16 or test.images:size(1)
  for from = 1, count, 200 do
    right = right + ai.scope(function()
      local x, y = pictures(test, from, math.min(count, from + 199))
      return ai.no_grad(function() return net(x):argmax(2):eq(y):sum():item() end)
    end)
  end
  return {accuracy = right / count, steps = steps, loss = loss}
end

--- The losses of a small GPT on the characters of this project's own text, step by step.
---@param device string
---@param steps integer
---@param small boolean
---@return number[]
function M.characters(device, steps, small)
  ai.manual_seed(2)
  local file = assert(io.open(paths.root .. "/README.md"))
  local text = file:read "*a"
  file:close()
  local B, T = small and 2 or 16, small and 8 or 128
  local net = model.gpt2{vocabulary = 256, context = T, layers = small and 1 or 4, heads = 4, width = small and 16 or 128}
  net:to(device)
  local random = 12345
  local function at() random = (random * 1103515245 + 12345) % 2 ^ 31 return random % (#text - T - 1) end
  local optimizer = ai.optim.AdamW(net:parameters(), {lr = 1e-3})
  local losses = {}
  for i = 1, steps do
    losses[i] = ai.scope(function()
      local x, y = {}, {}
      for b = 1, B do
        local from = at()
        x[b], y[b] = {}, {}
        for t = 1, T do x[b][t], y[b][t] = text:byte(from + t) + 1, text:byte(from + t + 1) + 1 end
      end
      local loss = net(ai.tensor(x, {dtype = "i64"}):to(device), ai.tensor(y, {dtype = "i64"}):to(device))
      optimizer:zero_grad()
      loss:backward()
      optimizer:step()
      return loss:item()
    end)
  end
  return losses
end

--- Both, with what the CPU's curve is off by: the largest difference of two losses, as a part of the CPU's.
---@param device string
---@param small boolean
---@return table
function M.all(device, small)
  local out = {}
  local ok, told = pcall(M.mnist, device, small)
  out.mnist = ok and told or {error = tostring(told):match "^[^\n]*"}
  ok, told = pcall(function()
    local steps = small and 3 or 200
    local there, here = M.characters("cpu", steps, small), M.characters(device, steps, small)
    local most = 0
    for i, v in ipairs(there) do most = math.max(most, math.abs(v - here[i]) / v) end
    return {cpu = there, device = here, apart = most}
  end)
  out.characters = ok and told or {error = tostring(told):match "^[^\n]*"}
  return out
end

return M
