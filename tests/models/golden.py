"""Golden logits of the tiny models, by NumPy and by llama.cpp, with a table of how they differ.

    golden.py [NAME ...] [--numpy-only]

For each model of tiny.py it chooses a prompt, evaluates it and writes tests/golden/NAME.numpy.f32 and
NAME.llama.f32 (f32 little endian, row major [n, V]) and the model's entry in tests/golden/index.json.
"""

import argparse
import json
import zlib
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

import reference
import tiny
from tiny import GOLDEN, Model, Type

FLOAT_TOLERANCE, QUANTIZED_TOLERANCE = 1e-3, 1e-2  # of the logits' range
ROUTER_GAP = 0.05  # in router logits, whose standard deviation is near 1

# What llama.cpp refuses to load, or does otherwise than the file says.
NUMPY_ONLY = {
    "window8": "llama.cpp sets every window to 4096",
    "powerinfer": "llama.cpp does not know the transposed down",
    "partial-rope": "llama.cpp asserts that RoPE covers the whole head",
}


@dataclass
class Golden:
    ids: list[int]
    logits: np.ndarray
    router_gap: float  # the least, of the spread of its layer's router logits


def router_gap(routers: np.ndarray, active: int) -> np.ndarray:
    """Distance of the last chosen expert to the first rejected one: [layers, n]."""
    ordered = np.sort(routers, axis=-1)[..., ::-1]
    return ordered[..., active - 1] - ordered[..., active]


def choose(model: Model) -> Golden:
    """A random prompt in which no router's choice is a near tie, since an engine that quantizes its
    activations may decide a tie otherwise: at each position the first token drawn that keeps its distance."""
    oracle = reference.Model(GOLDEN / model.file)
    rng = np.random.default_rng(zlib.crc32(f"prompt of {model.name}".encode()))
    length = 40 if model.window else 32
    ids: list[int] = []
    while len(ids) < length:
        attempt = ids + [int(rng.integers(model.vocabulary))]
        logits, routers = reference.forward(oracle, attempt)
        gap = router_gap(routers, model.active)
        if gap.min() >= ROUTER_GAP:
            ids = attempt
    spread = np.ptp(routers, axis=(1, 2))[:, None]
    return Golden(ids, logits, float((gap / spread).min()))


def llama(model: Model, ids: list[int], chunk: int, kv: Type = Type.F16) -> np.ndarray:
    """llama.cpp's logits, evaluated `chunk` tokens at a time by two threads without flash attention."""
    from llama_cpp import Llama

    overrides = {"smallthinker.expert_gating_func": tiny.SIGMOID} if model.gating is None else None
    engine = Llama(
        str(GOLDEN / model.file), n_ctx=64, n_batch=64, n_threads=2, n_threads_batch=2, logits_all=True,
        flash_attn=False, type_k=kv, type_v=kv, kv_overrides=overrides, verbose=False,
    )  # fmt: skip
    for start in range(0, len(ids), chunk):
        engine.eval(ids[start : start + chunk])
    logits = np.array(engine.scores[: len(ids)])
    engine.close()
    return logits


def tolerance(model: Model) -> float:
    floats = {Type.F32, Type.F16}
    return FLOAT_TOLERANCE if {model.kind, *model.kinds.values()} <= floats else QUANTIZED_TOLERANCE


def make(model: Model, numpy_only: bool) -> dict:
    golden = choose(model)
    limit, span = tolerance(model), np.ptp(golden.logits)
    golden.logits.astype("<f4").tofile(GOLDEN / f"{model.name}.numpy.f32")
    top = np.sort(golden.logits, axis=-1)
    gaps = (top[:, -1] - top[:, -2]) / span
    entry = {
        "name": model.name,
        "shows": model.shows,
        "file": model.file,
        "vocabulary": model.vocabulary,
        "ids": golden.ids,
        "tolerance": limit,
        "logits": {"numpy": f"{model.name}.numpy.f32"},
        "router_gap": round(golden.router_gap, 4),
        "top_gap": {"least": round(float(gaps.min()), 5), "median": round(float(np.median(gaps)), 4)},
    }
    row = f"{model.name:20} {golden.logits.std():5.2f} {span:6.2f} {golden.router_gap:7.3f} {gaps.min():8.5f} {np.median(gaps):7.3f}"
    if model.name in NUMPY_ONLY:
        return entry | {"no_llama": NUMPY_ONLY[model.name]}, f"{row}  {NUMPY_ONLY[model.name]}"
    if numpy_only:
        return entry, row
    logits = llama(model, golden.ids, len(golden.ids))
    logits.astype("<f4").tofile(GOLDEN / f"{model.name}.llama.f32")
    entry["logits"]["llama"] = f"{model.name}.llama.f32"
    difference = np.abs(logits - golden.logits).max() / span
    exact, _ = reference.forward(reference.Model(GOLDEN / model.file), golden.ids, np.float64)
    equations = np.abs(llama(model, golden.ids, len(golden.ids), Type.F32) - exact).max() / span
    steps = np.abs(llama(model, golden.ids, 1) - logits).max() / span
    same = logits.argmax(-1) == golden.logits.argmax(-1)
    verdict = "ok" if difference <= limit and same[gaps > limit].all() else "TOO FAR"
    return entry, f"{row} {difference:9.1e} {equations:9.1e} {steps:9.1e} {same.sum():3}/{len(same)} {(gaps > limit).sum():3}  {limit:.0e} {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--numpy-only", action="store_true", help="leave llama.cpp and its files alone")
    args = parser.parse_args()
    index = GOLDEN / "index.json"
    entries = {e["name"]: e for e in json.loads(index.read_text())["models"]} if index.exists() else {}
    print("model                  std  range  router   top1-2  median     f16 KV    f32 KV  |steps|  argmax  far  limit")
    for model in tiny.MODELS:
        if not args.names or model.name in args.names:
            entries[model.name], row = make(model, args.numpy_only)
            print(row, flush=True)
    made_with = {package: version(package) for package in ("numpy", "gguf", "llama-cpp-python")}
    models = [entries[model.name] for model in tiny.MODELS if model.name in entries]
    lines = ",\n    ".join(json.dumps(entry) for entry in models)
    index.write_text(f'{{\n  "made_with": {json.dumps(made_with)},\n  "models": [\n    {lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
