"""Makes torch_gradients.json: values, gradients and gradients of gradients by torch in float64. Needs torch; run from
the repository's root as ``python -m tests.seeds.make_torch_gradients``. The tests read the file and need no torch.

Each formula is Python text in which `m` is staticgraph or, here, torch under staticgraph's names; its operands are
those of `OPERANDS` that it names.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FILE = Path(__file__).with_name("torch_gradients.json")

OPERANDS = {
    "x": [[-1.7, -0.6, 0.3, 1.9], [0.9, 1.4, 2.6, -2.2], [0.45, -0.85, -1.3, 0.15]],
    "y": [[0.8, -1.25, 2.1, -0.4], [-0.35, 1.15, -2.35, 0.55], [1.65, 0.25, -0.95, -1.05]],
    "p": [[0.2, 0.7, 1.1, 2.4], [1.9, 3.2, 5.5, 0.6], [0.9, 0.35, 1.45, 4.1]],     # positive
    "u": [[-0.8, -0.5, -0.1, 0.35], [0.2, 0.6, 0.9, -0.25], [0.15, -0.65, 0.45, 0.05]],     # within (-1, 1)
    "w": [0.5, -1.2, 2.0, 0.7],
    "b": [0.1, 0.4, -0.3, 1.0],
}

FORMULAS = [
    "x + y", "x - w", "x * y", "x * w", "x / p", "-x", "x ** 3", "x ** 2", "p ** y", "2 ** x", "p ** -0.5", "3 / p",
    "m.abs(x)", "m.sign(x) * x", "m.square(x)", "m.sqrt(p)", "m.reciprocal(p)", "m.exp(x)", "m.exp2(x)", "m.expm1(x)",
    "m.log(p)", "m.log1p(p)", "m.log2(p)", "m.log10(p)", "m.sin(x)", "m.cos(x)", "m.tan(u)", "m.sinh(x)", "m.cosh(x)",
    "m.tanh(x)", "m.asin(u)", "m.acos(u)", "m.atan(x)", "m.asinh(x)", "m.acosh(1 + p)", "m.atanh(u)", "m.atan2(x, p)",
    "m.hypot(x, y)", "m.logaddexp(x, y)", "m.maximum(x, y)", "m.minimum(x, y)", "m.clip(x, -1, 1)", "m.erf(x)",
    "m.erfc(x)", "m.where(x > 0, x * y, p)", "m.copysign(p, x) * p", "m.sum(x * x)", "m.sum(x, 0)", "m.mean(x, 1)",
    "m.prod(x, 1)", "m.max(x, 1)", "m.min(x, 0)", "m.var(x, 1, correction=0)", "m.var(x, 0, correction=1)",
    "m.std(x, 1, correction=1)", "m.logsumexp(x, 1)", "m.cumsum(x, 1)", "m.cumprod(p, 0)", "m.sort(x, 1)",
    "x @ y.T", "y.T @ x", "x @ w", "m.outer(w, b)", "m.vecdot(x, y)", "m.tensordot(x, y, 2)", "x.T * 2",
    "m.reshape(x, (2, 6)) ** 2", "m.permute_dims(x, (1, 0)) * w.reshape(4, 1)", "m.concat([x, y * x], 1)",
    "m.stack([x, y], 0) ** 2", "m.pad(x, ((0, 0), (1, 2))) ** 2", "m.flip(x, 1) * x", "m.roll(x, 1, 1) * x",
    "m.take(x, INDEX, 0) ** 2", "m.broadcast_to(w, (3, 4)) * x", "x[1] * x[0]", "x[:, 1:3] ** 2", "x[::2, 3] ** 2",
    "m.nn.relu(x) * x", "m.nn.gelu(x)", "m.nn.gelu(x, approximate='tanh')", "m.nn.silu(x)", "m.nn.sigmoid(x)",
    "m.nn.softplus(x)", "m.nn.softmax(x)", "m.nn.softmax(x, 0)", "m.nn.log_softmax(x)", "m.nn.layer_norm(x)",
    "m.nn.layer_norm(x, w, b)", "m.nn.cross_entropy(x, LABELS)", "m.nn.cross_entropy(x, m.nn.softmax(y))",
    "m.nn.mse(x, y)", "m.nn.huber(x, y, 1.22)", "m.nn.nll(x, LABELS) ** 2",
]
INDEX, LABELS = [2, 0, 2], [3, 0, 1]


def named(formula: str) -> list[str]:
    """The operands that the formula uses."""
    return [name for name in OPERANDS if re.search(rf"(?<![\w.']){name}(?![\w'])", formula)]


def cotangent(size: int) -> list[float]:
    """A fixed direction, without pattern."""
    return [((37 * number + 11) % 101 - 50) / 40 for number in range(size)]


def torch_under_our_names(torch: Any) -> Any:
    functional = torch.nn.functional
    nn = SimpleNamespace(
        relu=functional.relu, gelu=functional.gelu, silu=functional.silu, sigmoid=torch.sigmoid,
        softplus=functional.softplus, softmax=lambda x, axis=-1: functional.softmax(x, axis),
        log_softmax=lambda x, axis=-1: functional.log_softmax(x, axis),
        layer_norm=lambda x, w=None, b=None: functional.layer_norm(x, (x.shape[-1],), w, b),
        cross_entropy=lambda x, t: functional.cross_entropy(x, t, reduction="none"),
        nll=lambda x, t: functional.nll_loss(x, t, reduction="none"),
        mse=lambda a, b: functional.mse_loss(a, b, reduction="none"),
        huber=lambda a, b, delta: functional.huber_loss(a, b, reduction="none", delta=delta))
    own = {"max": torch.amax, "min": torch.amin, "sort": lambda x, axis: torch.sort(x, dim=axis).values, "nn": nn,
           "vecdot": lambda a, b: torch.linalg.vecdot(a, b), "permute_dims": torch.permute,
           "pad": lambda x, widths: functional.pad(x, [n for pair in reversed(widths) for n in pair]),
           "flip": lambda x, axis: torch.flip(x, (axis,)), "roll": lambda x, shift, axis: torch.roll(x, shift, axis),
           "take": lambda x, index, axis: torch.index_select(x, axis, index)}
    names = set(re.findall(r"m\.(\w+)", " ".join(FORMULAS)))
    return SimpleNamespace(**{name: own[name] if name in own else getattr(torch, name) for name in names})


def derive(torch: Any, formula: str) -> dict[str, Any]:
    names = named(formula)
    operands = {name: torch.tensor(OPERANDS[name], dtype=torch.float64, requires_grad=True) for name in names}
    fixed = {"INDEX": torch.tensor(INDEX), "LABELS": torch.tensor(LABELS)}
    value = eval(formula, {"m": torch_under_our_names(torch), **fixed, **operands})
    ct = torch.tensor(cotangent(value.numel()), dtype=torch.float64).reshape(value.shape)
    wrt = list(operands.values())
    first = torch.autograd.grad(value, wrt, ct, create_graph=True)
    total = sum((slope * slope).sum() for slope in first)
    second = (torch.autograd.grad(total, wrt, allow_unused=True) if total.requires_grad else [None] * len(wrt))
    zeros = [torch.zeros(each.shape, dtype=each.dtype) for each in wrt]     # added: torch's own may have no storage
    return {"value": value.tolist(), "first": [(zero + each).tolist() for zero, each in zip(zeros, first)],
            "second": [(zero if each is None else zero + each).tolist() for zero, each in zip(zeros, second)]}


def main() -> None:
    import torch

    table = {formula: derive(torch, formula) for formula in FORMULAS}
    lines = [f"{json.dumps(formula)}: {json.dumps(row)}" for formula, row in table.items()]
    FILE.write_text("{\n" + ",\n".join([f'"torch": "{torch.__version__}"', *lines]) + "\n}\n")


if __name__ == "__main__":
    main()
