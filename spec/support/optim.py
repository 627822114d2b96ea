#!/usr/bin/python3
"""Writes spec/vectors/optim/: what PyTorch's optimizers and schedules do, for spec/optim_parity_spec.lua.

Needs Debian's python3-torch (1.13); `optim.py NAdam RAdamW` writes the files of these alone. Each file of an optimizer holds, for each of its settings, the two parameters after
every step, side by side: (50, 10) doubles; the metadata have the settings as JSON. The gradient of element i (from 1,
through both parameters) at step t is 0.8 x + sin(3 i + t) + 0.3 cos(t / 5), which the spec computes from its own x.
schedules.safetensors holds the rates of 60 steps from a rate of 0.5.

NAdam, and the decoupled weight decay of NAdam and RAdam, need PyTorch 2: 1.13 has the momentum of step t twice in the product
for step t + 1, which the paper and later versions have once.
"""
import json
import math
import os
import struct
import sys

import torch

STEPS = 50
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors", "optim")

CASES = {
    "SGD": [dict(lr=0.1), dict(lr=0.05, momentum=0.9), dict(lr=0.05, momentum=0.8, dampening=0.3, weight_decay=0.1),
            dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01), dict(lr=0.01, momentum=0.5, maximize=True)],
    "Adam": [dict(), dict(lr=0.1, weight_decay=0.05), dict(lr=0.05, betas=(0.5, 0.9), eps=1e-3, amsgrad=True), dict(lr=0.02, maximize=True)],
    "AdamW": [dict(), dict(lr=0.1, weight_decay=0.3), dict(lr=0.05, betas=(0.8, 0.95), amsgrad=True)],
    "Adamax": [dict(), dict(lr=0.1, betas=(0.8, 0.9), weight_decay=0.1)],
    "RAdam": [dict(), dict(lr=0.1, betas=(0.8, 0.9), weight_decay=0.1)],
    "RMSprop": [dict(), dict(lr=0.02, alpha=0.9, momentum=0.7), dict(lr=0.02, alpha=0.8, centered=True, weight_decay=0.1, eps=1e-4),
                dict(lr=0.01, alpha=0.9, centered=True, momentum=0.5, eps=1e-4)],
    "Adagrad": [dict(), dict(lr=0.3, lr_decay=0.05, weight_decay=0.1, initial_accumulator_value=0.2)],
    "Adadelta": [dict(), dict(lr=0.5, rho=0.8, eps=1e-4, weight_decay=0.1)],
    "Rprop": [dict(), dict(lr=0.05, etas=(0.4, 1.5), step_sizes=(1e-3, 0.5))],
}
IN_TWO = {
    "NAdam": [dict(), dict(lr=0.1, betas=(0.8, 0.9), weight_decay=0.1), dict(lr=0.05, momentum_decay=0.1, eps=1e-3, maximize=True),
              dict(lr=0.1, weight_decay=0.3, decoupled_weight_decay=True)],
    "RAdamW": [dict(lr=0.1, weight_decay=0.3, decoupled_weight_decay=True), dict(lr=0.05, betas=(0.8, 0.9), maximize=True)],
}
if int(torch.__version__.split(".")[0]) >= 2:
    CASES.update(IN_TWO)


def save(path, tensors, metadata):
    """safetensors: a header in JSON, then the bytes of doubles."""
    header, data = {"__metadata__": metadata}, b""
    for name, tensor in tensors.items():
        values = tensor.flatten().tolist()
        raw = struct.pack("<%dd" % len(values), *values)
        header[name] = {"dtype": "F64", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def trajectory(make, options):
    a = torch.tensor([[0.5, -1.25, 2.0], [0.0, -3.0, 0.125]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([1.5, -0.75, 0.25, 4.0], dtype=torch.float64, requires_grad=True)
    optimizer = make([a, b], **options)
    rows = []
    for t in range(1, STEPS + 1):
        i = 0
        for p in (a, b):
            g = []
            for x in p.detach().flatten().tolist():
                i += 1
                g.append(0.8 * x + math.sin(3 * i + t) + 0.3 * math.cos(t / 5))
            p.grad = torch.tensor(g, dtype=torch.float64).reshape(p.shape)
        optimizer.step()
        rows.append(torch.cat([a.detach().flatten(), b.detach().flatten()]))
    return torch.stack(rows)


def plain(options):
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}


def optimizers():
    for name, cases in CASES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        tensors, metadata = {}, {"torch": torch.__version__}
        for k, options in enumerate(cases, 1):
            tensors["case%d" % k] = trajectory(getattr(torch.optim, {"RAdamW": "RAdam"}.get(name, name)), options)
            metadata["case%d" % k] = json.dumps(plain(options), sort_keys=True)
        save(os.path.join(OUT, name.lower() + ".safetensors"), tensors, metadata)


def schedules():
    s = torch.optim.lr_scheduler
    makers = {
        "step": lambda o: s.StepLR(o, step_size=7, gamma=0.5),
        "multistep": lambda o: s.MultiStepLR(o, milestones=[5, 20, 21], gamma=0.3),
        "exponential": lambda o: s.ExponentialLR(o, gamma=0.93),
        "linear": lambda o: s.LinearLR(o, start_factor=1.0, end_factor=0.2, total_iters=30),
        "cosine": lambda o: s.CosineAnnealingLR(o, T_max=59, eta_min=0.05),
        "restarts": lambda o: s.CosineAnnealingWarmRestarts(o, T_0=7, T_mult=2, eta_min=0.05),
        "polynomial": lambda o: s.PolynomialLR(o, total_iters=40, power=2.0),
        "onecycle": lambda o: s.OneCycleLR(o, max_lr=0.5, total_steps=60, pct_start=0.25, cycle_momentum=False),
        "chained": lambda o: s.ChainedScheduler([s.StepLR(o, step_size=7, gamma=0.5), s.ExponentialLR(o, gamma=0.9)]),
        "sequential": lambda o: s.SequentialLR(o, [s.ExponentialLR(o, gamma=0.9), s.StepLR(o, step_size=5, gamma=0.5)], milestones=[12]),
    }
    tensors = {}
    for name, make in makers.items():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        schedule = make(optimizer)
        rates = []
        for _ in range(60):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if len(rates) < 60:
                schedule.step()
        tensors[name] = torch.tensor(rates, dtype=torch.float64)
    for mode in ("min", "max"):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        schedule = s.ReduceLROnPlateau(optimizer, mode=mode, factor=0.3, patience=2, threshold=0.05, cooldown=1, min_lr=0.01)
        rates = []
        for t in range(60):
            rates.append(optimizer.param_groups[0]["lr"])
            schedule.step(3 + math.sin(t * t) + (1 if mode == "max" else -1) * min(t, 20) * 0.1)
        tensors["plateau_" + mode] = torch.tensor(rates, dtype=torch.float64)
    save(os.path.join(OUT, "schedules.safetensors"), tensors, {"torch": torch.__version__})


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    optimizers()
    if len(sys.argv) == 1:
        schedules()
    sys.exit(0)
