--- Training steps whose memory runs out: at every allocation, an error; then nothing is lost, and the step gives what it
-- always gives. spec/memory_spec.lua fails the tensors' memory; spec/fuzz/oom also every malloc of the core.

local ai = require "aijit"
local nn = ai.nn

local steps = {}

local Attention = ai.class("FuzzAttention", nn.Module)
function Attention:__init()
  nn.Module.__init(self)
  self.embed = nn.Embedding(11, 8)
  self.rnn = nn.GRU(8, 8, {batch_first = true})
  self.attend = nn.MultiheadAttention(8, 2, {batch_first = true})
  self.norm = nn.LayerNorm(8)
  self.out = nn.Linear(8, 3)
end
function Attention:forward(x)
  local h = self.rnn(self.embed(x))
  h = self.norm(h + self.attend(h, h, h))
  return self.out(h:mean(2))
end

local makers = {}
function makers.mlp()
  local net = nn.Sequential{nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 3)}
  return net, {ai.randn(5, 6)}
end
function makers.conv()
  local net = nn.Sequential{nn.Conv2d(2, 4, 3, {padding = 1}), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)}
  return net, {ai.randn(5, 2, 6, 6)}
end
function makers.attention()
  return Attention(), {ai.randint(1, 11, {5, 4})}
end

steps.names = {"mlp", "conv", "attention"}

---@class aijit.FuzzStep
---@field run fun(): number, number   a step; its loss, and the sum of the parameters after it
---@field forget fun()                what ai.jit recorded
---@field warm fun()                  the first step, which makes the optimizer's state
---@field reset fun()                 everything as it was before the first step
---@param name string
---@param compiled boolean?  by ai.jit
---@return aijit.FuzzStep
function steps.make(name, compiled)
  ai.manual_seed(3)
  local net, inputs = makers[name]()
  local labels = ai.tensor({1, 3, 2, 2, 1}, {dtype = "i64"})
  local optimizer = ai.optim.AdamW(net:parameters(), {lr = 0.01})
  local parameters, buffers, saved = net:parameters(), net:buffers(), {}
  local function each(f)
    for i, p in ipairs(parameters) do f(i, p) end
    for i, b in ipairs(buffers) do f(#parameters + i, b) end
  end
  each(function(i, p) saved[i] = p:detach():clone() end)
  local function whole(x, y)
    optimizer:zero_grad()
    local loss = ai.cross_entropy(net(x), y)
    loss:backward()
    optimizer:step()
    return loss:detach()
  end
  local state
  local one = compiled and ai.jit(whole) or whole
  local self = {}
  function self.run()
    return ai.scope(function()
      local loss = one(inputs[1], labels):item()
      local sum = 0
      for _, p in ipairs(parameters) do sum = sum + p:detach():sum():item() end
      return loss, sum
    end)
  end
  function self.reset()
    ai.manual_seed(5)
    ai.no_grad(function() each(function(i, p) p:copy_(saved[i]) end) end)
    for _, p in ipairs(parameters) do p.grad = nil end
    if state then optimizer:load_state_dict(state) end
  end
  -- The state of the optimizer is there from the first step on, and is kept as it was after that.
  self.reset()
  --- Forgets what ai.jit recorded.
  function self.forget() if compiled then one = ai.jit(whole) end end
  self.warm = function()
    self.run()
    state = ai.scope(function() return optimizer:state_dict() end)
    self.reset()
  end
  return self
end

return steps
