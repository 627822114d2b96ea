--- m.ae: autoencoders.

local ai = require "aijit"
local class = require "aijit.class"
local conv = require "aijit.model.conv"
local option = require "aijit.option"
local residual = require "aijit.model.residual"
local sequence = require "aijit.model.sequence"
local Model = require "aijit.model.model"

local ae = {}

local options_of = option.declare("ImgAutoencoder", "nc_img:size=3 nc_min:size=32 nc_max:size=512 enc_block:callable dec_block:callable")

local function halve(_, nc1, nc2) return residual.resblk(nc1, nc2, {stride = 2}) end
local function double(_, nc1, nc2) return residual.resblk(nc1, nc2, {stride = 0.5}) end

--- Images to small maps of many channels and back: (N, nc_img, imsize, imsize) -> the same, by pyramids of residual blocks.
---@class aijit.model.ImgAutoencoder: aijit.model.Model
---@field encode aijit.nn.Module (N, nc_img, imsize, imsize) -> (N, nc_max or fewer, bottleneck, bottleneck)
---@field decode aijit.nn.Module back; its pixels between -1 and 1
---@overload fun(imsize: integer, bottleneck: integer, options?: table): aijit.model.ImgAutoencoder
local ImgAutoencoder = class("ImgAutoencoder", Model)
ae.ImgAutoencoder = ai.nn.register(ImgAutoencoder)
ImgAutoencoder.call_arguments = "imsize bottleneck {nc_img nc_min nc_max}"

---@param imsize integer|integer[]
---@param bottleneck integer|integer[]
---@param options? {nc_img: integer, nc_min: integer, nc_max: integer, enc_block: function, dec_block: function} 3, 32, 512;
--- blocks: block(size, nc1, nc2) -> module that halves or doubles the size
function ImgAutoencoder:__init(imsize, bottleneck, options)
  Model.__init(self)
  local o = options_of(options)
  local enc = sequence.pyramid(imsize, bottleneck, o.nc_min, o.nc_max, o.enc_block or halve)
  local dec = sequence.pyramid(bottleneck, imsize, o.nc_max, o.nc_min, o.dec_block or double)
  self.encode = sequence.seq{conv.conv(o.nc_img, enc.nc_in, {actv = "mish"}), enc}
  self.decode = sequence.seq{dec, conv.conv(dec.nc_out, o.nc_img, {actv = "tanh"})}
end

---@param x aijit.Tensor
---@return aijit.Tensor
function ImgAutoencoder:forward(x) return self.decode(self.encode(x)) end

return ae
