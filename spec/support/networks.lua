--- The networks of spec/support/nets.py, written here with the same names.

local ai = require "aijit"
local parity = require "spec.support.parity"
local nn, f, several = ai.nn, ai.f, parity.several

--- nets[name]() -> model, run; without a run, model(x...).
local nets = {}

-- -- Images --------------------------------------------------------------------------------------------------------------

function nets.mnist_cnn()
  return nn.Sequential{
    nn.Conv2d(1, 4, 3, {padding = 1}), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(6, {kernel_size = 3, padding = 1}), nn.BatchNorm2d(), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(10),
  }
end

local Basic = ai.class("ParityBasic", nn.Module)
function Basic:__init(a, b, stride)
  self.conv1 = nn.Conv2d(a, b, 3, {stride = stride, padding = 1, bias = false})
  self.bn1 = nn.BatchNorm2d(b)
  self.conv2 = nn.Conv2d(b, b, 3, {padding = 1, bias = false})
  self.bn2 = nn.BatchNorm2d(b)
  if stride ~= 1 or a ~= b then
    self.downsample = nn.Sequential{nn.Conv2d(a, b, 1, {stride = stride, bias = false}), nn.BatchNorm2d(b)}
  end
end
function Basic:forward(x)
  local y = self.bn2(self.conv2(self.bn1(self.conv1(x)):relu()))
  return (y + (self.downsample and self.downsample(x) or x)):relu()
end

function nets.resnet18()
  local m = several{conv1 = nn.Conv2d(3, 4, 7, {stride = 2, padding = 3, bias = false}), bn1 = nn.BatchNorm2d(4), fc = nn.Linear(8, 5)}
  local a = 4
  for i, b in ipairs{4, 6, 6, 8} do
    m["layer" .. i] = nn.Sequential{Basic(a, b, i == 1 and 1 or 2), Basic(b, b, 1)}
    a = b
  end
  return m, function(x)
    x = f.max_pool2d(m.bn1(m.conv1(x)):relu(), 3, 2, 1)
    return m.fc(m.layer4(m.layer3(m.layer2(m.layer1(x)))):mean{3, 4})
  end
end

function nets.mobile()
  local m = several{
    expand = nn.Sequential{nn.Conv2d(3, 8, 1, {bias = false}), nn.BatchNorm2d(8), nn.ReLU6()},
    depth = nn.Sequential{nn.Conv2d(8, 8, 3, {stride = 2, padding = 1, groups = 8, bias = false}), nn.BatchNorm2d(8), nn.Hardswish()},
    squeeze = nn.Conv2d(8, 2, 1), excite = nn.Conv2d(2, 8, 1), project = nn.Conv2d(8, 4, 1),
  }
  return m, function(x)
    x = m.depth(m.expand(x))
    return m.project(x * m.excite(m.squeeze(f.adaptive_avg_pool2d(x, 1)):relu()):hardsigmoid())
  end
end

function nets.convnext()
  local m = several{depth = nn.Conv2d(6, 6, 7, {padding = 3, groups = 6}), norm = nn.LayerNorm(6), up = nn.Linear(6, 12), down = nn.Linear(12, 6),
                    scale = nn.Parameter(ai.ones(6))}
  return m, function(x)
    local y = m.norm(m.depth(x):permute(1, 3, 4, 2))
    return x + (m.scale * m.down(m.up(y):gelu())):permute(1, 4, 2, 3)
  end
end

function nets.unet()
  local function block(a, b)
    return nn.Sequential{nn.Conv2d(a, b, 3, {padding = 1}), nn.GroupNorm(2, b), nn.SiLU(), nn.Conv2d(b, b, 3, {padding = 1}), nn.SiLU()}
  end
  local m = several{
    down1 = block(3, 4), down2 = block(4, 6), middle = block(6, 6), up2 = nn.ConvTranspose2d(6, 6, 2, {stride = 2}), dec2 = block(12, 4),
    up1 = nn.ConvTranspose2d(4, 4, 2, {stride = 2}), dec1 = block(8, 4), out = nn.Conv2d(4, 2, 1),
  }
  return m, function(x)
    local a = m.down1(x)
    local b = m.down2(f.max_pool2d(a, 2))
    local y = m.dec2(ai.cat({m.up2(m.middle(f.max_pool2d(b, 2))), b}, 2))
    return m.out(m.dec1(ai.cat({m.up1(y), a}, 2)))
  end
end

function nets.autoencoder()
  return nn.Sequential{
    nn.Conv2d(1, 4, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 3, 2, 1), nn.InstanceNorm2d(8, {affine = true}), nn.Mish(),
    nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.ELU(), nn.ConvTranspose2d(4, 1, 4, 2, 1, {bias = false}), nn.Tanh(),
  }
end

function nets.decoder_upsample()
  return nn.Sequential{
    nn.Linear(5, 36), nn.SELU(), nn.Unflatten(2, {4, 3, 3}), nn.Upsample{scale_factor = 2}, nn.Conv2d(4, 4, 3, {padding = 1}), nn.Softplus(),
    nn.Upsample{scale_factor = 2, mode = "bilinear", align_corners = true}, nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(4),
    nn.Conv2d(4, 2, 3, {padding = 2, dilation = 2, padding_mode = "reflect"}), nn.Sigmoid(),
  }
end

function nets.critic()
  return nn.Sequential{
    nn.spectral_norm(nn.Conv2d(3, 6, 4, 2, 1)), nn.LeakyReLU(0.2), nn.spectral_norm(nn.Conv2d(6, 8, 3, 2, 1)), nn.Softsign(), nn.Flatten(),
    nn.spectral_norm(nn.Linear(32, 1), "weight", {n_power_iterations = 2}),
  }
end

-- -- Sequences and volumes ------------------------------------------------------------------------------------------------

function nets.tcn()
  return nn.Sequential{
    nn.Conv1d(3, 6, 3, {padding = 2, dilation = 2}), nn.BatchNorm1d(6), nn.PReLU(6), nn.Conv1d(6, 8, 3, {groups = 2, padding = "same"}),
    nn.GLU(2), nn.AvgPool1d(3, 2, 1), nn.ConvTranspose1d(4, 4, 4, 2, 1), nn.CELU(1.3), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(3),
    nn.Flatten(), nn.Linear(12, 4), nn.LogSoftmax(2),
  }
end

function nets.volumes()
  return nn.Sequential{
    nn.Conv3d(2, 4, 3, {padding = 1}), nn.BatchNorm3d(4), nn.GELU "tanh", nn.MaxPool3d(2), nn.ConvTranspose3d(4, 3, 2, 2),
    nn.InstanceNorm3d(3), nn.Tanhshrink(), nn.AvgPool3d(2), nn.AdaptiveAvgPool3d{output_size = {1, 2, 2}}, nn.Flatten(), nn.Linear(12, 3),
  }
end

function nets.mlp()
  local m = nn.Sequential()
  for _, actv in ipairs{nn.GELU(), nn.SiLU(), nn.Hardtanh(), nn.LogSigmoid(), nn.Softmax(-1), nn.Hardshrink(0.1), nn.Softshrink(0.1),
                        nn.Threshold(0.1, 0.3)} do
    m:extend{nn.Linear(9), nn.LayerNorm(9), actv}
  end
  return m:append(nn.Linear(2))
end

function nets.bag_of_words()
  local m = several{embed = nn.Embedding(11, 6, {padding_idx = 1}), fc = nn.Linear(6, 3, {bias = false})}
  return m, function(x) return m.fc(m.embed(x):mean{2}) end
end

-- -- Recurrent ------------------------------------------------------------------------------------------------------------

function nets.lstm()
  local m = several{rnn = nn.LSTM(4, 5, {num_layers = 2, bidirectional = true})}
  return m, function(x, h, c)
    local y, state = m.rnn(x, {h, c})
    return y, state[1], state[2]
  end
end

function nets.lstm_classifier()
  local m = several{embed = nn.Embedding(9, 4), rnn = nn.LSTM(6, {batch_first = true}), fc = nn.Linear(3)}
  return m, function(x) return m.fc(m.rnn(m.embed(x)):select(2, -1)) end
end

function nets.lstm_packed()
  local m = several{rnn = nn.LSTM(4, 6, {num_layers = 2, bidirectional = true, proj_size = 3})}
  return m, function(x)
    local y, state = m.rnn(nn.pack_padded_sequence(x, {3, 6, 1, 6}, {enforce_sorted = false}))
    return nn.pad_packed_sequence(y), state[1], state[2]
  end
end

function nets.gru()
  local m = several{rnn = nn.GRU(4, 5, {num_layers = 2, batch_first = true, bidirectional = true})}
  return m, function(x, h) return m.rnn(x, h) end
end

function nets.gru_packed()
  local m = several{rnn = nn.GRU(3, 4, {bias = false})}
  return m, function(x, h)
    local y, last = m.rnn(nn.pack_padded_sequence(x, {5, 3, 2}, {batch_first = true}), h)
    return nn.pad_packed_sequence(y, {batch_first = true}), last
  end
end

function nets.rnn_relu()
  local m = several{rnn = nn.RNN(3, 4, {num_layers = 3, nonlinearity = "relu"})}
  return m, function(x) return m.rnn(x) end
end

function nets.cells()
  local m = several{a = nn.RNNCell(3, 4), b = nn.GRUCell(4), c = nn.LSTMCell(4, 5)}
  return m, function(x)
    local a, b, h, c
    for t = 1, #x do
      a = m.a(x[t], a)
      b = m.b(a, b)
      h, c = m.c(b, h and {h, c})
    end
    return h, c
  end
end

-- -- Attention ------------------------------------------------------------------------------------------------------------

function nets.attention()
  local m = several{attn = nn.MultiheadAttention(8, 2, {kdim = 5, vdim = 3})}
  local mask = ai.zeros(4, 6, {dtype = "bool"})
  mask[{{}, 5}] = true
  return m, function(q, k, v) return m.attn(q, k, v, {attn_mask = mask, need_weights = true}) end
end

function nets.encoder()
  local m = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, {dropout = 0}), 2)
  local padding = ai.tensor{{false, false, false, false, false}, {false, false, false, true, true}}
  return m, function(x) return m(x, {src_key_padding_mask = padding}) end
end

function nets.decoder()
  local m = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 12, {dropout = 0, activation = "gelu", batch_first = true, norm_first = true}),
    2, {norm = nn.LayerNorm(8)})
  return m, function(x, memory) return m(x, memory, {tgt_is_causal = true}) end
end

function nets.transformer()
  local m = nn.Transformer{d_model = 8, nhead = 2, num_encoder_layers = 1, num_decoder_layers = 1, dim_feedforward = 10, dropout = 0}
  return m, function(s, t) return m(s, t, {tgt_mask = nn.causal_mask(3)}) end
end

function nets.vit()
  local block = nn.TransformerEncoderLayer(2, {dim_feedforward = 16, dropout = 0, activation = "gelu", batch_first = true, norm_first = true})
  local m = several{
    patch = nn.Conv2d(3, 8, 4, 4), norm = nn.LayerNorm(8), head = nn.Linear(8, 4), encoder = nn.TransformerEncoder(block, 2),
    cls = nn.Parameter(ai.zeros(1, 1, 8)), pos = nn.Parameter(ai.zeros(1, 17, 8)),
  }
  return m, function(x)
    x = m.patch(x):flatten(3):transpose(2, 3)
    x = ai.cat({m.cls:expand(#x, 1, 8), x}, 2) + m.pos
    return m.head(m.norm(m.encoder(x)):select(2, 1))
  end
end

local GptBlock = ai.class("ParityGptBlock", nn.Module)
function GptBlock:__init(d, heads)
  self.heads = heads
  self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
  self.attn = several{c_attn = nn.Linear(d, 3 * d), c_proj = nn.Linear(d, d)}
  self.mlp = several{c_fc = nn.Linear(d, 4 * d), c_proj = nn.Linear(4 * d, d)}
end
function GptBlock:forward(x)
  local n, t, d = x:size(1), x:size(2), x:size(3)
  local q, k, v = unpack(self.attn.c_attn(self.ln_1(x)):split(d, 3))
  local function heads(z) return z:reshape(n, t, self.heads, -1):transpose(2, 3) end
  local y = f.scaled_dot_product_attention(heads(q), heads(k), heads(v), {is_causal = true})
  x = x + self.attn.c_proj(y:transpose(2, 3):reshape(n, t, d))
  return x + self.mlp.c_proj(self.mlp.c_fc(self.ln_2(x)):gelu())
end

function nets.gpt()
  local m = several{wte = nn.Embedding(13, 8), wpe = nn.Embedding(6, 8), h = nn.ModuleList{GptBlock(8, 2), GptBlock(8, 2)}, ln_f = nn.LayerNorm(8)}
  return m, function(x)
    local h = m.wte(x) + m.wpe(ai.arange(x:size(2)))
    for _, block in ipairs(m.h) do h = block(h) end
    return m.ln_f(h):matmul(m.wte.weight:t())
  end
end

return nets
