--- Networks whose weights, inputs, outputs and gradients PyTorch wrote (spec/support/nets.py says how), compared with ours.

local ai = require "aijit"
local assert = require "luassert"
local nn = ai.nn

local parity = {}

--- Modules and parameters by name, without a forward.
function parity.several(parts)
  local m = nn.Module()
  for name, part in pairs(parts) do m[name] = part end
  return m
end

local function largest(t) return t:numel() == 0 and 0 or t:abs():max():item() end

--- To 1e-5 of the largest element. What is 0 but for rounding is measured by `scale`.
local function near(name, mine, theirs, scale)
  assert.are.same(theirs.shape, mine.shape, name)
  local size = largest(theirs)
  if size < 1e-7 * scale then size = scale end
  local off = largest(mine:double() - theirs:double())
  assert(off <= 1e-5 * size, ("%s: off by %.3g of %.3g"):format(name, off, size))
end

--- The tensors of a file under PREFIX0, PREFIX1, ...
local function numbered(file, prefix)
  local list = {}
  while file[prefix .. #list] do list[#list + 1] = file[prefix .. #list] end
  return list
end

--- nets[name]() is a model, and a function of the inputs, or none: model(inputs).
function parity.check(folder, nets, name)
  local file = ai.load(folder .. name .. ".safetensors")
  local model, run = nets[name]()
  local state = {}
  for key, t in pairs(file) do
    local of = key:match "^w%.(.*)"
    if of then state[of] = t end
  end
  local inputs = numbered(file, "x")
  for i, x in ipairs(inputs) do
    inputs[i] = x:is_floating_point() and x:clone():requires_grad_(true) or x + 1
  end
  model:load_state_dict(state)
  local outputs, loss = {(run or model)(unpack(inputs))}, 0
  for i, y in ipairs(outputs) do
    near("y" .. i - 1, y:detach(), file["y" .. i - 1], 1)
    loss = loss + (y * file["gy" .. i - 1]):sum()
  end
  assert.are.equal(#numbered(file, "y"), #outputs)
  loss:backward()
  local scale, seen = 0, {}
  for key, t in pairs(file) do if key:match "^g%.?" and not key:match "^gy" then scale = math.max(scale, largest(t)) end end
  for i, x in ipairs(inputs) do
    local theirs = file["gx" .. i - 1]
    if theirs then near("gx" .. i - 1, x.grad, theirs, scale) else assert.is_nil(x.requires_grad and x.grad or nil) end
  end
  for key, p in model:named_parameters() do
    seen["g." .. key] = true
    if p.requires_grad then near("g." .. key, p.grad, file["g." .. key], scale) end
  end
  for key, b in model:named_buffers() do
    local theirs = file["b." .. key]
    if theirs then near("b." .. key, b, theirs, 1) end
    seen["b." .. key] = true
  end
  for key in pairs(file) do assert(not key:match "^[gb]%." or seen[key], key) end
  return model
end

--- The names of the networks, sorted; those that PyTorch wrote to a folder.
function parity.names(nets)
  local names = {}
  if type(nets) == "string" then
    local list = io.popen("ls " .. nets)
    for line in list:lines() do names[#names + 1] = line:match "^(.*)%.safetensors$" end
    list:close()
  else
    for name in pairs(nets) do names[#names + 1] = name end
    table.sort(names)
  end
  return names
end

return parity
