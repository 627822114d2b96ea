--- Models out of small functions: local m = require "aijit.model". Each makes an ordinary module of nn.

local ai = require "aijit"
local argument = require "aijit.argument"
local conv = require "aijit.model.conv"
local linear = require "aijit.model.linear"
local modulate = require "aijit.model.modulate"
local param = require "aijit.model.param"
local rearrange = require "aijit.model.rearrange"
local residual = require "aijit.model.residual"
local sequence = require "aijit.model.sequence"
local transformer = require "aijit.model.transformer"

local nn = ai.nn

local m = {
  Model = require "aijit.model.model",
  Module = require "aijit.model.model",
  DiffusionModel = require "aijit.model.diffusion",
  fm2v = require "aijit.model.fm2v",
  ae = require "aijit.model.ae",
  f = require "aijit.model.functional",
  norm = require "aijit.model.norm",
  param = param.new,
  param_init = param.init,
  seq = sequence.seq, rep = sequence.rep, modseq = sequence.modseq, pyramid = sequence.pyramid,
  fc = linear.fc,
  conv = conv.conv, resample = conv.resample, clamp = conv.clamp, global_avg = conv.global_avg,
  res = residual.res, se = residual.se, resblk = residual.resblk, resblk_group = residual.resblk_group,
  modconv = modulate.modconv, modresblk = modulate.modresblk,
  attn = transformer.attn, sa = transformer.sa, tx_enc_blk = transformer.tx_enc_blk, tx_enc = transformer.tx_enc,
  pos_emb = transformer.pos_emb, rearrange = rearrange.layer,
  embed = nn.Embedding, lstm = nn.LSTM, layer_norm = nn.LayerNorm, modules = nn.ModuleList, module_dict = nn.ModuleDict, null = nn.Identity,
}

local flatten_arguments = argument.declare("m.flatten", "start_dim=2")
local blur_arguments = argument.declare("m.blur", "pad=none gain:finite=1 up=1")

--- (N, *) -> (N, product); from another dimension with start_dim.
---@param start_dim? integer 2
---@return aijit.nn.Module
function m.flatten(...)
  return nn.Flatten((flatten_arguments:read({}, ...)))
end

--- A low-pass filter of each channel, [1 3 3 1] in both directions; with up the image is made so many times larger.
---@param pad? integer|integer[] nil: the size is kept
---@param gain? number 1
---@param up? integer 1
---@return aijit.nn.Module
function m.blur(...)
  return nn.Blur((blur_arguments:read({}, ...)))
end

for _, part in ipairs{m.norm, conv, linear, modulate, transformer} do require("aijit.nn.registry").take_tensors(part, "") end

return require("aijit.nearest").guard(m, "model")
