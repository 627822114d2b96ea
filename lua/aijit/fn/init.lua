--- aijit.fn: models as pure functions f(params, x, ...) of a nested table of parameters.
--
--     local fn = require "aijit.fn"
--     local nets, chain, _ = fn.nets, fn.chain, fn._
--     local net = fn.flexible(function(params, x) return chain{nets.mlp(params.mlp, _, {64, 64}), nets.linear(params.out, _, 4)}(x) end)
--     local params = fn.trace(net, fn.key(0), x)
--     local grads, loss = fn.value_and_grad(function(p, b) return ai.mse_loss(net(p, b.x), b.y) end)(params, batch)

local fn = {}

for _, part in ipairs {"key", "hole", "compose", "tree", "trace", "gradient"} do
  for name, value in pairs(require("aijit.fn." .. part)) do fn[name] = value end
end
fn.vmap = require("aijit.fn.vmap").vmap
fn.initial = require "aijit.fn.initial"
fn.nets = require "aijit.fn.nets"

return require("aijit.nearest").guard(fn, "fn")
