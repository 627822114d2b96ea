--- Every factory of aijit.model takes what it says, and refuses everything else at the caller's line, by its own name and that
--- of the argument.

local ai = require "aijit"
local m = require "aijit.model"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local SIZE = {0, -1, 1.5, "3", true, 0 / 0, math.huge}
local COUNT = {-1, 0.5, "2", true}
local POSITIVE = {0, -1, "1", true, 0 / 0}
local PROBABILITY = {-0.1, 1.1, "0.5", true}
local NUMBER = {"1", true, {}}
local BOOLEAN = {1, "true", {}}
local ACTV = {3, true, {}}
local STRING = {3, {}}
local MODULE = {3, "fc", {}, true}

local block = function(_, a, b) return m.conv(a, b) end

--- name, a right call's positional arguments with their wrong values and names, and wrong values of the options.
local rows = {
  {"fc", {{4, "n1", SIZE}, {3, "n2", {0, -1, 1.5}}}, {actv = ACTV, norm = {3, true, {}}, dropout = PROBABILITY, bias = BOOLEAN, bias_init = NUMBER,
    scale_w = BOOLEAN, lr_mul = POSITIVE}},
  {"conv", {{4, "n.1", {0, -1, 1.5}}, {3, "nc2", {0, -1, 1.5}}}, {
    k = SIZE, stride = POSITIVE, actv = ACTV, norm = {3, true, {}}, gain = NUMBER, clamp = POSITIVE,
    noise = {-1, "yes", {}}, dropout = PROBABILITY, bias = BOOLEAN, scale_w = BOOLEAN, lr_mul = POSITIVE, groups = SIZE, padtype = STRING,
    blur = BOOLEAN, transposed = BOOLEAN}},
  {"se", {{4, "nc", SIZE}}, {reduction = POSITIVE, actv = ACTV}},
  {"resblk", {{4, "nc1", SIZE}, {4, "nc2", SIZE}}, {stride = POSITIVE, actv = ACTV, norm = {3, true, {}}, se = BOOLEAN}},
  {"resblk_group", {{2, "n", COUNT}, {4, "nc1", SIZE}, {4, "nc2", SIZE}}, {}},
  {"res", {{nn.Identity(), "main", MODULE}, {nn.Identity(), "shortcut", {3, "fc"}}}},
  {"rep", {{2, "n", COUNT}, {nn.Identity(), "module", MODULE}}, {modulated = BOOLEAN}},
  {"pyramid", {{8, "size_in", SIZE}, {4, "size_out", SIZE}, {2, "nc_min", SIZE}, {4, "nc_max", SIZE}, {block, "block", {3, {}, "x"}}}},
  {"modconv", {{4, "nc1", SIZE}, {4, "nc2", SIZE}, {3, "z_dim", SIZE}}, {modtype = STRING, k = SIZE, stride = POSITIVE, actv = ACTV, noise = {-1, "x"},
    gain = NUMBER, clamp = POSITIVE, blur = BOOLEAN, scale_w = BOOLEAN, lr_mul = POSITIVE, padtype = STRING, demodulate = BOOLEAN}},
  {"modresblk", {{4, "nc1", SIZE}, {4, "nc2", SIZE}, {3, "z_dim", SIZE}}, {}},
  {"attn", {{4, "dim", SIZE}, {2, "n_heads", SIZE}}, {dropout = PROBABILITY, norm = BOOLEAN}},
  {"sa", {{4, "dim", SIZE}, {2, "n_heads", SIZE}}, {head_dim = SIZE, dropout = PROBABILITY, norm = BOOLEAN, bias = BOOLEAN}},
  {"tx_enc_blk", {{4, "dim", SIZE}, {2, "n_heads", SIZE}, {8, "mlp_dim", {0, -1, 1.5, "3"}}}, {head_dim = SIZE, dropout = PROBABILITY, norm = BOOLEAN}},
  {"tx_enc", {{1, "n_blocks", COUNT}, {4, "dim", SIZE}, {2, "n_heads", SIZE}, {8, "mlp_dim", {0, -1, "3"}}}, {}},
  {"clamp", {{1, "limit", {-1, 0, "1", {}}}}},
  {"flatten", {{2, "start_dim", {1.5, "2", 0}}}},
  {"blur", {{1, "pad", {1.5, "1"}}, {1, "gain", NUMBER}, {2, "up", SIZE}}},
  {"resample", {{2, "scale", {0, -1, 1.5, "2", 0.3}}}},
  {"param", {{2, "size 1", {-1, "2", 1.5}}}},
}

for _, row in ipairs(rows) do
  local name, positional, options = row[1], row[2], row[3]
  describe("m." .. name, function()
    local right = {}
    for i, p in ipairs(positional) do right[i] = p[1] end

    it("takes what is right", function()
      m[name](unpack(right))
      local args = {unpack(right)}
      args[#args + 1] = options and {} or nil
      m[name](unpack(args))
    end)

    for i, p in ipairs(positional) do
      it("refuses a wrong " .. p[2], function()
        for _, wrong in ipairs(p[3]) do
          local args = {unpack(right)}
          args[i] = wrong
          local message = message_of(function() m[name](unpack(args, 1, #right)) end)
          assert.matches("model_argument_spec%.lua:%d+: " .. name .. ".*" .. p[2], message:match("^[^\n]*"):lower())
        end
      end)
    end

    for option, list in pairs(options or {}) do
      it("refuses a wrong " .. option, function()
        for _, wrong in ipairs(list) do
          local args = {unpack(right)}
          args[#args + 1] = {[option] = wrong}
          local message = message_of(function() m[name](unpack(args)) end)
          assert.matches("model_argument_spec%.lua:%d+: ", message:match "^[^\n]*")
          assert.matches(option, message:match "^[^\n]*", 1, true)
        end
      end)
    end

    if options then
      it("refuses an option that it has not, and options that are no table", function()
        local args = {unpack(right)}
        args[#args + 1] = {strid = 1}
        assert.matches("it has no argument 'strid'", message_of(function() m[name](unpack(args)) end))
        args[#args] = "fast"
        assert.matches('model_argument_spec%.lua:%d+: .* "fast"; .* is wanted', message_of(function() m[name](unpack(args)) end))
      end)
    end
  end)
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
