#!/usr/bin/python3
"""More networks for spec/parity_spec.lua: `spec/support/layers.py spec/vectors/layers`, one file each as nets.py writes them.

Here are the kinds of layers that the networks of nets.py leave out: those that PyTorch has, and, written in PyTorch from the
papers' formulas, those that it has not.
"""
import itertools
import math
import sys

import nets
import torch
from nets import plain, several
from torch import nn
from torch.nn import functional as F

NETS = nets.NETS
NETS.clear()
net = nets.net


def positive(*shape):
    return torch.rand(*shape) + 0.5


# -- Without weights ---------------------------------------------------------------------------------------------------------


@net
def activations():
    kinds = [nn.CELU(1.3), nn.ELU(0.7), nn.GELU(), nn.GELU("tanh"), nn.GLU(), nn.Hardshrink(0.3), nn.Hardsigmoid(), nn.Hardswish(),
             nn.Hardtanh(-0.5, 0.7), nn.LeakyReLU(0.1), nn.LogSigmoid(), nn.LogSoftmax(-1), nn.Mish(), nn.ReLU(), nn.ReLU6(), nn.SELU(),
             nn.SiLU(), nn.Sigmoid(), nn.Softmax(0), nn.Softmin(1), nn.Softplus(2.0, 3.0), nn.Softshrink(0.2), nn.Softsign(), nn.Tanh(),
             nn.Tanhshrink(), nn.Threshold(0.1, 0.3)]
    m = several(prelu=nn.PReLU(6), kinds=nn.ModuleList(kinds))
    return m, [3 * torch.randn(4, 6)], lambda m, x: torch.cat([m.prelu(x)] + [k(x) for k in m.kinds], 1)


@net
def merges():
    def run(m, a, b, c):
        return torch.cat([a + b + c, a - b - c, a * b * c, a / b / c, torch.maximum(a, b), torch.minimum(a, c), (a + b + c) / 3], -1)
    return nn.Module(), [torch.randn(3, 4), positive(3, 4), positive(3, 4)], run


@net
def losses():
    def run(m, x, y, at, sign, several_of):
        p, q, t = x.sigmoid(), y.sigmoid().detach(), y.detach()
        s = (sign * 2 - 1).double()
        w = torch.linspace(0.5, 2, 4, dtype=x.dtype)
        one = [
            nn.CrossEntropyLoss()(x, at), nn.CrossEntropyLoss(weight=w, label_smoothing=0.1)(x, at), nn.CrossEntropyLoss()(x, t.softmax(1)),
            nn.NLLLoss(weight=w)(x.log_softmax(1), at), nn.MSELoss()(x, t), nn.L1Loss()(x, t), nn.SmoothL1Loss(beta=0.7)(x, t),
            nn.HuberLoss(delta=0.6)(x, t), nn.BCELoss()(p, q), nn.BCEWithLogitsLoss(pos_weight=w)(x, q),
            nn.KLDivLoss(reduction="batchmean")(x.log_softmax(1), t.softmax(1)), nn.MultiMarginLoss(p=2, margin=0.8)(x, at),
            nn.MultiLabelSoftMarginLoss()(x, sign.double()), nn.MultiLabelMarginLoss()(x, several_of), nn.SoftMarginLoss()(x, s), nn.HingeEmbeddingLoss(margin=0.9)(x, s),
            nn.PoissonNLLLoss(full=True)(x, 3 * q), nn.MarginRankingLoss(margin=0.3)(x, t, s), nn.CosineEmbeddingLoss(margin=0.1)(x, t, s[:, 0]),
            nn.TripletMarginLoss(margin=0.8)(x, t, q), nn.GaussianNLLLoss()(x, t, q),
        ]
        many = [nn.MSELoss(reduction="none")(x, t).reshape(-1), nn.L1Loss(reduction="sum")(x, t).reshape(1)]
        return torch.cat([torch.stack(one)] + many)
    several_of = torch.tensor([[1, 3, -1, 0], [0, -1, 2, 2], [2, 1, 3, 0], [3, 0, 1, -1], [2, -1, -1, -1]])
    return nn.Module(), [torch.randn(5, 4), torch.randn(5, 4), torch.randint(0, 4, (5,)), torch.randint(0, 2, (5, 4)), several_of], run


@net
def pools():
    def run(m, a, b, c):
        parts = []
        for x, n in [(a, 1), (b, 2), (c, 3)]:
            for kind in ["MaxPool", "AvgPool"]:
                parts.append(getattr(nn, f"{kind}{n}d")(2, 2)(x))
            parts.append(getattr(nn, f"MaxPool{n}d")(3, 2, 1)(x))
            parts.append(getattr(nn, f"AvgPool{n}d")(3, 1, 1, count_include_pad=False)(x))
            for kind in ["AdaptiveAvgPool", "AdaptiveMaxPool"]:
                parts.append(getattr(nn, f"{kind}{n}d")(3)(x))
            y, at = getattr(nn, f"MaxPool{n}d")(2, 2, return_indices=True)(x)
            parts.append(getattr(nn, f"MaxUnpool{n}d")(2, 2)(y * 2, at))
        return torch.cat([p.reshape(-1) for p in parts])
    return nn.Module(), [torch.randn(2, 3, 8), torch.randn(2, 2, 8, 6), torch.randn(1, 2, 4, 6, 4)], run


@net
def sequence_losses():
    def run(m, x, targets, others):
        x = x.log_softmax(2)
        one = nn.CTCLoss()(x, targets, [6, 5, 4], [2, 1, 2])
        each = nn.CTCLoss(blank=2, reduction="none")(x, others, [6, 6, 3], [2, 2, 1])
        finite = nn.CTCLoss(reduction="sum", zero_infinity=True)(x, targets, [6, 1, 5], [2, 2, 2])
        return torch.cat([one.reshape(1), each, finite.reshape(1)])
    return nn.Module(), [torch.randn(6, 3, 5), torch.tensor([[1, 3], [2, 2], [4, 4]]), torch.tensor([[0, 1], [4, 4], [3, 0]])], run


@net
def powers():
    last = nn.Module()
    last.weight, last.bias = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6))
    last.register_buffer("mean", torch.randn(6))
    last.register_buffer("var", positive(6))
    m = nn.ModuleList([nn.Module(), nn.Module(), nn.Module(), nn.Module(), last])

    def run(m, row, image, block):
        last = m[4]
        mean = 0.7 * last.mean + 0.3 * image.mean((0, 1, 2))
        var = 0.7 * last.var + 0.3 * image.var((0, 1, 2), unbiased=False)
        last.mean.copy_(mean.detach())
        last.var.copy_(var.detach())
        normed = (image - mean) / (var + 1e-4).sqrt() * last.weight + last.bias
        # The sums of cubes of LPPool3d, which not every release of PyTorch has.
        cubes = (8 * F.avg_pool3d(block.exp() ** 3, 2)) ** (1 / 3)
        # PyTorch's CrossMapLRN2d never drops the first channel from its running sums.
        across = nn.LocalResponseNorm(3, 0.1, 0.6, 1.3)(image)
        parts = [nn.LPPool1d(2, 3)(row), nn.LPPool2d(2, (2, 3), 1)(image), cubes, across, normed]
        return torch.cat([p.reshape(-1) for p in parts])
    return m, [torch.randn(2, 3, 9), torch.randn(2, 4, 5, 6), torch.randn(1, 2, 4, 4, 4)], run


@net
def shapes():
    m = several(same=nn.Identity(), fc=nn.Linear(6, 4))

    def run(m, x, image):
        a = m.fc(x.reshape(10, 6)).reshape(2, 5, 4)                            # each step by itself
        b = nn.Unflatten(2, (2, 3))(m.same(x)).permute(0, 2, 1, 3).flatten(1)
        c = image.reshape(2, 2, 3, 2, 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(2, 6, 8)     # b c (h p) (w q) -> b (h w) (p q c)
        up = [nn.Upsample(scale_factor=2)(image), nn.Upsample(size=(5, 7), mode="bilinear")(image), nn.Upsample(size=(7, 9), mode="bicubic")(image)]
        return torch.cat([t.reshape(-1) for t in [a, b, c, image.clamp(-0.5, 0.5), image * 1.7] + up])
    return m, [torch.randn(2, 5, 6), torch.randn(2, 2, 6, 4)], run


@net
def pads():
    def run(m, a, b, c):
        parts = []
        for x, n in [(a, 1), (b, 2), (c, 3)]:
            sides = (1, 2, 2, 0, 1, 1)[:2 * n]
            for kind in ["ReflectionPad", "ReplicationPad"]:
                parts += [getattr(nn, f"{kind}{n}d")(sides)(x), getattr(nn, f"{kind}{n}d")(1)(x)]
            parts += [getattr(nn, f"ConstantPad{n}d")(sides, 0.7)(x), getattr(nn, f"ConstantPad{n}d")(-1, 0)(x)]
            parts += [F.pad(x, sides), F.pad(x, sides, mode="circular")]
        return torch.cat([t.reshape(-1) for t in parts])
    return nn.Module(), [torch.randn(2, 2, 5), torch.randn(2, 2, 4, 5), torch.randn(1, 2, 3, 4, 3)], run


@net
def places():
    def run(m, image, columns, a, b):
        parts = [nn.PixelShuffle(2)(image), nn.PixelUnshuffle(2)(image), nn.ChannelShuffle(2)(image), nn.Softmax2d()(image), nn.RReLU().eval()(image),
                 nn.Unfold((2, 3), 1, (1, 0), 2)(image), nn.Fold((4, 5), (2, 3), 1, 0, 1)(columns), nn.LocalResponseNorm(3, 0.1, 0.6, 1.3)(image),
                 nn.CosineSimilarity()(a, b), nn.PairwiseDistance()(a, b), nn.PairwiseDistance(3, keepdim=True)(a, b), a.view(-1, 2), image[:, 1:3],
                 a.relu().square(), a * (1.702 * a).sigmoid(), 0.5 * (1 + torch.erf((a - 0.707107) / (0.282095 * math.sqrt(2))))]
        return torch.cat([t.reshape(-1) for t in parts])
    return nn.Module(), [torch.randn(2, 4, 4, 6), torch.randn(2, 12, 9), torch.randn(3, 4), torch.randn(3, 4)], run


@net
def pairs_of_features():
    m = several(bilinear=nn.Bilinear(4, 5, 3), bare=nn.Bilinear(4, 5, 2, bias=False), places=nn.LayerNorm(3),
                tracked=nn.InstanceNorm2d(3, momentum=0.3, affine=True, track_running_stats=True))

    def run(m, a, b, image):
        return m.bilinear(a, b), m.bare(a, b), m.places(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), m.tracked(image)
    return m, [torch.randn(2, 4), torch.randn(2, 5), torch.randn(2, 3, 4, 5)], run


# -- Norms and weights that are computed ---------------------------------------------------------------------------------------


@net
def norms():
    m = several(b1=nn.BatchNorm1d(3, momentum=0.3), b2=nn.BatchNorm2d(3, eps=1e-3), b3=nn.BatchNorm3d(3, affine=False),
                i1=nn.InstanceNorm1d(3, affine=True), i2=nn.InstanceNorm2d(3), i3=nn.InstanceNorm3d(3, affine=True),
                group=nn.GroupNorm(3, 3, affine=False), layer=nn.LayerNorm([3, 4], bias=False) if "bias" in nn.LayerNorm.__init__.__code__.co_varnames
                else nn.LayerNorm([3, 4]), rms=nn.Module())
    m.rms.weight = nn.Parameter(torch.ones(4))
    if getattr(m.layer, "bias", None) is not None:
        m.layer.register_parameter("bias", None)

    def run(m, a, b, c):
        rms = a * (a.square().mean(-1, keepdim=True) + 1e-3).rsqrt() * m.rms.weight
        parts = [m.b1(a), m.b2(b), m.b3(c), m.i1(a), m.i2(b), m.i3(c), m.group(b), m.layer(a), rms]
        return torch.cat([p.reshape(-1) for p in parts])
    return m, [torch.randn(3, 3, 4), torch.randn(2, 3, 4, 3), torch.randn(2, 3, 2, 3, 2)], run


def computed(layer, **parts):
    """A layer whose weight is made of others; they are named as PyTorch's parametrizations are."""
    bare = nn.Module()
    for k, v in parts.items():
        bare.register_parameter(k, nn.Parameter(v))
    del layer._parameters["weight"]
    layer.parametrizations = several(weight=bare)
    return layer


@net
def computed_weights():
    m = several(norm=nn.Linear(4, 3), whole=nn.Linear(3, 2), conv=nn.Conv2d(2, 3, 3), lora=nn.Linear(3, 4), lora_conv=nn.Conv1d(2, 3, 3))
    computed(m.norm, original0=positive(3, 1), original1=torch.randn(3, 4))
    computed(m.whole, original0=positive(1)[0], original1=torch.randn(2, 3))
    computed(m.conv, original0=positive(1, 2, 1, 1), original1=torch.randn(3, 2, 3, 3))
    computed(m.lora, original=torch.randn(4, 3), lora_a=torch.randn(2, 3), lora_b=torch.randn(4, 2))
    computed(m.lora_conv, original=torch.randn(3, 2, 3), lora_a=torch.randn(1, 6), lora_b=torch.randn(3, 1))
    for k in ["lora", "lora_conv"]:
        getattr(m, k).parametrizations.weight.original.requires_grad_(False)

    def run(m, x, image, row):
        def normed(layer, dims):
            p = layer.parametrizations.weight
            return p.original0 * p.original1 / p.original1.square().sum(dims, keepdim=dims is not None and len(dims) < p.original1.dim()).sqrt()

        def low_rank(layer, scale):
            p = layer.parametrizations.weight
            return p.original + scale * (p.lora_b @ p.lora_a).reshape(p.original.shape)
        y = F.linear(F.linear(x, normed(m.norm, (1,)), m.norm.bias), normed(m.whole, (0, 1)), m.whole.bias)
        z = F.conv2d(image, normed(m.conv, (0, 2, 3)), m.conv.bias)
        u = F.linear(x[:, :3], low_rank(m.lora, 1.5), m.lora.bias)
        v = F.conv1d(row, low_rank(m.lora_conv, 1.0), m.lora_conv.bias)
        return torch.cat([t.reshape(-1) for t in [y, z, u, v]])
    return m, [torch.randn(5, 4), torch.randn(1, 2, 4, 4), torch.randn(2, 2, 5)], run


@net
def convolutions():
    m = several(c1=nn.Conv1d(4, 6, 3, stride=2, padding=2, groups=2, padding_mode="circular"), c2=nn.Conv2d(2, 4, (3, 2), padding=(1, 0), dilation=(1, 2),
                padding_mode="replicate"), c3=nn.Conv3d(1, 2, (2, 3, 1), bias=False), t1=nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2, dilation=2),
                t2=nn.ConvTranspose2d(2, 3, 3, (2, 1), 1, (1, 0)), t3=nn.ConvTranspose3d(1, 2, 2, 2, bias=False))

    def run(m, a, b, c):
        return torch.cat([t.reshape(-1) for t in [m.c1(a), m.c2(b), m.c3(c), m.t1(a), m.t2(b), m.t3(c)]])
    return m, [torch.randn(2, 4, 7), torch.randn(2, 2, 5, 6), torch.randn(1, 1, 3, 4, 2)], run


# -- Embeddings and positions ----------------------------------------------------------------------------------------------------


def angles(t, n, base):
    return t[..., None] * torch.tensor([base ** (-i / n) for i in range(n)], dtype=torch.float64)


@net
def embeddings():
    m = several(sum=nn.EmbeddingBag(7, 3, mode="sum"), mean=nn.EmbeddingBag(7, 3, mode="mean"), max=nn.EmbeddingBag(7, 3, mode="max"), learned=nn.Module())
    m.learned.weight = nn.Parameter(torch.randn(9, 6))

    def run(m, bags, weights, x, times):
        n, t, d = x.shape
        a = angles(torch.arange(t).double(), 3, 100)
        cos, sin = a.cos(), a.sin()
        half = torch.cat([x[..., :3] * cos - x[..., 3:] * sin, x[..., 3:] * cos + x[..., :3] * sin], -1)
        b = angles(torch.arange(2, 2 + t).double(), 3, 10000)
        pairs = torch.view_as_complex(x.reshape(n, t, 3, 2)) * torch.polar(torch.ones_like(b), b)
        sines = torch.stack([a.sin(), a.cos()], -1).reshape(t, d)
        u = angles(times, 3, 1000)
        v = times[:, None] * torch.tensor([10000 ** (-i / 2) for i in range(3)], dtype=torch.float64)
        parts = [m.sum(bags, per_sample_weights=weights), m.mean(bags), m.max(bags), half, torch.view_as_real(pairs), x + sines,
                 x + m.learned.weight[1:1 + t], torch.cat([u.cos(), u.sin()], -1), torch.cat([v.sin(), v.cos()], -1), x]
        return torch.cat([p.reshape(-1) for p in parts])
    return m, [torch.randint(0, 7, (4, 3)), positive(4, 3), torch.randn(2, 5, 6), 3 * torch.rand(4)], run


# -- Image networks ----------------------------------------------------------------------------------------------------------------


class Excite(nn.Module):
    def __init__(self, channels, inner):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x):
        return x * self.excite(F.mish(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()


class Res(nn.Module):
    def __init__(self, main, shortcut=None):
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x):
        return self.main(x) + (self.shortcut(x) if self.shortcut else x)


@net
def residual_blocks():
    def conv(a, b, actv, stride=1):
        return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), *([nn.Mish()] if actv else []))
    down = Res(nn.Sequential(conv(3, 6, True, 2), conv(6, 6, False), Excite(6, 1)), nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 6, 1)))
    same = Res(nn.Sequential(conv(6, 6, True), conv(6, 6, False), Excite(6, 1)))
    first = nn.Sequential(nn.Upsample(scale_factor=2), *conv(6, 4, True))
    up = Res(nn.Sequential(first, conv(4, 4, False), Excite(4, 1)), nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(6, 4, 1)))
    return nn.Sequential(down, same, up), [torch.randn(2, 3, 8, 8)], plain


def norm2(x):
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def fir(x, pad, gain=1.0):
    k = torch.tensor([1.0, 3, 3, 1], dtype=x.dtype) / 8
    k = (k[:, None] * k[None, :] * gain).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (pad[0], pad[1]) * 2), k, groups=x.shape[1])


class Modulated(nn.Module):
    """StyleGAN2's, by its definition: a grouped convolution with each sample's own, demodulated weights."""

    def __init__(self, a, b, z, stride):
        super().__init__()
        self.weight, self.bias, self.stride = nn.Parameter(torch.randn(b, a, 3, 3)), nn.Parameter(torch.randn(b)), stride
        self.style = nn.Linear(z, a)

    def forward(self, x, z):
        n, a = x.shape[:2]
        s = F.linear(z, self.style.weight / math.sqrt(z.shape[1]), self.style.bias)
        w = self.weight[None] * s[:, None, :, None, None]
        # The layer demodulates after it divided weight and style by their largest elements; eps is relative to those.
        size = self.weight.abs().amax((1, 2, 3)) * math.sqrt(a * 9)
        eps = 1e-8 * size[None, :] ** 2 * s.abs().amax(1, keepdim=True) ** 2
        w = w * (w.square().sum((2, 3, 4)) + eps).rsqrt()[:, :, None, None, None]
        b = w.shape[1]
        x = x.reshape(1, n * a, *x.shape[2:])
        if self.stride == 0.5:
            y = F.conv_transpose2d(x, w.transpose(1, 2).reshape(n * a, b, 3, 3), stride=2, groups=n)
            y = fir(y.reshape(n, b, *y.shape[2:]), (1, 1), 4.0)
        elif self.stride == 2:
            y = F.conv2d(fir(x, (2, 2)), w.reshape(n * b, a, 3, 3), stride=2, groups=n)
        else:
            y = F.conv2d(x, w.reshape(n * b, a, 3, 3), padding=1, groups=n)
        return y.reshape(n, b, *y.shape[-2:]) + self.bias[None, :, None, None]


class Lin(nn.Module):
    """A convolution without bias, then a mixture of instance and layer normalisation that z scales and shifts."""

    def __init__(self, a, b, z):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(a, b, 3, padding=1, bias=False), several(gamma=nn.Linear(z, b), beta=nn.Linear(z, b))
        self.norm.rho = nn.Parameter(torch.full((1, b, 1, 1), 0.4))

    def forward(self, x, z):
        x = self.conv(x)

        def unit(dims):
            d = x - x.mean(dims, keepdim=True)
            return d * (d.square().mean(dims, keepdim=True) + 1e-5).rsqrt()
        rho = self.norm.rho.clamp(0, 1)
        y = rho * unit((2, 3)) + (1 - rho) * unit((1, 2, 3))
        return y * (1 + norm2(self.norm.gamma(z)))[:, :, None, None] + norm2(self.norm.beta(z))[:, :, None, None]


@net
def modulated():
    convs = [several(conv=Modulated(3, 4, 5, 1)), several(conv=Modulated(4, 4, 5, 0.5)), several(conv=Modulated(4, 2, 5, 2))]
    res = several(first=Lin(4, 4, 5), second=Lin(4, 4, 5))
    last = Lin(2, 4, 5)

    def run(m, x, z):
        for part in convs:
            x = F.leaky_relu(part.conv(x, z), 0.2)
        x = last(x, z)
        return x + res.second(res.first(x, z).tanh(), z).tanh()
    return nn.ModuleList(convs + [last, res]), [torch.randn(2, 3, 4, 4), torch.randn(2, 5)], run


@net
def equalized():
    m = several(conv=nn.Conv2d(3, 4, 3, padding=1), head=nn.Conv2d(5, 4, 3, padding=1), fc=nn.Linear(4 * 16, 6))

    def run(m, x):
        x = F.conv2d(x, m.conv.weight * 0.5 / math.sqrt(27), m.conv.bias * 0.5, padding=1)
        x = norm2(fir(x, (2, 1)))
        n, c, h, w = x.shape
        y = x.reshape(2, n // 2, 1, c, h, w)
        y = (y - y.mean(0)).square().mean(0)
        y = (y + 1e-8).sqrt().mean((2, 3, 4))                                  # (n / 2, 1)
        x = torch.cat([x, y.reshape(1, n // 2, 1, 1, 1).expand(2, n // 2, 1, h, w).reshape(n, 1, h, w)], 1)
        x = m.head(x).flatten(1)
        return F.linear(x, m.fc.weight * 0.3 / math.sqrt(64), m.fc.bias * 0.3)
    return m, [torch.randn(4, 3, 4, 4)], run


class Group(nn.GroupNorm):
    def __init__(self, channels):
        super().__init__(next(g for g in range(min(8, channels), 0, -1) if channels % g == 0), channels)


class TimeBlock(nn.Module):
    def __init__(self, a, b, e):
        super().__init__()
        self.norm1, self.conv1, self.embed = Group(a), nn.Conv2d(a, b, 3, padding=1), nn.Linear(e, b)
        self.norm2, self.conv2 = Group(b), nn.Conv2d(b, b, 3, padding=1)
        self.skip = nn.Conv2d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x, e):
        y = self.conv1(F.silu(self.norm1(x))) + self.embed(F.silu(e))[:, :, None, None]
        return self.conv2(F.silu(self.norm2(y))) + self.skip(x)


@net
def unet_of_times():
    m = several(first=nn.Conv2d(2, 4, 3, padding=1), down=nn.ModuleList([TimeBlock(4, 4, 3), TimeBlock(4, 8, 3)]),
                shrink=nn.ModuleList([nn.Conv2d(4, 4, 3, 2, 1)]), middle1=TimeBlock(8, 8, 3), middle2=TimeBlock(8, 8, 3),
                attend=several(norm=Group(8), attn=nn.MultiheadAttention(8, 2, batch_first=True)),
                up=nn.ModuleList([TimeBlock(16, 4, 3), TimeBlock(8, 4, 3)]), grow=nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1)]),
                last=nn.Sequential(Group(4), nn.SiLU(), nn.Conv2d(4, 2, 3, padding=1)))

    def run(m, x, e):
        a = m.down[0](m.first(x), e)
        b = m.down[1](m.shrink[0](a), e)
        y = m.middle1(b, e)
        rows = m.attend.norm(y).flatten(2).transpose(1, 2)
        y = y + m.attend.attn(rows, rows, rows)[0].transpose(1, 2).reshape(y.shape)
        y = m.up[0](torch.cat([m.middle2(y, e), b], 1), e)
        y = m.grow[0](F.interpolate(y, scale_factor=2))
        return m.last(m.up[1](torch.cat([y, a], 1), e))
    return m, [torch.randn(2, 2, 6, 8), torch.randn(2, 3)], run


class Fuse(nn.Module):
    def __init__(self, n, c):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.depthwise, self.pointwise, self.norm = nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False), nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)

    def forward(self, *maps):
        w = self.weight.relu() / (self.weight.relu().sum() + 1e-4)
        return self.norm(self.pointwise(self.depthwise(F.silu(sum(x * w[i] for i, x in enumerate(maps))))))


@net
def bifpn():
    m = several(project=nn.ModuleList([nn.Conv2d(c, 4, 1) for c in [2, 3, 5]]),
                blocks=nn.ModuleList([several(inner=nn.ModuleList([Fuse(2, 4), Fuse(2, 4)]), outer=nn.ModuleList([Fuse(3, 4), Fuse(2, 4)]))]))

    def run(m, *maps):
        p3, p4, p5 = (project(x) for project, x in zip(m.project, maps))
        block = m.blocks[0]
        t4 = block.inner[1](p4, F.interpolate(p5, size=p4.shape[2:]))
        o3 = block.inner[0](p3, F.interpolate(t4, size=p3.shape[2:]))
        o4 = block.outer[0](p4, t4, F.adaptive_max_pool2d(o3, p4.shape[2:]))
        o5 = block.outer[1](p5, F.adaptive_max_pool2d(o4, p5.shape[2:]))
        return o3, o4, o5
    return m, [torch.randn(2, 2, 8, 8), torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)], run


# -- Sequences and codes ----------------------------------------------------------------------------------------------------------


def paths(stay, last_stays):
    """The sums of the probabilities of all paths from the first column, one step on or none from row to row."""
    *_, rows, columns = stay.shape
    total = [[0 * stay[..., 0, 0]] * columns for _ in range(rows)]
    for moves in itertools.product([0, 1], repeat=rows - 1):
        at, p = 0, torch.ones_like(stay[..., 0, 0])
        if last_stays and sum(moves) > columns - 1:
            continue
        for i in range(rows):
            total[i][at] = total[i][at] + p * (1 if i == rows - 1 else 0)
            if i < rows - 1:
                last = last_stays and at == columns - 1
                p = p * (1 if last else 1 - stay[..., i, at] if moves[i] else stay[..., i, at])
                at += moves[i]
                if at == columns:
                    break
    return torch.stack(total[-1], -1)


def occupied(stay, last_stays=False):
    return torch.stack([paths(stay[..., :i, :], last_stays) for i in range(1, stay.shape[-2] + 1)], -2)


@net
def monotonic_attention():
    m = several(slow=nn.MultiheadAttention(4, 2, batch_first=True), quick=nn.MultiheadAttention(4, 2, batch_first=True))

    def heads(part, i, x):
        w, b = part.in_proj_weight[4 * i:4 * i + 4], part.in_proj_bias[4 * i:4 * i + 4]
        return F.linear(x, w, b).unflatten(-1, (2, 2)).transpose(1, 2)

    def run(m, a, b, p):
        q, k, v = heads(m.slow, 0, a), heads(m.slow, 1, b), heads(m.slow, 2, b)
        w = occupied((q @ k.transpose(-1, -2) / math.sqrt(2)).sigmoid(), True)
        slow = m.slow.out_proj((w @ v).transpose(1, 2).flatten(2))
        q, k, v = heads(m.quick, 0, b), heads(m.quick, 1, a), heads(m.quick, 2, a)
        w = occupied((k @ q.transpose(-1, -2) / math.sqrt(2)).sigmoid(), True).transpose(-1, -2)
        quick = m.quick.out_proj((w / w.sum(-1, keepdim=True) @ v).transpose(1, 2).flatten(2))
        return slow, quick, occupied(p.sigmoid())
    return m, [torch.randn(2, 5, 4), torch.randn(2, 3, 4), torch.randn(2, 6, 4)], run


@net
def streams():
    m = several(conv=nn.Conv1d(4, 6, 3, 2, 0, 2, 2), sparse=nn.Conv1d(4, 2, 2, 3), spread=nn.ConvTranspose1d(4, 2, 3, 2, 0, 0, 2, True, 2))
    return m, [torch.randn(2, 4, 13)], lambda m, x: (m.conv(F.pad(x, (3, 0))), m.sparse(x), m.spread(x))


@net
def rwkv():
    att = several(key=nn.Linear(4, 4, False), value=nn.Linear(4, 4, False), receptance=nn.Linear(4, 4, False), output=nn.Linear(4, 4, False))
    ffn = several(key=nn.Linear(4, 8, False), receptance=nn.Linear(4, 4, False), value=nn.Linear(8, 4, False))
    att.time_decay, att.time_first = nn.Parameter(0.5 * torch.randn(4)), nn.Parameter(torch.randn(4))
    for part, names in [(att, "kvr"), (ffn, "kr")]:
        for k in names:
            setattr(part, f"time_mix_{k}", nn.Parameter(torch.rand(1, 1, 4)))
    m = several(ln1=nn.LayerNorm(4), ln2=nn.LayerNorm(4), att=att, ffn=ffn)

    def run(m, x):
        def mixed(y, part, k):
            before = torch.cat([torch.zeros_like(y[:, :1]), y[:, :-1]], 1)
            w = getattr(part, f"time_mix_{k}")
            return y * w + before * (1 - w)
        y = m.ln1(x)
        k, v = m.att.key(mixed(y, m.att, "k")), m.att.value(mixed(y, m.att, "v"))
        steps = []
        for t in range(x.shape[1]):                                            # the sums as the paper writes them
            age = torch.tensor([t - 1 - i for i in range(t)], dtype=x.dtype)[None, :, None]
            weight = torch.cat([(k[:, :t] - age * m.att.time_decay.exp()).exp(), (k[:, t:t + 1] + m.att.time_first).exp()], 1)
            steps.append((weight * v[:, :t + 1]).sum(1) / weight.sum(1))
        x = x + m.att.output(m.att.receptance(mixed(y, m.att, "r")).sigmoid() * torch.stack(steps, 1))
        y = m.ln2(x)
        return x + m.ffn.receptance(mixed(y, m.ffn, "r")).sigmoid() * m.ffn.value(m.ffn.key(mixed(y, m.ffn, "k")).relu().square())
    return m, [torch.randn(2, 5, 4)], run


@net
def tx_encoder():
    def block():
        attn = several(norm=nn.LayerNorm(6), attn=nn.MultiheadAttention(6, 2, batch_first=True))
        return several(attn=attn, mlp=nn.Sequential(nn.LayerNorm(6), nn.Sequential(nn.Linear(6, 10), nn.GELU()), nn.Linear(10, 6)))

    def run(m, x):
        for part in m:
            y = part.attn.norm(x)
            x = x + part.attn.attn(y, y, y)[0]
            x = x + part.mlp(x)
        return x
    return nn.ModuleList([block(), block()]), [torch.randn(2, 4, 6)], run


def quantized(book, x):
    codes = (x.detach()[:, None] - book[None]).square().sum(-1).argmin(1)
    return book[codes], codes


def straight(x, y):
    return x + (y - x).detach()


@net
def vector_codes():
    def quantizer(k, d):
        m = nn.Module()
        for name, t in [("inited", torch.ones(1)), ("cluster_size", positive(k)), ("embed", torch.randn(k, d)), ("embed_avg", torch.randn(k, d))]:
            m.register_buffer(name, t)
        return m
    m = several(one=quantizer(6, 3), several=several(quantizers=nn.ModuleList([quantizer(5, 3), quantizer(5, 3)])))

    def quantize(q, x):
        y, codes = quantized(q.embed, x)
        y = y.clone()
        one = F.one_hot(codes, q.embed.shape[0]).to(x.dtype)
        with torch.no_grad():
            q.cluster_size.mul_(0.9).add_(one.sum(0), alpha=0.1)
            q.embed_avg.mul_(0.9).add_(one.t() @ x.detach(), alpha=0.1)
            total = q.cluster_size.sum()
            size = (q.cluster_size + 1e-5) / (total + len(one[0]) * 1e-5) * total
            q.embed.copy_(q.embed_avg / size[:, None])
        return y, F.mse_loss(x, y) * 0.25

    def run(m, x):
        y, loss = quantize(m.one, x)
        rest, total, losses = x, 0, []
        for q in m.several.quantizers:
            part, own = quantize(q, rest)
            rest, total = rest - part, total + part
            losses.append(own)
        return straight(x, y), loss, straight(x, total), torch.stack(losses).mean()
    return m, [torch.randn(7, 3)], run


@net
def scalar_codes():
    def run(m, x, y):
        levels = torch.tensor([5.0, 4, 3], dtype=x.dtype)
        half = (levels - 1) * 1.001 / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0).to(x.dtype)
        bound = (x + (offset / half).atanh()).tanh() * half - offset
        finite = straight(bound, bound.round()) / (levels // 2)
        book = torch.tensor([[b & 1, b >> 1 & 1, b >> 2 & 1] for b in range(8)], dtype=x.dtype) * 2 - 1
        p = (-(y[:, None] - book[None]).square().sum(-1) / 0.8).softmax(-1)

        def entropy(q):
            return -(q * q.log()).sum(-1)
        return finite, straight(y, torch.where(y > 0, 1.0, -1.0).to(y.dtype)), entropy(p).mean() - 0.6 * entropy(p.mean(0))
    return nn.Module(), [torch.randn(6, 3), torch.randn(6, 3)], run


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in NETS:
        nets.make(name, sys.argv[1])
