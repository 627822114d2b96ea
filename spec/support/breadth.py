"""The functions of PyTorch's namespaces, a line each, to spec/vectors/torch_names.txt: breadth.py > FILE.

`torch` holds much that is no function of tensors; of it those are listed that are built in, or also methods of tensors.
Names with a `_` in front are PyTorch's own business. The committed list is of the version in its first line.
"""

import textwrap
import types

import torch
import torch.nn.functional

SPACES = {"torch": torch, "Tensor": torch.Tensor, "nn.functional": torch.nn.functional, "linalg": torch.linalg, "fft": torch.fft,
          "special": torch.special}


def listed(space, module, name):
    value = getattr(module, name)
    if name.startswith("_") or not callable(value) or isinstance(value, (type, types.ModuleType)):
        return False
    home = getattr(value, "__module__", None) or ""
    if home == "typing" or name in ("handle_torch_function", "boolean_dispatch", "assert_int_or_pair") or name.startswith("has_torch_function"):
        return False
    if space != "torch":
        return True
    return isinstance(value, types.BuiltinFunctionType) or home == "torch.functional" or hasattr(torch.Tensor, name)


print("# PyTorch", torch.__version__.split("+")[0], "- made by spec/support/breadth.py")
for space, module in SPACES.items():
    names = [name for name in sorted(dir(module)) if listed(space, module, name)]
    print(f"\n[{space}]")
    print("\n".join(textwrap.wrap(" ".join(names), 140)))
