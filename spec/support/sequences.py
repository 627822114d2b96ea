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
def streamable_block():
    m = several(conv=nn.Conv1d(4, 6, 3, 1, 0, 2, 2, False), norm=nn.BatchNorm1d(6))
    return m, [torch.randn(2, 4, 9)], lambda m, x: F.gelu(m.norm(m.conv(F.pad(x, (4, 0)))))


@net
def streams():
    m = several(conv=nn.Conv1d(4, 6, 3, 2, 0, 2, 2), sparse=nn.Conv1d(4, 2, 2, 3), spread=nn.ConvTranspose1d(4, 2, 3, 2, 0, 0, 2, True, 2))
    return m, [torch.randn(2, 4, 13)], lambda m, x: (m.conv(F.pad(x, (3, 0))), m.sparse(x), m.spread(x))


def rotated(x):
    """Feature i and feature i + D / 2 of (..., T, D) turned by the position times 10000^(-2 i / D)."""
    t, d = x.shape[-2:]
    rate = torch.tensor([10000 ** (-2 * i / d) for i in range(d // 2)], dtype=torch.float64)
    a = torch.arange(t).double()[:, None] * rate
    p, q = x[..., :d // 2], x[..., d // 2:]
    return torch.cat([p * a.cos() - q * a.sin(), q * a.cos() + p * a.sin()], -1)


def root_normed(x, weight, eps):
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight


def scale(size):
    m = nn.Module()
    m.weight = nn.Parameter(torch.ones(size))
    return m


def llama_layer():
    """8 features, 4 heads of 4, 2 heads of keys and values, 12 inner features."""
    attn = nn.Module()
    attn.in_proj_weight, attn.out_proj = nn.Parameter(torch.randn(32, 8) / 3), nn.Linear(16, 8, False)
    return several(self_attn=attn, linear1=nn.Linear(8, 12, False), linear2=nn.Linear(12, 8, False), linear3=nn.Linear(8, 12, False),
                   norm1=scale(8), norm2=scale(8))


def llama(part, x):
    n, t, _ = x.shape
    q, k, v = F.linear(root_normed(x, part.norm1.weight, 1e-5), part.self_attn.in_proj_weight).split([16, 8, 8], -1)
    q, k, v = (y.reshape(n, t, -1, 4).transpose(1, 2) for y in (q, k, v))
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    scores = rotated(q) @ rotated(k).transpose(-1, -2) / 2
    scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), -math.inf)
    x = x + part.self_attn.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    y = root_normed(x, part.norm2.weight, 1e-5)
    return x + part.linear2(F.silu(part.linear1(y)) * part.linear3(y))


def next_token(core):
    m = several(embeddings=nn.Embedding(7, 8), proj=nn.Linear(8, 7, False), **core)
    m.init_emb = nn.Parameter(torch.randn(1, 1, 8))
    return m


def begun(m, tokens):
    return torch.cat([m.init_emb.expand(len(tokens), 1, -1), m.embeddings(tokens[:, :-1])], 1)


def llama_core():
    return {"attn": several(layers=nn.ModuleList([llama_layer(), llama_layer()])), "norm": scale(8)}


@net
def next_token_transformer():
    def run(m, tokens):
        x = begun(m, tokens)
        for part in m.attn.layers:
            x = llama(part, x)
        return m.proj(root_normed(x, m.norm.weight, 1e-5))
    return next_token(llama_core()), [torch.randint(0, 7, (2, 5))], run


@net
def next_token_transformer_embeddings():
    def run(m, tokens, emb):
        x = begun(m, tokens) + emb
        for part in m.attn.layers:
            x = llama(part, x)
        return m.proj(root_normed(x, m.norm.weight, 1e-5)), x
    return next_token(llama_core()), [torch.randint(0, 7, (2, 5)), torch.randn(2, 5, 8)], run


def rwkv_block(d, hidden, pre_norm=False):
    att = several(key=nn.Linear(d, d, False), value=nn.Linear(d, d, False), receptance=nn.Linear(d, d, False), output=nn.Linear(d, d, False))
    ffn = several(key=nn.Linear(d, hidden, False), receptance=nn.Linear(d, d, False), value=nn.Linear(hidden, d, False))
    att.time_decay, att.time_first = nn.Parameter(0.5 * torch.randn(d)), nn.Parameter(torch.randn(d))
    for part, names in [(att, "kvr"), (ffn, "kr")]:
        for k in names:
            setattr(part, f"time_mix_{k}", nn.Parameter(torch.rand(1, 1, d)))
    return several(**({"ln0": nn.LayerNorm(d)} if pre_norm else {}), ln1=nn.LayerNorm(d), ln2=nn.LayerNorm(d), att=att, ffn=ffn)


def rwkv_run(m, x):
    def mixed(y, part, k):
        before = torch.cat([torch.zeros_like(y[:, :1]), y[:, :-1]], 1)
        w = getattr(part, f"time_mix_{k}")
        return y * w + before * (1 - w)
    x = m.ln0(x) if hasattr(m, "ln0") else x
    y = m.ln1(x)
    k, v = m.att.key(mixed(y, m.att, "k")), m.att.value(mixed(y, m.att, "v"))
    steps = []
    for t in range(x.shape[1]):                                                # the sums as the paper writes them
        age = torch.tensor([t - 1 - i for i in range(t)], dtype=x.dtype)[None, :, None]
        weight = torch.cat([(k[:, :t] - age * m.att.time_decay.exp()).exp(), (k[:, t:t + 1] + m.att.time_first).exp()], 1)
        steps.append((weight * v[:, :t + 1]).sum(1) / weight.sum(1))
    x = x + m.att.output(m.att.receptance(mixed(y, m.att, "r")).sigmoid() * torch.stack(steps, 1))
    y = m.ln2(x)
    return x + m.ffn.receptance(mixed(y, m.ffn, "r")).sigmoid() * m.ffn.value(m.ffn.key(mixed(y, m.ffn, "k")).relu().square())


@net
def rwkv():
    return rwkv_block(4, 8), [torch.randn(2, 5, 4)], rwkv_run


def rwkv_core():
    return {"rwkv": several(blocks=nn.ModuleList([rwkv_block(8, 12, True), rwkv_block(8, 12)])), "norm": nn.LayerNorm(8)}


@net
def next_token_rwkv():
    def run(m, tokens):
        x = begun(m, tokens)
        for part in m.rwkv.blocks:
            x = rwkv_run(part, x)
        return m.proj(m.norm(x))
    return next_token(rwkv_core()), [torch.randint(0, 7, (2, 5))], run


@net
def next_token_rwkv_embeddings():
    def run(m, tokens, emb):
        x = begun(m, tokens) + emb
        for part in m.rwkv.blocks:
            x = rwkv_run(part, x)
        return m.proj(m.norm(x)), x
    return next_token(rwkv_core()), [torch.randint(0, 7, (2, 5)), torch.randn(2, 5, 8)], run


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
