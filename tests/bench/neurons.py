"""How far the order of an expert's neurons brings together those that fire together.

    neurons.py MODEL.gguf IDS.txt [--context 512] [--layer 1] [--write FOLDER]

Every other stretch of `context` tokens is known, by which neurons are ordered; the others are counted. A
use is an expert that a token chose, active is a neuron whose gate is open. Orders:

    file          as in the file
    frequent      by how often they fire, through the whole expert; frequent-32: within each 32 neurons,
                  which share scales in a Q4_0 `down`, so that `down` can follow without loss
    together      each followed by the one that fires with it most often; together-32 alike

Printed for the model's experts, then for wide ones: 12 experts of `layer` side by side, which are the 768
neurons of the published models where an expert has 64. `--write` writes the wide ones for neurons.rs.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
import reference  # noqa: E402

BLOCK = 32
ROW_BYTES = 864  # of the 4B's `up` in Q4_0
WIDE = 12
WRITTEN = 500  # uses
# What is touched: bytes of a row and of a unit that is read whole.
UNITS = {"of 2": (1, 2), "of 4": (1, 4), "of 8": (1, 8), "64 B": (ROW_BYTES, 64), "4 KiB": (ROW_BYTES, 4096)}


def each_layer(model: reference.Model, ids: list[int], take) -> list:
    """Runs the model, and lists what `take` makes of each layer's gates [E, F, D], normed inputs [n, D] and choices [n, k]."""
    taken = []
    compute = reference.experts

    def record(model, layer, z, chosen, weights):
        taken.append(take(model.weight(f"blk.{layer}.ffn_gate_exps"), z, chosen))
        return compute(model, layer, z, chosen, weights)

    reference.experts = record
    reference.forward(model, ids)
    reference.experts = compute
    return taken


def fired(model: reference.Model, ids: list[int]) -> list[list[np.ndarray]]:
    """Of each layer and expert, which neurons fired at each use: [uses, F]."""

    def take(gates, z, chosen):
        return [z[(chosen == e).any(axis=1)] @ matrix.T > 0.0 for e, matrix in enumerate(gates)]

    return each_layer(model, ids, take)


def gather(model: reference.Model, stretches: list[list[int]]) -> list[list[np.ndarray]]:
    """The same over several stretches."""
    layers = zip(*(fired(model, ids) for ids in stretches))
    return [[np.concatenate(parts) for parts in zip(*layer)] for layer in layers]


def frequent(known: np.ndarray) -> np.ndarray:
    return np.argsort(-known.sum(axis=0), kind="stable")


def together(known: np.ndarray) -> np.ndarray:
    counts = known.T.astype(np.float32) @ known.astype(np.float32)
    order = [int(counts.diagonal().argmax())]
    for _ in range(1, len(counts)):
        counts[:, order[-1]] = -1
        order.append(int(counts[order[-1]].argmax()))
    return np.array(order)


def within_blocks(order, known: np.ndarray) -> np.ndarray:
    starts = range(0, known.shape[1], BLOCK)
    return np.concatenate([start + order(known[:, start : start + BLOCK]) for start in starts])


ORDERS = {
    "file": lambda known: np.arange(known.shape[1]),
    "frequent-32": lambda known: within_blocks(frequent, known),
    "frequent": frequent,
    "together-32": lambda known: within_blocks(together, known),
    "together": together,
}


def touched(active: np.ndarray, row: int, unit: int) -> float:
    """The share of units of `unit` bytes that hold a part of an active row of `row` bytes."""
    rows = active.shape[1]
    hit = np.zeros((len(active), -(-rows * row // unit)), bool)
    for i in range(rows):
        hit[:, i * row // unit : ((i + 1) * row - 1) // unit + 1] |= active[:, i : i + 1]
    return hit.mean()


def print_table(title: str, known: list[np.ndarray], tested: list[np.ndarray]) -> None:
    print(f"{title}: {sum(map(len, known))} uses known, {sum(map(len, tested))} counted")
    print(f"{'order':>12} {'active':>7} {'runs':>6} {'rows/run':>8} " + " ".join(f"{name:>6}" for name in UNITS))
    for name, order in ORDERS.items():
        active = np.concatenate([t[:, order(k)] for k, t in zip(known, tested)])
        before = np.pad(active, ((0, 0), (1, 0)))[:, :-1]
        runs = (active & ~before).sum()
        units = " ".join(f"{touched(active, *unit):6.3f}" for unit in UNITS.values())
        print(f"{name:>12} {active.mean():7.3f} {runs / len(active):6.2f} {active.sum() / runs:8.2f} {units}")


def widen(experts: list[np.ndarray], chosen: list[int]) -> np.ndarray:
    """Experts side by side, use by use, as far as all have uses."""
    uses = min(len(experts[e]) for e in chosen)
    return np.concatenate([experts[e][:uses] for e in chosen], axis=1)


def write(folder: Path, known: np.ndarray, tested: np.ndarray) -> None:
    """A file for each order, and `limit` and `limit-32`, where active neurons are moved to the front."""
    tested = tested[:WRITTEN]
    blocks = tested.reshape(len(tested), -1, BLOCK)
    masks = {name: tested[:, order(known)] for name, order in ORDERS.items()}
    masks["limit"] = -np.sort(-tested.astype(int), axis=1)
    masks["limit-32"] = -np.sort(-blocks.astype(int), axis=2).reshape(len(tested), -1)
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in masks.items():
        np.savetxt(folder / f"{name}.txt", mask, fmt="%d", delimiter="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("ids", type=Path, help="token ids, as wick tokenize writes them")
    parser.add_argument("--context", type=int, default=512, help="tokens of a stretch")
    parser.add_argument("--layer", type=int, default=1, help="layer of the wide experts")
    parser.add_argument("--write", type=Path, help="folder for the uses of wide experts")
    args = parser.parse_args()
    ids = [int(word) for word in args.ids.read_text().split()]
    stretches = [ids[i : i + args.context] for i in range(0, len(ids), args.context)]
    model = reference.Model(args.model)
    known, tested = gather(model, stretches[::2]), gather(model, stretches[1::2])
    used = [[e for e, uses in enumerate(layer) if len(uses)] for layer in known]
    print_table(
        "experts",
        [known[layer][e] for layer, experts in enumerate(used) for e in experts],
        [tested[layer][e] for layer, experts in enumerate(used) for e in experts],
    )
    chosen = sorted(used[args.layer], key=lambda e: -len(tested[args.layer][e]))[:WIDE]
    wide = [widen(uses[args.layer], chosen) for uses in (known, tested)]
    print_table(f"wide experts of layer {args.layer}", *([uses] for uses in wide))
    if args.write:
        write(args.write, *wide)


if __name__ == "__main__":
    main()
