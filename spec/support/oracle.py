"""PyTorch's operator samples as test vectors: oracle.py FOLDER [OP...] writes FOLDER/OP.safetensors.

A file holds one tensor for each dtype, a pool in which the values of all cases lie one after another, and in its
metadata under "cases" a JSON list. A case is {"id", "args", "kwargs", "out"} with "error" instead of "out" where
PyTorch refuses, and "tol" and "gtol" (of gradients) where rounding asks for more room than the default. A tensor is
{"t": dtype, "s": sizes, "at": place in the pool}, with "g" and "h" the places of its first and second gradient:
of sum(w * out), and of sum(v * g), with the weights of weights() below. Complex tensors are pairs in a last dimension.
"""

import json
import math
import os
import random
import struct
import sys
import types
import unittest
import warnings

warnings.simplefilter("ignore")
expect = types.ModuleType("expecttest")     # which the samples' module wants to import, and never uses
expect.ACCEPT, expect.TestCase = False, unittest.TestCase
sys.modules["expecttest"] = expect

import torch                                                                              # noqa: E402
import torch.testing._internal.common_methods_invocations as invocations                  # noqa: E402
from torch.testing._internal.opinfo.core import BinaryUfuncInfo, ReductionOpInfo, UnaryUfuncInfo      # noqa: E402

torch.set_num_threads(1)

NAMES = {torch.float64: "f64", torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16", torch.int64: "i64",
         torch.int32: "i32", torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8", torch.bool: "bool"}
DTYPES = {name: dtype for dtype, name in NAMES.items()}
HALVES = {torch.bfloat16, torch.float16}
TOLERANCE = {"f64": 1e-12, "f32": 1e-5, "bf16": 2e-2, "f16": 4e-3}
QUOTA = {"f64": 10, "f32": 7, "bf16": 4, "i64": 6, "bool": 4}
SIZE = 240                                  # elements of all inputs of a case

# What has no counterpart here, or no one result.
SKIP = {
    "random": """uniform normal normal.number_mean bernoulli multinomial randn rand_like randn_like randint_like nn.functional.dropout
        nn.functional.dropout2d nn.functional.dropout3d nn.functional.feature_alpha_dropout.with_train nn.functional.rrelu
        nn.functional.feature_alpha_dropout.without_train nn.functional.fractional_max_pool2d nn.functional.fractional_max_pool3d
        svd_lowrank pca_lowrank nn.functional._scaled_dot_product_attention""",
    "memory without values, or a question of layout": """empty empty_like new_empty new_empty_strided resize_ resize_as_ contiguous clone
        as_strided_scatter to narrow_copy""",
    "constructors, whose arguments differ": """arange linspace logspace zeros ones eye zeros_like ones_like full_like new_zeros new_ones
        new_full fill zero_""",
    "complex numbers": """conj conj_physical resolve_conj resolve_neg view_as_real view_as_complex complex real imag angle polar H mH sgn isreal
        chalf nn.functional.silu.complex vdot""",
    "sparse tensors": "to_sparse sparse.sampled_addmm",
    "CUDA only": """jiterator_unary jiterator_binary jiterator_4inputs_with_extra_args jiterator_binary_return_by_ref
        jiterator_2inputs_2outputs nn.functional.batch_norm.without_cudnn""",
    "Python's operators, the same ops": """__radd__ __rdiv__ __rmul__ __rand__ __ror__ __rxor__ __rmatmul__ __rmod__ __rpow__ __rsub__
        __getitem__""",
    "the same op by another name": """symeig true_divide addmm.decomposed meshgrid.variadic_tensors native_layer_norm native_batch_norm
        max.binary min.binary cholesky qr svd lu lu_solve pinverse linalg.det.singular linalg.norm.subgradients_at_zero split_with_sizes
        special.polygamma.special_polygamma_n_0 linalg.cross linalg.inv_ex linalg.solve_ex linalg.cholesky_ex linalg.lu_factor_ex
        linalg.ldl_factor_ex linalg.lstsq.grad_oriented linalg.pinv.singular mvlgamma.mvlgamma_p_1 mvlgamma.mvlgamma_p_5
        norm.fro norm.inf nn.functional.upsample_bilinear nn.functional.upsample_nearest triangular_solve constant_pad_nd
        nn.functional.max_unpool1d.grad nn.functional.max_unpool2d.grad nn.functional.max_unpool3d.grad""",
    "shapes, not tensors": "broadcast_shapes",
    "raw factors of LAPACK": """geqrf ormqr linalg.householder_product lu_unpack linalg.ldl_factor linalg.ldl_solve linalg.lu_factor
        linalg.lu_solve cholesky_inverse""",
    "complex results": "linalg.eig linalg.eigvals stft istft fft.hfft fft.hfft2 fft.hfftn fft.ihfft fft.ihfft2 fft.ihfftn",
    "too large a sample": "nn.functional.ctc_loss",
    "a function or a slice among the arguments": "nn.functional.triplet_margin_with_distance_loss slice_scatter slice",
}
SKIPPED = {name for names in SKIP.values() for name in names.split()}
FAMILIES = ("masked.", "special.bessel", "special.chebyshev", "special.hermite", "special.laguerre", "special.legendre", "special.modified",
            "special.scaled", "special.shifted", "special.spherical", "special.airy", "segment_reduce")

# Results that are only defined up to a sign: what is compared in their place. The map does the same.
PROCESS = {
    "linalg.svd": lambda u, s, v: (s, (u * s.unsqueeze(-2)) @ v if u.shape[-1] == s.shape[-1] == v.shape[-2] else s),
    "linalg.eigh": lambda w, v: (w, (v * w.unsqueeze(-2)) @ v.transpose(-1, -2)),
    "linalg.lstsq": lambda x, *rest: (x,),
    "linalg.qr": lambda q, r: (q @ r, r.abs()) if q.numel() else (r.abs(),),
}


# What a float that an integer cannot hold becomes is not defined.
CASTS = {"int", "long", "short", "char", "byte"}
# Nor what a shift by more bits than there are, or by less than none, gives.
SHIFTS = {"bitwise_left_shift", "bitwise_right_shift"}

# Where equal elements may change places, the samples have none, or the order is asked to be stable.
UNSTABLE = {"sort", "argsort", "topk", "kthvalue", "median", "nanmedian", "mode", "msort"}

# Errors that tell of what PyTorch has not written, or of Python's types, and of no rule.
NO_RULE = ("not implemented for", "must be Tensor, not", "invalid combination of arguments", "NoneType", "not supported for", "to be a tensor")

# Where PyTorch computes with constants of float, or by a formula that loses digits.
LOOSE = {"nn.functional.hardsigmoid": 1e-7, "nn.functional.binary_cross_entropy": 1e-7, "nn.functional.soft_margin_loss": 1e-7,
         "polygamma": 1e-8, "cov": 1e-7}


def weights(n, k):
    """Multiples of 1/16 in (-1, 1), never 0: the weights of result number k."""
    i = torch.arange(n, dtype=torch.float64)
    return ((i * 7 + k * 5 + 3) % 13 - 6.25) / 8


def flatten(x):
    if isinstance(x, torch.Tensor):
        yield x
    elif isinstance(x, (list, tuple)):
        for y in x:
            yield from flatten(y)
    elif isinstance(x, dict):
        for key in sorted(x):
            yield from flatten(x[key])


def change(x, f):
    """x with f applied to its tensors."""
    if isinstance(x, torch.Tensor):
        return f(x)
    if isinstance(x, (list, tuple)):
        return [change(y, f) for y in x] if isinstance(x, list) or hasattr(x, "_fields") else tuple(change(y, f) for y in x)
    if isinstance(x, dict):
        return {key: change(y, f) for key, y in x.items()}
    return x


class Unencodable(Exception):
    pass


class File:
    def __init__(self):
        self.pool, self.cases, self.known = {}, [], {}

    def put(self, t):
        if t.layout != torch.strided or t.device.type != "cpu" or t.dim() > 8:
            raise Unencodable("not plain memory")
        t = t.detach()
        if t._is_zerotensor():                      # which has no memory
            t = torch.zeros(t.shape, dtype=t.dtype)
        if t.is_complex():
            t = torch.view_as_real(t.resolve_conj())
        t = t.resolve_neg().contiguous()
        name = NAMES.get(t.dtype)
        if not name:
            raise Unencodable(str(t.dtype))
        raw = (t.view(torch.int16) if t.dtype in HALVES else t).numpy().tobytes()
        pool = self.pool.setdefault(name, bytearray())
        at = self.known.get((name, raw))
        if at is None:
            at = self.known[(name, raw)] = len(pool) // t.element_size()
            pool += raw
        return name, list(t.shape), at

    def encode(self, x, gradients=None):
        if isinstance(x, torch.Tensor):
            name, shape, at = self.put(x)
            d = {"t": name, "s": shape, "at": at}
            if gradients and id(x) in gradients:
                for key, g in zip("gh", gradients[id(x)]):
                    d[key] = self.put(g.to(torch.float64))[2]
            return d
        if x is None or isinstance(x, (bool, str)):
            return x
        if isinstance(x, torch.dtype):
            if x not in NAMES:
                raise Unencodable(str(x))
            return {"dtype": NAMES[x]}
        if isinstance(x, int):
            if abs(x) > 2 ** 53:
                raise Unencodable("large integer")
            return x
        if isinstance(x, float):
            return x if math.isfinite(x) else {"number": str(x)}
        if isinstance(x, (list, tuple)):
            return [self.encode(y, gradients) for y in x]
        raise Unencodable(type(x).__name__)

    def write(self, path):
        header, data = {"__metadata__": {"cases": json.dumps(self.cases, separators=(",", ":"))}}, bytearray()
        width = {name: torch.empty(0, dtype=DTYPES[name]).element_size() for name in self.pool}
        for name in sorted(self.pool, key=lambda n: (-width[n], n)):
            raw = self.pool[name]
            n = len(raw) // width[name]
            header[name] = {"dtype": name.upper(), "shape": [n], "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + data)


class Sample:
    """The arguments of one call: args, the first among them, and kwargs."""

    def __init__(self, args, kwargs, label):
        self.args, self.kwargs, self.label = args, kwargs, label

    def size(self):
        return sum(t.numel() for t in flatten([self.args, self.kwargs]))

    def key(self):
        return repr(change([self.args, sorted(self.kwargs.items())], lambda t: torch.empty(t.shape, dtype=t.dtype).shape))


def full_name(op):
    return op.name + ("." + op.variant_test_name if op.variant_test_name else "")


def seed(n):
    torch.manual_seed(n)
    random.seed(n)


# -- Which samples ----------------------------------------------------------------------------------------------------------


def shrink(on):
    """The sizes that the samples are made of: 4, 5 and 6 instead of 5, 10 and 20 where the samples bear it."""
    for module in list(sys.modules.values()):
        d = getattr(module, "__dict__", {})
        if getattr(module, "__name__", "").startswith("torch.testing._internal") and "S" in d and d.get("L") in (6, 20):
            d.update(zip("SML", (4, 5, 6) if on else (5, 10, 20)))
            if "XS" in d:
                d["XS"] = 2 if on else 3


def whole_numbers(x):
    """Numbers with whole values are ints: Lua knows no difference."""
    if isinstance(x, float) and math.isfinite(x) and x == int(x):
        return int(x)
    if isinstance(x, (list, tuple)):
        return type(x)(whole_numbers(y) for y in x) if not hasattr(x, "_fields") else x
    if isinstance(x, dict):
        return {k: whole_numbers(v) for k, v in x.items()}
    return x


def drawn(op, dtype, quota):
    """Up to quota samples of op_db, as different from each other as may be."""
    found, keys, spare = [], set(), []
    for round in range(8):
        for small in (True, False):
            shrink(small)
            seed(100 * round + 7)
            try:
                list_ = []
                for s in op.sample_inputs("cpu", dtype, requires_grad=False):
                    list_.append(Sample([s.input, *s.args], s.kwargs, None))
                    if len(list_) >= 400:
                        break
                break
            except (RuntimeError, IndexError, AssertionError):
                list_ = []
        shrink(True)
        for s in list_:
            if s.size() > SIZE:
                spare.append(s)
            elif s.key() in keys:
                spare.append(s)
            else:
                keys.add(s.key())
                found.append(s)
        if len(found) >= quota or (round > 0 and not list_):
            break
    if len(found) > quota:
        start = list(NAMES).index(dtype) % 3        # other dtypes get other samples
        step = len(found) / quota
        return [found[min(len(found) - 1, int(i * step + start * step / 3))] for i in range(quota)]
    spare.sort(key=lambda s: s.size() > SIZE)
    more = [s for s in spare if s.size() <= SIZE]
    if not found and not more:                      # nothing small: the smallest
        more = sorted(spare, key=lambda s: s.size())[:8]
        more = [s for s in more if s.size() <= 1200][:4]
    return found + more[:max(0, quota - len(found))]


EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -3.75, 1e-8, 1e-30, 40.0, -40.0, 700.0, -700.0, 1e4, 1e30, -1e30,
         math.inf, -math.inf, math.nan]
WHOLE_EDGES = [0, 1, -1, 2, -2, 3, 7, -7, 100, -128, 2 ** 31 - 1, -2 ** 31, 2 ** 53 + 1, 2 ** 63 - 1, -2 ** 63]
FEW = [0.0, -0.0, 1.0, -2.5, 3.0, math.inf, -math.inf, math.nan]
FEW_WHOLE = [0, 1, -1, 3, -7, 2 ** 31, 2 ** 53 + 1, 2 ** 63 - 1]


def values(dtype, few=False):
    if dtype == torch.bool:
        return torch.tensor([True, False])
    if dtype.is_floating_point:
        return torch.tensor(FEW if few else EDGES, dtype=torch.float64).to(dtype)
    list_ = FEW_WHOLE if few else WHOLE_EDGES
    info = torch.iinfo(dtype)
    return torch.tensor([v for v in list_ if info.min <= v <= info.max], dtype=dtype)


def usual_kwargs(op):
    """The keywords of the first sample: what makes a variant."""
    for dtype in (torch.float32, torch.int64):
        if op.supports_dtype(dtype, "cpu"):
            for s in op.sample_inputs("cpu", dtype, requires_grad=False):
                return {} if list(flatten(s.kwargs)) else s.kwargs
    return {}


def unary_edges(op):
    if op.name in CASTS:
        return
    usual = usual_kwargs(op)
    for name in ("f64", "f32", "bf16", "i64", "bool", "u8", "i32", "f16"):
        dtype = DTYPES[name]
        if not op.supports_dtype(dtype, "cpu"):
            continue
        x = values(dtype)
        kwargs = usual or (op.sample_kwargs("cpu", dtype, x)[0] if op.sample_kwargs else {})
        yield Sample([x], kwargs, "edge." + name)
        if name in ("f32", "i64"):
            yield Sample([x[:0].reshape(0, 3)], kwargs, "empty." + name)
            yield Sample([x[2]], kwargs, "scalar." + name)


def binary_edges(op):
    if op.name in SHIFTS:
        return
    kwargs = usual_kwargs(op)
    for name in ("f64", "f32", "bf16", "i64", "bool", "u8"):
        dtype = DTYPES[name]
        if op.supports_dtype(dtype, "cpu"):
            x = values(dtype, True)
            yield Sample([x.reshape(-1, 1), x], kwargs, "edge." + name)
    few = lambda name, n=3: torch.tensor([1, 3, 2][:n] if name != "bool" else [True, False, True][:n]).to(DTYPES[name])     # noqa: E731
    for a, b in (("i64", "f32"), ("f32", "i64"), ("f32", "f64"), ("f16", "bf16"), ("u8", "i8"), ("bool", "i32"), ("bf16", "i64"), ("i16", "u8"),
                 ("bool", "f16"), ("i32", "i64")):
        yield Sample([few(a), few(b)], kwargs, "promote.%s.%s" % (a, b))
        yield Sample([few(a), few(b, 1)[0]], kwargs, "scalar.%s.%s" % (a, b))
    if op.supports_rhs_python_scalar:
        for a, v in (("i64", 1.5), ("u8", 2), ("f32", 2), ("bool", 1.5), ("bool", 3), ("bf16", 0.3), ("i32", -3)):
            yield Sample([few(a), v], kwargs, "number.%s.%s" % (a, v))
    yield Sample([torch.ones(0, 3), torch.ones(3)], kwargs, "empty.f32")
    yield Sample([torch.ones(2, 3), torch.ones(4)], kwargs, "mismatch")


def reduction_edges(op):
    nan = torch.tensor([[1.0, math.nan, 3.0], [-math.inf, 2.0, math.inf]])
    for name in ("f32", "f64", "bf16"):
        yield Sample([nan.to(DTYPES[name])], {}, "nan.all." + name)
    for dim in (0, -1):
        yield Sample([nan], {"dim": dim}, "nan.%d" % dim)
        yield Sample([torch.ones(0, 3)], {"dim": dim}, "empty.%d" % dim)
        yield Sample([torch.ones(2, 0)], {"dim": dim, "keepdim": True}, "empty.keep.%d" % dim)
        yield Sample([torch.tensor(2.5)], {"dim": dim}, "rank0.%d" % dim)
    yield Sample([torch.ones(0)], {}, "empty.all")
    yield Sample([torch.ones(2, 3)], {"dim": 2}, "range.2")
    yield Sample([torch.ones(2, 3)], {"dim": -3}, "range.-3")
    yield Sample([torch.ones(2, 3)], {"dim": [0, 0]}, "twice")
    for name in ("bool", "u8", "i8", "i32", "f16"):
        yield Sample([torch.tensor([[1, 0, 3], [100, 120, 1]]).to(DTYPES[name])], {"dim": 1}, "dtype." + name)


def edges(op):
    if isinstance(op, UnaryUfuncInfo):
        yield from unary_edges(op)
    elif isinstance(op, BinaryUfuncInfo):
        yield from binary_edges(op)
    elif isinstance(op, ReductionOpInfo):
        yield from reduction_edges(op)
    if op.error_inputs_func:
        try:
            for i, e in enumerate(op.error_inputs("cpu")):
                s = e.sample_input
                yield Sample([s.input, *s.args], s.kwargs, "refuse.%d" % i)
        except RuntimeError:
            pass


# -- What PyTorch says --------------------------------------------------------------------------------------------------------


def results(name, op, args, kwargs):
    out = op.op(*args, **kwargs)
    if name in PROCESS:
        out = PROCESS[name](*out)
    return list(out) if isinstance(out, (tuple, list)) else [out]


def distance(a, b):
    """The largest difference of finite elements, relative to |b| and to the mean of |b|; None: not comparable."""
    if a.shape != b.shape:
        return None
    a, b = a.to(torch.float64), b.to(torch.float64)
    fine = torch.isfinite(a) & torch.isfinite(b)
    a, b = a[fine], b[fine]
    if not a.numel():
        return 0.0
    scale = b.abs() + b.abs().mean()
    d = torch.where(a == b, torch.zeros_like(a), (a - b).abs() / scale)
    return d.max().item()


def rounding(name, op, args, kwargs, out):
    """How far PyTorch's result is from its result in double."""
    up = lambda t: t.to(torch.float64) if t.is_floating_point() else t      # noqa: E731
    try:
        seed(5)
        kwargs = {k: (torch.float64 if isinstance(v, torch.dtype) and v.is_floating_point else v) for k, v in kwargs.items()}
        exact = results(name, op, change(args, up), change(kwargs, up))
    except (RuntimeError, ValueError, TypeError):
        return 0.0
    worst = 0.0
    for y, z in zip(out, exact):
        if isinstance(y, torch.Tensor) and y.is_floating_point():
            worst = max(worst, distance(y, z) or 0.0)
    return worst


def gradients(name, op, args, kwargs, second):
    """{id of a tensor of args: its gradients}, of second order where PyTorch claims it; and by no one: nothing."""
    leaves = {}

    def leaf(t):
        if t.dtype != torch.float64 and t.dtype != torch.complex128:
            return t
        x = (torch.view_as_real(t) if t.is_complex() else t).detach().clone().requires_grad_()
        leaves[id(t)] = (t, x)
        return torch.view_as_complex(x) if t.is_complex() else x * 1

    a, k = change(args, leaf), change(kwargs, leaf)
    xs = [x for _, x in leaves.values()]
    out, total = results(name, op, a, k), 0
    for i, y in enumerate(out):
        if isinstance(y, torch.Tensor) and y.is_complex():
            y = torch.view_as_real(y)
        if isinstance(y, torch.Tensor) and y.requires_grad and y.dtype == torch.float64 and y.numel():
            total = total + (y * weights(y.numel(), i).reshape(y.shape)).sum()
    if not isinstance(total, torch.Tensor) or not xs:
        return {}
    first = torch.autograd.grad(total, xs, create_graph=second, allow_unused=True)
    lists = [[] if g is None else [g.detach()] for g in first]
    total = 0
    for j, g in enumerate(first):
        if second and g is not None and g.requires_grad and g.numel():
            total = total + (g * weights(g.numel(), j + 2).reshape(g.shape)).sum()
    if isinstance(total, torch.Tensor):
        for j, h in enumerate(torch.autograd.grad(total, xs, allow_unused=True)):
            if lists[j]:
                lists[j].append(torch.zeros_like(xs[j]) if h is None else h)
    return {key: lists[j] for j, key in enumerate(leaves) if lists[j]}


def noise(name, op, args, kwargs, out, grads, second):
    """How much the result, and the gradients, move when every input moves by an ulp: (of the result, of the gradients)."""
    pairs = {}

    def nudge(t):
        if t.dtype != torch.float64:
            return t
        g = torch.Generator().manual_seed(3)
        u = t * (1 + 2e-16 * torch.randint(-1, 2, t.shape, generator=g))
        pairs[id(t)] = u
        return u

    a, k = change(args, nudge), change(kwargs, nudge)
    try:
        seed(5)
        far = max([distance(y, z) or 0.0 for y, z in zip(results(name, op, a, k), out) if isinstance(y, torch.Tensor) and y.dtype == torch.float64] or [0.0])
        moved, far_g = gradients(name, op, a, k, second) if grads else {}, 0.0
    except RuntimeError:
        return 0.0, 0.0
    for key, list_ in (grads or {}).items():
        for g, h in zip(list_, moved.get(id(pairs[key]), [])):
            far_g = max(far_g, distance(h, g) or 0.0)
    return far, far_g


def add_case(file, name, op, s, label, dtype):
    if dtype and not dtype.is_floating_point:
        s.args, s.kwargs = whole_numbers(s.args), whole_numbers(s.kwargs)
    if any(t.is_complex() and t.dtype != torch.complex128 for t in flatten([s.args, s.kwargs])):
        return False
    if any(t.device.type != "cpu" or t.layout != torch.strided for t in flatten([s.args, s.kwargs])):
        return False
    if name == "sort":
        s.kwargs = {**s.kwargs, "stable": True}
    elif name in UNSTABLE and isinstance(s.args[0], torch.Tensor) and s.args[0].unique().numel() < s.args[0].numel():
        return False
    if "out" in s.kwargs or s.kwargs.get("sparse") or "memory_format" in s.kwargs or "generator" in s.kwargs:
        return False
    # One tensor in two places would have one gradient.
    own = lambda t: t.detach().clone(memory_format=torch.contiguous_format)     # noqa: E731
    args, kwargs = change(list(s.args), own), change({k: v for k, v in sorted(s.kwargs.items()) if k not in ("device", "layout", "requires_grad")}, own)
    case, grads = {"id": label}, None
    copies = change(args, torch.clone), change(kwargs, torch.clone)
    try:
        seed(5)
        out = results(name, op, *copies)
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        if s.label is None:
            return False
        if any(words in str(error) for words in NO_RULE):
            return False
        case["error"] = str(error).split("\n")[0][:120]
        out = None
    try:
        if out is not None:
            if s.label is None and dtype == torch.float64 and op.supports_autograd:
                try:
                    grads = gradients(name, op, args, kwargs, op.supports_gradgrad)
                except (RuntimeError, NotImplementedError):
                    grads = None
            case["out"] = [file.encode(y) for y in out]
            if s.label is None and dtype == torch.float64:
                far, far_g = noise(name, op, args, kwargs, out, grads, op.supports_gradgrad)
                if 10 * far > TOLERANCE["f64"]:
                    case["tol"] = float("%.1e" % (20 * far))
                if 10 * far_g > 1e-10:
                    case["gtol"] = float("%.1e" % (20 * far_g))
            for dtype_name in ("f32", "bf16", "f16"):
                if any(isinstance(y, torch.Tensor) and NAMES.get(y.dtype) == dtype_name for y in out):
                    far = rounding(name, op, args, kwargs, out)
                    if 3 * far > TOLERANCE[dtype_name]:
                        case["tol"] = float("%.1e" % (5 * far))
        loose = LOOSE.get(op.name, 0)
        if loose:
            case["tol"], case["gtol"] = max(case.get("tol", 0), loose), max(case.get("gtol", 0), loose)
        case["args"] = file.encode(args, grads)
        if kwargs:
            case["kwargs"] = {k: file.encode(v, grads) for k, v in sorted(kwargs.items())}
    except Unencodable:
        return False
    file.cases.append(case)
    return True


def make(op, folder):
    name, file = full_name(op), File()
    taken = [d for d in QUOTA if op.supports_dtype(DTYPES[d], "cpu")]
    for dtype_name in taken:
        dtype, n = DTYPES[dtype_name], 0
        for s in drawn(op, dtype, QUOTA[dtype_name] if len(taken) > 1 else 10):
            n += add_case(file, name, op, s, "%s.%d" % (dtype_name, n + 1), dtype)
    seed(11)
    for s in edges(op):
        if s.size() <= SIZE:
            add_case(file, name, op, s, s.label, None)
    if file.cases:
        file.write(os.path.join(folder, name + ".safetensors"))
    return len(file.cases)


def main(folder, only):
    os.makedirs(folder, exist_ok=True)
    total = ops = 0
    for op in invocations.op_db:
        name = full_name(op)
        if name in SKIPPED or name.startswith(FAMILIES) or (only and name not in only):
            continue
        n = make(op, folder)
        total, ops = total + n, ops + (n > 0)
        if n < 8:
            print("%s: %d cases" % (name, n))
    print("%d cases of %d ops" % (total, ops))


if __name__ == "__main__":
    main(sys.argv[1], set(sys.argv[2:]))
