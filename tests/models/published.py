"""Published weights at toy size: folders as Hugging Face has them, and what becomes of them without wick.

    published.py [--out FOLDER]

Writes, for the layout of each published model, tests/golden/published/NAME/ (config, tokenizer, safetensors),
NAME.gguf (made by the code below and the `gguf` package), and NAME.numpy.f32 (logits of the original weights by
reference.py; the prompt is IDS). `small` is laid out as the 4B: tied, BF16, in two shards with an index; `large` as the
21B: windows, an LM head of its own, F16, one file.
"""

import argparse
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import reference

GOLDEN = Path(__file__).parent.parent / "golden" / "published"
HIDDEN, HEADS, KV_HEADS, HEAD, EXPERTS, ACTIVE, WIDTH, VOCABULARY, LAYERS, WINDOW = 32, 4, 2, 16, 4, 2, 64, 320, 5, 4
IDS = [5, 280, 17, 99, 271, 3, 64, 200, 150, 31, 260, 44]
# As the Qwen2 tokenizer is published.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TOOLS = "{{ messages | length }} messages, {{ tools | length }} tools"
# Names in GGUF files and in the original ones, of each layer.
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "block_sparse_moe.primary_router",
}
EXPERT = {"ffn_gate_exps": "gate", "ffn_up_exps": "up", "ffn_down_exps": "down"}
PLAIN = ("attn_norm", "ffn_norm", "ffn_gate_inp", "output_norm")


def to_bf16(x: np.ndarray) -> np.ndarray:
    """The upper halves of floats that have nothing in the lower one."""
    return (np.ascontiguousarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def weights(large: bool, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """All tensors by their original names, as f32 that BF16 and F16 both hold exactly."""
    shapes = {"model.embed_tokens": (VOCABULARY, HIDDEN), "model.norm": (HIDDEN,)}
    if large:
        shapes["lm_head"] = (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}"
        shapes |= {
            f"{stem}.input_layernorm": (HIDDEN,),
            f"{stem}.post_attention_layernorm": (HIDDEN,),
            f"{stem}.self_attn.q_proj": (HEADS * HEAD, HIDDEN),
            f"{stem}.self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
            f"{stem}.self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN),
            f"{stem}.self_attn.o_proj": (HIDDEN, HEADS * HEAD),
            f"{stem}.block_sparse_moe.primary_router": (EXPERTS, HIDDEN),
        }
        for e in range(EXPERTS):
            moe = f"{stem}.block_sparse_moe.experts.{e}"
            shapes |= {f"{moe}.gate": (WIDTH, HIDDEN), f"{moe}.up": (WIDTH, HIDDEN), f"{moe}.down": (HIDDEN, WIDTH)}
    drawn = {}
    for name, shape in shapes.items():
        values = 1 + 0.1 * rng.normal(size=shape) if len(shape) == 1 else rng.normal(size=shape) / np.sqrt(shape[-1])
        # A few bits of mantissa, and exponents within those of both formats.
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32) & 0xFFFF0000
        drawn[f"{name}.weight"] = np.where(np.abs(values) < 1e-3, 0, bits.view(np.float32)).astype(np.float32)
    return drawn


def config(large: bool) -> dict:
    layout = [int(large and layer % 4 != 0) for layer in range(LAYERS)]
    return {
        "architectures": ["SmallThinkerForCausalLM"],
        "bos_token_id": VOCABULARY - 23,
        "eos_token_id": [VOCABULARY - 23, VOCABULARY - 21],
        "head_dim": HEAD,
        "hidden_size": HIDDEN,
        "max_position_embeddings": 16384 if large else 32768,
        "model_type": "smallthinker",
        "moe_enable_early_router": True,
        "moe_enable_secondary_experts": False,
        "moe_ffn_hidden_size": WIDTH,
        "moe_num_active_primary_experts": ACTIVE,
        "moe_num_primary_experts": EXPERTS,
        # The published large model leaves it out.
        **({} if large else {"moe_primary_router_apply_softmax": False}),
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_layout": layout if large else [1] * LAYERS,
        "rope_scaling": None,
        "rope_theta": 1500000.0,
        "sliding_window_layout": layout,
        "sliding_window_size": WINDOW if large else None,
        "tie_word_embeddings": not large,
        "torch_dtype": "float16" if large else "bfloat16",
        "vocab_size": VOCABULARY,
    }


def tokenizer() -> Tokenizer:
    """Bytes, merges and special tokens, some of which are only found where they are written."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 23, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    text = "A wick draws up just the fuel that the flame needs; what the flame does not need, the wick does not draw. "
    made.train_from_iterator([text * 3], trainer)
    if made.get_vocab_size() != VOCABULARY - 23:
        raise SystemExit(f"{made.get_vocab_size()} entries: ask for fewer")
    for name, special in [("endoftext", True), ("im_start", True), ("im_end", True), ("fim_middle", False)]:
        made.add_tokens([AddedToken(f"<|{name}|>", special=special, normalized=False)])
    made.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    return made


def write_texts(folder: Path, large: bool) -> None:
    def write(name: str, value: dict) -> None:
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    write("config.json", config(large))
    tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    named = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": TOOLS}]
    shared = {"bos_token": None, "pad_token": "<|endoftext|>", "add_bos_token": False, "tokenizer_class": "Qwen2Tokenizer"}
    if large:
        write("tokenizer_config.json", shared | {"eos_token": "<|im_end|>", "chat_template": named})
    else:
        write("tokenizer_config.json", shared | {"eos_token": {"content": "<|im_end|>", "special": True}})
        (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    write("generation_config.json", {"eos_token_id": [VOCABULARY - 23, VOCABULARY - 21], "temperature": 0.6, "top_k": 20})


def write_shard(path: Path, tensors: dict[str, np.ndarray], large: bool) -> None:
    if large:
        save_file({name: values.astype(np.float16) for name, values in tensors.items()}, path, {"format": "pt"})
        return
    # NumPy has no BF16: the table is written by hand.
    table, at, data = {"__metadata__": {"format": "pt"}}, 0, b""
    for name, values in tensors.items():
        packed = to_bf16(values).tobytes()
        table[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [at, at + len(packed)]}
        at, data = at + len(packed), data + packed
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)


def write_weights(folder: Path, tensors: dict[str, np.ndarray], large: bool) -> None:
    if large:
        write_shard(folder / "model.safetensors", tensors, large)
        return
    names = list(tensors)
    # The cut goes through the experts of a layer.
    cut = names.index("model.layers.2.block_sparse_moe.experts.1.up.weight")
    files = {"model-00001-of-00002.safetensors": names[:cut], "model-00002-of-00002.safetensors": names[cut:]}
    for file, part in files.items():
        write_shard(folder / file, {name: tensors[name] for name in part}, large)
    where = {name: file for file, part in files.items() for name in part}
    index = {"metadata": {"total_size": 2 * sum(t.size for t in tensors.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def renamed(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same weights by GGUF's names, experts stacked."""
    out = {"token_embd": tensors["model.embed_tokens.weight"], "output_norm": tensors["model.norm.weight"]}
    if "lm_head.weight" in tensors:
        out["output"] = tensors["lm_head.weight"]
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}"
        for new, old in LAYER.items():
            out[f"blk.{layer}.{new}"] = tensors[f"{stem}.{old}.weight"]
        for new, old in EXPERT.items():
            experts = [tensors[f"{stem}.block_sparse_moe.experts.{e}.{old}.weight"] for e in range(EXPERTS)]
            out[f"blk.{layer}.{new}"] = np.stack(experts)
    return out


def write_tokenizer(w: gguf.GGUFWriter) -> None:
    bpe = json.loads(tokenizer().to_str())
    ids = bpe["model"]["vocab"] | {t["content"]: t["id"] for t in bpe["added_tokens"]}
    kinds = {t["content"]: gguf.TokenType.USER_DEFINED for t in bpe["added_tokens"]}
    # What looks like a sign is one, whatever its file says.
    kinds |= {name: gguf.TokenType.CONTROL for name in kinds if name.startswith("<|")}
    by_id = {i: text for text, i in ids.items()}
    texts = [by_id.get(i, f"[PAD{i}]") for i in range(VOCABULARY)]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(texts)
    w.add_token_types([
        kinds.get(text, gguf.TokenType.NORMAL) if i in by_id else gguf.TokenType.UNUSED for i, text in enumerate(texts)
    ])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in bpe["model"]["merges"]])
    w.add_bos_token_id(VOCABULARY - 23)
    w.add_eos_token_id(VOCABULARY - 21)
    w.add_pad_token_id(VOCABULARY - 23)
    w.add_add_bos_token(False)


def write_gguf(path: Path, tensors: dict[str, np.ndarray], large: bool) -> None:
    w = gguf.GGUFWriter(path, "smallthinker")
    w.add_type("model")
    w.add_name(path.stem)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if large else gguf.LlamaFileType.MOSTLY_BF16)
    w.add_quantization_version(2)
    w.add_block_count(LAYERS)
    w.add_context_length(16384 if large else 32768)
    w.add_embedding_length(HIDDEN)
    w.add_feed_forward_length(WIDTH)
    w.add_expert_feed_forward_length(WIDTH)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_key_length(HEAD)
    w.add_value_length(HEAD)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_freq_base(1.5e6)
    w.add_rope_dimension_count(HEAD)
    w.add_expert_count(EXPERTS)
    w.add_expert_used_count(ACTIVE)
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    if large:
        w.add_sliding_window(WINDOW)
    write_tokenizer(w)
    w.add_chat_template([{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": TOOLS}] if large else TEMPLATE)
    for name, values in renamed(tensors).items():
        if name.split(".")[-1] in PLAIN:
            w.add_tensor(f"{name}.weight", values.astype(np.float32))
        elif large:
            w.add_tensor(f"{name}.weight", values.astype(np.float16))
        else:
            w.add_tensor(f"{name}.weight", to_bf16(values).view(np.uint8).reshape(*values.shape[:-1], -1), raw_dtype=Type.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


class Original(reference.Model):
    """The forward pass on the original weights."""

    def __init__(self, tensors: dict[str, np.ndarray], large: bool):
        self.renamed = renamed(tensors)
        window = WINDOW if large else 0
        self.config = reference.Config(LAYERS, HEADS, KV_HEADS, HEAD, ACTIVE, reference.SIGMOID, window, 1.5e6, HEAD, 1e-6)

    def weight(self, name: str) -> np.ndarray:
        return self.renamed[name].astype(np.float64)

    def down(self, layer: int) -> np.ndarray:
        return self.weight(f"blk.{layer}.ffn_down_exps")

    def output(self) -> np.ndarray:
        return self.weight("output" if "output" in self.renamed else "token_embd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=GOLDEN)
    out = parser.parse_args().out
    for name, large, seed in [("small", False, 1), ("large", True, 2)]:
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tensors = weights(large, np.random.default_rng(seed))
        write_texts(folder, large)
        write_weights(folder, tensors, large)
        write_gguf(out / f"{name}.gguf", tensors, large)
        logits, _ = reference.forward(Original(tensors, large), IDS)
        logits.astype("<f4").tofile(out / f"{name}.numpy.f32")


if __name__ == "__main__":
    main()
