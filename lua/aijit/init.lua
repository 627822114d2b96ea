--- aijit: `local ai = require "aijit"`.
--
-- Tensors and ops are here from the start; every other part is loaded when it is first named, so that a program pays for
-- what it uses.

require "aijit.tree"
local op = require "aijit.bindings.op"
local lib = require "aijit.bindings.lib"
local Tensor = require "aijit.bindings.tensor"
require "aijit.bindings.index"
require "aijit.bindings.math"
local alias = require "aijit.bindings.alias"
local construct = require "aijit.bindings.construct"
local scope = require "aijit.bindings.scope"
local autograd = require "aijit.bindings.autograd"
local device = require "aijit.bindings.device"
local random = require "aijit.bindings.random"
local print_options = require "aijit.bindings.print"

---@class aijit
local ai = {_VERSION = "0.1.0"}

ai.Tensor = Tensor
ai.is_tensor = lib.is_tensor

local RECURRENT = {lstm = true, gru = true, rnn_tanh = true, rnn_relu = true}
for name in ("max min split chunk unbind t"):gmatch "%S+" do op.faces[name] = true end

--- Every op as a function: `ai.f.relu(x)`, `ai.f.conv2d(x, weight, bias, {stride = 2})`.
ai.f = setmetatable({}, {__index = function(t, name)
  local plain = type(name) == "string" and name:gsub("_$", "")
  local fn = (op.functions[name] or op.faces[name] or op.later[name] or alias[name] or alias[plain]) and Tensor[name]
    or RECURRENT[name] and require("aijit.bindings.rnn")[name]
  if not fn then
    local names = {unpack(op.names)}
    for known in pairs(op.later) do names[#names + 1] = known end
    local near = type(name) == "string" and require("aijit.nearest").find(name, names) or {}
    lib.raise(("there is no op %s%s"):format(tostring(name), #near > 0 and "; did you mean " .. table.concat(near, " or ") .. "?" or ""))
  end
  rawset(t, name, fn)
  return fn
end})

for _, part in ipairs {construct, random} do
  for name, fn in pairs(part) do if type(fn) == "function" then ai[name] = fn end end
end

ai.scope, ai.keep, ai.memory = scope.scope, scope.keep, scope.memory
ai.empty_cache, ai.set_memory_limit = scope.empty_cache, scope.set_memory_limit
ai.grad, ai.no_grad, ai.enable_grad = autograd.grad, autograd.no_grad, autograd.enable_grad
ai.is_grad_enabled, ai.set_grad_enabled, ai.define_op = autograd.is_grad_enabled, autograd.set_grad_enabled, autograd.define_op
ai.autocast = autograd.autocast
ai.device_scope, ai.cuda = device.scope, device.cuda
ai.set_print_options = print_options.set
--- The threads that one op may use.
---@param n integer
function ai.set_num_threads(n)
  if type(n) ~= "number" or n < 1 then lib.raise("set_num_threads: at least 1, not " .. lib.describe(n)) end
  lib.C.aj_set_num_threads(n)
end

--- The instruction level of the kernels in use: "v2", "v3", "v4", or "base".
---@return string
function ai.cpu_level() return lib.cpu_level() end

--- On: nothing is chosen by timing (by default the ways to convolve are tried once for each shape, and the quickest is
-- kept), so that two runs on one machine, with as many threads, agree to the bit. Without an argument: whether it is on.
---@param on boolean?
---@return boolean
function ai.deterministic(on)
  if on ~= nil then lib.C.aj_set_deterministic(on and true or false) end
  return lib.C.aj_deterministic()
end

--- The product of a list of numbers.
---@param list number[]
---@return number
function ai.prod(list)
  local p = 1
  for _, v in ipairs(list) do p = p * v end
  return p
end

--- Lists joined into one; what is not a list counts as one entry.
---@return any[]
function ai.list(...)
  local all = {}
  for i = 1, select("#", ...) do
    local v = select(i, ...)
    if type(v) == "table" and getmetatable(v) == nil then
      for _, x in ipairs(v) do all[#all + 1] = x end
    else all[#all + 1] = v end
  end
  return all
end

-- Functions of several tensors, and the losses, stand in `ai` itself as well.
local functions = {}
for name in ([[cat stack where matmul einsum maximum minimum equal allclose cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss
  bce_loss bce_with_logits kl_div one_hot pseudo_huber_loss log_cosh_loss hinge_loss soft_margin_loss margin_ranking_loss hinge_embedding_loss
  cosine_embedding_loss triplet_margin_loss multi_margin_loss multilabel_soft_margin_loss poisson_nll_loss gaussian_nll_loss
  mm bmm dot outer kron cross tensordot cdist block_diag searchsorted bucketize isclose lerp clamp logaddexp hypot
  broadcast_tensors hstack vstack dstack column_stack meshgrid cartesian_prod combinations tril_indices triu_indices
  vander]]):gmatch "%S+" do functions[name] = true end

-- name = {module, field}: what is loaded when it is first named. Without a field it is the module itself.
local parts = {
  nn = {"aijit.nn"}, optim = {"aijit.optim"}, data = {"aijit.data"}, log = {"aijit.log"}, json = {"aijit.json"}, yaml = {"aijit.yaml"},
  plot = {"aijit.plot"}, lab = {"aijit.lab"}, image = {"aijit.image"}, linalg = {"aijit.linalg"}, fft = {"aijit.fft"}, special = {"aijit.special"},
  profile = {"aijit.profile", "profile"}, record_function = {"aijit.bindings.watch", "record_function"},
  checkpoint = {"aijit.bindings.checkpoint", "checkpoint"}, detect_anomaly = {"aijit.bindings.watch", "detect_anomaly"},
  jit = {"aijit.bindings.jit", "jit"}, help = {"aijit.help"}, inspect = {"aijit.inspect"}, model = {"aijit.model"},
  fn = {"aijit.fn"}, class = {"aijit.class"}, is = {"aijit.class", "is"},
  Config = {"aijit.config", "Config"}, field = {"aijit.config", "field"}, required = {"aijit.config", "required"}, main = {"aijit.config", "main"},
  Task = {"aijit.task", "Task"}, Script = {"aijit.task", "Script"}, task = {"aijit.task"}, get_data_dir = {"aijit.data", "get_data_dir"},
  get_run_dir = {"aijit.config.directories", "run"}, get_model_dir = {"aijit.config.directories", "models"},
  hann_window = {"aijit.bindings.window", "hann_window"}, hamming_window = {"aijit.bindings.window", "hamming_window"},
  blackman_window = {"aijit.bindings.window", "blackman_window"}, bartlett_window = {"aijit.bindings.window", "bartlett_window"},
  kaiser_window = {"aijit.bindings.window", "kaiser_window"},
  thread = {"aijit.thread"},
  save = {"aijit.io", "save"}, load = {"aijit.io", "load"}, download = {"aijit.io", "download"},
}

return setmetatable(ai, {
  __name = "aijit",
  __index = function(t, name)
    if functions[name] then
      local fn = ai.f[name]
      rawset(t, name, fn)
      return fn
    end
    local part = parts[name]
    if not part then
      local names = {}
      for k in pairs(t) do names[#names + 1] = tostring(k) end
      for k in pairs(parts) do if rawget(t, k) == nil then names[#names + 1] = k end end
      table.sort(names)
      local near = type(name) == "string" and require("aijit.nearest").find(name, names) or {}
      if #near == 0 then return nil end
      lib.raise(("aijit has no %s; did you mean %s?"):format(tostring(name), table.concat(near, " or ")))
    end
    local v = require(part[1])
    if part[2] then v = v[part[2]] end
    rawset(t, name, v)
    return v
  end,
})
