--- What factories of aijit.model refuse beside single arguments, which spec/argument_spec.lua walks: names, and arguments that
--- do not go together.

local ai = require "aijit"
local m = require "aijit.model"

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

it("names that do not exist are told apart from those that are near", function()
  for _, name in ipairs{"fc", "conv", "resblk"} do
    assert.matches("actv is \"rellu\"; .* did you mean 'relu'", message_of(m[name], 2, 2, {actv = "rellu"}))
  end
  assert.matches("padtype is \"zeroes\"; .* is wanted: did you mean 'zeros'", message_of(m.conv, 2, 2, {padtype = "zeroes"}))
  assert.matches("modtype is \"weights\"; .* did you mean 'weight'", message_of(m.modconv, 2, 2, 2, {modtype = "weights"}))
  assert.matches("entry 2 is a number", message_of(function() m.seq{m.fc(2), 3} end):gsub("is 3", "is a number"))
  assert.matches("entry 1", message_of(m.modseq, {3}))
  assert.matches("what block returned for step 1", message_of(m.pyramid, 8, 4, 2, 4, function() end))
  assert.matches("3 heads do not divide 8 features; say head_dim", message_of(m.tx_enc, 1, 8, 3))
  assert.matches("group_size", message_of(m.fm2v.mbstd, 4, 8, 1, {group_size = 0}))
  assert.matches("n_timesteps is 0", message_of(m.DiffusionModel, {2}, {n_timesteps = 0}))
  assert.matches("shape is {2, %-1}", message_of(m.DiffusionModel, {2, -1}))
end)

it("models, norms and functions of tensors refuse what they cannot take, by name", function()
  local model = m.Model(m.fc(2, 3))
  local D = m.DiffusionModel({2})
  local x, t = ai.ones(2, 2), ai.ones(2, {dtype = "i64"})
  for text, f in pairs{
    ["init: path is 3"] = function() model:init(3) end,
    ["save: path is nil"] = function() model:save() end,
    ["set_req_grad: argument 1 is \"yes\""] = function() model:set_req_grad "yes" end,
    ["file: /no/such.safetensors: cannot be opened"] = function() model:init "/no/such" end,
    ["the wrapped net is a number, not a module"] = function() m.Model(3) end,
    ["MinibatchStd: group_size is 0"] = function() m.norm.MinibatchStd{group_size = 0} end,
    ["MinibatchStd: nc is 1.5"] = function() m.norm.MinibatchStd{nc = 1.5} end,
    ["AdaLIN: channels is 0"] = function() m.norm.AdaLIN(0, 3) end,
    ["PixelNorm: dim is \"a\""] = function() m.norm.PixelNorm{dim = "a"} end,
    ["normalize_2nd_moment: x is 3"] = function() m.f.normalize_2nd_moment(3) end,
    ["flatten: x is nil"] = function() m.f.flatten() end,
    ["resample: scale is 0"] = function() m.f.resample(ai.ones(1, 1, 4, 4), 0) end,
    ["sample: it has no argument 'framerate': did you mean 'frame_rate'"] = function() D:sample(2, {framerate = 3}) end,
    ["sample: n is 0"] = function() D:sample(0) end,
    ["gen_noise: n is -1"] = function() D:gen_noise(-1) end,
    ["noisify: noise is nil"] = function() D:noisify(x, t) end,
    ["noisify: the samples are (2, 3); (N, 2) is wanted"] = function() D:noisify(x, t, ai.ones(2, 3)) end,
    ["denoise: the step is 51; they count from 1 to 50"] = function() D:denoise(x, 51) end,
    ["rearrange \"a b -> (a\": a bracket is not closed"] = function() m.rearrange "a b -> (a" end,
    ["pos_emb: the size is 5; an even number from 4 is wanted"] = function() m.pos_emb(5) end,
  } do
    local message = message_of(f)
    assert.matches("model_argument_spec%.lua:%d+: ", message)
    assert(message:find(text, 1, true), message)
  end
  assert.are.equal("cpu", m.Model(m.fc(3)):get_device())
end)
