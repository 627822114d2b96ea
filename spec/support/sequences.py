#!/usr/bin/python3
"""Networks of sequences and of codes for spec/parity_spec.lua: `spec/support/sequences.py spec/vectors/sequences`, one file each
as nets.py writes them; written in PyTorch from the papers' formulas.
"""
import itertools
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
