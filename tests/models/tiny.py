"""Tiny random SmallThinker models, one for each thing that a reader of these files can get wrong.

    tiny.py [NAME ...]      writes tests/golden/NAME.gguf, all of them without a name

Everything is drawn from the seed: the same versions of numpy and gguf make the same files.
"""

import sys
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

import blocks
import vocabulary

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SOFTMAX, SIGMOID = 1, 2


@dataclass(frozen=True)
class Model:
    name: str
    shows: str
    hidden: int
    heads: int
    kv_heads: int
    head: int
    width: int  # of one expert
    experts: int
    active: int
    layers: int
    vocabulary: int
    kind: Type = Type.F32
    kinds: dict[str, Type] = field(default_factory=dict)  # by tensor name without layer and ".weight"
    tied: bool = True
    gating: int | None = SIGMOID  # None: the key is left out
    window: int | None = None
    theta: float = 1.5e6
    branch: float = 0.4  # what attention and experts add to the stream, of an embedding
    eps: float = 1e-6
    rope_dim: int | None = None  # None: the key is left out
    transposed: bool = False  # PowerInfer's: down as [H, F, E], with the profiler's tensor
    alignment: int | None = None
    split: int = 0  # tensors in each file, 0: one file
    seed: str = ""  # models with the same seed have the same weights

    def kind_of(self, tensor: str) -> Type:
        return self.kinds.get(tensor, self.kind)

    @property
    def file(self) -> str:
        return f"{self.name}-00001-of-00002.gguf" if self.split else f"{self.name}.gguf"


def k_mix(kind: Type, **kinds: Type) -> dict:
    return dict(
        hidden=256, heads=16, kv_heads=8, head=16, width=256, experts=3, active=2, layers=1,
        vocabulary=288, tied=False, theta=1e4, branch=0.25, kind=kind, kinds={"output": Type.Q6_K, **kinds},
    )  # fmt: skip


MODELS = [
    Model(
        "f32-sigmoid-tied", "the plain case; odd H, GQA 6, query width 96 over H = 40",
        hidden=40, heads=6, kv_heads=1, head=16, width=24, experts=5, active=2, layers=3, vocabulary=307, theta=1e4,
    ),
    Model(
        "f16-softmax-untied", "softmax over the chosen experts, own output matrix, an epsilon that shows",
        hidden=56, heads=4, kv_heads=2, head=32, width=40, experts=6, active=3, layers=2, vocabulary=320,
        kind=Type.F16, tied=False, gating=SOFTMAX, rope_dim=32, eps=1e-2,
    ),
    Model(
        "window8", "window of 8 on layers 1-3, NoPE on 0 and 4; GQA 1",
        hidden=48, heads=4, kv_heads=4, head=16, width=32, experts=4, active=2, layers=5, vocabulary=320,
        kind=Type.F16, window=8, theta=1e4, seed="window",
    ),
    Model(
        "window4096", "the same weights, window of 4096: NoPE alone shows in a short prompt",
        hidden=48, heads=4, kv_heads=4, head=16, width=32, experts=4, active=2, layers=5, vocabulary=320,
        kind=Type.F16, window=4096, theta=1e4, seed="window",
    ),
    Model(
        "q4_0-tied", "pure Q4_0; query width 96, H = 64, GQA 3",
        hidden=64, heads=3, kv_heads=1, head=32, width=96, experts=8, active=3, layers=3, vocabulary=320, kind=Type.Q4_0,
    ),
    Model(
        "q4_0-q6_k-output", "as the published 4B: Q4_0 with an output matrix in Q6_K, one type of file; GQA 4",
        hidden=256, heads=8, kv_heads=2, head=16, width=64, experts=4, active=2, layers=2, vocabulary=320,
        kind=Type.Q4_0, kinds={"output": Type.Q6_K}, tied=False,
    ),
    Model(
        "q8_0", "Q8_0, untied, tensors aligned to 64; F = H, so down's orientation does not show in its shape",
        hidden=64, heads=4, kv_heads=2, head=16, width=64, experts=4, active=2, layers=2, vocabulary=301,
        kind=Type.Q8_0, tied=False, theta=1e4, alignment=64,
    ),
    Model("q4_k_m", "types as llama.cpp mixes them for Q4_K_M", **k_mix(Type.Q4_K, attn_v=Type.Q6_K, ffn_down_exps=Type.Q6_K)),
    Model("q5_k_m", "Q5_K_M", **k_mix(Type.Q5_K, attn_v=Type.Q6_K, ffn_down_exps=Type.Q6_K)),
    Model("q3_k_m", "Q3_K_M", **k_mix(Type.Q3_K, attn_v=Type.Q5_K, attn_output=Type.Q4_K, ffn_down_exps=Type.Q4_K)),
    Model("q2_k", "Q2_K", **k_mix(Type.Q2_K, attn_v=Type.Q3_K, attn_output=Type.Q3_K, ffn_down_exps=Type.Q3_K)),
    Model(
        "powerinfer", "PowerInfer's variant: down transposed, pure Q4_0, tied, lm_head_profiler",
        hidden=64, heads=6, kv_heads=2, head=16, width=96, experts=6, active=2, layers=2, vocabulary=320,
        kind=Type.Q4_0, transposed=True, gating=None,
    ),
    Model(
        "legacy-mix", "Q4_1, Q5_0, Q5_1 and BF16 in one file; GQA 5",
        hidden=96, heads=5, kv_heads=1, head=32, width=64, experts=5, active=2, layers=2, vocabulary=320,
        kind=Type.Q4_1, kinds={
            "token_embd": Type.Q5_0, "output": Type.Q5_1, "attn_k": Type.Q5_1, "attn_v": Type.BF16,
            "attn_output": Type.Q5_0, "ffn_up_exps": Type.Q5_0, "ffn_down_exps": Type.Q5_1,
        }, tied=False,
    ),
    Model(
        "no-gating-key", "expert_gating_func left out: sigmoid",
        hidden=36, heads=2, kv_heads=1, head=32, width=20, experts=7, active=3, layers=2, vocabulary=311,
        kind=Type.F16, gating=None,
    ),
    Model(
        "partial-rope", "rope.dimension_count 16 in a head of 32",
        hidden=44, heads=2, kv_heads=2, head=32, width=28, experts=3, active=2, layers=2, vocabulary=320,
        kind=Type.F16, theta=1e4, rope_dim=16,
    ),
    Model(
        "split", "one model in two files",
        hidden=64, heads=2, kv_heads=1, head=16, width=32, experts=4, active=2, layers=2, vocabulary=299,
        kind=Type.Q8_0, split=12,
    ),
]  # fmt: skip


def tensors(model: Model):
    """Yields (name, type, data). Rows are the last axis, as in NumPy; GGUF names them in the other order."""
    rng = np.random.default_rng(zlib.crc32((model.seed or model.name).encode()))
    hidden, query, kv = model.hidden, model.heads * model.head, model.kv_heads * model.head
    stream = 2.0 / np.sqrt(hidden)  # of an embedding: logits then spread over a few units
    branch = model.branch * stream

    def matrix(tensor: str, shape: tuple[int, ...], std: float, layer: int | None = None):
        prefix = "" if layer is None else f"blk.{layer}."
        kind = Type.F32 if tensor == "ffn_gate_inp" else model.kind_of(tensor)
        return f"{prefix}{tensor}.weight", kind, blocks.random_tensor(kind, shape, std, rng)

    def norm(name: str):
        return f"{name}.weight", Type.F32, rng.normal(1.0, 0.2, hidden).astype(np.float32)

    yield matrix("token_embd", (model.vocabulary, hidden), stream)
    # Signs keep a tied model from always preferring the token it has just read.
    name, kind, gain = norm("output_norm")
    yield name, kind, gain * rng.choice(np.float32([-1, 1]), hidden)
    if not model.tied:
        yield matrix("output", (model.vocabulary, hidden), stream)
    for layer in range(model.layers):
        residual = np.hypot(stream, branch * np.sqrt(layer))  # the router reads the stream as it has grown
        yield norm(f"blk.{layer}.attn_norm")
        yield matrix("attn_q", (query, hidden), 1.2 / np.sqrt(hidden), layer)
        yield matrix("attn_k", (kv, hidden), 1.2 / np.sqrt(hidden), layer)
        yield matrix("attn_v", (kv, hidden), 1.0 / np.sqrt(hidden), layer)
        yield matrix("attn_output", (hidden, query), branch / np.sqrt(query), layer)
        yield norm(f"blk.{layer}.ffn_norm")
        yield matrix("ffn_gate_inp", (model.experts, hidden), 1.2 / np.sqrt(hidden) / residual, layer)
        yield matrix("ffn_gate_exps", (model.experts, model.width, hidden), 1.0 / np.sqrt(hidden), layer)
        yield matrix("ffn_up_exps", (model.experts, model.width, hidden), 1.0 / np.sqrt(hidden), layer)
        down = (model.width, hidden) if model.transposed else (hidden, model.width)
        yield matrix("ffn_down_exps", (model.experts, *down), 1.5 * branch / np.sqrt(model.width), layer)
    if model.transposed:
        yield matrix("lm_head_profiler", (1, 128 * (hidden + model.vocabulary)), 0.1)


def add_keys(writer: gguf.GGUFWriter, model: Model) -> None:
    writer.add_type("model")
    writer.add_name(f"tiny-{model.name}")
    writer.add_block_count(model.layers)
    writer.add_context_length(8192)
    writer.add_embedding_length(model.hidden)
    writer.add_feed_forward_length(model.width)
    writer.add_expert_feed_forward_length(model.width)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_key_length(model.head)
    writer.add_value_length(model.head)
    writer.add_layer_norm_rms_eps(model.eps)
    writer.add_rope_freq_base(model.theta)
    writer.add_expert_count(model.experts)
    writer.add_expert_used_count(model.active)
    if model.rope_dim is not None:
        writer.add_rope_dimension_count(model.rope_dim)
    if model.gating is not None:
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType(model.gating))
    if model.window is not None:
        writer.add_sliding_window(model.window)
    if model.alignment is not None:
        writer.add_custom_alignment(model.alignment)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def write(model: Model, folder: Path) -> None:
    writer = gguf.GGUFWriter(folder / f"{model.name}.gguf", "smallthinker", split_max_tensors=model.split)
    add_keys(writer, model)
    vocabulary.add_to(writer, vocabulary.small(model.vocabulary))
    for name, kind, data in tensors(model):
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    wanted = sys.argv[1:] or [model.name for model in MODELS]
    GOLDEN.mkdir(exist_ok=True)
    for model in MODELS:
        if model.name in wanted:
            write(model, GOLDEN)
            size = sum(path.stat().st_size for path in GOLDEN.glob(f"{model.name}*.gguf"))
            print(f"{model.name:20} {size:9,} bytes")


if __name__ == "__main__":
    main()
