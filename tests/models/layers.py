"""Published weights of random numbers in the 21B's widths: for memory and time of `wick convert`.

    layers.py FOLDER [--layers 8]

A layer is 0.83 GB of BF16, embedding and LM head are 1.6 GB; a shard has two layers. The tokenizer is that of the toy models.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import published

HIDDEN, HEADS, KV_HEADS, HEAD, EXPERTS, ACTIVE, WIDTH, VOCABULARY = 2560, 28, 4, 128, 64, 6, 768, 151_936


def shapes(layer: int) -> dict[str, tuple[int, ...]]:
    stem = f"model.layers.{layer}"
    moe = f"{stem}.block_sparse_moe"
    out = {
        f"{stem}.input_layernorm": (HIDDEN,),
        f"{stem}.post_attention_layernorm": (HIDDEN,),
        f"{stem}.self_attn.q_proj": (HEADS * HEAD, HIDDEN),
        f"{stem}.self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
        f"{stem}.self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN),
        f"{stem}.self_attn.o_proj": (HIDDEN, HEADS * HEAD),
        f"{moe}.primary_router": (EXPERTS, HIDDEN),
    }
    for e in range(EXPERTS):
        out |= {f"{moe}.experts.{e}.{part}": (WIDTH, HIDDEN) for part in ("gate", "up")}
        out[f"{moe}.experts.{e}.down"] = (HIDDEN, WIDTH)
    return out


def write_shard(path: Path, tensors: dict[str, tuple[int, ...]], rng: np.random.Generator) -> None:
    table, at = {}, 0
    for name, shape in tensors.items():
        end = at + 2 * int(np.prod(shape))
        table[f"{name}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for shape in tensors.values():
            # Any sign and mantissa, exponents around those of real weights.
            bits = rng.integers(0, 1 << 16, np.prod(shape), np.uint16)
            file.write(((bits & 0x83FF) | 0x3C00).tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=8)
    args = parser.parse_args()
    args.folder.mkdir(parents=True)
    published.write_texts(args.folder, large=True)
    layout = [int(layer % 4 != 0) for layer in range(args.layers)]
    config = json.loads((args.folder / "config.json").read_text()) | {
        "head_dim": HEAD,
        "hidden_size": HIDDEN,
        "moe_ffn_hidden_size": WIDTH,
        "moe_num_active_primary_experts": ACTIVE,
        "moe_num_primary_experts": EXPERTS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": args.layers,
        "num_key_value_heads": KV_HEADS,
        "rope_layout": layout,
        "sliding_window_layout": layout,
        "sliding_window_size": 4096,
        "vocab_size": VOCABULARY,
    }
    (args.folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(1)
    ends = {"model.embed_tokens": (VOCABULARY, HIDDEN), "model.norm": (HIDDEN,), "lm_head": (VOCABULARY, HIDDEN)}
    write_shard(args.folder / "model-00000.safetensors", ends, rng)
    for first in range(0, args.layers, 2):
        some = shapes(first) | (shapes(first + 1) if first + 1 < args.layers else {})
        write_shard(args.folder / f"model-{first + 1:05}.safetensors", some, rng)


if __name__ == "__main__":
    main()
