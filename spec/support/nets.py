#!/usr/bin/python3
"""Small networks run by PyTorch, for spec/parity_spec.lua: `spec/support/nets.py spec/vectors/nets`.

One safetensors file a network: w.NAME the state before, x0 x1 ... the inputs, y0 y1 ... the outputs, gy0 gy1 ... the
gradients that are sent back, gx0 ... and g.NAME the gradients of inputs and parameters, b.NAME buffers after the run.
Computed in double from single precision weights and inputs; written in single precision. Indices count from 0.
Runs with PyTorch 1.13 or later; `apt-get install python3-torch` is enough.
"""
import json
import struct
import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import rnn
from torch.nn.utils.parametrizations import spectral_norm

NETS = {}


def net(f):
    NETS[f.__name__] = f
    return f


def write(path, tensors):
    kinds = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}
    header, blobs, at = {}, [], 0
    for name, t in tensors.items():
        t = t.detach().contiguous()
        t = t.float() if t.is_floating_point() else t
        blob = t.numpy().tobytes()
        header[name] = {"dtype": kinds[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def single(t):
    return t.float().double() if t.is_floating_point() else t


def make(name, folder):
    torch.manual_seed(sum(name.encode()))
    model, inputs, run = NETS[name]()
    model.double().train()
    with torch.no_grad():
        for p in list(model.parameters()):
            p.copy_(single(p + 0.2 * torch.randn_like(p) if p.dim() == 1 else p))
        for b in model.buffers():
            b.copy_(single(b))
    inputs = [single(x.double() if x.is_floating_point() else x) for x in inputs]
    for x in inputs:
        x.requires_grad_(x.is_floating_point())
    out = {"w." + k: v.clone() for k, v in model.state_dict().items()}
    before = {k: b.clone() for k, b in model.named_buffers()}
    ys = run(model, *inputs)
    ys = list(ys) if isinstance(ys, (tuple, list)) else [ys]
    gys = [single(torch.randn_like(y)) for y in ys]
    torch.autograd.backward(ys, gys)
    for i, x in enumerate(inputs):
        out[f"x{i}"] = x
        if x.grad is not None:
            out[f"gx{i}"] = x.grad
    for i, (y, gy) in enumerate(zip(ys, gys)):
        out[f"y{i}"], out[f"gy{i}"] = y, gy
    for k, p in model.named_parameters():
        if p.requires_grad:
            out["g." + k] = p.grad
    for k, b in model.named_buffers():
        if not torch.equal(b, before[k]):
            out["b." + k] = b
    write(f"{folder}/{name}.safetensors", out)


def plain(model, *inputs):
    return model(*inputs)


def several(**parts):
    m = nn.Module()
    for k, v in parts.items():
        setattr(m, k, v)
    return m


# -- Images --------------------------------------------------------------------------------------------------------------


@net
def mnist_cnn():
    def block(a, b):
        return [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*block(1, 4), *block(4, 6), nn.Flatten(), nn.Linear(6 * 49, 10)), [torch.randn(3, 1, 28, 28)], plain


class Basic(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(a, b, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(b)
        self.conv2 = nn.Conv2d(b, b, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(b)
        self.downsample = None
        if stride != 1 or a != b:
            self.downsample = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


@net
def resnet18():
    m = several(conv1=nn.Conv2d(3, 4, 7, 2, 3, bias=False), bn1=nn.BatchNorm2d(4))
    a = 4
    for i, b in enumerate([4, 6, 6, 8]):
        setattr(m, f"layer{i + 1}", nn.Sequential(Basic(a, b, 1 if i == 0 else 2), Basic(b, b, 1)))
        a = b
    m.fc = nn.Linear(8, 5)

    def run(m, x):
        x = F.max_pool2d(F.relu(m.bn1(m.conv1(x))), 3, 2, 1)
        x = m.layer4(m.layer3(m.layer2(m.layer1(x))))
        return m.fc(x.mean((2, 3)))
    return m, [torch.randn(6, 3, 40, 40)], run


@net
def mobile():
    m = several(expand=nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()),
                depth=nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.Hardswish()),
                squeeze=nn.Conv2d(8, 2, 1), excite=nn.Conv2d(2, 8, 1), project=nn.Conv2d(8, 4, 1))

    def run(m, x):
        x = m.depth(m.expand(x))
        gate = F.hardsigmoid(m.excite(F.relu(m.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return m.project(x * gate)
    return m, [torch.randn(2, 3, 9, 9)], run


@net
def convnext():
    m = several(depth=nn.Conv2d(6, 6, 7, padding=3, groups=6), norm=nn.LayerNorm(6), up=nn.Linear(6, 12), down=nn.Linear(12, 6))
    m.scale = nn.Parameter(torch.full((6,), 0.3))

    def run(m, x):
        y = m.norm(m.depth(x).permute(0, 2, 3, 1))
        return x + (m.scale * m.down(F.gelu(m.up(y)))).permute(0, 3, 1, 2)
    return m, [torch.randn(2, 6, 8, 8)], run


@net
def unet():
    def block(a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(2, b), nn.SiLU(), nn.Conv2d(b, b, 3, padding=1), nn.SiLU())
    m = several(down1=block(3, 4), down2=block(4, 6), middle=block(6, 6), up2=nn.ConvTranspose2d(6, 6, 2, 2), dec2=block(12, 4),
                up1=nn.ConvTranspose2d(4, 4, 2, 2), dec1=block(8, 4), out=nn.Conv2d(4, 2, 1))

    def run(m, x):
        a = m.down1(x)
        b = m.down2(F.max_pool2d(a, 2))
        y = m.middle(F.max_pool2d(b, 2))
        y = m.dec2(torch.cat([m.up2(y), b], 1))
        return m.out(m.dec1(torch.cat([m.up1(y), a], 1)))
    return m, [torch.randn(2, 3, 16, 16)], run


@net
def autoencoder():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 3, 2, 1), nn.InstanceNorm2d(8, affine=True), nn.Mish(),
        nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.ELU(), nn.ConvTranspose2d(4, 1, 4, 2, 1, bias=False), nn.Tanh(),
    ), [torch.randn(2, 1, 12, 12)], plain


@net
def decoder_upsample():
    return nn.Sequential(
        nn.Linear(5, 4 * 9), nn.SELU(), nn.Unflatten(1, (4, 3, 3)), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1),
        nn.Softplus(), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(4),
        nn.Conv2d(4, 2, 3, padding=2, dilation=2, padding_mode="reflect"), nn.Sigmoid(),
    ), [torch.randn(2, 5)], plain


@net
def critic():
    return nn.Sequential(
        spectral_norm(nn.Conv2d(3, 6, 4, 2, 1)), nn.LeakyReLU(0.2), spectral_norm(nn.Conv2d(6, 8, 3, 2, 1)), nn.Softsign(),
        nn.Flatten(), spectral_norm(nn.Linear(8 * 4, 1), n_power_iterations=2),
    ), [torch.randn(3, 3, 8, 8)], plain


# -- Sequences and volumes ------------------------------------------------------------------------------------------------


@net
def tcn():
    return nn.Sequential(
        nn.Conv1d(3, 6, 3, padding=2, dilation=2), nn.BatchNorm1d(6), nn.PReLU(6), nn.Conv1d(6, 8, 3, groups=2, padding="same"),
        nn.GLU(1), nn.AvgPool1d(3, 2, 1), nn.ConvTranspose1d(4, 4, 4, 2, 1), nn.CELU(1.3), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(3),
        nn.Flatten(), nn.Linear(12, 4), nn.LogSoftmax(1),
    ), [torch.randn(3, 3, 20)], plain


@net
def volumes():
    return nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.GELU(approximate="tanh"), nn.MaxPool3d(2), nn.ConvTranspose3d(4, 3, 2, 2),
        nn.InstanceNorm3d(3), nn.Tanhshrink(), nn.AvgPool3d(2), nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten(), nn.Linear(12, 3),
    ), [torch.randn(2, 2, 4, 6, 4)], plain


@net
def mlp():
    layers, a = [], 7
    for actv in [nn.GELU(), nn.SiLU(), nn.Hardtanh(), nn.LogSigmoid(), nn.Softmax(-1), nn.Hardshrink(0.1), nn.Softshrink(0.1), nn.Threshold(0.1, 0.3)]:
        layers += [nn.Linear(a, 9), nn.LayerNorm(9), actv]
        a = 9
    return nn.Sequential(*layers, nn.Linear(9, 2)), [torch.randn(5, 7)], plain


@net
def bag_of_words():
    m = several(embed=nn.Embedding(11, 6, padding_idx=0), fc=nn.Linear(6, 3, bias=False))
    return m, [torch.randint(0, 11, (4, 5))], lambda m, x: m.fc(m.embed(x).mean(1))


# -- Recurrent ------------------------------------------------------------------------------------------------------------


@net
def lstm():
    m = several(rnn=nn.LSTM(4, 5, num_layers=2, bidirectional=True))

    def run(m, x, h, c):
        y, (h, c) = m.rnn(x, (h, c))
        return y, h, c
    return m, [torch.randn(6, 3, 4), torch.randn(4, 3, 5), torch.randn(4, 3, 5)], run


@net
def lstm_classifier():
    m = several(embed=nn.Embedding(9, 4), rnn=nn.LSTM(4, 6, batch_first=True), fc=nn.Linear(6, 3))
    return m, [torch.randint(0, 9, (3, 7))], lambda m, x: m.fc(m.rnn(m.embed(x))[0][:, -1])


@net
def lstm_packed():
    m = several(rnn=nn.LSTM(4, 6, num_layers=2, bidirectional=True, proj_size=3))

    def run(m, x):
        y, (h, c) = m.rnn(rnn.pack_padded_sequence(x, torch.tensor([3, 6, 1, 6]), enforce_sorted=False))
        return rnn.pad_packed_sequence(y)[0], h, c
    return m, [torch.randn(6, 4, 4)], run


@net
def gru():
    m = several(rnn=nn.GRU(4, 5, num_layers=2, batch_first=True, bidirectional=True))
    return m, [torch.randn(3, 6, 4), torch.randn(4, 3, 5)], lambda m, x, h: m.rnn(x, h)


@net
def gru_packed():
    m = several(rnn=nn.GRU(3, 4, bias=False))

    def run(m, x, h):
        y, h = m.rnn(rnn.pack_padded_sequence(x, torch.tensor([5, 3, 2]), batch_first=True), h)
        return rnn.pad_packed_sequence(y, batch_first=True)[0], h
    return m, [torch.randn(3, 5, 3), torch.randn(1, 3, 4)], run


@net
def rnn_relu():
    m = several(rnn=nn.RNN(3, 4, num_layers=3, nonlinearity="relu"))
    return m, [torch.randn(5, 3)], lambda m, x: m.rnn(x)


@net
def cells():
    m = several(a=nn.RNNCell(3, 4), b=nn.GRUCell(4, 4), c=nn.LSTMCell(4, 5))

    def run(m, x):
        a = b = c = None
        for t in range(x.size(0)):
            a = m.a(x[t], a)
            b = m.b(a, b)
            c = m.c(b, c)
        return c
    return m, [torch.randn(4, 2, 3)], run


# -- Attention ------------------------------------------------------------------------------------------------------------


@net
def attention():
    m = several(attn=nn.MultiheadAttention(8, 2, kdim=5, vdim=3))
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:, 4] = True
    return m, [torch.randn(4, 2, 8), torch.randn(6, 2, 5), torch.randn(6, 2, 3)], lambda m, q, k, v: m.attn(q, k, v, attn_mask=mask)


@net
def encoder():
    m = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0), 2)

    def run(m, x):
        padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
        return m(x, src_key_padding_mask=padding)
    return m, [torch.randn(5, 2, 8)], run


@net
def decoder():
    m = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True), 2,
                              norm=nn.LayerNorm(8))
    mask = torch.triu(torch.full((4, 4), float("-inf"), dtype=torch.float64), 1)
    return m, [torch.randn(2, 4, 8), torch.randn(2, 5, 8)], lambda m, x, memory: m(x, memory, tgt_mask=mask)


@net
def transformer():
    m = nn.Transformer(8, 2, 1, 1, 10, 0.0)
    mask = torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)
    return m, [torch.randn(4, 2, 8), torch.randn(3, 2, 8)], lambda m, s, t: m(s, t, tgt_mask=mask)


@net
def vit():
    m = several(patch=nn.Conv2d(3, 8, 4, 4),
                encoder=nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True), 2),
                norm=nn.LayerNorm(8), head=nn.Linear(8, 4))
    m.cls = nn.Parameter(torch.randn(1, 1, 8))
    m.pos = nn.Parameter(torch.randn(1, 17, 8))

    def run(m, x):
        x = m.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([m.cls.expand(x.size(0), -1, -1), x], 1) + m.pos
        return m.head(m.norm(m.encoder(x))[:, 0])
    return m, [torch.randn(2, 3, 16, 16)], run


class GptBlock(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = several(c_attn=nn.Linear(d, 3 * d), c_proj=nn.Linear(d, d))
        self.mlp = several(c_fc=nn.Linear(d, 4 * d), c_proj=nn.Linear(4 * d, d))

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (z.view(n, t, self.heads, -1).transpose(1, 2) for z in self.attn.c_attn(self.ln_1(x)).split(d, 2))
        s = (q @ k.transpose(-2, -1) / (d // self.heads) ** 0.5).masked_fill(torch.ones(t, t).triu(1).bool(), float("-inf"))
        x = x + self.attn.c_proj((s.softmax(-1) @ v).transpose(1, 2).reshape(n, t, d))
        return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x))))


@net
def gpt():
    m = several(wte=nn.Embedding(13, 8), wpe=nn.Embedding(6, 8), h=nn.ModuleList([GptBlock(8, 2), GptBlock(8, 2)]), ln_f=nn.LayerNorm(8))

    def run(m, x):
        h = m.wte(x) + m.wpe(torch.arange(x.size(1)))
        for block in m.h:
            h = block(h)
        return m.ln_f(h) @ m.wte.weight.t()
    return m, [torch.randint(0, 13, (2, 6))], run


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in NETS:
        make(name, sys.argv[1])
