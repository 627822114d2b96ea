"""Small programs of tensors, each in PyTorch's words and in aijit's, and what PyTorch makes of them: semantics.py FOLDER [GROUP...].

Systematic where oracle.py takes samples: every pair of dtypes, every size of none, every dimension in and out of range, NaN in every
place, writes into every kind of view with gradients. FOLDER/GROUP.safetensors holds one tensor for each dtype, a pool in
which all values lie one after another, and in its metadata "tensors", a list of [dtype, sizes, place in the pool], and "programs":
{"lua": text, "runs": [[inputs, results]...]} where both are places in "tensors", or -1 - a number for a result that is
no tensor, or, instead of results, the text of PyTorch's refusal. Inputs are a, b, c. Positions count from 1.
"""

import itertools
import json
import math
import os
import struct
import sys
import warnings

import torch
import torch.nn.functional as F

warnings.simplefilter("ignore")
torch.set_num_threads(1)

NAMES = {torch.bool: "bool", torch.uint8: "u8", torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64",
         torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32", torch.float64: "f64"}
DTYPES = {name: dtype for dtype, name in NAMES.items()}
ALL, FLOATS, WHOLE = list(DTYPES), ("f16", "bf16", "f32", "f64"), ("u8", "i8", "i16", "i32", "i64")
HALVES = {torch.float16, torch.bfloat16}
nan, inf = math.nan, math.inf

# What PyTorch has not written, or words of its own for it, and no rule.
NO_RULE = ("not implemented for", "not supported for", "is not yet implemented", "did not match", "expected dtype", "could not infer",
           "Integer division with addcdiv", "must be either float or double", "but bool is not supported", "must be Tensor, not")


class File:
    def __init__(self):
        self.pool, self.tensors, self.known, self.programs = {}, [], {}, {}

    def put(self, t):
        t = t.detach().contiguous()
        raw = (t.view(torch.int16) if t.dtype in HALVES else t).numpy().tobytes()
        key = (NAMES[t.dtype], tuple(t.shape), raw)
        if key not in self.known:
            pool = self.pool.setdefault(key[0], bytearray())
            self.known[key] = len(self.tensors)
            self.tensors.append([key[0], list(t.shape), len(pool) // t.element_size()])
            pool += raw
        return self.known[key]

    def write(self, path):
        programs = [{"lua": lua, "runs": runs} for lua, runs in self.programs.items()]
        text = lambda v: json.dumps(v, separators=(",", ":"))     # noqa: E731
        header, data = {"__metadata__": {"tensors": text(self.tensors), "programs": text(programs)}}, bytearray()
        width = {name: torch.empty(0, dtype=DTYPES[name]).element_size() for name in self.pool}
        for name in sorted(self.pool, key=lambda n: -width[n]):
            raw = self.pool[name]
            header[name] = {"dtype": {"bool": "BOOL"}.get(name, name.upper()), "shape": [len(raw) // width[name]], "data_offsets": [len(data),
                        len(data) + len(raw)]}
            data += raw
        head = json.dumps(header, separators=(",", ":")).encode()
        head += b" " * (-len(head) % 8)
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(head)) + head + data)


file = File()


def flat(r):
    if isinstance(r, (list, tuple)):
        return [x for y in r for x in flat(y)]
    return [r]


def run(lua, py, *inputs, places=()):
    """Records a program: py and lua are expressions of a, b, c, py may be statements, the last one a return. Results number `places` are positions."""
    body = py if ";" in py else "return " + py
    text = "def program(a=None, b=None, c=None):\n" + "".join("    %s\n" % line.strip() for line in body.split(";"))
    scope = {"torch": torch, "F": F, "inf": inf, "nan": nan}
    exec(text, scope)
    ins = [file.put(t) for t in inputs]
    try:
        out = []
        for k, y in enumerate(flat(scope["program"](*[t.clone() for t in inputs]))):
            out.append(file.put(y + 1 if k in places else y) if isinstance(y, torch.Tensor) else -1 - int(y))
    except (RuntimeError, ValueError, IndexError, TypeError, ZeroDivisionError) as error:
        out = str(error).split("\n")[0][:80]
        if any(words in str(error) for words in NO_RULE):
            return
    runs = file.programs.setdefault(lua, [])
    if [ins, out] not in runs:
        runs.append([ins, out])


def op(name, *inputs):
    """The op of one name, on tensors."""
    names = ", ".join("abc"[:len(inputs)])
    run("ai.f.%s(%s)" % (name, names), "torch.%s(%s)" % (name, names), *inputs)


def one(d):
    """A dimension, or a list of them, as it is counted from 1."""
    return "{%s}" % ", ".join(str(one(x)) for x in d) if isinstance(d, (list, tuple)) else d + 1 if d >= 0 else d


def T(values, dtype="f32"):
    return torch.tensor(values, dtype=DTYPES[dtype])


def few(dtype):
    return T([True, False, True] if dtype == "bool" else [1, 3, 2], dtype)


# -- Groups ---------------------------------------------------------------------------------------------------------------


def promotion():
    binary = """add sub mul div pow floor_divide remainder fmod maximum minimum fmax fmin atan2 eq lt logical_and logical_xor bitwise_and
        bitwise_or copysign hypot logaddexp gcd xlogy""".split()
    for x, y in itertools.product(ALL, ALL):
        a, b = few(x), few(y)
        whole = T([True] * 3, "bool") if y == "bool" else b           # without a 0
        for name in binary:
            d = whole if name in ("floor_divide", "remainder", "fmod") else b
            for pair in ((a, d), (a, d[0]), (a[0], d)):
                op(name, *pair)
        for name in ("add_", "mul_", "div_", "pow_", "bitwise_and_", "copysign_"):
            for d in (b, b[0]):
                run("a:%s(b)" % name, "a.%s(b)" % name, a, d)
        condition = T([True, False, True], "bool")
        for d in (b, b[0]):
            run("ai.f.where(c, a, b)", "torch.where(c,a,b)", a, d, condition)
            run("ai.f.clamp(a, b, nil)", "torch.clamp(a,min=b)", a, d)
        run("ai.cat({a, b}, 1)", "torch.cat([a,b])", a, b)
        run("a:copy_(b)", "a.copy_(b)", a, b)
        op("addcmul", a, b, b)
        op("matmul", a, b)
    for x in ALL:
        a = few(x)
        for name in ("add", "sub", "mul", "div", "pow", "floor_divide", "remainder", "fmod", "eq", "lt"):
            for v in ("1.5", "3"):
                for t in (a, a[0]):
                    run("ai.f.%s(a, %s)" % (name, v), "torch.%s(a,%s)" % (name, v), t)
        for name in ("add_", "mul_", "div_", "remainder_"):
            for v in ("1.5", "3"):
                run("a:%s(%s)" % (name, v), "a.%s(%s)" % (name, v), a)
        for name in """neg abs sign square sqrt exp floor round trunc reciprocal sigmoid relu logical_not isnan isinf bitwise_not erf
                log1p signbit nan_to_num sum prod mean std amax amin all any norm count_nonzero nansum median aminmax var_mean""".split():
            op(name, a)
        for name in ("neg_", "sqrt_", "floor_", "reciprocal_", "abs_"):
            run("a:%s()" % name, "a.%s()" % name, a)
        for name in ("cumsum", "cumprod", "logcumsumexp", "softmax"):
            run("a:%s(1)" % name, "a.%s(0)" % name, a)


def integers():
    limits = {"u8": (0, 255), "i8": (-128, 127), "i16": (-2 ** 15, 2 ** 15 - 1), "i32": (-2 ** 31, 2 ** 31 - 1), "i64": (-2 ** 63, 2 ** 63 - 1)}
    for dtype, (low, high) in limits.items():
        values = sorted({low, low + 1, max(low, -1), 0, 1, 2, 7, high - 1, high})
        a = T(values, dtype)
        for v in values:
            for name in ("add", "sub", "mul", "div", "pow", "maximum", "bitwise_and", "floor_divide", "remainder", "fmod"):
                if name in ("floor_divide", "remainder", "fmod") and v == -1:
                    continue                                          # of the least number this ends PyTorch's process
                op(name, a, T(v, dtype))
            for mode in ("trunc", "floor"):
                if v != -1:
                    run("ai.f.div(a, b, {rounding_mode = '%s'})" % mode, "torch.div(a,b,rounding_mode='%s')" % mode, a, T(v, dtype))
        for name in ("neg", "abs", "square", "sign", "sum", "prod", "bitwise_not", "amax"):
            op(name, a)
        for v in (0, -1, 3, 300, -300):
            for name in ("add", "mul", "eq", "gt", "remainder", "pow"):
                run("ai.f.%s(a, %d)" % (name, v), "torch.%s(a,%d)" % (name, v), a[a != low] if name == "remainder" else a)
            run("ai.f.fill_(a, %d)" % v, "a.fill_(%d)" % v, a)
            run("ai.f.masked_fill(a, a:eq(1), %d)" % v, "a.masked_fill(a==1,%d)" % v, a)
            run("ai.f.clamp(a, %d, nil)" % v, "torch.clamp(a,min=%d)" % v, a)
        for to in ALL:
            run("a:to '%s'" % to, "a.to(%s)" % DTYPES[to], a)
    for dtype in FLOATS:
        a, edges = T([0., -0., 0.5, -0.5, 1.5, -1.5, 2.5, 100.75, -100.75, 127], dtype), T([nan, inf, -inf, 0., -0.], dtype)
        for to in ALL:
            if to != "u8":                                            # of which numbers below 0 are not defined
                run("a:to '%s'" % to, "a.to(%s)" % DTYPES[to], a)
            if to == "bool" or to in FLOATS:
                run("a:to '%s'" % to, "a.to(%s)" % DTYPES[to], edges)
        b = T([7., -7., 7.5, -7.5, 0., nan, inf, -inf, 6e4], dtype)
        for v in (2., -2., 0., -0., nan, inf, -inf, 0.5):
            for name in ("floor_divide", "remainder", "fmod", "div", "pow", "atan2", "maximum", "fmax", "copysign", "heaviside", "hypot"):
                op(name, b, T(v, dtype))


def order():
    rows = ([3., nan, 1., -inf, inf, -0., 0., nan, 2.], [nan, nan], [nan], [2., 1., 2., 3., 1.])
    for row, dtype in itertools.product(rows, FLOATS):
        a = T(row, dtype)
        for down in ("false", "true"):
            run("a:sort(1, %s)" % down, "torch.sort(a,dim=0,descending=%s,stable=True)" % down.capitalize(), a, places=(1,))
            for k in sorted({1, min(2, len(row)), len(row)}):
                run("(a:topk(%d, 1, %s))" % (k, down), "a.topk(%d,0,%s).values" % (k, down.capitalize()), a)
        for name in ("max", "min"):
            run("a:%s(1)" % name, "a.%s(0)" % name, a, places=(1,))
            run("a:arg%s()" % name, "a.arg%s()" % name, a, places=(0,))
            run("a:cum%s(1)" % name, "a.cum%s(0)" % name, a, places=(1,))
        for k in range(1, len(row) + 1):
            run("(a:kthvalue(%d))" % k, "a.kthvalue(%d).values" % k, a)
        for name in ("unique", "unique_consecutive"):
            run("a:%s()" % name, "torch.%s(a,return_inverse=True,return_counts=True)" % name, a, places=(1,))
        for name in ("median", "nanmedian", "mode"):
            run("(a:%s(1))" % name, "a.%s(0).values" % name, a)
        for name in """median nanmedian max min amax amin relu sign nan_to_num sum nansum nanmean prod norm all any count_nonzero aminmax std
                isfinite round frac""".split():
            op(name, a)
        for name in ("cumsum", "cumprod", "logcumsumexp", "softmax", "log_softmax", "logsumexp"):
            run("a:%s(1)" % name, "a.%s(0)" % name, a)
        for p in ("inf", "-inf", "0"):
            run("a:norm(%s)" % p.replace("inf", "math.huge"), "a.norm(%s)" % p, a)
        run("a:clamp(0, 1)", "a.clamp(0,1)", a)
        run("a:clamp(b, nil)", "a.clamp(min=b)", a, T(nan, dtype))
        run("a:nonzero()", "a.nonzero()", a, places=(0,))
        sorted_, sought = a.sort().values, T([nan, 0., 1.5, inf, -inf, 3.], dtype)
        for right in ("false", "true"):
            run("ai.f.searchsorted(a, b, {right = %s})" % right, "torch.searchsorted(a,b,right=%s)" % right.capitalize(), sorted_, sought, places=(0,))
        if dtype in ("f32", "f64"):
            for q, name in itertools.product(("0.0", "0.5", "1.0"), ("quantile", "nanquantile")):
                run("a:%s(%s)" % (name, q), "a.%s(%s)" % (name, q), a)
    for dtype in WHOLE:
        a = T([3, 1, 2, 1, 3], dtype)
        run("a:sort(1, true)", "torch.sort(a,dim=0,descending=True,stable=True)", a, places=(1,))
        run("a:unique()", "torch.unique(a,return_inverse=True,return_counts=True)", a, places=(1,))
        for name in ("max", "min"):
            run("a:%s(1)" % name, "a.%s(0)" % name, a, places=(1,))
            run("a:cum%s(1)" % name, "a.cum%s(0)" % name, a, places=(1,))


def empties():
    at = {"argmax": (0,), "argmin": (0,), "max": (1,), "min": (1,), "median": (1,), "mode": (1,), "unique": (1,)}
    for shape, dtype in itertools.product(([0], [0, 3], [2, 0], [0, 0], [], [2, 0, 3], [1]), ("f32", "i64")):
        a, n = torch.ones(shape, dtype=DTYPES[dtype]), len(shape)
        for name in "sum prod mean amax amin all any norm std var count_nonzero nansum aminmax max min cov trace tril diag isnan".split():
            op(name, a)
        for name in ("argmax", "argmin"):
            run("a:%s()" % name, "a.%s()" % name, a, places=(0,))
        run("a:unique()", "torch.unique(a,return_inverse=True,return_counts=True)", a, places=(1,))
        for d in range(-n - 1, n + 1):
            D = one(d)
            for keep in ("false", "true"):
                for name in "sum mean prod amax amin all any argmax argmin max min logsumexp mode nansum aminmax".split():
                    run("a:%s(%d, %s)" % (name, D, keep), "torch.%s(a,dim=%d,keepdim=%s)" % (name, d, keep.capitalize()), a, places=at.get(name, ()))
                for name in ("std", "var"):
                    run("a:%s(%d, 1, %s)" % (name, D, keep), "torch.%s(a,dim=%d,keepdim=%s)" % (name, d, keep.capitalize()), a)
            for lua, py, places in (
                    ("a:cumsum(%d)", "a.cumsum(%d)", ()), ("a:sort(%d)", "a.sort(%d)", (1,)), ("a:argsort(%d)", "a.argsort(%d)", (0,)),
                    ("a:squeeze(%d)", "a.squeeze(%d)", ()), ("a:unsqueeze(%d)", "a.unsqueeze(%d)", ()), ("a:flip({%d})", "a.flip(%d)", ()),
                    ("a:topk(1, %d)", "a.topk(1,%d)", (1,)), ("a:kthvalue(1, %d)", "a.kthvalue(1,%d)", (1,)), ("a:unbind(%d)", "a.unbind(%d)", ()),
                    ("a:split(2, %d)", "a.split(2,%d)", ()), ("a:chunk(2, %d)", "a.chunk(2,%d)", ()), ("a:diff(1, %d)", "a.diff(1,%d)", ()),
                    ("a:unique(true, %d)", "torch.unique(a,dim=%d,return_inverse=True,return_counts=True)", (1,)),
                    ("a:select(%d, 1)", "a.select(%d,0)", ()), ("a:select(%d, -1)", "a.select(%d,-1)", ()), ("a:narrow(%d, 1, 0)", "a.narrow(%d,0,0)", ()),
                    ("a:narrow(%d, 1, 1)", "a.narrow(%d,0,1)", ()), ("a:gather(%d, a:long())", "a.gather(%d,a.long()-1)", ()),
                    ("a:unfold(%d, 1, 1)", "a.unfold(%d,1,1)", ()), ("a:norm(2, %d)", "a.norm(2,%d)", ()), ("ai.cat({a, a}, %d)", "torch.cat([a,a],%d)", ()),
                    ("ai.stack({a, a}, %d)", "torch.stack([a,a],%d)", ()), ("a:flatten(%d, -1)", "a.flatten(%d,-1)", ()),
                                ("a:movedim(%d, 1)", "a.movedim(%d,0)", ()),
                    ("a:sum({%d, 1})", "a.sum([%d,0])", ())):
                run(lua % D, py % d, a, places=places)
        for other in ([0], [1], [3], [0, 3], [2, 0], []):
            b = torch.ones(other, dtype=DTYPES[dtype])
            for name in ("add", "maximum", "eq", "matmul", "dot", "outer", "mm", "mv", "inner", "kron"):
                op(name, a, b)
            run("ai.cat({a, b}, 1)", "torch.cat([a,b],0)", a, b)
            run("a:add_(b)", "a.add_(b)", a, b)
            run("a:copy_(b)", "a.copy_(b)", a, b)
            run("a:masked_select(b:bool())", "a.masked_select(b.bool())", a, b)
            run("a:reshape(b:size())", "a.reshape(b.shape)", a, b)
            run("a:expand_as(b)", "a.expand_as(b)", a, b)
        for sizes in ([-1], [0, -1], [-1, 1], [3, -1], [0], [1], [2, -1, 1]):
            text = ", ".join(map(str, sizes))
            run("a:reshape({%s})" % text, "a.reshape(%s)" % sizes, a)
            run("a:expand({%s})" % text, "a.expand(%s)" % sizes, a)


def shapes():
    sizes = [[], [1], [3], [2, 3], [2, 1], [1, 3], [4, 2, 3], [2], [3, 2], [1, 1, 1], [0], [1, 0]]
    for s, t in itertools.product(sizes, sizes):
        a, b = torch.ones(s), torch.full(t, 2.)
        for name in ("add", "eq", "matmul", "atan2", "isclose", "cdist", "dot", "kron", "outer", "broadcast_tensors"):
            op(name, a, b)
        for lua, py in (("a:add_(b)", "a.add_(b)"), ("a:copy_(b)", "a.copy_(b)"), ("a:masked_fill(b:gt(0), 5)", "a.masked_fill(b>0,5)"),
                        ("a:masked_fill_(b:gt(0), 5)", "a.masked_fill_(b>0,5)"), ("ai.f.where(a:gt(0), a, b)", "torch.where(a>0,a,b)"),
                        ("a:masked_select(b:gt(0))", "a.masked_select(b>0)"), ("ai.f.lerp(a, b, 0.5)", "torch.lerp(a,b,0.5)"),
                        ("ai.f.l1_loss(a, b)", "F.l1_loss(a,b)"),
                        ("ai.f.cosine_similarity(a, b, -1)", "F.cosine_similarity(a,b,-1)"), ("ai.cat({a, b}, 1)", "torch.cat((a,b),0)"),
                        ("ai.hstack(a, b)", "torch.hstack((a,b))"), ("ai.vstack(a, b)", "torch.vstack((a,b))")):
            run(lua, py, a, b)
    a = torch.arange(6.).reshape(2, 3)
    for s in ([3, 2], [6], [5], [1, 6], [-1, 3], [-1, 4], [-1, -1], [-2, 3], [2, 3, 1], [4, 2, 3], [2, -1, 3], [0, 2, 3], [2, 1]):
        for name in ("view", "reshape", "expand"):
            run("a:%s({%s})" % (name, ", ".join(map(str, s))), "a.%s(%s)" % (name, s), a)
    for dims in ([0], [-1], [0, 1], [1, 0], [0, 0], [0, -2], [2], [], [-3]):
        for name in ("sum", "mean", "amax", "std", "all", "any", "flip", "count_nonzero", "permute"):
            run("a:%s(%s)" % (name, one(dims)), "torch.%s(a,%s)" % (name, dims), a)
    for v in range(-4, 4):
        run("a:select(2, %d)" % one(v), "a.select(1,%d)" % v, a)
        run("a[{1, %d}]" % one(v), "a[0,%d]" % v, a)
        run("a:take(b)", "a.take(b-(b>0).long())", a, T([one(v)], "i64"))
    for first, n in itertools.product(range(4), range(5)):
        run("a:narrow(2, %d, %d)" % (first + 1, n), "a.narrow(1,%d,%d)" % (first, n), a)
    for k in (-1, 0, 1, 3, 4):
        for lua, py in (("(a:topk(%d))", "a.topk(%d).values"), ("(a:kthvalue(%d))", "a.kthvalue(%d).values"), ("a:split(%d, 2)", "a.split(%d,1)"),
                        ("a:chunk(%d, 2)", "a.chunk(%d,1)"), ("a:unfold(2, %d, 1)", "a.unfold(1,%d,1)"), ("a:unfold(2, 1, %d)", "a.unfold(1,1,%d)"),
                        ("a:repeat_interleave(%d, 1)", "a.repeat_interleave(%d,0)"), ("a:roll(%d, 1)", "a.roll(%d,0)"), ("a:diagonal(%d)", "a.diagonal(%d)"),
                        ("a:tril(%d)", "a.tril(%d)"), ("a[1]:diag(%d)", "a[0].diag(%d)"), ("a:rot90(%d, {1, 2})", "a.rot90(%d,(0,1))"),
                        ("a:tile{%d}", "a.tile((%d,))"),
                        ("ai.f.pad(a, {%d, 0})", "F.pad(a,(%d,0))"), ("ai.f.pad(a, {%d, 1}, 'reflect')", "F.pad(a,(%d,1),mode='reflect')")):
            run(lua % k, py % k, a)


VIEWS = (("t()", "t()"), ("view(6)", "view(6)"), ("select(1, 2)", "select(0,1)"), ("narrow(2, 1, 2)", "narrow(1,0,2)"), ("diagonal()", "diagonal()"),
         ("unsqueeze(1)", "unsqueeze(0)"), ("slice(2, 1, 3, 2)", "__getitem__((slice(None),slice(0,3,2)))"), ("flip{1}", "flip(0)"),
         ("reshape(3, 2)", "reshape(3,2)"),
         ("transpose(1, 2):reshape(6)", "transpose(0,1).reshape(6)"), ("contiguous()", "contiguous()"), ("clone()", "clone()"),
         ("permute{2, 1}", "permute(1,0)"),
         ("as_strided({2, 2}, {1, 2}, 1)", "as_strided((2,2),(1,2),1)"), ("to 'f64'", "to(torch.float64)"), ("movedim(1, 2)", "movedim(0,1)"),
         ("roll(1, 1)", "roll(1,0)"))
WRITES = (("mul_(3)", "mul_(3)"), ("fill_(2)", "fill_(2)"), ("exp_()", "exp_()"), ("copy_(y * y)", "copy_(y*y)"), ("clamp_(0, 1)", "clamp_(0,1)"),
          ("masked_fill_(y:gt(0), 1)", "masked_fill_(y>0,1)"), ("pow_(2)", "pow_(2)"), ("sub_(1)", "sub_(1)"))


def writes():
    """In place, on tensors, views, leaves and what a graph has kept; with the gradients that come of it."""
    a = torch.tensor([[0.3, -1.2, 0.7], [1.5, 0.2, -0.4]], dtype=torch.float64)

    def of(lua, py):
        run("(function() local x = a:requires_grad_(); %s end)()" % lua, "x=a.requires_grad_();" + py, a)

    for view, write in itertools.product(VIEWS, WRITES):
        made, written = ("local y = z:%s; " % view[0], "y=z.%s;" % view[1]), ("y:%s; " % write[0], "y.%s;" % write[1])
        back = ("(z * z + z):sum():backward(); return x.grad or 0, z, y", "(z*z+z).sum().backward();return 0 if x.grad is None else x.grad,z,y")
        if write[0] != "fill_(2)" or view[0] not in ("contiguous()", "to 'f64'"):         # nothing is left of x
            of("local z = x * 2; " + made[0] + written[0] + back[0], "z=x*2;" + made[1] + written[1] + back[1])
            of("local z = x:exp(); " + made[0] + written[0] + back[0], "z=x.exp();" + made[1] + written[1] + back[1])
        of("local z = x * 2; local w = z * z; " + made[0] + written[0] + "w:sum():backward(); return x.grad",
           "z=x*2;w=z*z;" + made[1] + written[1] + "w.sum().backward();return x.grad")
        of("local z = (x * 2):detach(); " + made[0] + written[0] + "return z, y", "z=(x*2).detach();" + made[1] + written[1] + "return z,y")
        of("local z = x; " + made[0] + written[0] + "return x", "z=x;" + made[1] + written[1] + "return x")
    for lua, py in (
            ("local y = (x * x):sum(); y:backward(); y:backward()", "y=(x*x).sum();y.backward();y.backward();return x.grad"),
            ("local y = (x * x):sum(); y:backward{retain_graph = true}; y:backward(); return x.grad",
             "y=(x*x).sum();y.backward(retain_graph=True);y.backward();return x.grad"),
            ("local y = x * x; y:backward()", "y=x*x;y.backward();return x.grad"),
            ("local y = x * x; y:backward(ai.ones(3):double())", "y=x*x;y.backward(torch.ones(3).double());return x.grad"),
            ("x:detach():sum():backward()", "x.detach().sum().backward();return x"),
            ("local y = x * 2; y:requires_grad_(false)", "y=x*2;y.requires_grad_(False);return y"),
            ("x:long():requires_grad_()", "x.long().requires_grad_();return x"),
            ("local z = x * 2; local y = z[1]; z[2] = 0; (y * y):sum():backward(); return x.grad",
             "z=x*2;y=z[0];z[1]=0;(y*y).sum().backward();return x.grad"),
            ("local z = x * 2; z[1] = z[2]; (z * z):sum():backward(); return x.grad", "z=x*2;z[0]=z[1];(z*z).sum().backward();return x.grad"),
            ("local z = x * 2; z[z:gt(0)] = 0; (z * z):sum():backward(); return x.grad", "z=x*2;z[z>0]=0;(z*z).sum().backward();return x.grad"),
            ("local z = ai.zeros(2, 3):double(); z[1] = x[2]; (z * z):sum():backward(); return x.grad",
             "z=torch.zeros(2,3).double();z[0]=x[1];(z*z).sum().backward();return x.grad"),
            ("x.grad = ai.ones(3):double()", "x.grad=torch.ones(3).double();return x"), ("x.grad = ai.ones(2, 3)", "x.grad=torch.ones(2,3);return x"),
            ("x[1] = 0", "x[0]=0;return x"), ("x:t():fill_(0)", "x.t().fill_(0);return x")):
        of(lua, py)


def gradients():
    """At ties, kinks, zeros, NaN and infinities."""
    a = torch.tensor([0., -0., 1., 1., -1., 2., nan, inf, -inf, 6., -3., 3.], dtype=torch.float64)
    finite, pair = a[:6], ("x:flip{1}", "x.flip(0)")

    def of(lua, py, x):
        run("(function() local x = a:requires_grad_(); local y = %s; y:sum():backward(); return y, x.grad end)()" % lua,
            "x=a.requires_grad_();y=%s;y.sum().backward();return y,x.grad" % py, x)

    for name in """abs sign relu sqrt square exp log log1p floor sigmoid tanh sin reciprocal rsqrt erf frac expm1 asinh atan sinc nan_to_num selu
            nansum nanmedian""".split():
        of("x:%s()" % name, "torch.%s(x)" % name, a)
    for name in "relu6 hardtanh elu leaky_relu softplus gelu silu mish softshrink hardshrink tanhshrink".split():
        of("ai.f.%s(x)" % name, "F.%s(x)" % name, a)
    for name in "maximum minimum fmax fmin atan2 hypot logaddexp div pow".split():
        of("ai.f.%s(x, %s)" % (name, pair[0]), "torch.%s(x,%s)" % (name, pair[1]), a)
    for lua, py in (("ai.f.threshold(x, 1, 5)", "F.threshold(x,1,5)"), ("x:clamp(0, 1)", "x.clamp(0,1)"), ("x:max()", "x.max()"),
                    ("x:min()", "x.min()"), ("x ^ 2", "x**2"),
                    ("x ^ 0.5", "x**0.5"), ("x ^ 0", "x**0"), ("x ^ 3", "x**3"), ("x ^ x", "x**x"), ("ai.f.remainder(x, 2)", "torch.remainder(x,2)"),
                    ("ai.f.where(x:gt(0), x, x * 2)", "torch.where(x>0,x,x*2)"), ("(x:cummax(1))", "x.cummax(0).values"),
                    ("ai.f.xlogy(x, x:abs())", "torch.xlogy(x,x.abs())"),
                    ("(x:sort(1))", "x.sort(0).values"), ("(x:topk(3))", "x.topk(3).values"),
                    ("ai.f.smooth_l1_loss(x, x:detach():flip{1}, 'none')", "F.smooth_l1_loss(x,x.detach().flip(0),reduction='none')"),
                    ("ai.f.l1_loss(x, x:detach():flip{1}, 'none')", "F.l1_loss(x,x.detach().flip(0),reduction='none')")):
        of(lua, py, a)
    for lua, py in (("x:prod()", "x.prod()"), ("x:cumprod(1)", "x.cumprod(0)"), ("x:std()", "x.std()"), ("x:median()", "x.median()"),
                    ("x:amax()", "x.amax()"), ("x:norm(1)", "x.norm(1)"),
                    ("x:norm(math.huge)", "x.norm(inf)"), ("x:norm(3)", "x.norm(3)"), ("x[{{1, 2}}]:norm()", "x[:2].norm()"),
                    ("x[{{1, 1}}]:var()", "x[:1].var()"), ("x:logsumexp(1)", "x.logsumexp(0)"),
                    ("x:quantile(0.4)", "x.quantile(0.4)"), ("ai.f.cdist(x:view(3, 2), x:view(3, 2))", "torch.cdist(x.view(3,2),x.view(3,2))"),
                    ("ai.f.bce_loss(x:clamp(0, 1), x:detach():clamp(0, 1))", "F.binary_cross_entropy(x.clamp(0,1),x.detach().clamp(0,1))")):
        of(lua, py, finite)


def main(folder, only):
    global file
    os.makedirs(folder, exist_ok=True)
    for group in (promotion, integers, order, empties, shapes, writes, gradients):
        if only and group.__name__ not in only:
            continue
        file = File()
        group()
        file.write(os.path.join(folder, group.__name__ + ".safetensors"))
        print("%s: %d programs, %d runs" % (group.__name__, len(file.programs), sum(len(r) for r in file.programs.values())))


if __name__ == "__main__":
    main(sys.argv[1], set(sys.argv[2:]))
