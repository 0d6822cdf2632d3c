"""What a cache of neurons would save: bytes and reads that a token misses, beside those of whole experts, on a text.

    neuron_cache.py MODEL.gguf IDS.txt [--layers 1] [--shares 20,32,50] [--half-life 256]

An expert's gate is wanted whole, a row of up and its column of down only where the gate opens. The model says which; what it
takes is said of the 4B: each layer stands for as many, each neuron for as many as make 32 layers of experts with 768 neurons.
Four ways to spend the same memory, a share of all experts:

    whole      slots hold experts, which are read whole: today's
    filled     slots have room for experts, of which the gate is read at once and a neuron when it first fires
    apart      gates (with the scales of down) and neurons each have a place of their own
    static     the same with the best gates and neurons of the whole text, which nobody can know

Evicted is what saves the least by byte, where a use counts half after `--half-life` tokens; what would be evicted at once is
not kept. A neuron is a read of its own, in units of 2,048 and of 4,096 bytes.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
import reference  # noqa: E402
from neurons import each_layer  # noqa: E402

# The 4B in Q4_0: layers, neurons and bytes of an expert, of its gate with the scales of down, and of a row and a column.
LAYERS, NEURONS = 32, 768
ROW, COLUMN = 864, 768
EXPERT = NEURONS * 3 * ROW
GATE = NEURONS * ROW + NEURONS // 32 * 1536 * 2
NEURON = ROW + COLUMN
# Bytes and reads a second, as in the profiles of `wick plan`.
DEVICES = {"SD": (90e6, 3e3), "eMMC": (300e6, 8e3), "NVMe 450": (450e6, 90e3), "NVMe 2000": (2e9, 400e3)}


def trace(model: reference.Model, ids: list[int]) -> list[list[list[tuple[int, np.ndarray]]]]:
    """Of each token and layer, the experts and which of their neurons fire."""

    def take(gates, z, chosen):
        return [[(int(e), gates[e] @ z[t] > 0.0) for e in experts] for t, experts in enumerate(chosen)]

    return list(zip(*each_layer(model, ids, take)))


class Cache:
    """Things of a size, of which some are held: those that were used the most, by what a use saves for each byte."""

    def __init__(self, sizes: np.ndarray, saved: np.ndarray, room: float, half_life: float):
        self.sizes, self.worth = sizes, saved / sizes
        self.room, self.half_life = room, half_life
        self.scores, self.held = np.zeros(len(sizes)), np.zeros(len(sizes), bool)

    def use(self, things: np.ndarray, now: float) -> np.ndarray:
        """Which of the things that are used were missing."""
        self.scores[things] += 2.0 ** (now / self.half_life)
        missing = things[~self.held[things]]
        self.held[missing] = True
        over = self.sizes[self.held].sum() - self.room
        if over > 0:
            held = np.flatnonzero(self.held)
            order = held[np.argsort(self.scores[held] * self.worth[held], kind="stable")]
            gone = np.searchsorted(np.cumsum(self.sizes[order]), over) + 1
            self.held[order[:gone]] = False
        return missing


class Text:
    """A trace as numbers of gates and of neurons, and what they are of the 4B."""

    def __init__(self, tokens, layers: list[int], experts: int):
        self.width = len(tokens[0][0][0][1])
        self.gates = len(layers) * experts
        self.each_layer, self.each_neuron = LAYERS / len(layers), NEURONS / self.width
        self.steps = []
        for t, token in enumerate(tokens):
            for place, layer in enumerate(layers):
                gates = np.array([place * experts + e for e, _ in token[layer]])
                fired = [g * self.width + np.flatnonzero(mask) for g, (_, mask) in zip(gates, token[layer])]
                self.steps.append((t, gates, np.concatenate(fired)))
        self.tokens = len(tokens)
        self.active = sum(len(n) for _, _, n in self.steps) / sum(len(g) * self.width for _, g, _ in self.steps)

    def sizes(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """What a gate and then each neuron takes, and what holding it saves; a neuron stands for several."""
        counts = [self.gates, self.gates * self.width]
        takes, saves = [GATE, NEURON * self.each_neuron], [GATE, unit * self.each_neuron]
        return np.repeat(takes, counts).astype(float), np.repeat(saves, counts).astype(float)

    def told(self, gates: float, neurons: float, unit: int, whole: bool = False) -> tuple[float, float]:
        """Bytes and reads of a token, of so many missing gates and neurons in all."""
        gates, neurons = (n * self.each_layer / self.tokens for n in (gates, neurons * self.each_neuron))
        return gates * (EXPERT if whole else GATE) + neurons * unit, gates * (3 if whole else 1) + neurons


def slots(text: Text, room: float, half_life: float) -> Cache:
    """A cache of experts."""
    sizes = np.full(text.gates, float(EXPERT))
    return Cache(sizes, sizes, room, half_life)


def whole(text: Text, room: float, half_life: float, unit: int) -> tuple[float, float]:
    cache = slots(text, room, half_life)
    missing = sum(len(cache.use(gates, t)) for t, gates, _ in text.steps)
    return text.told(missing, 0, unit, whole=True)


def filled(text: Text, room: float, half_life: float, unit: int) -> tuple[float, float]:
    cache = slots(text, room, half_life)
    come = np.zeros(text.gates * text.width, bool)
    missing = [0, 0]
    for t, gates, fired in text.steps:
        absent = cache.use(gates, t)
        come.reshape(text.gates, -1)[absent] = False
        missing[0] += len(absent)
        missing[1] += (~come[fired]).sum()
        come[fired] = True
    return text.told(*missing, unit)


def apart(text: Text, room: float, half_life: float, unit: int) -> tuple[float, float]:
    cache = Cache(*text.sizes(unit), room, half_life)
    missing = [0, 0]
    for t, gates, fired in text.steps:
        absent = cache.use(np.concatenate([gates, text.gates + fired]), t)
        missing[0] += (absent < text.gates).sum()
        missing[1] += (absent >= text.gates).sum()
    return text.told(*missing, unit)


def static(text: Text, room: float, _half_life: float, unit: int) -> tuple[float, float]:
    sizes, saved = text.sizes(unit)
    uses = np.zeros(len(sizes))
    for _, gates, fired in text.steps:
        uses[gates] += 1
        uses[text.gates + fired] += 1
    order = np.argsort(-uses * saved / sizes, kind="stable")
    missing = order[np.cumsum(sizes[order]) > room]
    return text.told(uses[missing[missing < text.gates]].sum(), uses[missing[missing >= text.gates]].sum(), unit)


def print_repeats(text: Text) -> None:
    """How often neurons fire, and how often those that fired at the last use of their expert, beside what their heat says."""
    width = text.width
    uses, fires = np.zeros(text.gates), np.zeros(text.gates * width)
    for _, gates, fired in text.steps:
        uses[gates] += 1
        fires[fired] += 1
    share = fires.reshape(-1, width) / np.maximum(uses, 1)[:, None]
    last, before, expected, found = [None] * text.gates, 0, 0.0, 0
    for _, gates, fired in text.steps:
        for gate in gates:
            mask = np.zeros(width, bool)
            mask[fired[(fired >= gate * width) & (fired < (gate + 1) * width)] - gate * width] = True
            if last[gate] is not None:
                before += last[gate].sum()
                expected += share[gate][last[gate]].sum()
                found += (mask & last[gate]).sum()
            last[gate] = mask
    eighths = [part.mean() for part in np.array_split(np.sort(share[uses > 0].ravel()), 8)]
    print("eighths of the neurons, by how often they fire:", " ".join(f"{x:.2f}" for x in eighths))
    print(f"of neurons that fired, {found / before:.3f} fire at the next use; {expected / before:.3f} by how hot they are")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("ids", type=Path, help="token ids, as wick tokenize writes them")
    parser.add_argument("--tokens", type=int, default=6000)
    parser.add_argument("--context", type=int, default=512, help="tokens of a stretch")
    parser.add_argument("--layers", help="these alone, such as 1,2 [default: all]")
    parser.add_argument("--shares", default="20,32,50", help="memory, in percent of all experts")
    parser.add_argument("--half-life", type=float, default=256.0)
    args = parser.parse_args()
    ids = [int(word) for word in args.ids.read_text().split()][: args.tokens]
    model = reference.Model(args.model)
    stretches = (ids[i : i + args.context] for i in range(0, len(ids), args.context))
    tokens = [token for stretch in stretches for token in trace(model, stretch)]
    layers = [int(l) for l in args.layers.split(",")] if args.layers else list(range(len(tokens[0])))
    experts = len(model.weight("blk.0.ffn_gate_exps"))
    text = Text(tokens, layers, experts)
    print(f"{text.tokens} tokens, {text.gates} experts of {text.width} neurons, {text.active:.3f} active")
    print_repeats(text)
    print("| memory | way | unit | MB a token | reads | " + " | ".join(f"{name}, ms" for name in DEVICES) + " |")
    print("|" + "---|" * (5 + len(DEVICES)))
    for percent in (int(share) for share in args.shares.split(",")):
        room = text.gates * EXPERT * percent / 100
        for way in (whole, filled, apart, static):
            for unit in (2048, 4096) if way is not whole else (0,):
                size, reads = way(text, room, args.half_life, unit)
                times = " | ".join(f"{1e3 * max(size / b, reads / r):.0f}" for b, r in DEVICES.values())
                print(f"| {percent} % | {way.__name__} | {unit or ''} | {size / 1e6:.0f} | {reads:.0f} | {times} |", flush=True)


if __name__ == "__main__":
    main()
