"""Writes a checkpoint as a GGUF file with the tensors and keys of the published SmallThinker files."""

import argparse
import json

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

import checkpoint
import model

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The matrices' type; the tied embedding keeps 8 bits, since it is the LM head too.
MODES = {
    "q4_0": (Type.Q4_0, Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q4_0),
    "q8_0": (Type.Q8_0, Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "f32": (Type.F32, Type.F32, gguf.LlamaFileType.ALL_F32),
}


def write_keys(w, c, file_type):
    w.add_type("model")
    w.add_name("wick nano")
    w.add_description("A small SmallThinker trained by wick on text of its own grammar")
    w.add_license("MIT OR Apache-2.0")
    w.add_languages(["en"])
    w.add_file_type(file_type)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_block_count(c.layers)
    w.add_context_length(c.context)
    w.add_embedding_length(c.hidden)
    w.add_feed_forward_length(c.expert_width)
    w.add_expert_feed_forward_length(c.expert_width)
    w.add_head_count(c.heads)
    w.add_head_count_kv(c.kv_heads)
    w.add_key_length(c.head_size)
    w.add_value_length(c.head_size)
    w.add_layer_norm_rms_eps(c.eps)
    w.add_rope_freq_base(c.rope_theta)
    w.add_rope_dimension_count(c.head_size)
    w.add_expert_count(c.experts)
    w.add_expert_used_count(c.active)
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    w.add_sliding_window(c.window)


def write_tokenizer(w, path):
    with open(path, encoding="utf-8") as file:
        bpe = json.load(file)
    special = {t["content"] for t in bpe["added_tokens"]}
    vocab = bpe["model"]["vocab"] | {t["content"]: t["id"] for t in bpe["added_tokens"]}
    tokens = sorted(vocab, key=vocab.get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in bpe["model"]["merges"]]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges(merges)
    w.add_bos_token_id(vocab["<|endoftext|>"])
    w.add_eos_token_id(vocab["<|im_end|>"])
    w.add_pad_token_id(vocab["<|endoftext|>"])
    w.add_add_bos_token(False)
    w.add_chat_template(TEMPLATE)
    return len(tokens)


def tensors(params, layers):
    """(name, values, whether it is a matrix) in the order of the published files."""
    yield "token_embd.weight", params["token_embd"], True
    for layer in range(layers):
        for name, value in params.items():
            if name not in ("token_embd", "output_norm"):
                yield f"blk.{layer}.{name}.weight", value[layer], name in model.MATRICES
    yield "output_norm.weight", params["output_norm"], False


def write(path, params, tokenizer, mode="q4_0"):
    matrix, embedding, file_type = MODES[mode]
    w = gguf.GGUFWriter(path, "smallthinker")
    vocab, hidden = params["token_embd"].shape
    config = model.Config(vocab=vocab, hidden=hidden, layers=params["attn_q"].shape[0])
    write_keys(w, config, file_type)
    if write_tokenizer(w, tokenizer) != vocab:
        raise SystemExit(f"{tokenizer}: not {vocab} entries, as the checkpoint's embedding has")
    for name, value, is_matrix in tensors(params, config.layers):
        kind = embedding if name == "token_embd.weight" else matrix if is_matrix else Type.F32
        value = np.ascontiguousarray(value, np.float32)
        w.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--checkpoint", default="nano.npz")
    args.add_argument("--tokenizer", default="tokenizer.json")
    args.add_argument("--mode", choices=MODES, default="q4_0")
    args.add_argument("--out", default="nano.gguf")
    args = args.parse_args()
    write(args.out, checkpoint.load_params(args.checkpoint), args.tokenizer, args.mode)
