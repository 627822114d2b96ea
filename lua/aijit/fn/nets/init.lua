--- fn.nets: nets as pure functions f(params, x, ..., options), their parameters declared as they are used. All take holes.

local common = require "aijit.fn.nets.common"
local compose = require "aijit.fn.compose"

local nets = {}

for _, part in ipairs {"linear", "conv", "sequence"} do
  for name, f in pairs(require("aijit.fn.nets." .. part)) do nets[name] = f end
end

--- Nets one after another, each with its own entry of params: nets.sequential(params, x, {nets.linear(_, _, 4), ...}).
---@param params table
---@param x any
---@param layers function[]
---@return any ...
function nets.sequential(params, x, layers)
  return compose.chain(compose.thread_params(layers, params))(x)
end

return require("aijit.nearest").guard(common.flexible(nets), "fn.nets")
