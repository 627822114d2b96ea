--- The networks of spec/support/layers.py, written here with the same names: the kinds of layers that those of networks.lua leave
--- out.

local ai = require "aijit"
local m = require "aijit.model"
local parity = require "spec.support.parity"
local nn, several = ai.nn, parity.several

local function flat(list)
  for i, t in ipairs(list) do list[i] = t:reshape(-1) end
  return ai.cat(list, 1)
end

local nets = {}

--- Of which PyTorch's file does not name every part.
local Partly = ai.class("ParityPartly", nn.Module)
function Partly:load_state_dict(state) return nn.Module.load_state_dict(self, state, {strict = false}) end

-- -- Without weights ---------------------------------------------------------------------------------------------------------

function nets.activations()
  local kinds = {
    nn.CELU(1.3), nn.ELU(0.7), nn.GELU(), nn.GELUTanh(), nn.GLU(), nn.Hardshrink(0.3), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(-0.5, 0.7),
    nn.LeakyReLU(0.1), nn.LogSigmoid(), nn.LogSoftmax(-1), nn.Mish(), nn.ReLU(), nn.ReLU6(), nn.SELU(), nn.SiLU(), nn.Sigmoid(), nn.Softmax(1),
    nn.Softmin(2), nn.Softplus(2, 3), nn.Softshrink(0.2), nn.Softsign(), nn.Tanh(), nn.Tanhshrink(), nn.Threshold(0.1, 0.3),
  }
  local net = several{prelu = nn.PReLU(6), kinds = nn.ModuleList(kinds)}
  return net, function(x)
    local parts = {net.prelu(x)}
    for _, k in ipairs(kinds) do parts[#parts + 1] = k(x) end
    return ai.cat(parts, 2)
  end
end

function nets.merges()
  local list = nn.ModuleList{nn.Add(), nn.Subtract(), nn.Multiply(), nn.Divide(), nn.Maximum(), nn.Minimum(), nn.Average(), nn.Concat()}
  local add, subtract, multiply, divide, maximum, minimum, average, concat = unpack(list)
  return list, function(a, b, c)
    return concat(add(a, b, c), subtract{a, b, c}, multiply(a, b, c), divide(a, b, c), maximum(a, b), minimum(a, c), average(a, b, c))
  end
end

function nets.losses()
  local w = ai.linspace(0.5, 2, 4)
  local l = {
    nn.CrossEntropyLoss(), nn.CrossEntropyLoss{weight = w, label_smoothing = 0.1}, nn.CrossEntropyLoss(), nn.NLLLoss{weight = w}, nn.MSELoss(),
    nn.L1Loss(), nn.SmoothL1Loss{beta = 0.7}, nn.HuberLoss{delta = 0.6}, nn.BCELoss(), nn.BCEWithLogitsLoss{pos_weight = w},
    nn.KLDivLoss{reduction = "batchmean"}, nn.MultiMarginLoss{p = 2, margin = 0.8}, nn.MultiLabelSoftMarginLoss(), nn.SoftMarginLoss(),
    nn.HingeEmbeddingLoss{margin = 0.9}, nn.PoissonNLLLoss{full = true}, nn.MarginRankingLoss{margin = 0.3}, nn.CosineEmbeddingLoss{margin = 0.1},
    nn.TripletMarginLoss{margin = 0.8}, nn.GaussianNLLLoss(), nn.MSELoss{reduction = "none"}, nn.L1Loss{reduction = "sum"},
    nn.MultiLabelMarginLoss(),
  }
  local net = Partly()
  net.losses = nn.ModuleList(l)
  return net, function(x, y, at, sign, several_of)
    local p, q, t = x:sigmoid(), y:sigmoid():detach(), y:detach()
    sign = (sign - 1):float()
    local s = sign * 2 - 1
    return flat{
      l[1](x, at), l[2](x, at), l[3](x, t:softmax(2)), l[4](x:log_softmax(2), at), l[5](x, t), l[6](x, t), l[7](x, t), l[8](x, t), l[9](p, q),
      l[10](x, q), l[11](x:log_softmax(2), t:softmax(2)), l[12](x, at), l[13](x, sign), l[23](x, several_of), l[14](x, s), l[15](x, s), l[16](x, q * 3),
      l[17](x, t, s),
      l[18](x, t, s[{{}, 1}]), l[19](x, t, q), l[20](x, t, q), l[21](x, t), l[22](x, t),
    }
  end
end

function nets.pools()
  local net, rows = nn.ModuleList(), {}
  for n = 1, 3 do
    local function pool(kind, ...)
      local layer = nn[kind .. n .. "d"](...)
      net:append(layer)
      return layer
    end
    rows[n] = {
      pool("MaxPool", 2, 2), pool("AvgPool", 2, 2), pool("MaxPool", 3, 2, 1),
      pool("AvgPool", {kernel_size = 3, stride = 1, padding = 1, count_include_pad = false}),
      pool("AdaptiveAvgPool", 3), pool("AdaptiveMaxPool", 3), pool("MaxPool", {kernel_size = 2, stride = 2, return_indices = true}),
      pool("MaxUnpool", 2, 2),
    }
  end
  return net, function(...)
    local parts = {}
    for n, x in ipairs{...} do
      local row = rows[n]
      for i = 1, 6 do parts[#parts + 1] = row[i](x) end
      local y, at = row[7](x)
      parts[#parts + 1] = row[8](y * 2, at)
    end
    return flat(parts)
  end
end

function nets.shapes()
  local layers = {
    nn.Unflatten(3, {2, 3}), m.rearrange("b c (h p) (w q) -> b (h w) (p q c)", {p = 2, q = 2}), m.clamp(0.5), m.conv(2, 2, {gain = 1.7})[2],
    nn.Upsample{scale_factor = 2}, nn.Upsample{size = {5, 7}, mode = "bilinear"}, nn.Upsample{size = {7, 9}, mode = "bicubic"},
    nn.Lambda(function(x) return x:permute(1, 3, 2, 4):flatten(2) end),
  }
  -- PyTorch's has one name for the layer that stands here twice.
  local net = Partly()
  net.same, net.fc = nn.Identity(), nn.Linear(6, 4)
  net.rest = nn.ModuleDict{layers = nn.ModuleList(layers)}
  net.each = nn.TimeDistributed(net.fc)
  return net, function(x, image)
    local l = layers
    return flat{net.each(x), l[8](l[1](net.same(x))), l[2](image), l[3](image), l[4](image), l[5](image), l[6](image), l[7](image)}
  end
end

function nets.pads()
  local l = {}
  for n = 1, 3 do
    local sides = {1, 2, 2, 0, 1, 1}
    for i = 2 * n + 1, 6 do sides[i] = nil end
    local function of(name, ...) l[#l + 1] = nn[name .. n .. "d"](...) end
    for kind in ("ReflectionPad ReplicationPad"):gmatch "%S+" do
      of(kind, sides)
      of(kind, 1)
    end
    of("ConstantPad", sides, 0.7)
    of("ConstantPad", -1, 0)
    of("ZeroPad", sides)
    of("CircularPad", sides)
  end
  return nn.ModuleList(l), function(...)
    local parts, inputs = {}, {...}
    for i, pad in ipairs(l) do parts[i] = pad(inputs[math.ceil(i / 8)]) end
    return flat(parts)
  end
end

function nets.places()
  local l = nn.ModuleList{
    nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ChannelShuffle(2), nn.Softmax2d(), nn.RReLU():eval(), nn.Unfold({2, 3}, {padding = {1, 0}, stride = 2}),
    nn.Fold({4, 5}, {2, 3}), nn.LocalResponseNorm(3, {alpha = 0.1, beta = 0.6, k = 1.3}), nn.CosineSimilarity(), nn.PairwiseDistance(),
    nn.PairwiseDistance{p = 3, keepdim = true}, nn.View{-1, 2}, nn.Slice{{}, {2, 3}}, nn.ReLUSquared(), nn.QuickGELU(), nn.Laplace(),
  }
  return l, function(image, columns, a, b)
    local given = {image, image, image, image, image, image, columns, image, a, a, a, a, image, a, a, a}
    local parts = {}
    for i, layer in ipairs(l) do parts[i] = layer(given[i], b) end
    return flat(parts)
  end
end

function nets.pairs_of_features()
  local net = several{bilinear = nn.Bilinear(4, 5, 3), bare = nn.Bilinear(2, {bias = false}), places = nn.ConvLayerNorm(),
                      tracked = nn.InstanceNorm2d(3, {momentum = 0.3, affine = true, track_running_stats = true})}
  return net, function(a, b, image) return net.bilinear(a, b), net.bare(a, b), net.places(image), net.tracked(image) end
end

function nets.sequence_losses()
  local net = nn.Module()
  net.losses = nn.ModuleList{nn.CTCLoss(), nn.CTCLoss{blank = 3, reduction = "none"}, nn.CTCLoss{reduction = "sum", zero_infinity = true}}
  local l = net.losses
  return net, function(x, targets, others)
    x = x:log_softmax(3)
    return flat{l[1](x, targets, {6, 5, 4}, {2, 1, 2}), l[2](x, others, {6, 6, 3}, {2, 2, 1}), l[3](x, targets, {6, 1, 5}, {2, 2, 2})}
  end
end

function nets.powers()
  local net = nn.ModuleList{nn.LPPool1d(2, 3), nn.LPPool2d(2, {2, 3}, {stride = 1}), nn.LPPool3d(3, 2), nn.CrossMapLRN2d(3, {alpha = 0.1, beta = 0.6, k = 1.3}),
                            nn.LastBatchNorm{momentum = 0.7}}
  return net, function(row, image, block) return flat{net[1](row), net[2](image), net[3](block:exp()), net[4](image), net[5](image)} end
end

function nets.mixed()
  local Gate = ai.class("ParityGate", nn.Module)
  function Gate:__init() self.fc = nn.Linear(5, 5) end
  function Gate:forward(x) return self.fc(x):sigmoid() end
  local Tanh = ai.class("ParityTanhLinear", nn.Linear)
  nn.register(Tanh)
  function Tanh:forward(x) return nn.Linear.forward(self, x):tanh() end
  local net = several{column = nn.ColumnParallelLinear(5, 6), row = nn.RowParallelLinear(6, 5), book = nn.ParallelEmbedding(7, 5),
                      gated = nn.GatedResidual(nn.Linear(5, 5), Gate()), res = nn.Residual(Tanh(5, 5))}
  return net, function(ids, x) return net.res(net.gated(net.row(net.column(x + net.book(ids))))) end
end

function nets.fractions()
  local net = nn.ModuleList{
    nn.FractionalMaxPool2d({2, 3}, {output_size = {4, 3}, return_indices = true}), nn.FractionalMaxPool3d(2, {output_ratio = 0.5}),
    nn.FractionalMaxPool2d(3, {output_size = 1}),
    nn.TripletMarginWithDistanceLoss{distance_function = function(p, q) return (p - q):abs():sum{-1} end, margin = 0.7, swap = true, reduction = "none"},
    nn.TripletMarginWithDistanceLoss(),
  }
  return net, function(a, b, u, v, far)
    u, v = u:detach(), v:detach()
    local y, at = net[1](a, u)
    local x, p = a[{1, 1, {}, {1, 4}}], a[{1, 2, {}, {1, 4}}]
    return flat{y, at:float(), net[2](b, v), net[3](a, u), net[4](x, p, far), net[5](x, p, far)}
  end
end

function nets.rare_classes()
  local net = nn.ModuleList{nn.AdaptiveLogSoftmaxWithLoss(8, 20, {4, 10}, {div_value = 2, head_bias = true}), nn.AdaptiveLogSoftmaxWithLoss(8, 6, {3})}
  return net, function(x, target, few)
    local out, loss = net[1](x, target)
    return out, loss:reshape(1), net[1]:log_prob(x), (net[2](x, few))
  end
end

--- t counts from 1 here.
function nets.diffusions()
  local o = {beta_schedule = "warmup", num_beta_steps = 10, warmup = 0.3, pred_mode = "pred_v"}
  local net = several{fc = nn.Linear(4, 4), diffusion = nn.GaussianDiffusion(o), consistency = nn.ConsistencyModel()}
  return net, function(x, noise, t, sigma)
    local function loss(kind) return net.diffusion(net.fc, x, {t = t, noise = noise, loss = kind, reduction = "none"}) end
    local seen = net.consistency:denoise(function(y, time) return net.fc(y) + time:unsqueeze(2) end, x, sigma)
    return flat{net.diffusion:noisify(x, t, noise), net.diffusion:target(x, t, noise), loss "mse", loss "pseudo_huber",
                seen}
  end
end

function nets.combined_losses()
  local net = nn.ComboLoss{close = nn.L1Loss(), square = {nn.MSELoss(), 0.3}}
  return net, function(x, y, mu, a, b) return flat{(net(x, y)), nn.kl_div_single_loss(mu, a), nn.kl_div_pair_loss(mu, a, x, b)} end
end

-- -- Norms and weights that are computed ---------------------------------------------------------------------------------------

function nets.norms()
  local net = several{
    b1 = nn.BatchNorm1d(3, {momentum = 0.3}), b2 = nn.BatchNorm2d(3, {eps = 1e-3}), b3 = nn.BatchNorm3d(3, {affine = false}),
    i1 = nn.InstanceNorm1d(3, {affine = true}), i2 = nn.InstanceNorm2d(3), i3 = nn.InstanceNorm3d(3, {affine = true}),
    group = nn.GroupNorm(3, 3, {affine = false}), layer = nn.LayerNorm({3, 4}, {bias = false}), rms = nn.RMSNorm(4, {eps = 1e-3}),
  }
  return net, function(a, b, c)
    return flat{net.b1(a), net.b2(b), net.b3(c), net.i1(a), net.i2(b), net.i3(c), net.group(b), net.layer(a), net.rms(a)}
  end
end

function nets.computed_weights()
  local net = several{
    norm = nn.weight_norm(nn.Linear(4, 3)), whole = nn.weight_norm(nn.Linear(3, 2), "weight", {dim = false}),
    conv = nn.weight_norm(nn.Conv2d(2, 3, 3), "weight", {dim = 2}), lora = nn.lora_weight(nn.Linear(3, 4), "weight", {r = 2, alpha = 3}),
    lora_conv = nn.lora_weight(nn.Conv1d(2, 3, 3), "weight", {r = 1}),
  }
  return net, function(x, image, row) return flat{net.whole(net.norm(x)), net.conv(image), net.lora(x[{{}, {1, 3}}]), net.lora_conv(row)} end
end

function nets.convolutions()
  local net = several{
    c1 = nn.Conv1d(4, 6, 3, {stride = 2, padding = 2, groups = 2, padding_mode = "circular"}),
    c2 = nn.Conv2d(2, 4, {3, 2}, {padding = {1, 0}, dilation = {1, 2}, padding_mode = "replicate"}), c3 = nn.Conv3d(1, 2, {2, 3, 1}, {bias = false}),
    t1 = nn.ConvTranspose1d(4, 6, 3, {stride = 2, padding = 1, output_padding = 1, groups = 2, dilation = 2}),
    t2 = nn.ConvTranspose2d(2, 3, 3, {stride = {2, 1}, padding = 1, output_padding = {1, 0}}), t3 = nn.ConvTranspose3d(1, 2, 2, {stride = 2, bias = false}),
  }
  return net, function(a, b, c) return flat{net.c1(a), net.c2(b), net.c3(c), net.t1(a), net.t2(b), net.t3(c)} end
end

-- -- Embeddings and positions ----------------------------------------------------------------------------------------------------

function nets.embeddings()
  local net = several{sum = nn.EmbeddingBag(7, 3, {mode = "sum"}), mean = nn.EmbeddingBag(7, 3), max = nn.EmbeddingBag(7, 3, {mode = "max"}),
                      learned = nn.LearnedPositionalEmbeddings(9, 6)}
  local rotary, pairs_of = nn.RotaryEmbeddings{base = 100}, nn.RotaryEmbeddings{interleaved = true}
  local sines, fourier, features = nn.SinusoidalEmbeddings{base = 100}, nn.FourierEmbeddings(6, {max_period = 1000}), m.pos_emb(6)
  local same = nn.IdentityPositionalEmbeddings()
  net.others = nn.ModuleList{rotary, pairs_of, sines, fourier, features, same}
  return net, function(bags, weights, x, times)
    return flat{net.sum(bags, nil, weights), net.mean(bags), net.max(bags), rotary(x), pairs_of(x, {offset = 2}), sines(x), net.learned(x, {offset = 1}),
                fourier(times), features(times), same(x)}
  end
end

return nets
