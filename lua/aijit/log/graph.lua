--- The graph of a model as it runs: a node for each call of a layer, named by its path, with its arguments and its output's shape.
--
-- The model is called once with an example, in eval mode. What goes into a layer may have been made between layers (an
-- addition, a view), so each layer's output is handed on as a leaf of its own, and a gradient of what goes in tells the leaves
-- it is made of: every edge is one, a skip's too. Where there are no gradients (integers, detached tensors) a tensor comes from
-- the layer whose output it is, or else from every layer whose output nothing has taken yet, or else from the last.

local ai = require "aijit"

local function shape_of(t)
  local sizes = {}
  for i = 1, t:dim() do sizes[i] = t:size(i) end
  return sizes
end

-- A handle's address: two handles of one tensor are two, so an output that is handed on unchanged is found by itself.
local function key_of(t) return tostring(t:data()) end

local function is_tensor(x) return type(x) == "cdata" and ai.is_tensor(x) end

---@param model aijit.nn.Module
---@param ... any an example of its inputs
---@return {name: string, op: string, inputs: string[], about: table<string, string>, shape: integer[]?}[]
return function(model, ...)
  if type(model) ~= "table" or type(model.named_modules) ~= "function" then
    error(("log_graph: the model is %s, not a module"):format(tostring(model)), 2)
  end
  local nodes, makers, removers, calls, last = {}, {}, {}, {}, nil
  local kept, open, leaves = {}, {}, {list = {}, names = {}}

  -- The tensor as it is handed on, known as that node's.
  local function tag(t, name)
    local handed = t
    if t:is_floating_point() then
      local leaf = t:detach():requires_grad_(true)
      leaves.list[#leaves.list + 1], leaves.names[#leaves.names + 1] = leaf, name
      handed = leaf:clone()
    end
    -- Kept until the end, so that no later tensor gets its memory and is taken for it.
    makers[key_of(handed)], kept[#kept + 1] = name, handed
    return handed
  end

  local function made_of(x, found)
    local ok, grads
    if x.requires_grad then ok, grads = pcall(ai.grad, x:sum(), leaves.list, {allow_unused = true, retain_graph = true}) end
    if ok then
      for i, grad in ipairs(grads) do if grad then found[leaves.names[i]] = true end end
    elseif makers[key_of(x)] then
      found[makers[key_of(x)]] = true
    end
  end

  local function look(value, found)
    if is_tensor(value) then
      made_of(value, found)
    elseif type(value) == "table" and getmetatable(value) == nil then
      for _, part in pairs(value) do look(part, found) end
    end
  end

  -- The names that values come from, in the order of their nodes; they are taken.
  local function sources(...)
    local found, names = {}, {}
    for i = 1, select("#", ...) do look((select(i, ...)), found) end
    if next(found) == nil then for _, name in ipairs(#open > 0 and open or {last}) do found[name] = true end end
    for _, node in ipairs(nodes) do if found[node.name] then names[#names + 1] = node.name end end
    local left = {}
    for _, name in ipairs(open) do if not found[name] then left[#left + 1] = name end end
    open = left
    return names
  end

  local args, n = {...}, select("#", ...)
  for i = 1, n do
    local input = args[i]
    local name = "input" .. (i > 1 and "_" .. i or "")
    nodes[#nodes + 1] = {name = name, op = "Placeholder", inputs = {}, about = {}, shape = is_tensor(input) and shape_of(input) or nil}
    if is_tensor(input) then args[i] = tag(input, name) end
    open[#open + 1], last = name, name
  end

  local function called(path, module, inputs, y)
    calls[path] = (calls[path] or 0) + 1
    local name = path:gsub("%.", "/") .. (calls[path] > 1 and "_" .. calls[path] or "")
    local about = {module = (tostring(module):match "^[^\n]*")}
    local count = module:num_parameters()
    if count > 0 then about.parameters = tostring(count) end
    nodes[#nodes + 1] = {name = name, op = getmetatable(module).__name, inputs = inputs, about = about, shape = is_tensor(y) and shape_of(y) or nil}
    open[#open + 1], last = name, name
    if is_tensor(y) then return tag(y, name) end
  end

  for path, module in model:named_modules() do
    if module:named_children()() == nil and path ~= "" then
      local inputs
      removers[#removers + 1] = module:register_forward_pre_hook(function(_, ...) inputs = sources(...) end)
      removers[#removers + 1] = module:register_forward_hook(function(self, _, y) return called(path, self, inputs, y) end)
    end
  end
  local training = model.training
  if training then model:eval() end
  local output
  local ok, problem = pcall(function() ai.enable_grad(function() output = {model(unpack(args, 1, n))} end) end)
  for _, remove in ipairs(removers) do remove() end
  if training then model:train() end
  if not ok then error(problem, 0) end
  nodes[#nodes + 1] = {name = "output", op = "Output", inputs = sources(output), about = {}}
  return nodes
end
