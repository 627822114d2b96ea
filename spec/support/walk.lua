--- Every class of layers with a way to make it and inputs for it, for spec/layer_spec.lua.
---
--- name = {make, input, ...}; make: a function that makes one with all its sizes given.
---   infer    a function that leaves out the sizes that an input shows
---   wrong    sizes of an input that it cannot take
---   unused   the place of an input in which no gradient flows
---   whole    its outputs are whole numbers, through which no gradient flows
---   random   its outputs are random in training

local ai = require "aijit"
local m = require "aijit.model"
local nn = ai.nn

local walk = {}

local function reals(...) return ai.randn({...}) end
local function given(...)
  local sizes = {...}
  return function()
    local list = {}
    for i, s in ipairs(sizes) do list[i] = ai.randn(s) end
    return unpack(list)
  end
end

local function add(name, make, input, o)
  o = o or {}
  o.make, o.input = make, input
  walk[name] = o
end

local image, line, block = {2, 4, 6, 6}, {2, 4, 9}, {2, 2, 4, 4, 4}
local by_dim = {line, image, block}

for name in ("CELU ELU GELU GELUTanh Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid LogSoftmax Mish ReLU ReLU6 SELU SiLU Sigmoid "
  .. "Softmax Softmin Softplus Softshrink Softsign Tanh Tanhshrink Identity IdentityPositionalEmbeddings GLU"):gmatch "%S+" do
  add(name, function() return nn[name]() end, given{3, 4})
end
add("Threshold", function() return nn.Threshold(0.1, 2) end, given{3, 4})
add("PReLU", function() return nn.PReLU(4) end, given(image), {infer = function() return nn.PReLU "channels" end, wrong = {2, 5, 6, 6}})

for n = 1, 3 do
  local x, channels = by_dim[n], by_dim[n][2]
  local wrong = {unpack(x)}
  wrong[2] = channels + 1
  local function with(name, ...)
    local args = {...}
    return function() return nn[name .. n .. "d"](unpack(args)) end
  end
  local spread = {padding = 1, stride = 2, output_padding = 1, groups = 2, bias = false}
  add("Conv" .. n .. "d", with("Conv", channels, 4, 3, {padding = 1, stride = 2, groups = 2}), given(x),
    {infer = with("Conv", 4, 3, {padding = 1, stride = 2, groups = 2}), wrong = wrong})
  add("ConvTranspose" .. n .. "d", with("ConvTranspose", channels, 4, 3, spread), given(x),
    {infer = with("ConvTranspose", 4, 3, spread), wrong = wrong})
  add("BatchNorm" .. n .. "d", with("BatchNorm", channels), given(x), {infer = with "BatchNorm", wrong = wrong})
  add("InstanceNorm" .. n .. "d", with("InstanceNorm", channels, {affine = true}), given(x), {infer = with("InstanceNorm", {affine = true}), wrong = wrong})
  add("MaxPool" .. n .. "d", with("MaxPool", 2, {ceil_mode = true}), given(x), {wrong = {3}})
  add("AvgPool" .. n .. "d", with("AvgPool", 2, {stride = 1}), given(x), {wrong = {3}})
  add("LPPool" .. n .. "d", with("LPPool", 2, 2, {stride = 1}), given(x), {wrong = {3}})
  add("AdaptiveAvgPool" .. n .. "d", with("AdaptiveAvgPool", 2), given(x), {wrong = {3}})
  add("AdaptiveMaxPool" .. n .. "d", with("AdaptiveMaxPool", 2), given(x), {wrong = {3}})
  add("Dropout" .. n .. "d", with("Dropout", 0.5), given(x), {random = true})
  local half = {unpack(x)}
  for i = 3, #half do half[i] = math.floor(half[i] / 2) end
  add("MaxUnpool" .. n .. "d", with("MaxUnpool", 2), function()
    return nn["MaxPool" .. n .. "d"](2, {return_indices = true})(ai.randn(x))
  end)
end

add("Linear", function() return nn.Linear(4, 3) end, given{2, 5, 4}, {infer = function() return nn.Linear(3) end, wrong = {2, 5}})
add("Embedding", function() return nn.Embedding(7, 3, {padding_idx = 1}) end, function() return ai.tensor({{2, 3}, {7, 1}}, {dtype = "i64"}) end)
add("EmbeddingBag", function() return nn.EmbeddingBag(7, 3) end, function() return ai.tensor({{2, 3}, {7, 1}}, {dtype = "i64"}) end)
add("Flatten", function() return nn.Flatten() end, given(image))
add("Unflatten", function() return nn.Unflatten(2, {2, -1}) end, given(image), {wrong = {2, 5, 6, 6}})
add("Upsample", function() return nn.Upsample{scale_factor = 2} end, given(image))
add("LayerNorm", function() return nn.LayerNorm(4) end, given{2, 5, 4}, {infer = function() return nn.LayerNorm() end, wrong = {2, 5}})
add("RMSNorm", function() return nn.RMSNorm(4) end, given{2, 5, 4}, {infer = function() return nn.RMSNorm() end, wrong = {2, 5}})
add("GroupNorm", function() return nn.GroupNorm(2, 4) end, given(image), {infer = function() return nn.GroupNorm(2) end, wrong = {2, 6, 4, 4}})
for name in ("Dropout AlphaDropout DropPath GaussianDropout GaussianNoise"):gmatch "%S+" do
  add(name, function() return nn[name](0.3) end, given{3, 4}, {random = true})
end

for name in ("Add Subtract Multiply Divide Maximum Minimum Average"):gmatch "%S+" do
  add(name, function() return nn[name]() end, given({3, 4}, {3, 4}), {wrong = {{3, 4}, {2, 4}}})
end
add("Concat", function() return nn.Concat() end, given({3, 4}, {3, 2}), {wrong = {{3, 4}, {2, 4}}})

for name in ("RNN GRU LSTM"):gmatch "%S+" do
  local o = {num_layers = 2, bidirectional = true, batch_first = true}
  add(name, function() return nn[name](3, 4, o) end, given{2, 5, 3}, {infer = function() return nn[name](4, o) end, wrong = {2, 5, 6}})
  add(name .. "Cell", function() return nn[name .. "Cell"](3, 4) end, given{2, 3},
    {infer = function() return nn[name .. "Cell"](4) end, wrong = {2, 6}})
end
add("MultiheadAttention", function() return nn.MultiheadAttention(8, 2) end, given{5, 2, 8},
  {infer = function() return nn.MultiheadAttention(2) end, wrong = {5, 2, 6}})
local aligned = {mode = "many_keys_one_query", batch_first = true}
add("MonotonicAttention", function() return nn.MonotonicAttention(8, 2, aligned) end, given({2, 3, 8}, {2, 6, 8}),
  {infer = function() return nn.MonotonicAttention(2, aligned) end, wrong = {{2, 3, 6}, {2, 6, 6}}})
add("TransformerEncoderLayer", function() return nn.TransformerEncoderLayer(8, 2, {dim_feedforward = 12, dropout = 0}) end, given{5, 2, 8},
  {infer = function() return nn.TransformerEncoderLayer(2, {dim_feedforward = 12, dropout = 0}) end, wrong = {5, 2, 6}})
add("TransformerDecoderLayer", function() return nn.TransformerDecoderLayer(8, 2, {dim_feedforward = 12, dropout = 0}) end, given({5, 2, 8}, {4, 2, 8}),
  {infer = function() return nn.TransformerDecoderLayer(2, {dim_feedforward = 12, dropout = 0}) end, wrong = {{5, 2, 6}, {4, 2, 6}}})
add("TransformerEncoder", function()
  return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, {dim_feedforward = 12, dropout = 0}), 2, {norm = nn.LayerNorm(8)})
end, given{5, 2, 8}, {wrong = {5, 2, 6}})
add("TransformerDecoder", function()
  return nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, {dim_feedforward = 12, dropout = 0}), 2)
end, given({5, 2, 8}, {4, 2, 8}), {wrong = {{5, 2, 6}, {4, 2, 6}}})
add("Transformer", function()
  return nn.Transformer{d_model = 8, nhead = 2, num_encoder_layers = 1, num_decoder_layers = 1, dim_feedforward = 12, dropout = 0}
end, given({5, 2, 8}, {4, 2, 8}), {wrong = {{5, 2, 6}, {4, 2, 6}}})
add("LearnedPositionalEmbeddings", function() return nn.LearnedPositionalEmbeddings(9, 4) end, given{2, 9, 4},
  {infer = function() return nn.LearnedPositionalEmbeddings(9) end, wrong = {2, 9, 5}})
add("SinusoidalEmbeddings", function() return nn.SinusoidalEmbeddings() end, given{2, 9, 4})
add("RotaryEmbeddings", function() return nn.RotaryEmbeddings() end, given{2, 9, 4}, {wrong = {2, 9, 5}})
add("FourierEmbeddings", function() return nn.FourierEmbeddings(6) end, given{3})
add("RwkvTimeMix", function() return nn.RwkvTimeMix(4) end, given{2, 5, 4}, {infer = function() return nn.RwkvTimeMix() end, wrong = {2, 5, 6}})
add("RwkvChannelMix", function() return nn.RwkvChannelMix(4) end, given{2, 5, 4}, {infer = function() return nn.RwkvChannelMix() end, wrong = {2, 5, 6}})
add("RwkvBlock", function() return nn.RwkvBlock(4) end, given{2, 5, 4}, {wrong = {2, 5, 6}})
add("RwkvStack", function() return nn.RwkvStack(4, 2) end, given{2, 5, 4}, {wrong = {2, 5, 6}})
local function tokens() return ai.tensor({{2, 5, 1, 4}, {3, 3, 7, 1}}, {dtype = "i64"}) end
local llama = {nhead = 2, dim_feedforward = 12, dropout = 0}
add("NextTokenTransformer", function() return nn.NextTokenTransformer(8, 2, 7, llama) end, tokens, {wrong = {2, 4}})
add("NextTokenRwkv", function() return nn.NextTokenRwkv(4, 2, 7) end, tokens, {wrong = {2, 4}})
add("NextTokenWithEmbeddingsTransformer", function() return nn.NextTokenWithEmbeddingsTransformer(8, 2, 7, llama) end,
  function() return tokens(), reals(2, 4, 8) end)
add("NextTokenWithEmbeddingsRwkv", function() return nn.NextTokenWithEmbeddingsRwkv(4, 2, 7) end, function() return tokens(), reals(2, 4, 4) end)
add("SqueezeExcite", function() return nn.SqueezeExcite(4, {reduction = 2}) end, given(image), {wrong = {2, 3, 6, 6}})
add("Blur", function() return nn.Blur{up = 2, gain = 4} end, given(image))
add("UNet", function() return nn.UNet(4, 4, {dim_scales = {1, 2}}) end, given{1, 4, 8, 8}, {wrong = {1, 3, 8, 8}})
add("BiFPN", function() return nn.BiFPN({3, 4}, 4, {num_layers = 1}) end, function() return {reals(1, 3, 8, 8), reals(1, 4, 4, 4)} end)
add("VectorQuantization", function() return nn.VectorQuantization(3, 5) end, given{2, 8, 3},
  {infer = function() return nn.VectorQuantization(5) end, wrong = {2, 8, 4}, random = true})
add("ResidualVectorQuantization", function() return nn.ResidualVectorQuantization(2, 5, {dim = 3}) end, given{2, 8, 3}, {wrong = {2, 8, 4}, random = true})
add("FiniteScalarQuantization", function() return nn.FiniteScalarQuantization{5, 4} end, given{3, 2}, {wrong = {3, 3}})
add("LookupFreeQuantization", function() return nn.LookupFreeQuantization(3) end, given{2, 3},
  {infer = function() return nn.LookupFreeQuantization() end, wrong = {2, 4}})

add("Sequential", function() return nn.Sequential{nn.Linear(4, 3), nn.ReLU()} end, given{2, 4},
  {infer = function() return nn.Sequential{nn.Linear(3), nn.ReLU()} end, wrong = {2, 5}})
add("TimeDistributed", function() return nn.TimeDistributed(nn.Linear(4, 3)) end, given{2, 5, 4},
  {infer = function() return nn.TimeDistributed(nn.Linear(3)) end, wrong = {2, 5, 6}})

-- Places, and what is near.
for n = 1, 3 do
  local x = by_dim[n]
  for kind in ("ZeroPad ReflectionPad ReplicationPad CircularPad"):gmatch "%S+" do
    local list = {}
    for i = 1, 2 * n do list[i] = i % 2 + 1 end
    add(kind .. n .. "d", function() return nn[kind .. n .. "d"](list) end, given(x))
  end
  add("ConstantPad" .. n .. "d", function() return nn["ConstantPad" .. n .. "d"](2, 1.5) end, given(x))
end
add("View", function() return nn.View{-1, 8} end, given(image), {wrong = {3, 5}})
add("Slice", function() return nn.Slice{{}, {2, 3}} end, given(image), {wrong = {3}})
add("PixelShuffle", function() return nn.PixelShuffle(2) end, given(image), {wrong = {2, 3, 6, 6}})
add("PixelUnshuffle", function() return nn.PixelUnshuffle(3) end, given(image), {wrong = {2, 4, 5, 6}})
add("ChannelShuffle", function() return nn.ChannelShuffle(2) end, given(image), {wrong = {2, 3, 6, 6}})
add("Unfold", function() return nn.Unfold(3, {padding = 1}) end, given(image), {wrong = {3}})
add("Fold", function() return nn.Fold({4, 5}, {2, 3}) end, given{2, 12, 9}, {wrong = {2, 13, 9}})
add("CosineSimilarity", function() return nn.CosineSimilarity() end, given({3, 4}, {3, 4}), {wrong = {{3, 4}, {3, 5}}})
add("PairwiseDistance", function() return nn.PairwiseDistance() end, given({3, 4}, {3, 4}), {wrong = {{3, 4}, {3, 5}}})
add("Bilinear", function() return nn.Bilinear(4, 5, 3) end, given({2, 4}, {2, 5}),
  {infer = function() return nn.Bilinear(3) end, wrong = {{2, 4}, {2, 6}}})
add("GetRNNOutput", function() return nn.GetRNNOutput{last = true} end, given{5, 2, 3})
add("GetRNNState", function() return nn.GetRNNState "h" end, given({5, 2, 3}, {1, 2, 3}), {unused = 1})
add("RReLU", function() return nn.RReLU() end, given{3, 4}, {random = true})
add("Softmax2d", function() return nn.Softmax2d() end, given(image), {wrong = {3, 4}})
for name in ("ReLUSquared QuickGELU Laplace"):gmatch "%S+" do add(name, function() return nn[name]() end, given{3, 4}) end
add("ConvLayerNorm", function() return nn.ConvLayerNorm(4) end, given(image),
  {infer = function() return nn.ConvLayerNorm() end, wrong = {2, 5, 6, 6}})
add("LocalResponseNorm", function() return nn.LocalResponseNorm(3) end, given(image))
add("CrossMapLRN2d", function() return nn.CrossMapLRN2d(4) end, given(image), {wrong = {2, 4, 6}})
add("LastBatchNorm", function() return nn.LastBatchNorm(4) end, given{2, 5, 4}, {infer = function() return nn.LastBatchNorm() end, wrong = {2, 5}})
add("KMeans", function() return nn.KMeans(3, 5) end, given{2, 8, 3}, {infer = function() return nn.KMeans(5) end, wrong = {2, 8, 4}, whole = true})
add("StreamingConv1d", function() return nn.StreamingConv1d(4, 6, 3, {padding = 2, groups = 2}) end, given(line),
  {infer = function() return nn.StreamingConv1d(6, 3, {padding = 2, groups = 2}) end, wrong = {2, 5, 9}})
add("StreamingConvTranspose1d", function() return nn.StreamingConvTranspose1d(4, 6, 3, {stride = 2, groups = 2}) end, given(line),
  {infer = function() return nn.StreamingConvTranspose1d(6, 3, {stride = 2, groups = 2}) end, wrong = {2, 5, 9}})
add("StreamableCBR", function() return nn.streamable_cbr(4, 6, 3, {dilation = 2}) end, given(line),
  {infer = function() return nn.streamable_cbr(6, 3, {dilation = 2}) end, wrong = {2, 5, 9}})
add("Residual", function() return nn.Residual(nn.Linear(4, 4)) end, given{2, 4}, {infer = function() return nn.Residual(nn.Linear(4)) end, wrong = {2, 5}})
add("GatedResidual", function() return nn.GatedResidual(nn.Linear(4, 4), nn.Linear(4, 4)) end, given{2, 4}, {wrong = {2, 5}})
for _, name in ipairs{"ColumnParallelLinear", "RowParallelLinear"} do
  add(name, function() return nn[name](4, 3) end, given{2, 5, 4}, {infer = function() return nn[name](3) end, wrong = {2, 5}})
end
add("ParallelEmbedding", function() return nn.ParallelEmbedding(7, 3) end, function() return ai.tensor({{2, 3}, {7, 1}}, {dtype = "i64"}) end)
add("FractionalMaxPool2d", function() return nn.FractionalMaxPool2d(2, {output_size = {3, 4}}) end,
  function() return ai.randn(image), ai.rand(2, 4, 2) end, {wrong = {{2, 4, 6}, {2, 4, 2}}, unused = 2})
add("FractionalMaxPool3d", function() return nn.FractionalMaxPool3d(2, {output_ratio = 0.6}) end,
  function() return ai.randn(block), ai.rand(2, 2, 3) end, {wrong = {{2, 4, 6}, {2, 2, 3}}, unused = 2})
add("FeatureAlphaDropout", function() return nn.FeatureAlphaDropout(0.3) end, given(image), {wrong = {6}, random = true})
local small_face = {input_size = 8, channels = {4, 4, 6}, blocks = {1, 1}, dim = 5}
add("FaceEmbedding", function() return nn.FaceEmbedding(small_face) end, given{3, 3, 8, 8}, {wrong = {2, 3, 9, 8}, random = true})

-- Of aijit.model.
add("EqualLinear", function() return m.fc(4, 3, {scale_w = true}) end, given{2, 4}, {wrong = {2, 5}})
add("EqualConv2d", function() return m.conv(4, 3, {scale_w = true}) end, given(image), {wrong = {2, 3, 6, 6}})
add("ModulatedConv2d", function() return m.modconv(4, 3, 5, {modtype = "weight"}).conv end, given(image, {2, 5}), {wrong = {{2, 3, 6, 6}, {2, 5}}})
add("AdaLIN", function() return m.norm.AdaLIN(4, 5) end, given(image, {2, 5}), {wrong = {{2, 4, 6, 6}, {2, 6}}})
add("TxEncoder", function() return m.tx_enc(2, 6, 2, 10) end, given{2, 5, 6}, {wrong = {2, 5, 7}})
add("Clamp", function() return m.clamp(1) end, given{2, 4})
add("PixelNorm", function() return m.norm.PixelNorm() end, given{2, 4})
add("MinibatchStd", function() return m.norm.MinibatchStd(2) end, given(image))
add("Resample", function() return m.resample(2) end, given(image))
add("Rearrange", function() return m.rearrange "b c h w -> b (c h) w" end, given(image), {wrong = {2, 4}})

--- Classes that are not walked, and why.
walk.apart = {}
local function apart(reason, names) for name in names:gmatch "%S+" do walk.apart[name] = reason end end
apart("takes a target, and returns a number: spec/loss_spec.lua", "BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss GaussianNLLLoss "
  .. "HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss MSELoss MarginRankingLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss "
  .. "PoissonNLLLoss SmoothL1Loss SoftMarginLoss TripletMarginLoss ComboLoss TripletMarginWithDistanceLoss AdaptiveLogSoftmaxWithLoss")
apart("takes a target, and returns a number: spec/perceptual_spec.lua", "LPIPS PerceptualLoss FaceIdentityLoss")
apart("takes a network: spec/diffusion_spec.lua", "GaussianDiffusion ConsistencyModel")
apart("takes a target, and returns a number: spec/spectral_spec.lua", "SSIMLoss ImageGradLoss STFTLoss MultiResolutionSTFTLoss MelLoss MFCCLoss")
apart("holds modules, and has no forward", "ModuleList ModuleDict")
apart("is a part of another class", "BiFPNBlock BiFPNFuse UNetAttention UNetBlock ParametrizedByLora ParametrizedBySpectralNorm ParametrizedByWeightNorm "
  .. "SpectralNormState TxAttention TxEncoderBlock Noise Gain TimeFeatures")
apart("is made of a trained layer", "QuantizedConv2d QuantizedLinear")
apart("is what a program makes it: spec/model_spec.lua, spec/graph_spec.lua", "Functional Lambda Model DiffusionModel ImgAutoencoder ModSeq Modulated "
  .. "ModulatedResidual")

return walk
