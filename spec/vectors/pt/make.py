"""Writes the .pt files beside this script, with Debian's python3-torch 1.13: /usr/bin/python3 spec/vectors/pt/make.py

spec/pt_spec.lua knows what is in them.
"""
import os
from collections import OrderedDict
import torch

here = os.path.dirname(os.path.abspath(__file__))


def save(name, value, **how):
    torch.save(value, os.path.join(here, name + ".pt"), **how)


def numbers(dtype, *shape):
    n = torch.Size(shape).numel()
    return torch.arange(n).to(dtype).reshape(shape)


net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
with torch.no_grad():
    for i, p in enumerate(net.parameters()):
        p.copy_(torch.arange(p.numel()).reshape(p.shape) + 10.0 * i)
save("state", net.state_dict())

optimizer = torch.optim.Adam(net.parameters(), lr=0.5)
net(torch.ones(4, 3)).sum().backward()
optimizer.step()
save("checkpoint", {"epoch": 7, "model": net.state_dict(), "optimizer": optimizer.state_dict(), "best": 0.25, "name": "täst", "done": False, "note": None})

kinds = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8".split()
save("kinds", OrderedDict([(k, numbers(getattr(torch, k), 2, 3)) for k in kinds] + [("bool", torch.tensor([True, False, True]))]))

base = numbers(torch.float32, 4, 6)
save("views", {"base": base, "turned": base.t(), "part": base[1:3, 2:5], "step": base[::2, ::3], "row": base[3], "one": base[2, 3],
               "wide": torch.ones(1).expand(3, 2), "none": torch.empty(0, 5), "again": base})

nested = {"list": [1, [2, [3]], None, "x"], "tuple": (True, 1.5), "set": {4}, "keys": {1: "one", 2.5: "half", "": "empty"},
          "size": torch.Size([2, 3]), "dtype": torch.bfloat16, "device": torch.device("cpu"), "big": 2 ** 62 + 1, "small": -(2 ** 62),
          "huge": 2 ** 80, "minus": -5, "wide": 70000, "nan": float("nan"), "inf": float("-inf"), "shared": None}
nested["shared"] = nested["list"]
save("nested", nested)
save("nested4", nested, pickle_protocol=4)

save("tensor", numbers(torch.int16, 3))
save("number", 42)
save("parameter", torch.nn.Parameter(numbers(torch.float32, 2)))
save("storage", {"s": numbers(torch.float32, 3).storage()})
save("complex", {"c": torch.ones(2, dtype=torch.complex64), "x": torch.ones(1)})
save("module", net)
save("old", {"x": torch.ones(2)}, _use_new_zipfile_serialization=False)
