--- From PyTorch's weights the same outputs, the same gradients of inputs and parameters, and the same buffers after the run: the
--- networks of spec/support/networks.lua and, for every other kind of layer, of layers.lua, images.lua and sequences.lua there. Each
--- kind is in one.

local parity = require "spec.support.parity"
local registry = require "aijit.nn.registry"

--- Classes that no network has, and why.
local elsewhere = {}
local function list(reason, names) for name in names:gmatch "%S+" do elsewhere[name] = reason end end
list("draws random numbers", "Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout DropPath GaussianDropout GaussianNoise Noise DiffusionModel")
list("is made of a trained layer, in eight bits, and has no gradients", "QuantizedConv2d QuantizedLinear")
list("gives codes, and has no gradients: spec/more_layer_spec.lua", "KMeans")
list("hands on a part of what it is given: spec/layer_spec.lua", "GetRNNOutput GetRNNState")
list("is no layer of PyTorch's: spec/spectral_spec.lua has it by its formula", "SSIMLoss ImageGradLoss STFTLoss MultiResolutionSTFTLoss MelLoss MFCCLoss")
list("holds a network, and computes nothing itself", "Model ImgAutoencoder Functional")

local used = {}

--- Whether a class is written in aijit's own files: the functions that it does not inherit say so.
local function is_part_of_aijit(class)
  for key, f in pairs(class) do
    local inherited = false
    for _, parent in ipairs(class.__parents) do inherited = inherited or parent[key] == f end
    if type(f) == "function" and not inherited then
      local source = debug.getinfo(f, "S").source
      return source:find("aijit/nn/", 1, true) ~= nil or source:find("aijit/model/", 1, true) ~= nil
    end
  end
end

for _, kind in ipairs{"nets", "layers", "images", "sequences"} do
  local folder, nets = ("spec/vectors/%s/"):format(kind), require("spec.support." .. (kind == "nets" and "networks" or kind))
  describe("PyTorch's weights give PyTorch's outputs and gradients:", function()
    for _, name in ipairs(parity.names(nets)) do
      it(name, function()
        for _, module in ipairs(parity.check(folder, nets, name):modules()) do used[getmetatable(module).__name] = true end
      end)
    end
  end)

  it("every network that PyTorch wrote is compared", function()
    assert.are.same(parity.names(folder), parity.names(nets))
  end)
end

it("every kind of layer is in a network, or there is a reason why not", function()
  local missing = {}
  for _, name in ipairs(registry.names()) do
    local class = registry.find(name)
    local is_ours = is_part_of_aijit(class)
    if is_ours then
      if not used[name] and not elsewhere[name] then missing[#missing + 1] = name end
      assert(not (used[name] and elsewhere[name]), name .. " is in a network")
    end
  end
  -- Each wants a network in spec/support/layers.py and layers.lua (or images, sequences), or a reason above.
  assert.are.same({}, missing)
  for name in pairs(elsewhere) do assert(registry.find(name), name) end
end)
