#!/usr/bin/python3
"""Networks of images for spec/parity_spec.lua: `spec/support/images.py spec/vectors/images`, one file each as nets.py writes
them; written in PyTorch from the papers' formulas.
"""
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


# -- Networks that losses look through ------------------------------------------------------------------------------------------


def vgg(counts, width):
    parts, a = [], 3
    for i, n in enumerate(counts):
        b = width * min(2 ** i, 8)
        for _ in range(n):
            parts += [nn.Conv2d(a, b, 3, 1, 1), nn.ReLU()]
            a = b
        parts.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*parts)


def alex(w):
    return nn.Sequential(nn.Conv2d(3, w, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(w, 3 * w, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
                         nn.Conv2d(3 * w, 6 * w, 3, 1, 1), nn.ReLU(), nn.Conv2d(6 * w, 4 * w, 3, 1, 1), nn.ReLU(), nn.Conv2d(4 * w, 4 * w, 3, 1, 1), nn.ReLU())


def tapped(features, taps, x):
    found = []
    for i, part in enumerate(features):
        x = part(x)
        if i in taps:
            found.append(x)
    return found


def colours(x, mean, std):
    return (x - torch.tensor(mean, dtype=x.dtype)[:, None, None]) / torch.tensor(std, dtype=x.dtype)[:, None, None]


def lpips(features, channels):
    m = several(features=features, lin=nn.ModuleList([nn.Conv2d(c, 1, 1, bias=False) for c in channels]))
    for part in m.lin:
        part.weight.data.abs_()
    return m.requires_grad_(False)


def lpips_run(m, taps, x, y):
    def unit(t):
        return t / (t.square().sum(1, keepdim=True) + 1e-10).sqrt()
    a, b = (tapped(m.features, taps, colours(t, [-0.030, -0.088, -0.188], [0.458, 0.448, 0.450])) for t in (x, y))
    return sum(part((unit(p) - unit(q)).square()).mean((1, 2, 3)) for part, p, q in zip(m.lin, a, b))


@net
def perceptual():
    m = several(vgg=lpips(vgg([2, 2, 3, 3, 3], 2), [2, 4, 8, 16, 16]), alex=lpips(alex(2), [2, 6, 12, 8, 8]),
                old=several(features=vgg([2, 2, 4, 4, 4], 2).requires_grad_(False)))

    def run(m, x, y):
        a, b = (tapped(m.old.features, [1, 6, 11, 20, 29], colours((t + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])) for t in (x, y))
        old = sum((p - q).abs().mean((1, 2, 3)) * w for p, q, w in zip(a, b, [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1]))
        return lpips_run(m.vgg, [3, 8, 15, 22, 29], x, y), lpips_run(m.alex, [1, 4, 7, 9, 11], x, y), old
    return m, [torch.rand(2, 3, 40, 36) * 2 - 1, torch.rand(2, 3, 40, 36) * 2 - 1], run


class Excited(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(c, max(1, c // 16), 1, bias=False), nn.Conv2d(max(1, c // 16), c, 1, bias=False)

    def forward(self, x):
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class FaceBlock(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.shortcut_layer = nn.MaxPool2d(1, stride) if a == b else nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))
        self.res_layer = nn.Sequential(nn.BatchNorm2d(a), nn.Conv2d(a, b, 3, 1, 1, bias=False), nn.PReLU(b), nn.Conv2d(b, b, 3, stride, 1, bias=False),
                                       nn.BatchNorm2d(b), Excited(b))

    def forward(self, x):
        return self.shortcut_layer(x) + self.res_layer(x)


def face():
    m = several(input_layer=nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.PReLU(4)),
                body=nn.Sequential(FaceBlock(4, 4, 2), FaceBlock(4, 4, 1), FaceBlock(4, 6, 2)),
                output_layer=nn.Sequential(nn.BatchNorm2d(6), nn.Dropout(0.6), nn.Flatten(), nn.Linear(6 * 16, 5), nn.BatchNorm1d(5)))
    for part in m.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 1.5)
    return m


@net
def faces():
    m = several(net=face().requires_grad_(False))

    def run(m, x, y):
        m.eval()
        a, b = (F.normalize(m.net.output_layer(m.net.body(m.net.input_layer(F.adaptive_avg_pool2d(t[:, :, 5:35, 4:32], 16))))) for t in (x, y))
        return 1 - (a * b).sum(1)
    return m, [torch.randn(2, 3, 40, 36), torch.randn(2, 3, 40, 36)], run


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in NETS:
        nets.make(name, sys.argv[1])
