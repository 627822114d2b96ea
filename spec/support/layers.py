#!/usr/bin/python3
"""More networks for spec/parity_spec.lua: `spec/support/layers.py spec/vectors/layers`, one file each as nets.py writes them.

Here are the kinds of layers that the networks of nets.py leave out: those that PyTorch has, and, written in PyTorch from the
papers' formulas, those that it has not.
"""
import math
import sys

import nets
import torch
from nets import several
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


@net
def mixed():
    m = several(column=nn.Linear(5, 6), row=nn.Linear(6, 5), book=nn.Embedding(7, 5), gated=several(module=nn.Linear(5, 5), gate=several(fc=nn.Linear(5, 5))),
                res=several(main=nn.Linear(5, 5)))

    def run(m, ids, x):
        y = m.row(m.column(x + m.book(ids)))
        g = m.gated.gate.fc(y).sigmoid()
        y = y * g + m.gated.module(y) * (1 - g)
        return y + m.res.main(y).tanh()
    return m, [torch.randint(0, 7, (3, 4)), torch.randn(3, 4, 5)], run


@net
def fractions():
    def run(m, a, b, u, v, far):
        y, at = F.fractional_max_pool2d(a, (2, 3), output_size=(4, 3), return_indices=True, _random_samples=u.detach())
        z = F.fractional_max_pool3d(b, 2, output_ratio=0.5, _random_samples=v.detach())
        one = F.fractional_max_pool2d(a, 3, output_size=1, _random_samples=u.detach())
        triplet = nn.TripletMarginWithDistanceLoss(distance_function=lambda p, q: (p - q).abs().sum(-1), margin=0.7, swap=True, reduction="none")
        x, p, q = a[0, 0, :, :4], a[0, 1, :, :4], far
        return torch.cat([t.reshape(-1) for t in [y, at.double() + 1, z, one, triplet(x, p, q), nn.TripletMarginWithDistanceLoss()(x, p, q)]])
    return nn.Module(), [torch.randn(2, 2, 7, 8), torch.randn(1, 2, 6, 5, 7), torch.rand(2, 2, 2), torch.rand(1, 2, 3), torch.randn(7, 4)], run


@net
def rare_classes():
    m = nn.ModuleList([nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10], div_value=2.0, head_bias=True), nn.AdaptiveLogSoftmaxWithLoss(8, 6, [3])])

    def run(m, x, target, few):
        a, b = m[0](x, target), m[1](x, few)
        return a.output, a.loss.reshape(1), m[0].log_prob(x), b.output
    return m, [torch.randn(7, 8), torch.tensor([0, 3, 4, 9, 10, 19, 2]), torch.tensor([0, 1, 5, 2, 3, 0, 0])], run


@net
def diffusions():
    betas = torch.cat([torch.linspace(1e-4, 0.02, 3, dtype=torch.float64), torch.full((7,), 0.02, dtype=torch.float64)])
    left = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])

    def run(m, x, noise, t, sigma):
        s, n = left[t + 1].sqrt()[:, None], (1 - left[t + 1]).sqrt()[:, None]
        noisy = s * x + n * noise
        v = s * noise - n * x
        over, size = sigma - 0.002, (sigma.square() + 0.25).sqrt()
        seen = (0.25 / (over.square() + 0.25))[:, None] * x + (0.5 * over / size)[:, None] * (m.fc(x / size[:, None]) + 250 * sigma.log()[:, None])
        d = (m.fc(noisy) - v).square().sum(1)
        c = 0.00054 * 2
        return torch.cat([noisy.reshape(-1), v.reshape(-1), (m.fc(noisy) - v).square().reshape(-1), ((d + c * c).sqrt() - c), seen.reshape(-1)])
    return several(fc=nn.Linear(4, 4)), [torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0, 4, 9]), positive(3)], run


@net
def combined_losses():
    def run(m, x, y, mu, a, b):
        one = 0.5 * (mu.square() + a.exp() - a - 1)
        pair = torch.distributions.kl_divergence(torch.distributions.Normal(mu, (a / 2).exp()), torch.distributions.Normal(x, (b / 2).exp()))
        return torch.cat([(F.l1_loss(x, y) + 0.3 * F.mse_loss(x, y)).reshape(1), one.reshape(-1), pair.reshape(-1)])
    return nn.Module(), [torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4)], run


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


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in NETS:
        nets.make(name, sys.argv[1])
