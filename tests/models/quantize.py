"""Compares what `wick quantize` writes with what llama.cpp does, tensor by tensor.

    quantize.py WICK [MODEL.gguf ...]

WICK is the binary; models are in F32, F16 or BF16, by default two that it draws itself (tied, and with an LM head). Types are
Q4_0, Q8_0, Q6_K, F16 and BF16; `--pure`, `--output-type` and `--imatrix` are tried, too (of models with fewer than 8 layers, since
llama.cpp makes some downs Q4_1 in others). Needs llama-cpp-python, whose build decides how sums are rounded where it fuses a
multiplication with an addition.
"""

import ctypes
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

FTYPES = {"f16": 1, "q4_0": 2, "q8_0": 7, "q6_k": 18, "bf16": 32}
TYPES = {"q8_0": 8, "q6_k": 14, "f16": 1}
OPTIONS = [[], ["--pure"], ["--output-type", "q8_0"], ["--output-type", "f16"], ["--imatrix"]]


def importance(model: Path) -> dict[str, np.ndarray]:
    """What the error of each weight counts: random, of all matrices but those of the first layer and the embedding."""
    rng = np.random.default_rng(5)
    drawn = {}
    for t in gguf.GGUFReader(model).tensors:
        is_matrix = len(t.shape) > 1 and "ffn_gate_inp" not in t.name
        if is_matrix and not t.name.startswith(("token_embd", "blk.0.")):
            count = int(t.shape[2]) if len(t.shape) > 2 else 1
            drawn[t.name] = rng.gamma(0.3, 4.0, int(t.shape[0]) * count).astype(np.float32)
    return drawn


def write_imatrix(path: Path, drawn: dict[str, np.ndarray]) -> None:
    """In llama-imatrix's older form."""
    with open(path, "wb") as file:
        file.write(struct.pack("<i", len(drawn)))
        for name, values in drawn.items():
            file.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 1, len(values)))
            file.write(values.astype("<f4").tobytes())


def by_llama(model: Path, out: Path, kind: str, options: list[str], drawn: dict[str, np.ndarray]) -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FTYPES[kind]
    params.allow_requantize = True
    params.pure = "--pure" in options
    if "--output-type" in options:
        params.output_tensor_type = TYPES[options[1]]
        # Of a tied model the embedding is meant.
        if not any(t.name == "output.weight" for t in gguf.GGUFReader(model).tensors):
            params.token_embedding_type = TYPES[options[1]]
    if "--imatrix" in options:
        entry, pointer = llama_cpp.llama_model_imatrix_data, ctypes.POINTER(ctypes.c_float)
        entries = [entry(name.encode(), values.ctypes.data_as(pointer), values.size) for name, values in drawn.items()]
        # The last one has no name.
        params.imatrix = (entry * (len(entries) + 1))(*entries, entry(None, None, 0))
    if llama_cpp.llama_model_quantize(str(model).encode(), str(out).encode(), params) != 0:
        raise SystemExit(f"llama.cpp cannot quantize {model} to {kind} {options}")


def tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    return {t.name: (t.tensor_type.name, t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


def main() -> None:
    wick, models = sys.argv[1], [Path(path) for path in sys.argv[2:]]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if not models:
            shape = "tiny,layers=4,heads=8,width=256,vocab=1024"
            for name, more in [("tied", []), ("untied", ["--untied"])]:
                models.append(folder / f"{name}.gguf")
                command = [wick, "synth", "--shape", shape, "--type", "f32", "--no-run", "-o", models[-1], *more]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for model in models:
            drawn = importance(model)
            write_imatrix(folder / "imatrix.dat", drawn)
            for kind in FTYPES:
                for options in OPTIONS:
                    theirs, ours = folder / "theirs.gguf", folder / "ours.gguf"
                    by_llama(model, theirs, kind, options, drawn)
                    told = [*options, folder / "imatrix.dat"] if "--imatrix" in options else options
                    subprocess.run([wick, "quantize", model, "-o", ours, "--type", kind, *told], check=True, stdout=subprocess.DEVNULL)
                    a, b = tensors(theirs), tensors(ours)
                    differ = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
                    wrong += len(differ)
                    shown = [(n, a.get(n, ("nothing",))[0], b.get(n, ("nothing",))[0]) for n in differ[:4]]
                    print(f"{model.name} {kind} {' '.join(options)}: {len(a)} tensors, {len(differ)} differ {shown or ''}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
