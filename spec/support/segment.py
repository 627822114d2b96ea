"""PyTorch's fractional_max_pool2d/3d, segment_reduce and nonzero_static, as JSON: segment.py"""

import json

import torch

out = {"pool": [], "segment": [], "nonzero": []}


def numbers(t):
    return [v if v == v and abs(v) != float("inf") else str(v) for v in t.double().flatten().tolist()]


torch.manual_seed(1)
for nd, sizes, window, size in ((2, (2, 3, 7, 9), 2, (4, 5)), (2, (2, 9, 6), (3, 2), (1, 5)), (2, (1, 2, 8, 8), 3, (6, 6)), (2, (2, 1, 12, 5), 1, (7, 2)),
                                (3, (2, 2, 5, 6, 7), 2, (3, 4, 5)), (3, (3, 8, 5, 6), (2, 1, 3), (5, 3, 1))):
    for dtype in (torch.float64, torch.float32):
        batch, channels = (sizes[0], sizes[1]) if len(sizes) == nd + 2 else (1, sizes[0])
        x = torch.randn(sizes).round(decimals=1).to(dtype).requires_grad_()
        samples = torch.rand(batch, channels, nd).to(dtype)
        pool = getattr(torch.nn.functional, "fractional_max_pool%dd" % nd)
        y, at = pool(x, window, output_size=size, return_indices=True, _random_samples=samples)
        g = torch.randn(y.shape).to(dtype)
        y.backward(g)
        out["pool"].append({"nd": nd, "sizes": sizes, "dtype": str(dtype)[6:].replace("float", "f"), "window": window, "size": size, "x": numbers(x),
                            "samples": numbers(samples), "g": numbers(g), "y": numbers(y), "at": at.flatten().tolist(), "gx": numbers(x.grad)})

for reduce in ("sum", "mean", "max", "min", "prod"):
    for initial in (None, 0.5):
        for sizes, lengths in (((6,), [3, 0, 1, 2]), ((5, 3), [1, 4]), ((2, 4, 3), [[4, 0, 0], [1, 2, 1]])):
            lengths = torch.tensor(lengths)
            x = (torch.randn(sizes).double().round(decimals=1) + 0.03).requires_grad_()
            kw = {} if initial is None else {"initial": initial}
            y = torch.segment_reduce(x, reduce, lengths=lengths, axis=lengths.dim() - 1, **kw)
            g = torch.randn(y.shape).double()
            y.backward(g)
            out["segment"].append({"reduce": reduce, "initial": initial, "sizes": sizes, "lengths": lengths.tolist(), "x": numbers(x), "y": numbers(y),
                                   "g": numbers(g), "gx": numbers(x.grad)})

for rows, size in (([[1, 0, 2], [0, 0, 3]], 5), ([[1, 0, 2], [0, 0, 3]], 2), ([[0, 0]], 2), ([[1]], 0)):
    out["nonzero"].append({"x": rows, "size": size, "y": torch.nonzero_static(torch.tensor(rows), size=size).flatten().tolist()})

print(json.dumps(out))
