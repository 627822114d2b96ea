"""The rows of spec/gpu/bench.lua with PyTorch (eager, and torch.compile) and JAX, where they are installed.

    python3 spec/gpu/peer.py SCALE DEVICE [PART OF A NAME]     prints one JSON object: {peer: {version, rows: {name: {...}}}}
"""

import json
import math
import statistics
import sys
import time

scale = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
device = sys.argv[2] if len(sys.argv) > 2 else "cuda"
only = sys.argv[3] if len(sys.argv) > 3 else ""
small = scale < 1
rounds, span = (1, 0.0) if small else (7, 0.1)


def pick(whole, tiny):
    return tiny if small else whole


def measure(call, wait):
    count = 1

    def once():
        wait()
        start = time.perf_counter()
        for _ in range(count):
            call()
        wait()
        return (time.perf_counter() - start) / count

    for _ in range(3):
        once()
    count = max(1, min(2000, math.ceil(span / max(once(), 1e-7))))
    return statistics.median(once() for _ in range(rounds))


def record(rows, name, unit, work, build, wait):
    if only and only not in name:
        return
    try:
        seconds = measure(build(), wait)
        rows[name] = {"seconds": seconds, "per_second": work / seconds, "unit": unit}
        told = "%.3e %s/s" % (work / seconds, unit)
    except Exception as error:  # a row that fails is no end of the others
        rows[name] = {"unit": unit, "error": str(error).split("\n")[0][:300]}
        told = rows[name]["error"]
    print("%-28s %s" % (name, told), file=sys.stderr)


N = pick(2**26, 1000)
ROWS, COLUMNS = pick(16384, 8), pick(4096, 50)
GEMMS = [("f32", 4096, 4096, 4096), ("tf32", 4096, 4096, 4096), ("bf16", 4096, 4096, 4096), ("bf16", 8192, 8192, 8192), ("f16", 4096, 4096, 4096),
         ("bf16", 32768, 2304, 768), ("bf16", 32768, 3072, 768), ("bf16", 32768, 768, 3072), ("f64", 4096, 4096, 4096)]
BATCH, IMAGE, CLASSES = pick(256, 2), pick(224, 32), pick(1000, 10)
GPT = pick(dict(vocabulary=50304, context=1024, layers=12, heads=12, width=768), dict(vocabulary=40, context=16, layers=1, heads=2, width=16))
GPT_BATCH = pick(32, 2)


def with_torch(compiled):
    import torch
    import torch.nn.functional as F
    from torch import nn

    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    types = {"f32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}
    make = (lambda f: torch.compile(f)) if compiled else (lambda f: f)
    rows = {}

    def randn(dtype, *shape):
        return torch.randn(*shape, device=device).to(types[dtype])

    def row(name, unit, work, build):
        record(rows, name, unit, work, build, wait)

    def chain():
        x = randn("f32", 1024)

        def call():
            y = x
            for _ in range(100):
                y = x + y
            return y
        return call
    if not compiled:
        row("op.add_1k", "ops", 100, chain)

    def unary(f, *shape):
        def build_of(dtype):
            def build():
                x, g = randn(dtype, *shape), make(f)
                return lambda: g(x)
            return build
        return build_of

    for dtype, size in (("f32", 4), ("bf16", 2)):
        def copy():
            x, y = randn(dtype, N), randn(dtype, N)
            return lambda: y.copy_(x)

        def add():
            x, y, f = randn(dtype, N), randn(dtype, N), make(lambda a, b: a + b)
            return lambda: f(x, y)
        row("copy." + dtype, "bytes", 2 * size * N, copy)
        row("add." + dtype, "bytes", 3 * size * N, add)
        row("gelu." + dtype, "bytes", 2 * size * N, unary(F.gelu, N)(dtype))
        row("sum_rows." + dtype, "bytes", size * ROWS * COLUMNS, unary(lambda x: x.sum(1), ROWS, COLUMNS)(dtype))
        row("sum_columns." + dtype, "bytes", size * ROWS * COLUMNS, unary(lambda x: x.sum(0), ROWS, COLUMNS)(dtype))
        row("softmax." + dtype, "bytes", 2 * size * ROWS * COLUMNS, unary(lambda x: F.softmax(x, 1), ROWS, COLUMNS)(dtype))
        row("layer_norm." + dtype, "bytes", 2 * size * ROWS * COLUMNS, unary(lambda x: F.layer_norm(x, (COLUMNS,)), ROWS, COLUMNS)(dtype))

    for dtype, m, n, k in GEMMS:
        M, Nn, K = pick(m, 32), pick(n, 24), pick(k, 16)

        def gemm():
            torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
            a, b = randn(dtype, M, K), randn(dtype, Nn, K)
            return lambda: a @ b.t()
        if not compiled:
            row("gemm.%s.%dx%dx%d" % (dtype, m, n, k), "flops", 2 * M * Nn * K, gemm)
    torch.backends.cuda.matmul.allow_tf32 = False

    for T in (1024, 4096):
        B, H, D, t = pick(32 * 1024 // T, 1), pick(12, 2), pick(64, 8), pick(T, 16)

        def sdpa():
            x = [randn("bf16", B, H, t, D).requires_grad_() for _ in range(3)]
            g = randn("bf16", B, H, t, D)
            f = make(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))

            def call():
                for v in x:
                    v.grad = None
                f(*x).backward(g)
            return call
        row("sdpa.bf16.%d" % T, "flops", 3.5 * 4 * B * H * t * t * D / 2, sdpa)

    def step(model, loss, precision, fused=True):
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=fused and device == "cuda")
        f = make(loss)

        def call():
            with torch.autocast(device, dtype=torch.bfloat16, enabled=precision):
                value = f()
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
        return call

    def mlp():
        net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)).to(device)
        x, y = randn("f32", 32, 784), torch.randint(10, (32,), device=device)
        return step(net, lambda: F.cross_entropy(net(x), y), False, False)
    row("mlp_step", "steps", 1, mlp)

    class Bottleneck(nn.Module):
        def __init__(self, start, width, stride):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(start, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width))
            same = start == 4 * width and stride == 1
            self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(start, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

        def forward(self, x):
            return F.relu(self.body(x) + self.shortcut(x))

    def resnet():
        width, start = pick(64, 8), pick(64, 8)
        layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        for i, count in enumerate(pick((3, 4, 6, 3), (1, 1, 1, 1))):
            for k in range(count):
                layers.append(Bottleneck(start, width * 2**i, 2 if k == 0 and i > 0 else 1))
                start = 4 * width * 2**i
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(start, CLASSES)).to(device).to(memory_format=torch.channels_last)
        x = randn("f32", BATCH, 3, IMAGE, IMAGE).to(memory_format=torch.channels_last)
        y = torch.randint(CLASSES, (BATCH,), device=device)
        return step(net, lambda: F.cross_entropy(net(x), y), True)
    row("resnet50.bf16", "images", BATCH, resnet)

    class Block(nn.Module):
        def __init__(self, width, heads, activation, causal):
            super().__init__()
            self.heads, self.activation, self.causal = heads, activation, causal
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            B, T, C = x.shape
            q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(C, 2))
            a = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
            x = x + self.out(a.transpose(1, 2).reshape(B, T, C))
            return x + self.linear2(F.gelu(self.linear1(self.norm2(x)), approximate=self.activation))

    class ViT(nn.Module):
        def __init__(self, patch, layers, heads, width):
            super().__init__()
            self.patches = nn.Conv2d(3, width, patch, patch)
            self.place = nn.Parameter(torch.randn(1, (IMAGE // patch) ** 2, width) * 0.02)
            self.blocks = nn.Sequential(*(Block(width, heads, "none", False) for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            return self.head(self.norm(self.blocks(x + self.place)).mean(1))

    def vit():
        net = ViT(16, pick(12, 1), pick(6, 2), pick(384, 16)).to(device)
        x, y = randn("f32", BATCH, 3, IMAGE, IMAGE), torch.randint(CLASSES, (BATCH,), device=device)
        return step(net, lambda: F.cross_entropy(net(x), y), True)
    row("vit_s16.bf16", "images", BATCH, vit)

    class GPT2(nn.Module):
        def __init__(self, vocabulary, context, layers, heads, width):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks = nn.Sequential(*(Block(width, heads, "tanh", True) for _ in range(layers)))
            self.norm = nn.LayerNorm(width)
            for p in self.parameters():
                if p.dim() > 1:
                    nn.init.normal_(p, 0, 0.02)

        def forward(self, tokens, targets):
            x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
            logits = F.linear(self.norm(self.blocks(x)), self.wte.weight)
            return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))

    def gpt2():
        net = GPT2(**GPT).to(device)
        x, y = (torch.randint(GPT["vocabulary"], (GPT_BATCH, GPT["context"]), device=device) for _ in range(2))
        return step(net, lambda: net(x, y), True)
    row("gpt2_124m.bf16", "tokens", GPT_BATCH * GPT["context"], gpt2)
    return {"version": torch.__version__, "rows": rows}


def with_jax():
    import jax
    import jax.numpy as jnp

    rows = {}
    types = {"f32": jnp.float32, "tf32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}
    last = [None]

    def wait():
        if last[0] is not None:
            jax.block_until_ready(last[0])

    def row(name, unit, work, f, *arguments, make=None):
        def build():
            given = make() if make else [jax.random.normal(jax.random.PRNGKey(i), shape, jnp.float32).astype(types[dtype]) for i, (dtype, shape) in enumerate(arguments)]
            g = jax.jit(f)

            def call():
                last[0] = g(*given)
            return call
        record(rows, name, unit, work, build, wait)

    for dtype, size in (("f32", 4), ("bf16", 2)):
        row("add." + dtype, "bytes", 3 * size * N, lambda x, y: x + y, (dtype, (N,)), (dtype, (N,)))
        row("gelu." + dtype, "bytes", 2 * size * N, lambda x: jax.nn.gelu(x, approximate=False), (dtype, (N,)))
        row("sum_rows." + dtype, "bytes", size * ROWS * COLUMNS, lambda x: x.sum(1), (dtype, (ROWS, COLUMNS)))
        row("sum_columns." + dtype, "bytes", size * ROWS * COLUMNS, lambda x: x.sum(0), (dtype, (ROWS, COLUMNS)))
        row("softmax." + dtype, "bytes", 2 * size * ROWS * COLUMNS, lambda x: jax.nn.softmax(x, 1), (dtype, (ROWS, COLUMNS)))
    for dtype, m, n, k in GEMMS:
        if dtype == "f64":
            continue
        M, Nn, K = pick(m, 32), pick(n, 24), pick(k, 16)
        precision = "highest" if dtype == "f32" else "default"
        row("gemm.%s.%dx%dx%d" % (dtype, m, n, k), "flops", 2 * M * Nn * K, lambda a, b, p=precision: jnp.matmul(a, b.T, precision=p), (dtype, (M, K)), (dtype, (Nn, K)))
    return {"version": jax.__version__, "rows": rows}


peers = {}
for name, run in (("torch", lambda: with_torch(False)), ("torch.compile", lambda: with_torch(True)), ("jax", with_jax)):
    try:
        print("-- " + name, file=sys.stderr)
        peers[name] = run()
    except ImportError:
        print("is not installed", file=sys.stderr)
    except Exception as error:
        peers[name] = {"error": str(error)[:300], "rows": {}}
print(json.dumps(peers))
