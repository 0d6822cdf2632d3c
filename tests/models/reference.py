"""SmallThinker's forward pass in NumPy, float64 throughout: the independent oracle for logits.

    reference.py MODEL.gguf --ids "1 2 3" --out logits.f32      f32 little endian, row major [n, V]

It shares nothing with the engine. Weights are dequantized by the `gguf` package and activations are
never quantized, so block-quantized models agree with an integer engine only to about a hundredth.
Keys and values alone are rounded to f16, since that is what the KV cache holds; --kv f32 leaves them.
"""

import argparse
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gguf
import numpy as np

SOFTMAX, SIGMOID = 1, 2


@dataclass
class Config:
    layers: int
    heads: int
    kv_heads: int
    head: int
    active: int
    gating: int
    window: int  # 0: none
    theta: float
    rope_dim: int
    eps: float


class Model:
    def __init__(self, path: str | Path):
        readers = [gguf.GGUFReader(part) for part in parts(Path(path))]
        self.tensors = {t.name: t for reader in readers for t in reader.tensors}

        def key(name: str, default=None):
            found = readers[0].get_field(f"smallthinker.{name}")
            return default if found is None else found.contents()

        head = key("attention.key_length")
        self.config = Config(
            layers=key("block_count"),
            heads=key("attention.head_count"),
            kv_heads=key("attention.head_count_kv"),
            head=head,
            active=key("expert_used_count"),
            gating=key("expert_gating_func", SIGMOID),
            window=key("attention.sliding_window", 0),
            theta=key("rope.freq_base"),
            rope_dim=key("rope.dimension_count", head),
            eps=key("attention.layer_norm_rms_epsilon"),
        )

    @cache
    def weight(self, name: str) -> np.ndarray:
        """A tensor as float64, axes in NumPy's order: a matrix is [out, in]."""
        tensor = self.tensors[f"{name}.weight"]
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        return values.reshape(tensor.shape[::-1]).astype(np.float64)

    @cache
    def down(self, layer: int) -> np.ndarray:
        """The experts' down matrices as [E, H, F], whichever way the file holds them.

        Only a variant with F != H can be told by its shape; with F = H the usual orientation is meant.
        """
        down, up = self.weight(f"blk.{layer}.ffn_down_exps"), self.weight(f"blk.{layer}.ffn_up_exps")
        _, width, hidden = up.shape
        return down.swapaxes(1, 2) if down.shape == up.shape and width != hidden else down

    def output(self) -> np.ndarray:
        return self.weight("output" if "output.weight" in self.tensors else "token_embd")


def parts(path: Path) -> list[Path]:
    """All files of a split model, in order."""
    found = re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", path.name)
    if not found:
        return [path]
    stem, count = found.groups()
    return [path.with_name(f"{stem}-{n:05}-of-{count}.gguf") for n in range(1, int(count) + 1)]


def rms_norm(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * gain


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rope(x: np.ndarray, config: Config) -> np.ndarray:
    """x [n, heads, head]: rotates the pairs (i, i + rope_dim/2) of position p by p·theta^(-2i/rope_dim)."""
    half = config.rope_dim // 2
    angle = np.arange(len(x))[:, None] * config.theta ** (-2.0 * np.arange(half) / config.rope_dim)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos, rest], axis=-1)


def attention(model: Model, layer: int, h: np.ndarray, kv: type) -> np.ndarray:
    c, n = model.config, len(h)
    q, k, v = ((h @ model.weight(f"blk.{layer}.attn_{m}").T).reshape(n, -1, c.head) for m in "qkv")
    windowed = c.window > 0 and layer % 4 != 0
    if windowed or c.window == 0:  # the global layers of a windowed model have no positions
        q, k = rope(q, c), rope(k, c)
    k, v = (np.repeat(m.astype(kv).astype(np.float64), c.heads // c.kv_heads, axis=1) for m in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(c.head)
    distance = np.arange(n)[:, None] - np.arange(n)[None, :]
    seen = (distance >= 0) & (distance < c.window if windowed else True)
    weights = softmax(np.where(seen, scores, -np.inf))
    mixed = np.einsum("hqk,khd->qhd", weights, v).reshape(n, -1)
    return mixed @ model.weight(f"blk.{layer}.attn_output").T


def route(logits: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The chosen experts and their weights: both [n, k], the choice made on logits."""
    chosen = np.argsort(-logits, axis=-1, kind="stable")[:, : config.active]
    score = np.take_along_axis(logits, chosen, axis=-1)
    if config.gating == SOFTMAX:
        return chosen, softmax(score)
    sigmoid = 1.0 / (1.0 + np.exp(-score))
    return chosen, sigmoid / sigmoid.sum(axis=-1, keepdims=True)


def experts(model: Model, layer: int, z: np.ndarray, chosen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    gate, up = (model.weight(f"blk.{layer}.ffn_{m}_exps") for m in ("gate", "up"))
    out = np.zeros_like(z)
    for p, i in np.ndindex(chosen.shape):
        e = chosen[p, i]
        active = np.maximum(gate[e] @ z[p], 0.0) * (up[e] @ z[p])
        out[p] += weights[p, i] * (model.down(layer)[e] @ active)
    return out


def forward(model: Model, ids: list[int], kv: type = np.float16) -> tuple[np.ndarray, np.ndarray]:
    """Logits of every position [n, V], and the router's logits of every layer [layers, n, E]."""
    c = model.config
    x = model.weight("token_embd")[ids]
    routers = []
    for layer in range(c.layers):
        w1, w2, router = (model.weight(f"blk.{layer}.{m}") for m in ("attn_norm", "ffn_norm", "ffn_gate_inp"))
        routers.append(x @ router.T)  # the raw residual, before any norm
        chosen, weights = route(routers[-1], c)
        x = x + attention(model, layer, rms_norm(x, w1, c.eps), kv)
        x = x + experts(model, layer, rms_norm(x, w2, c.eps), chosen, weights)
    return rms_norm(x, model.weight("output_norm"), c.eps) @ model.output().T, np.array(routers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file, the first one if the model is split")
    parser.add_argument("--ids", required=True, help='token ids, as in "1 2 3"')
    parser.add_argument("--out", required=True, help="file for the logits")
    parser.add_argument("--kv", choices=["f16", "f32"], default="f16", help="type of the KV cache")
    args = parser.parse_args()
    kv = {"f16": np.float16, "f32": np.float32}[args.kv]
    logits, _ = forward(Model(args.model), [int(word) for word in args.ids.split()], kv)
    logits.astype("<f4").tofile(args.out)


if __name__ == "__main__":
    main()
