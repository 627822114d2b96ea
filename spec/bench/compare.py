"""Runs each row in turn in PyTorch (here) and in aijit (a child that compare.lua drives), several rounds, and prints ratios.

Both sides make their inputs by one formula and report a sum of the result; a row whose sums differ is an error, and one
whose rounds lie too far apart is void. PyTorch gets the better of its plain and its inference or channels-last setting
where a row says so.
"""
import argparse, json, math, os, statistics, subprocess, sys, time
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
MODERN = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4)      # has fused optimizers on the CPU, and attention


def make(*shape, scale=1.0, shift=0.0):
    """sin(0.37 i + 0.1) over the elements in order: the same numbers as compare.lua's."""
    n = math.prod(shape)
    i = torch.arange(n, dtype=torch.float64)
    return (torch.sin(i * 0.37 + 0.1) * scale + shift).float().reshape(shape)


class Aijit:
    def __init__(self):
        here = os.path.dirname(os.path.abspath(__file__))
        self.p = subprocess.Popen([os.environ["AIJIT"], os.path.join(here, "compare.lua")], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, *words):
        self.p.stdin.write(" ".join(map(str, words)) + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        if not line:
            raise SystemExit("compare: aijit ended")
        kind, _, rest = line.strip().partition(" ")
        if kind == "error":
            raise RuntimeError(rest)
        return rest


rows = []


def row(name, target=None):
    def add(f):
        rows.append((name, target, f))
        return f
    return add


def loop(f):
    """A function of a count from a function of nothing."""
    def run(n):
        for _ in range(n):
            f()
    return run


# Each row returns ways to run it (the best counts), and a function that gives the sum to compare.

@row("op.add", 8)
def _():
    a, b = make(10), make(10, shift=1)
    return [loop(lambda: a + b)], lambda: (a + b).sum()


@row("op.scalar", 15)
def _():
    a = make(10)
    return [loop(lambda: a * 2.0)], lambda: (a * 2.0).sum()


@row("op.view", 8)
def _():
    a = make(4, 6)
    return [loop(lambda: a.reshape(2, 12).t()[2:6])], lambda: a.reshape(2, 12).t()[2:6].sum()


@row("op.grad", 10)
def _():
    w, c = make(10).requires_grad_(), make(10, scale=0.1, shift=1)

    def f():
        x = w
        for _ in range(100):
            x = x * c
        w.grad = None
        x.sum().backward()

    def check():
        f()
        return w.grad.sum()
    return [loop(f)], check


for kb, name in ((1, "1KiB"), (1024, "1MiB"), (65536, "64MiB")):
    @row("alloc." + name, 4)
    def _(kb=kb):
        n = kb * 256
        return [loop(lambda: torch.empty(n))], lambda: torch.tensor(float(n))


for M, N, K in ((32, 128, 784), (64, 64, 64), (128, 128, 128), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024)):
    @row(f"gemm.{M}x{N}x{K}", 1.05)
    def _(M=M, N=N, K=K):
        a, b = make(M, K), make(K, N)
        return [loop(lambda: a @ b)], lambda: (a @ b).abs().sum()


@row("linear.bias.relu", 1.4)
def _():
    x, w, b = make(32, 784), make(128, 784, scale=0.05), make(128)
    return [loop(lambda: F.relu(F.linear(x, w, b)))], lambda: F.relu(F.linear(x, w, b)).sum()


for n, name, target in ((4096, "4k", 7), (65536, "64k", 3), (1 << 20, "1M", 6), (1 << 24, "16M", 6)):
    # jit: aijit's side is recorded by ai.jit; PyTorch's is eager, as its compiler needs a C++ compiler at run time.
    @row("ew.chain7." + name, target)
    @row("jit.chain7." + name, target)
    def _(n=n):
        a, b, c = make(n), make(n, shift=0.5), make(n, shift=-0.5)

        def f():
            u = (a * b + c) * 1.7 - a
            return F.relu(u) * torch.sigmoid(u)
        return [loop(f)], lambda: f().sum()


for name in ("tanh", "exp", "gelu"):
    @row("ew." + name, 2)
    def _(name=name):
        x = make(1 << 22)
        f = {"tanh": torch.tanh, "exp": torch.exp, "gelu": F.gelu}[name]
        return [loop(lambda: f(x))], lambda: f(x).sum()


for name, dim, target in (("all", None, 1), ("dim0", 0, 3), ("dim1", 1, 1)):
    @row("red." + name, target)
    def _(dim=dim):
        x = make(4096, 1024)
        f = (lambda: x.sum()) if dim is None else (lambda: x.sum(dim))
        return [loop(f)], lambda: f().abs().sum()


@row("softmax.fb", 2)
def _():
    x, g = make(4096, 1024).requires_grad_(), make(4096, 1024, shift=0.3)

    def f():
        x.grad = None
        torch.softmax(x, 1).backward(g)

    def check():
        f()
        return x.grad.abs().sum()
    return [loop(f)], check


@row("layernorm.fb", 2)
def _():
    x, g = make(4096, 1024).requires_grad_(), make(4096, 1024, shift=0.3)
    w, b = make(1024, shift=1).requires_grad_(), make(1024).requires_grad_()

    def f():
        x.grad = w.grad = b.grad = None
        F.layer_norm(x, (1024,), w, b).backward(g)

    def check():
        f()
        return x.grad.abs().sum() + w.grad.abs().sum()
    return [loop(f)], check


def conv(N, C, O, S, last):
    x, w = make(N, C, S, S), make(O, C, 3, 3, scale=0.1)
    if last:
        x, w = x.contiguous(memory_format=torch.channels_last), w.contiguous(memory_format=torch.channels_last)
    x.requires_grad_(), w.requires_grad_()
    g = torch.ones(N, O, S, S)
    if last:
        g = g.contiguous(memory_format=torch.channels_last)

    def f():
        x.grad = w.grad = None
        F.conv2d(x, w, None, padding=1).backward(g)

    def check():
        f()
        return x.grad.abs().sum() + w.grad.abs().sum()
    return f, check


for N, C, O, S in ((16, 32, 32, 28), (16, 32, 64, 14), (16, 64, 64, 14), (128, 64, 64, 14)):
    @row(f"conv3x3.{N}x{C}-{O}@{S}", 1.6)
    def _(N=N, C=C, O=O, S=S):
        plain, last = conv(N, C, O, S, False), conv(N, C, O, S, True)
        return [loop(plain[0]), loop(last[0])], plain[1]


@row("maxpool.fb", 3)
def _():
    x, g = make(16, 32, 28, 28).requires_grad_(), torch.ones(16, 32, 14, 14)

    def f():
        x.grad = None
        F.max_pool2d(x, 2).backward(g)

    def check():
        f()
        return x.grad.abs().sum()
    return [loop(f)], check


@row("bn.relu.fb", 3)
def _():
    x, g = make(16, 32, 28, 28).requires_grad_(), make(16, 32, 28, 28, shift=0.2)
    w, b = make(32, shift=1).requires_grad_(), make(32).requires_grad_()
    m, v = torch.zeros(32), torch.ones(32)

    def f():
        x.grad = w.grad = b.grad = None
        F.relu(F.batch_norm(x, m, v, w, b, True, 0.1, 1e-5)).backward(g)

    def check():
        f()
        return x.grad.abs().sum() + w.grad.abs().sum()
    return [loop(f)], check


def net_of(name):
    nn = torch.nn
    if name == "mlp":
        return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)), (32, 784), 10
    if name == "rl_mlp":
        return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2)), (128, 4), 2
    def block(i, o):
        return [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()]
    return nn.Sequential(*block(1, 32), *block(32, 32), nn.MaxPool2d(2), *block(32, 64), *block(64, 64), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(64 * 49, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10)), (16, 1, 28, 28), 10


def fill(net):
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(make(*p.shape, scale=0.5 / math.sqrt(p[0].numel())) if p.dim() > 1 else make(*p.shape, scale=0.1, shift=1))


def step_of(name, batch=None, last=False):
    net, shape, classes = net_of(name)
    fill(net)
    if batch:
        shape = (batch,) + shape[1:]
    x, y = make(*shape), torch.arange(shape[0]) % classes
    if last:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, **({"fused": True} if MODERN else {}))
    loss = [None]

    def f():
        optimizer.zero_grad()
        loss[0] = F.cross_entropy(net(x), y)
        loss[0].backward()
        optimizer.step()

    def check():
        # The first loss and its gradients: what Adam makes of a gradient near 0 hangs on its sign.
        fill(net)
        f()
        return loss[0] + sum(p.grad.abs().sum() for p in net.parameters())
    return f, check


for name, batch, target in (("mnist_cnn", 16, 1.9), ("mnist_cnn", 128, 1.9), ("mlp", 32, 2.5), ("rl_mlp", 128, 4)):
    @row(f"step.{name}.b{batch}", target)
    @row(f"jit.{name}.b{batch}", target)
    def _(name=name, batch=batch):
        f, check = step_of(name, batch)
        ways = [loop(f)]
        if name == "mnist_cnn":
            ways.append(loop(step_of(name, batch, True)[0]))
        return ways, check


class Block(torch.nn.Module):
    def __init__(self, d, heads, causal):
        super().__init__()
        nn = torch.nn
        self.heads, self.causal = heads, causal
        self.ln1, self.qkv, self.proj = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.ln2, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (z.reshape(n, t, self.heads, -1).transpose(1, 2) for z in self.qkv(self.ln1(x)).split(d, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.proj(y.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


def blocks(count, *of):
    return torch.nn.Sequential(*(Block(*of) for _ in range(count)))


class CharGPT(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = torch.nn.Embedding(65, 128), torch.nn.Embedding(64, 128)
        self.h, self.ln = blocks(4, 128, 4, True), torch.nn.LayerNorm(128)
        i = torch.arange(1, 12 * 64 + 1)
        self.x, self.y, self.places = (i * 7 % 65).reshape(12, 64), (i * 7 + 7) % 65, torch.arange(64)

    def forward(self):
        h = self.ln(self.h(self.wte(self.x) + self.wpe(self.places)))
        return F.cross_entropy((h @ self.wte.weight.t()).reshape(-1, 65), self.y)


class ViTTiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.places = torch.nn.Conv2d(3, 192, 4, stride=4), torch.nn.Parameter(torch.zeros(64, 192))
        self.h, self.ln, self.head = blocks(12, 192, 3, False), torch.nn.LayerNorm(192), torch.nn.Linear(192, 10)
        self.x, self.y = make(32, 3, 32, 32), torch.arange(32) % 10

    def forward(self):
        h = self.patch(self.x).flatten(2).transpose(1, 2) + self.places
        return F.cross_entropy(self.head(self.ln(self.h(h)).mean(1)), self.y)


# Transformers, whole steps; in "bf16" both sides run the forward pass under autocast. As bf16 keeps 8 bits, those sums need
# agree to 2 % only.
for name, kind, target in (("chargpt", "step", 1.2), ("chargpt", "jit", 1.2), ("chargpt", "bf16", 1.4), ("vit_tiny", "step", 1.15),
                           ("vit_tiny", "jit", 1.15), ("vit_tiny", "bf16", 1.2)) if MODERN else ():
    @row(f"{kind}.{name}", target)
    def _(name=name, kind=kind):
        net = CharGPT() if name == "chargpt" else ViTTiny()
        fill(net)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=1e-2, fused=True)
        loss = [None]

        def f():
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
                loss[0] = net()
            loss[0].backward()
            optimizer.step()

        def check():
            fill(net)
            f()
            return loss[0] + sum(p.grad.abs().sum() for p in net.parameters())
        return [loop(f)], check


@row("policy.b1", 8)
def _():
    net, _, _ = net_of("rl_mlp")
    fill(net)
    x = make(1, 4)

    def f():
        with torch.inference_mode():
            return net(x)
    return [loop(f)], lambda: f().sum()


for shapes, name in (((64 * 64, 64, 64 * 8), "4.6k"), ((784 * 128, 128, 128 * 64, 64), "109k"), ((784 * 512, 512, 512 * 128, 128), "467k")):
    @row("adam." + name, 4)
    def _(shapes=shapes):
        ps = [make(n).requires_grad_() for n in shapes]
        for p in ps:
            p.grad = make(p.numel(), scale=0.01)
        ways = [torch.optim.Adam(ps, lr=1e-9, foreach=True)]
        if MODERN:
            ways.append(torch.optim.Adam(ps, lr=1e-9, fused=True))
        return [loop(o.step) for o in ways], lambda: sum(p.abs().sum() for p in ps)


clock = time.perf_counter


def seconds(run, n):
    start = clock()
    run(n)
    return clock() - start


def calibrate(time_of, target=0.03):
    n = 1
    time_of(1)
    while True:
        t = time_of(n)
        if t >= target:
            return n
        n = max(n + 1, math.ceil(n * min(10, 1.2 * target / max(t, 1e-9))))


def status(key):
    """A line of /proc/self/status in bytes."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key + ":"))


def peak(name, way):
    """Bytes by which the process grows at most, over building a row and running it three times."""
    make(8, 8) @ make(8, 8)
    build = next(b for n, _, b in rows if n == name)
    before = status("VmRSS")
    build()[0][way](3)
    return status("VmHWM") - before


def memory(names):
    """A process for each number, so that nothing is counted but the row's own; PyTorch's better way counts."""
    print("| row | PyTorch | aijit | ratio |\n|---|---|---|---|")
    for name, _, build in rows:
        if not name.startswith(("step.", "jit.", "bf16.")) or ".chain7." in name or names and not any(name.startswith(n) for n in names):
            continue
        theirs = min(int(subprocess.run([sys.executable, __file__, "--peak", str(way), name], check=True, stdout=subprocess.PIPE).stdout)
                     for way in range(len(build()[0])))
        ours = int(Aijit().ask("peak", name))
        print(f"| {name} | {theirs / 2**20:.1f} MiB | {ours / 2**20:.1f} MiB | {theirs / ours:.2f} |", flush=True)


def text(s):
    return f"{s * 1e9:.0f} ns" if s < 1e-6 else f"{s * 1e6:.3g} us" if s < 1e-3 else f"{s * 1e3:.3g} ms"


def threads(names, rounds, busy):
    """aijit on one thread and on two in turn, over cores of which another process may keep the first busy."""
    ours = Aijit()
    other = subprocess.Popen(["taskset", "-c", str(min(os.sched_getaffinity(0))), "sh", "-c", "while :; do :; done"]) if busy else None
    try:
        print("| row | one thread | two threads | ratio |\n|---|---|---|---|")
        for name, _, _ in rows:
            if names and not any(name.startswith(n) for n in names):
                continue
            took = {1: [], 2: []}
            for n in took:
                ours.ask("threads", n)
                ours.ask("check", name)
                took[n].append(calibrate(lambda k: float(ours.ask("time", name, k))))
            count = {n: took[n].pop() for n in took}
            for _ in range(rounds):
                for n in took:
                    ours.ask("threads", n)
                    took[n].append(float(ours.ask("time", name, count[n])) / count[n])
            one, two = (statistics.median(took[n]) for n in took)
            print(f"| {name} | {text(one)} | {text(two)} | {one / two:.2f} |", flush=True)
    finally:
        if other:
            other.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", action="store_true", help="peak bytes of training steps in place of times")
    parser.add_argument("--threads", action="store_true", help="aijit on two threads beside aijit on one")
    parser.add_argument("--busy", action="store_true", help="with --threads: beside a process that keeps a core busy")
    parser.add_argument("--peak", type=int, metavar="WAY", help="print PyTorch's peak bytes of the one row, in its WAYth setting")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true", help="the time that the processor worked, not the clock's")
    parser.add_argument("--json")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    if args.peak is not None:
        return print(peak(args.names[0], args.peak))
    if args.memory:
        return memory(args.names)
    if args.threads:
        return threads(args.names, args.rounds, args.busy)
    ours = Aijit()
    if args.cpu:
        global clock
        clock = time.process_time
        ours.ask("clock", "cpu")
    print(f"aijit {ours.ask('version')}; PyTorch {torch.__version__}, one thread{', processor time' if args.cpu else ''}")
    print("| row | PyTorch | aijit | ratio | target | spread |\n|---|---|---|---|---|---|")
    report = []
    for name, target, build in rows:
        if args.names and not any(name.startswith(n) for n in args.names):
            continue
        ways, check = build()
        want = float(check())
        try:
            have = float(ours.ask("check", name))
        except RuntimeError as e:
            print(f"| {name} | | not run: {e} | | | |")
            continue
        if not abs(have - want) <= (2e-2 if name.startswith("bf16.") else 2e-3) * (abs(want) + 1e-3):
            raise SystemExit(f"compare: {name}: PyTorch computes {want}, aijit {have}")
        theirs = [(w, calibrate(lambda n, w=w: seconds(w, n))) for w in ways]
        count = calibrate(lambda n: float(ours.ask("time", name, n)))
        a, b = [[] for _ in theirs], []
        for _ in range(args.rounds):
            for i, (w, n) in enumerate(theirs):
                a[i].append(seconds(w, n) / n)
            b.append(float(ours.ask("time", name, count)) / count)
        best = min(a, key=statistics.median)
        peer, own = statistics.median(best), statistics.median(b)
        spread = max(max(best) / min(best), max(b) / min(b)) - 1
        ratio = peer / own
        void = peer / min(best) > 1.3 or own / min(b) > 1.3
        report.append(dict(row=name, peer=peer, own=own, ratio=ratio, target=target, spread=spread, void=void))
        print(f"| {name} | {text(peer)} | {text(own)} | {'void' if void else f'{ratio:.2f}'} | {target} | {spread * 100:.0f} % |", flush=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(dict(torch=torch.__version__, rows=report), f, indent=1)


main()
