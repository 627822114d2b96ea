--- m.ae: autoencoders.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local conv = require "aijit.model.conv"
local residual = require "aijit.model.residual"
local sequence = require "aijit.model.sequence"
local Model = require "aijit.model.model"

local ae = {}

local declared = argument.declare("m.ae.ImgAutoencoder", [[
  imsize:count_or_counts bottleneck:count_or_counts nc_img:count=3 nc_min:count=32 nc_max:count=512 enc_block:function=none
  dec_block:function=none]])

local function halve(_, nc1, nc2) return residual.resblk(nc1, nc2, {stride = 2}) end
local function double(_, nc1, nc2) return residual.resblk(nc1, nc2, {stride = 0.5}) end

--- Images to small maps of many channels and back: (N, nc_img, imsize, imsize) -> the same, by pyramids of residual blocks.
---@class aijit.model.ImgAutoencoder: aijit.model.Model
---@field encode aijit.nn.Module (N, nc_img, imsize, imsize) -> (N, nc_max or fewer, bottleneck, bottleneck)
---@field decode aijit.nn.Module back; its pixels between -1 and 1
---@overload fun(imsize: integer, bottleneck: integer, options?: table): aijit.model.ImgAutoencoder
local ImgAutoencoder = class("ImgAutoencoder", Model)
ae.ImgAutoencoder = ai.nn.register(ImgAutoencoder)
ImgAutoencoder.declaration = declared

---@param imsize integer|integer[]
---@param bottleneck integer|integer[]
---@param options? {nc_img: integer, nc_min: integer, nc_max: integer, enc_block: function, dec_block: function} 3, 32, 512;
--- blocks: block(size, nc1, nc2) -> module that halves or doubles the size
function ImgAutoencoder:__init(...)
  Model.__init(self)
  local o = declared:read({}, ...)
  local imsize, bottleneck = o.imsize, o.bottleneck
  local enc = sequence.pyramid(imsize, bottleneck, o.nc_min, o.nc_max, o.enc_block or halve)
  local dec = sequence.pyramid(bottleneck, imsize, o.nc_max, o.nc_min, o.dec_block or double)
  self.encode = sequence.seq{conv.conv(o.nc_img, enc.nc_in, {actv = "mish"}), enc}
  self.decode = sequence.seq{dec, conv.conv(dec.nc_out, o.nc_img, {actv = "tanh"})}
end

---@param x aijit.Tensor
---@return aijit.Tensor
function ImgAutoencoder:forward(x) return self.decode(self.encode(x)) end

return ae
