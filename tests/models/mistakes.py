"""Do the golden files notice a mistake? Each plausible one is made in the NumPy forward pass on purpose.

    mistakes.py

Prints how far each moves the logits, in units of the model's tolerance, and fails if a model that the
mistake concerns would let it pass.
"""

import json
import sys
from contextlib import nullcontext
from unittest.mock import patch

import numpy as np

import reference
import tiny
from reference import Config, forward
from tiny import GOLDEN, Model

true_rope, true_route, true_softmax = reference.rope, reference.route, reference.softmax


def neighboring_pairs(x: np.ndarray, config: Config) -> np.ndarray:
    """RoPE on the pairs (2i, 2i + 1)."""
    n = config.rope_dim
    order = np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2), np.arange(n, config.head)])
    return true_rope(x[..., order], config)[..., np.argsort(order)]


def over_all_experts(logits: np.ndarray, config: Config):
    """Router weights not divided by the sum over the chosen."""
    chosen, _ = true_route(logits, config)
    all_weights = true_softmax(logits) if config.gating == reference.SOFTMAX else 1 / (1 + np.exp(-logits))
    return chosen, np.take_along_axis(all_weights, chosen, -1)


def equal_weights(logits: np.ndarray, config: Config):
    chosen, weights = true_route(logits, config)
    return chosen, np.full_like(weights, 1 / config.active)


class NormedRouter(np.ndarray):
    """A router matrix that normalizes what it is given."""

    @property
    def T(self):
        return NormedRouter.Transposed(np.asarray(self).T)

    class Transposed:
        __array_ufunc__ = None

        def __init__(self, matrix):
            self.matrix = matrix

        def __rmatmul__(self, x):
            return reference.rms_norm(x, 1.0, 1e-6) @ self.matrix


def replace_weight(suffix: str, change):
    """A model whose weights named `suffix` are `change(model, name)`."""
    true_weight = reference.Model.weight

    def weight(model, name: str):
        return change(model, name, true_weight) if name.endswith(suffix) else true_weight(model, name)

    return patch.object(reference.Model, "weight", weight)


def exchanged(model, name: str, weight):
    return weight(model, name.replace("up_exps", "*").replace("gate_exps", "up_exps").replace("*", "gate_exps"))


def configured(**changes):
    def change(config: Config) -> None:
        for key, value in changes.items():
            setattr(config, key, value(config) if callable(value) else value)

    return change


def function(name: str, wrong):
    return lambda: patch.object(reference, name, wrong)


# What goes wrong, how, and which models it concerns.
MISTAKES = [
    ("RoPE on neighboring pairs", function("rope", neighboring_pairs), None, lambda m: True),
    ("no RoPE", function("rope", lambda x, config: x), None, lambda m: True),
    ("RoPE over the whole head", None, configured(rope_dim=lambda c: c.head), lambda m: m.rope_dim not in (None, m.head)),
    ("RoPE on NoPE layers, no window", None, configured(window=0), lambda m: m.window),
    ("window one short", None, configured(window=lambda c: c.window - 1), lambda m: m.window == 8),
    ("window one long", None, configured(window=lambda c: c.window + 1), lambda m: m.window == 8),
    ("window taken for 4096", None, configured(window=4096), lambda m: m.window == 8),
    ("another theta", None, configured(theta=lambda c: 1.5e6 if c.theta < 1e5 else 1e4), lambda m: True),
    ("epsilon of 1e-6", None, configured(eps=1e-6), lambda m: m.eps != 1e-6),
    ("sigmoid and softmax exchanged", None, configured(gating=lambda c: 3 - c.gating), lambda m: True),
    ("router weights over all experts", function("route", over_all_experts), None, lambda m: True),
    ("equal router weights", function("route", equal_weights), None, lambda m: True),
    ("one expert fewer", None, configured(active=lambda c: c.active - 1), lambda m: True),
    ("router reads the normed stream", lambda: replace_weight(
        "ffn_gate_inp", lambda model, name, weight: weight(model, name).view(NormedRouter)), None, lambda m: True),
    ("gate and up exchanged", lambda: replace_weight("_exps", lambda model, name, weight:
        exchanged(model, name, weight) if "down" not in name else weight(model, name)), None, lambda m: True),
    ("token_embd for output", lambda: patch.object(
        reference.Model, "output", lambda model: model.weight("token_embd")), None, lambda m: not m.tied),
]  # fmt: skip


def distance(model: Model, golden: dict, context, change) -> float:
    right = np.fromfile(GOLDEN / golden["logits"]["numpy"], "<f4").reshape(len(golden["ids"]), -1)
    with context() if context else nullcontext():
        oracle = reference.Model(GOLDEN / model.file)
        if change:
            change(oracle.config)
        wrong, _ = forward(oracle, golden["ids"])
    return float(np.abs(wrong - right).max() / np.ptp(right) / golden["tolerance"])


def main() -> int:
    index = {entry["name"]: entry for entry in json.loads((GOLDEN / "index.json").read_text())["models"]}
    passed = 0
    print(f"{'mistake':34} models   least                          most")
    for what, context, change, concerns in MISTAKES:
        models = [model for model in tiny.MODELS if concerns(model)]
        found = sorted((distance(m, index[m.name], context, change), m.name) for m in models)
        passed += sum(far <= 1 for far, _ in found)
        print(f"{what:34} {len(found):6} {found[0][0]:7.1f} x {found[0][1]:20} {found[-1][0]:7.1f} x")
    return int(passed > 0)


if __name__ == "__main__":
    sys.exit(main())
