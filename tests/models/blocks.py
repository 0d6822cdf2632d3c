"""Weights as GGUF blocks: quantized from floats where the `gguf` package can, random blocks otherwise.

Random blocks draw every bit of quants, high bits and sub-block scales uniformly and the minimums around
the scales, so that values center near zero; then they set the f16 scales for the wanted standard
deviation. No field is ever left at zero, so a reader that drops one of them is wrong visibly.
"""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

# Byte offset of the f16 scale in a block, of the f16 scale of the minimums, and the middle of the quants' range.
SCALES = {
    Type.Q4_0: (0, None, 0.0),
    Type.Q2_K: (80, 82, 1.5),
    Type.Q3_K: (108, None, 0.0),
    Type.Q4_K: (0, 2, 7.5),
    Type.Q5_K: (0, 2, 15.5),
    Type.Q6_K: (208, None, 0.0),
}


def random_blocks(kind: Type, shape: tuple[int, ...], std: float, rng: np.random.Generator) -> np.ndarray:
    """Random blocks of `shape` weights (row major) with standard deviation `std`: u8, rows in bytes."""
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    assert shape[-1] % weights == 0, f"{kind.name}: rows of {shape[-1]} are not whole blocks of {weights}"
    count = int(np.prod(shape)) // weights
    blocks = np.frombuffer(rng.bytes(count * size), np.uint8).reshape(count, size).copy()
    if SCALES[kind][1] is not None:
        set_minimums(kind, blocks, rng)
    set_scales(kind, blocks, np.ones(count))
    unit = gguf.dequantize(blocks[:512].reshape(-1), kind).std()
    signs = rng.choice([-1.0, 1.0], count) if SCALES[kind][1] is None else 1.0
    set_scales(kind, blocks, std / unit * rng.uniform(0.75, 1.25, count) * signs)
    return blocks.reshape(*shape[:-1], shape[-1] // weights * size)


def set_minimums(kind: Type, blocks: np.ndarray, rng: np.random.Generator) -> None:
    """Draws sub-block scales with minimums near them, in the packing of 4 bits (Q2_K) or 6 bits (Q4_K, Q5_K)."""
    top, subs = (15, 16) if kind == Type.Q2_K else (63, 8)
    scales = rng.integers(0, top + 1, (len(blocks), subs))
    noise = np.rint(rng.normal(0, top / 6, scales.shape)).astype(int)
    minimums = np.clip(scales + noise, 0, top)
    if kind == Type.Q2_K:
        blocks[:, :16] = scales | minimums << 4
        return
    low, high = slice(0, 4), slice(4, 8)
    blocks[:, 4:8] = scales[:, low] | scales[:, high] >> 4 << 6
    blocks[:, 8:12] = minimums[:, low] | minimums[:, high] >> 4 << 6
    blocks[:, 12:16] = scales[:, high] & 15 | (minimums[:, high] & 15) << 4


def set_scales(kind: Type, blocks: np.ndarray, scale: np.ndarray) -> None:
    at, minimum_at, middle = SCALES[kind]
    blocks[:, at : at + 2] = scale.astype("<f2").view(np.uint8).reshape(-1, 2)
    if minimum_at is not None:
        minimum = (scale * middle).astype("<f2")
        blocks[:, minimum_at : minimum_at + 2] = minimum.view(np.uint8).reshape(-1, 2)


def random_tensor(kind: Type, shape: tuple[int, ...], std: float, rng: np.random.Generator) -> np.ndarray:
    """Normally distributed weights in any type: floats as such, blocks as u8."""
    if kind.name.endswith("_K"):
        return random_blocks(kind, shape, std, rng)
    values = rng.normal(0.0, std, shape).astype(np.float32)
    if kind == Type.F32:
        return values
    if kind == Type.F16:
        return values.astype(np.float16)
    return gguf.quantize(values, kind)
