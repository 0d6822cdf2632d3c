"""A random model in the exact shape and key set of the published 4B, for loading, memory and speed.

    full.py OUT.gguf [--powerinfer] [--seed N]

As published: Q4_0, output.weight Q6_K, router and norms F32. With --powerinfer: ffn_down_exps transposed,
no output.weight, lm_head_profiler.weight. Blocks are random bits with scales that keep the activations
finite and the tokens varied; the tokenizer has as many tokens and merges as the published one, but other
ones. Tensors are drawn and written one at a time, so that memory stays near the largest of them.
"""

import argparse
import time
from pathlib import Path

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type

import blocks
import vocabulary

HIDDEN, LAYERS, VOCABULARY, MERGES = 1536, 32, 151_936, 151_387
HEADS, KV_HEADS, HEAD = 12, 2, 128
EXPERTS, ACTIVE, WIDTH = 32, 4, 768
PUBLISHED = 2_472_877_152  # bytes of the published Q4_0 file
STREAM = 2.0 / np.sqrt(HIDDEN)  # of an embedding
BRANCH = 0.5 * STREAM  # of what attention and experts add


def tensors(powerinfer: bool):
    """Yields (name, type, shape, standard deviation); rows are the last axis."""
    yield "token_embd", Type.Q4_0, (VOCABULARY, HIDDEN), STREAM
    yield "output_norm", Type.F32, (HIDDEN,), 0.2
    if not powerinfer:
        yield "output", Type.Q6_K, (VOCABULARY, HIDDEN), STREAM
    down = (WIDTH, HIDDEN) if powerinfer else (HIDDEN, WIDTH)
    for layer in range(LAYERS):
        blk = f"blk.{layer}"
        residual = np.hypot(STREAM, BRANCH * np.sqrt(layer))
        yield f"{blk}.attn_norm", Type.F32, (HIDDEN,), 0.2
        yield f"{blk}.attn_q", Type.Q4_0, (HEADS * HEAD, HIDDEN), 1.2 / np.sqrt(HIDDEN)
        yield f"{blk}.attn_k", Type.Q4_0, (KV_HEADS * HEAD, HIDDEN), 1.2 / np.sqrt(HIDDEN)
        yield f"{blk}.attn_v", Type.Q4_0, (KV_HEADS * HEAD, HIDDEN), 1.0 / np.sqrt(HIDDEN)
        yield f"{blk}.attn_output", Type.Q4_0, (HIDDEN, HEADS * HEAD), BRANCH / np.sqrt(HEADS * HEAD)
        yield f"{blk}.ffn_norm", Type.F32, (HIDDEN,), 0.2
        yield f"{blk}.ffn_gate_inp", Type.F32, (EXPERTS, HIDDEN), 1.2 / np.sqrt(HIDDEN) / residual
        yield f"{blk}.ffn_gate_exps", Type.Q4_0, (EXPERTS, WIDTH, HIDDEN), 1.0 / np.sqrt(HIDDEN)
        yield f"{blk}.ffn_up_exps", Type.Q4_0, (EXPERTS, WIDTH, HIDDEN), 1.0 / np.sqrt(HIDDEN)
        yield f"{blk}.ffn_down_exps", Type.Q4_0, (EXPERTS, *down), 1.5 * BRANCH / np.sqrt(WIDTH)
    if powerinfer:
        yield "lm_head_profiler", Type.Q4_0, (1, 128 * (HIDDEN + VOCABULARY)), 0.1


def draw(name: str, kind: Type, shape: tuple[int, ...], std: float, rng: np.random.Generator) -> np.ndarray:
    if kind != Type.F32:
        return blocks.random_blocks(kind, shape, std, rng)
    gain = rng.normal(1.0 if len(shape) == 1 else 0.0, std, shape).astype(np.float32)
    # Signs keep a tied model from always preferring the token it has just read.
    return gain * rng.choice(np.float32([-1, 1]), shape) if name == "output_norm" else gain


def add_keys(writer: gguf.GGUFWriter, powerinfer: bool) -> None:
    writer.add_type("model")
    writer.add_name("random-4b")
    writer.add_finetune("random")
    writer.add_size_label("32x140M")
    writer.add_block_count(LAYERS)
    writer.add_context_length(32768)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDTH)
    writer.add_expert_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1.5e6)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(ACTIVE)
    if not powerinfer:  # its converter writes the key only for softmax
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def write(path: Path, powerinfer: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "smallthinker")
    add_keys(writer, powerinfer)
    vocabulary.add_to(writer, vocabulary.large(VOCABULARY, MERGES, seed))
    for name, kind, shape, _ in tensors(powerinfer):
        weights, size = GGML_QUANT_SIZES[kind]
        row = shape[-1] // weights * size
        bytes_of = int(np.prod(shape[:-1])) * row
        stored = np.dtype(np.float32) if kind == Type.F32 else np.dtype(np.uint8)
        stored_shape = shape if kind == Type.F32 else (*shape[:-1], row)
        writer.add_tensor_info(f"{name}.weight", stored_shape, stored, bytes_of, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, kind, shape, std in tensors(powerinfer):
        writer.write_tensor_data(draw(name, kind, shape, std, rng))
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--powerinfer", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    start = time.monotonic()
    write(args.out, args.powerinfer, args.seed)
    size = args.out.stat().st_size
    print(f"{args.out}: {size:,} bytes in {time.monotonic() - start:.0f} s")
    if not args.powerinfer:
        print(f"the published file has {PUBLISHED:,} bytes: {size - PUBLISHED:+,}")


if __name__ == "__main__":
    main()
