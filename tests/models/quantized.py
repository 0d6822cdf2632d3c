#!/usr/bin/env python3
"""Writes tests/golden/quantized: weights, and what llama.cpp's quantizers make of them.

    venv/bin/pip install numpy llama-cpp-python==0.3.36      # built from its sdist
    venv/bin/python tests/models/quantized.py [--library libggml-base.so]

The library is that of llama-cpp-python unless another is named. Its result depends on whether the compiler fuses multiplications
with additions, which it does not for x86-64 (ggml-base is built without the processor's own features).
"""

import argparse
import ctypes
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "golden/quantized"
TYPES = {"q4_0": 2, "q8_0": 8, "q6_k": 14}
COLS = 512


def weights() -> np.ndarray:
    """Rows that are random, and rows that are hard to round."""
    rng = np.random.default_rng(18)
    scale = lambda spread: rng.standard_normal(COLS) * np.exp(rng.standard_normal(COLS) * spread)
    steps = (np.arange(COLS) * 7 % 17 - 8) / 8
    alternating = np.where(np.arange(COLS) % 2 == 0, 1.0, -1.0)
    one = np.zeros(COLS)
    one[77] = -3.0
    some = np.where(rng.random(COLS) < 0.03, rng.standard_normal(COLS), 0.0)
    outliers = rng.standard_normal(COLS) * 0.02
    outliers[::64] = 40.0
    hard = [
        np.zeros(COLS),
        one,
        some,
        outliers,
        alternating,
        alternating * np.repeat(2.0 ** np.arange(-8, 8), COLS // 16),
        steps,
        steps + 0.5 / 8,
        steps * 2.0**-20,
        np.full(COLS, 0.1),
        np.full(COLS, -1e-16),
        rng.standard_normal(COLS) * 1e-7,
        rng.standard_normal(COLS) * 1e-30,
        rng.standard_normal(COLS) * 1e4,
        np.repeat(rng.standard_normal(COLS // 16) * np.exp(rng.standard_normal(COLS // 16) * 4), 16),
        np.where(np.arange(COLS) < 256, 1e-6, 1.0) * rng.standard_normal(COLS),
    ]
    random = [scale(spread) for spread in np.linspace(0, 2, 16)]
    return np.array(hard + random, dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path)
    library = parser.parse_args().library
    if library is None:
        import llama_cpp

        library = Path(llama_cpp.__file__).parent / "lib/libggml-base.so"
    chunk = ctypes.CDLL(str(library)).ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    rows = weights()
    importance = np.exp(np.random.default_rng(19).standard_normal(COLS)).astype(np.float32)
    FOLDER.mkdir(exist_ok=True)
    rows.tofile(FOLDER / "weights.f32")
    importance.tofile(FOLDER / "importance.f32")
    for name, number in TYPES.items():
        # The rule for Q8_0 asks for no importance.
        for suffix, pointer in [("", None), ("-importance", importance.ctypes.data)][: 1 if name == "q8_0" else 2]:
            out = np.zeros(rows.size * 4, dtype=np.uint8)
            size = chunk(number, rows.ctypes.data, out.ctypes.data, 0, len(rows), COLS, pointer)
            out[:size].tofile(FOLDER / f"{name}{suffix}.bin")


if __name__ == "__main__":
    main()
