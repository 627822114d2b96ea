--- Specs: every network of the proof of parity, and so every kind of layer, as plain data in JSON and in YAML and back; and what
--- a person writes by hand, with its mistakes.

local ai = require "aijit"
local m = require "aijit.model"
local registry = require "aijit.nn.registry"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

--- Networks with parts that no spec holds, and what to_spec says of them.
local refused = {
  fractions = "Lambda%.fn is a function %(layers%.lua:%d+%)",
  shapes = "Lambda%.fn is a function %(layers%.lua:%d+%), and a spec holds data only: give it a name, nn%.register%(\"name\", f%)",
}

for _, file in ipairs{"networks", "layers", "images", "sequences"} do
  for name, make in pairs(require("spec.support." .. file)) do
    it(name .. (refused[name] and " is refused" or " survives JSON and YAML"), function()
      local model, run = make()
      if refused[name] then
        assert.matches(refused[name], message_of(model.to_spec, model))
        return
      end
      local text = ai.json.encode(model:to_spec())
      local is_built, state = pcall(model.state_dict, model)
      for _, format in ipairs{"json", "yaml"} do
        local again = nn.from_spec(ai[format].decode(ai[format].encode(model:to_spec())))
        assert.are.equal(text, ai.json.encode(again:to_spec()))
        assert.are.equal(tostring(model), tostring(again))
        if is_built then again:load_state_dict(state) end
        if is_built and not run then
          local shapes, got = {}, again:state_dict()
          for key, t in pairs(state) do shapes[key] = t:equal(got[key]):item() end
          for key, is_equal in pairs(shapes) do assert(is_equal, key) end
        end
      end
    end)
  end
end

describe("a function", function()
  local twice = nn.register("round_trip_twice", function(x) return x * 2 end)

  local function plain(model) return (tostring(model):gsub('"round_trip_twice"', "f"):gsub("function[^,}]*", "f"):gsub("%s+", " ")) end

  it("that has a name goes into a spec by it: as a Lambda, a layer's activation, or any field", function()
    local Holder = ai.class("RoundTripHolder", nn.Module)
    nn.register(Holder)
    local holder = Holder()
    holder.fc, holder.then_do, holder.all = nn.Linear(2, 2), twice, {ai.f.relu, twice}
    for _, model in ipairs{
      nn.Sequential{nn.Linear(3, 3), nn.Lambda(twice), nn.Lambda "tanh", nn.Lambda(ai.f.relu), nn.Lambda "round_trip_twice"},
      nn.TransformerEncoderLayer(4, 2, {activation = twice, dropout = 0}), nn.TransformerEncoderLayer(4, 2, {activation = "round_trip_twice", dropout = 0}),
      nn.SqueezeExcite(4, {actv = twice}), m.fc(3, 3, {actv = twice}), holder,
    } do
      for _, format in ipairs{"json", "yaml"} do
        local again = nn.from_spec(ai[format].decode(ai[format].encode(model:to_spec())))
        assert.are.equal(plain(model), plain(again))
        again:load_state_dict(model:state_dict())
        if model ~= holder then
          local x = getmetatable(model).__name == "SqueezeExcite" and ai.randn(2, 4, 3, 3) or ai.randn(2, 2, model.d_model and 4 or 3)
          assert.is_true(model(x):equal(again(x)):item())
        else assert.are.equal(twice, again.then_do) assert.are.equal(ai.f.relu, again.all[1]) end
      end
    end
    assert.are.same({type = "Lambda", fn = "relu"}, nn.Lambda(ai.f.relu):to_spec())
    assert.are.equal('nn.Lambda("round_trip_twice")', tostring(nn.Lambda(twice)))
  end)

  it("without one is an error that says where it is and what to do", function()
    for _, model in ipairs{nn.Lambda(function() end), nn.Sequential{function() end}, nn.TransformerEncoderLayer(4, 2, {activation = function() end})} do
      assert.matches("to_spec: %w+%.%w+ is a function %(round_trip_spec%.lua:%d+%), and a spec holds data only: give it a name",
        message_of(model.to_spec, model))
    end
    assert.matches("there is no function 'rleu': did you mean 'relu'", message_of(nn.Lambda, "rleu"))
    local wrong = {type = "Lambda", fn = "round_trip_twise"}
    assert.matches("there is no function 'round_trip_twise': did you mean 'round_trip_twice'", message_of(nn.from_spec, wrong))
    assert.matches("the fn of a Lambda is a nil", message_of(nn.from_spec, {type = "Lambda"}))
    assert.matches("Lambda: a function is wanted, got a number", message_of(nn.Lambda, 3))
    assert.matches('nn%.register: "x" is the name of a nil; a function is wanted', message_of(nn.register, "x"))
    assert.matches("nn%.register: a class, or a name and a function, is wanted, not a number", message_of(nn.register, 3))
  end)
end)

it("what was done to weights goes into a spec, to those of inner layers and of one's own modules too", function()
  local Own = ai.class("RoundTripWeight", nn.Module)
  nn.register(Own)
  function Own:__init() self.w, self.scale = nn.Parameter(ai.randn(8, 8)), nn.Parameter(ai.ones(8)) end
  function Own:forward(x) return x:matmul(self.w) * self.scale end
  local own = Own()
  own:__init()
  for _, model in ipairs{
    nn.lora(nn.TransformerEncoderLayer(8, 2), 2, {alpha = 4}), nn.lora(nn.MultiheadAttention(8, 2), 1), nn.lora(nn.RwkvBlock(8), 2),
    nn.Sequential{nn.spectral_norm(nn.Linear(8, 8)), nn.weight_norm(nn.Linear(8, 8), {dim = 2})}, nn.weight_norm(own, "w"),
  } do
    for _, format in ipairs{"json", "yaml"} do
      local again = nn.from_spec(ai[format].decode(ai[format].encode(model:to_spec())))
      for name, p in model:named_parameters() do if name:find "lora_b$" then nn.init.normal_(p) end end
      again:load_state_dict(model:state_dict())
      local x = ai.randn(3, 2, 8)
      local y, z = model:eval()(x), again:eval()(x)
      assert.is_true(y:equal(z):item(), getmetatable(model).__name)
      assert.are.equal(#model:parameters(), #again:parameters())
    end
  end
  local wrong = {type = "Sequential", layers = {{type = "Linear", in_features = 2, out_features = 2, applied = {{"weight_nrm", "weight"}}}}}
  assert.matches("entry 1 of applied is weight_nrm of 'weight'; weight_norm, spectral_norm or lora_weight", message_of(nn.from_spec, wrong))
  wrong.layers[1].applied = {{"weight_norm", "inner.weight"}}
  assert.matches("there is no module 'inner'", message_of(nn.from_spec, wrong))
end)

it("weights of classes go into a loss's spec as numbers, of their dtype", function()
  for _, w in ipairs{ai.tensor{0.1, 2, 3}, ai.tensor({0.1, 1 / 3, 3}, {dtype = "f64"})} do
    for _, loss in ipairs{nn.CrossEntropyLoss{weight = w}, nn.NLLLoss(w), nn.BCEWithLogitsLoss{pos_weight = w, weight = w + 1},
                          nn.MultiMarginLoss{weight = w}} do
      local again = nn.from_spec(ai.json.decode(ai.json.encode(loss:to_spec())))
      for name, t in loss:named_buffers() do
        assert.are.equal(t.dtype, again[name].dtype)
        assert.is_true(t:equal(again[name]):item())
      end
      assert.are.equal(#loss:buffers(), #again:buffers())
    end
  end
  local by_hand = nn.from_spec(ai.yaml.decode "{type: crossentropyloss, weight: [1, 2, 0.5]}")
  local x, at = ai.randn(4, 3), ai.tensor({1, 2, 3, 3}, {dtype = "i64"})
  assert.is_true(by_hand(x, at):equal(ai.cross_entropy(x, at, {weight = ai.tensor{1, 2, 0.5}})):item())
  assert.matches("weight is {{%.%.%.}}; a tensor, or a list of numbers, is wanted", message_of(nn.CrossEntropyLoss, {weight = {{"a"}}}))
  assert.matches("weight is 3; a tensor, or a list of numbers, is wanted", message_of(nn.CrossEntropyLoss, {weight = 3}))
end)

it("the same model from its spec gives the same outputs", function()
  for _, row in ipairs{
    {m.seq{m.conv(3, 4, {actv = "mish", norm = "batch", stride = 2}), m.resblk(4, 6, {stride = 0.5}), m.global_avg(), m.fc(6, 2, {scale_w = true})},
     {2, 3, 8, 8}},
    {m.tx_enc(2, 8, 2), {2, 5, 8}},
    {nn.Sequential{nn.Linear(4, 6), nn.PReLU(6), nn.Dropout(0.5)}:eval(), {3, 4}},
    {nn.UNet(3, 4, {dim_scales = {1, 2}}), {1, 3, 8, 8}},
  } do
    local model, x = row[1], ai.randn(row[2])
    local again = nn.from_spec(ai.yaml.decode(ai.yaml.encode(model:to_spec())))
    again:load_state_dict(model:state_dict())
    again:train(model.training)
    assert.is_true(model(x):equal(again(x)):item())
  end
end)

describe("a spec written by hand", function()
  it("names the constructor's arguments, of layers and of larger modules", function()
    local net = nn.from_spec(ai.yaml.decode [[
type: sequential
layers:
  - {type: conv2d, out_channels: 8, kernel_size: 3, padding: 1}
  - {type: SqueezeExcite, channels: 8, reduction: 4, actv: {type: mish}}
  - {type: unet, in_channels: 8, embed_dim: 4, dim_scales: [1, 2], out_channels: 2}
  - type: Flatten
  - {type: linear, args: [10]}
]])
    assert.are.same({2, 10}, {unpack(net(ai.randn(2, 3, 4, 4)).shape)})
    assert.are.equal("Mish", getmetatable(net[2].actv).__name)
    local stack = nn.from_spec{type = "TransformerEncoder", layer = {type = "TransformerEncoderLayer", d_model = 4, nhead = 2}, num_layers = 3}
    assert.are.equal(3, #stack.layers)
    assert.are.equal(2, #nn.from_spec{type = "transformer", d_model = 4, nhead = 2, num_encoder_layers = 2, num_decoder_layers = 1}.encoder.layers)
    assert.are.equal(2, #nn.from_spec{type = "ResidualVectorQuantization", n = 2, codebook_size = 4, dim = 3}.quantizers)
    assert.are.equal(4, nn.from_spec{type = "RwkvBlock", args = {4}}.att.dim)
    assert.is_truthy(nn.from_spec{type = "ImgAutoencoder", imsize = 8, bottleneck = 4, nc_min = 4, nc_max = 8}.encode)
  end)

  it("calls the constructor of one's own class, with a table of what it says", function()
    local Own = ai.class("RoundTripOwn", nn.Module)
    nn.register(Own)
    function Own:__init(o)
      self.hidden = o and o.hidden or 3
      self.fc = nn.Linear(2, self.hidden)
    end
    assert.are.equal(7, nn.from_spec{type = "RoundTripOwn", hidden = 7}.fc.out_features)
    assert.are.equal(3, nn.from_spec{type = "roundtripown"}.fc.out_features)
    local again = nn.from_spec(ai.json.decode(ai.json.encode(Own{hidden = 5}:to_spec())))
    assert.are.equal(5, again.fc.out_features)
    local Plain = ai.class("RoundTripPlain", nn.Module)
    nn.register(Plain)
    function Plain:__init(factor) self.factor = factor * 2 end
    assert.are.equal(6, nn.from_spec(ai.json.decode(ai.json.encode(Plain(3):to_spec()))).factor)
  end)

  it("keeps a field named layers, a module, a list of modules or of numbers", function()
    local Layered = ai.class("RoundTripLayered", nn.Module)
    nn.register(Layered)
    for _, layers in ipairs{nn.ModuleList{nn.Linear(2, 2)}, {nn.Linear(2, 2), nn.ReLU()}, {3, 4}, 5} do
      local one = Layered()
      one.layers, one.last = layers, nn.Linear(2, 1)
      local again = nn.from_spec(ai.json.decode(ai.json.encode(one:to_spec())))
      assert.are.equal(tostring(one), tostring(again))
      assert.are.equal(type(layers) == "table" and #layers or layers, type(layers) == "table" and #again.layers or again.layers)
    end
    local listed = Layered()
    listed[1], listed.layers = nn.ReLU(), nn.ReLU()
    assert.matches("RoundTripLayered has a list part and a field `layers`", message_of(listed.to_spec, listed))
    local typed = Layered()
    typed.type = "deep"
    assert.matches("RoundTripLayered%.type has a name that is a spec's own", message_of(typed.to_spec, typed))
  end)

  it("that is wrong is an error with the nearest name, for every class that has arguments", function()
    for _, name in ipairs(registry.names()) do
      local class = registry.find(name)
      local one = class.arguments and class.arguments[1] and class.arguments[1].name
        or class.call_arguments and class.call_arguments:match "[%w_]+"
      if one then
        local wrong = one .. "x"
        assert.matches(("no argument '%s'.*'%s'"):format(wrong, one), message_of(nn.from_spec, {type = name, [wrong] = 3}), name)
      end
    end
    assert.matches("no class 'Convv2d': did you mean 'Conv2d'", message_of(nn.from_spec, {type = "Convv2d"}))
    assert.matches("TransformerEncoder has no argument 'layrs': did you mean 'layers'", message_of(nn.from_spec, {type = "TransformerEncoder", layrs = {}}))
    assert.matches("wants a list `layers`, or a `layer`", message_of(nn.from_spec, {type = "TransformerDecoder"}))
    assert.matches("a spec is a table with a string `type`", message_of(nn.from_spec, {out_features = 3}))
    assert.matches("Sequential has no argument 'layer'", message_of(nn.from_spec, {type = "Sequential", layer = {}}))
  end)
end)

it("no argument of a layer hides a method", function()
  for _, name in ipairs(registry.names()) do
    for _, argument in ipairs(registry.find(name).arguments or {}) do
      assert(nn.Module[argument.field] == nil, ("%s.%s"):format(name, argument.field))
    end
  end
  assert.are.equal(6, nn.PReLU(6):num_parameters())
  assert.matches("nn%.PReLU%({num_parameters = 6}%)", tostring(nn.Sequential{nn.PReLU(6)}))
end)
