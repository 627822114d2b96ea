--- The graph of a model as it runs: a node for each call of a layer, named by its path, with its arguments and its output's shape.
--
-- The model is called once with an example, in eval mode and without gradients. An edge goes from the layer whose output a
-- tensor is; a tensor that something between layers made (an addition, a view) comes from every layer whose output nothing has
-- taken yet, or else from the last.

local ai = require "aijit"

local function shape_of(t)
  local sizes = {}
  for i = 1, t:dim() do sizes[i] = t:size(i) end
  return sizes
end

-- A handle's address: two handles of one tensor are two, so an output that is handed on unchanged is found by itself.
local function key_of(t) return tostring(t:data()) end

---@param model aijit.nn.Module
---@param ... any an example of its inputs
---@return {name: string, op: string, inputs: string[], about: table<string, string>, shape: integer[]?}[]
return function(model, ...)
  if type(model) ~= "table" or type(model.named_modules) ~= "function" then
    error(("log_graph: the model is %s, not a module"):format(tostring(model)), 2)
  end
  local nodes, makers, removers, calls, last = {}, {}, {}, {}, nil
  local kept, open = {}, {}

  -- The names that a value comes from; they are taken.
  local function sources(x)
    local maker = type(x) == "cdata" and ai.is_tensor(x) and makers[key_of(x)]
    local names = maker and {maker} or open
    if #names == 0 then names = {last} end
    local left = {}
    for _, name in ipairs(maker and open or {}) do if name ~= maker then left[#left + 1] = name end end
    open = left
    return names
  end

  for i = 1, select("#", ...) do
    local input = select(i, ...)
    local name = "input" .. (i > 1 and "_" .. i or "")
    local tensor = type(input) == "cdata" and ai.is_tensor(input)
    nodes[#nodes + 1] = {name = name, op = "Placeholder", inputs = {}, about = {}, shape = tensor and shape_of(input) or nil}
    if tensor then makers[key_of(input)] = name end
    open[#open + 1], last = name, name
  end

  local function called(path, module, x, y)
    calls[path] = (calls[path] or 0) + 1
    local name = path:gsub("%.", "/") .. (calls[path] > 1 and "_" .. calls[path] or "")
    local inputs = sources(x)
    local about = {module = (tostring(module):match "^[^\n]*")}
    local count = module:num_parameters()
    if count > 0 then about.parameters = tostring(count) end
    local tensor = type(y) == "cdata" and ai.is_tensor(y)
    nodes[#nodes + 1] = {name = name, op = getmetatable(module).__name, inputs = inputs, about = about, shape = tensor and shape_of(y) or nil}
    if tensor then
      -- Kept until the end, so that no later tensor gets its memory and is taken for it.
      makers[key_of(y)] = name
      kept[#kept + 1] = y
    end
    open[#open + 1], last = name, name
  end

  for path, module in model:named_modules() do
    if module:named_children()() == nil and path ~= "" then
      removers[#removers + 1] = module:register_forward_hook(function(self, x, y) called(path, self, x, y) end)
    end
  end
  local training = model.training
  if training then model:eval() end
  local args, n = {...}, select("#", ...)
  local ok, problem = pcall(function() ai.no_grad(function() return model(unpack(args, 1, n)) end) end)
  for _, remove in ipairs(removers) do remove() end
  if training then model:train() end
  if not ok then error(problem, 0) end
  nodes[#nodes + 1] = {name = "output", op = "Output", inputs = sources(nil), about = {}}
  return nodes
end
