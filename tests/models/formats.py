"""Writes tests/golden/formats: random rows in every weight format and what the gguf package expands them to.

For each format NAME: NAME.bin holds ROWS rows of COLS weights, NAME.f32 the same weights as little-endian
32-bit floats. Blocks are random bytes, so that every bit of every field counts; only the f16 scales are
drawn, lest they be infinite or NaN.

    python tests/models/formats.py
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

ROWS, COLS = 3, 512
OUT = Path(__file__).resolve().parent.parent / "golden" / "formats"

# Byte offsets of the f16 fields of a block.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}


def random_rows(kind, rng):
    """ROWS rows of blocks of this format, as bytes."""
    if kind in (T.F32, T.F16, T.BF16):
        values = rng.normal(size=(ROWS, COLS)).astype(np.float32)
        if kind == T.F32:
            return values.view(np.uint8)
        if kind == T.F16:
            return values.astype(np.float16).view(np.uint8)
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    length, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * COLS // length, size), dtype=np.uint8)
    for offset in SCALES[kind]:
        scales = rng.normal(scale=0.05, size=len(blocks)).astype("<f2")
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(ROWS, -1)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for kind in [T.F32, T.F16, T.BF16, *SCALES]:
        rows = random_rows(kind, rng)
        (OUT / f"{kind.name}.bin").write_bytes(rows.tobytes())
        expanded = dequantize(rows, kind).astype("<f4")
        assert expanded.shape == (ROWS, COLS), (kind, expanded.shape)
        (OUT / f"{kind.name}.f32").write_bytes(expanded.tobytes())


if __name__ == "__main__":
    main()
