--- The networks of spec/support/images.py, written here with the same names.

local ai = require "aijit"
local m = require "aijit.model"
local parity = require "spec.support.parity"
local nn, several = ai.nn, parity.several

local nets = {}

function nets.residual_blocks()
  return m.seq{m.resblk(3, 6, {stride = 2}), m.resblk(6, 6), m.resblk(6, 4, {stride = 0.5})}
end

function nets.modulated()
  local function block(a, b, stride) return m.modconv(a, b, 5, {modtype = "weight", stride = stride, actv = "lrelu"}) end
  return m.modseq{block(3, 4, 1), block(4, 4, 0.5), block(4, 2, 2), m.modconv(2, 4, 5, {actv = false}), m.modresblk(4, 4, 5, {actv = "tanh"})}
end

function nets.equalized()
  local net = several{
    conv = m.conv(3, 4, {scale_w = true, lr_mul = 0.5}), head = m.conv(5, 4), fc = m.fc(64, 6, {scale_w = true, lr_mul = 0.3}),
    parts = nn.ModuleList{m.norm.PixelNorm(), m.norm.MinibatchStd{group_size = 2}, m.blur()},
  }
  local pixel, deviation, blur = unpack(net.parts)
  return net, function(x) return net.fc(net.head(deviation(pixel(blur(net.conv(x))))):flatten(2)) end
end

function nets.unet_of_times() return nn.UNet(2, 4, {dim_scales = {1, 2}, embedding_dim = 3, heads = 2}) end

function nets.bifpn()
  local net = nn.BiFPN({2, 3, 5}, 4, {num_layers = 1})
  return net, function(...) return unpack(net{...}) end
end

-- -- Networks that losses look through ------------------------------------------------------------------------------------------

function nets.perceptual()
  local o = {weights = "random", width = 2, reduction = "none", detach_y = false}
  local function of(net) return nn.LPIPS{weights = "random", width = 2, reduction = "none", net = net} end
  local net = several{vgg = of "vgg", alex = of "alex", old = nn.PerceptualLoss("trad-vgg", o)}
  -- In double: of so few random channels some are near 0, where unit vectors round.
  net:to "f64"
  return net, function(x, y)
    x, y = x:double(), y:double()
    return net.vgg(x, y):float(), net.alex(x, y):float(), net.old(x, y):float()
  end
end

function nets.faces()
  local net = nn.FaceIdentityLoss{weights = "random", input_size = 16, channels = {4, 4, 6}, blocks = {2, 1}, dim = 5, crop = {0.125, 0.875, 0.11, 0.89},
                                  detach_y = false, reduction = "none"}
  return net
end

return nets
