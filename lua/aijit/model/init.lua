--- Models out of small functions: local m = require "aijit.model". Each makes an ordinary module of nn.

local ai = require "aijit"
local conv = require "aijit.model.conv"
local linear = require "aijit.model.linear"
local param = require "aijit.model.param"
local residual = require "aijit.model.residual"
local sequence = require "aijit.model.sequence"

local nn = ai.nn

local m = {
  Model = require "aijit.model.model",
  Module = require "aijit.model.model",
  f = require "aijit.model.functional",
  norm = require "aijit.model.norm",
  param = param.new,
  param_init = param.init,
  seq = sequence.seq, rep = sequence.rep, modseq = sequence.modseq, pyramid = sequence.pyramid,
  fc = linear.fc,
  conv = conv.conv, resample = conv.resample, clamp = conv.clamp, global_avg = conv.global_avg,
  res = residual.res, se = residual.se, resblk = residual.resblk, resblk_group = residual.resblk_group,
  embed = nn.Embedding, layer_norm = nn.LayerNorm, modules = nn.ModuleList, module_dict = nn.ModuleDict, null = nn.Identity,
}

--- (N, *) -> (N, product); from another dimension with start_dim.
---@param start_dim? integer 2
---@return aijit.nn.Module
function m.flatten(start_dim)
  return nn.Flatten(start_dim or 2)
end

return m
