--- Muon: momentum made orthogonal, for matrices; AdamW for the rest.

local class = require "aijit.class"
local grouping = require "aijit.optim.group"
local Optimizer = require "aijit.optim.optimizer"

--- Muon (Jordan and others, 2024). For the gradient g of a matrix p of r rows and c columns:
---     b = momentum b + (1 - momentum) g;  u = (1 - momentum) g + momentum b  with nesterov,  else b
---     X = u / |u|, then ns_steps times  X = a X + (b A + c A A) X,  A = X X',  with (a, b, c) = ns_coefficients
---     p = (1 - lr weight_decay) p - lr s X
--- adjust_lr "original": s = sqrt(max(1, r / c)); "match_rms_adamw": s = 0.2 sqrt(max(r, c)), with which AdamW's rates can
--- be used (Liu and others, 2025). A kernel of more dimensions is a matrix of the first by the rest.
---
--- Parameters of fewer than two dimensions and, in a model, embeddings are trained by AdamW: adamw_lr, betas, adamw_eps,
--- adamw_weight_decay. So should be the last layer of a classifier: {groups = {{match = "^head%.", muon = false}}}. In a
--- group with muon = false, lr and weight_decay are AdamW's.
---@class aijit.optim.Muon: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.Muon
local Muon = class("Muon", Optimizer)

Muon:takes [[
  lr=0.02 weight_decay=0 momentum:not_negative=0.95 nesterov=true
  ns_coefficients:coefficients={3.4445,-4.775,2.0315} ns_steps:count=5 eps=1e-7
  adjust_lr:original|match_rms_adamw=original adamw_lr=3e-4 betas={0.9,0.95} adamw_eps=1e-8
  adamw_weight_decay=0 muon=true maximize=false]]
Muon.decoupled = true

function Muon:check(group)
  if group.ns_steps > 100 then self:fail("ns_steps is %g; a whole number up to 100 is wanted", group.ns_steps) end
  if group.momentum >= 1 then self:fail("momentum is %g; it must be less than 1", group.momentum) end
  if group.muon then
    for i, p in ipairs(group.params) do
      if p:dim() < 2 then self:fail("parameter %d of a group with muon = true has %d dimensions; two or more are wanted", i, p:dim()) end
    end
  end
end

--- Matrices, and the rest; in that order.
function Muon:split(group)
  if group.muon ~= nil then return {group} end
  local entries = group._entries or grouping.entries(group.params)
  local parts = {{muon = true, params = {}}, {muon = false, params = {}}}
  for _, entry in ipairs(entries) do
    local p = entry.tensor
    local is_matrix = type(p) == "cdata" and p:dim() >= 2 and not grouping.is_embedding(entry)
    local to = parts[is_matrix and 1 or 2].params
    to[#to + 1] = p
  end
  for i, part in ipairs(parts) do
    for name, value in pairs(group) do if name ~= "params" and name ~= "_entries" then part[name] = value end end
    if i == 2 then
      part.lr = group.adamw_lr or self.defaults.adamw_lr
      part.weight_decay = group.adamw_weight_decay or self.defaults.adamw_weight_decay
    end
  end
  for i = 2, 1, -1 do if #parts[i].params == 0 then table.remove(parts, i) end end
  return parts
end

function Muon:state_names(group)
  return group.muon and {"momentum_buffer"} or {"exp_avg", "exp_avg_sq"}
end

function Muon:method_of(group) return group.muon and "muon" or "adam" end

function Muon:fill(o, group)
  Optimizer.fill(self, o, group)
  local c = group.ns_coefficients
  o.ns_a, o.ns_b, o.ns_c, o.ns_steps = c[1], c[2], c[3], group.ns_steps
  o.match_rms = group.adjust_lr == "match_rms_adamw"
  if not group.muon then o.eps = group.adamw_eps end
end

return Muon
