"""Writes a checkpoint as a folder of published weights, which `wick convert` makes a file of.

Names, configuration and tokenizer are those of the published SmallThinker models; weights are F32.
"""

import argparse
import json
import pathlib
import shutil

import numpy as np
from safetensors.numpy import save_file

import checkpoint
import model
from export import TEMPLATE

# Names in checkpoints, which are GGUF's, and in published weights, of each layer.
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
END, TURN = "<|endoftext|>", "<|im_end|>"


def config(c, bpe):
    """config.json: window and RoPE for all layers but every fourth, beginning with the first."""
    ids = {t["content"]: t["id"] for t in bpe["added_tokens"]}
    layout = [int(layer % 4 != 0) for layer in range(c.layers)]
    return {
        "architectures": ["SmallThinkerForCausalLM"],
        "bos_token_id": ids[END],
        "eos_token_id": [ids[END], ids[TURN]],
        "head_dim": c.head_size,
        "hidden_size": c.hidden,
        "max_position_embeddings": c.context,
        "model_type": "smallthinker",
        "moe_ffn_hidden_size": c.expert_width,
        "moe_num_active_primary_experts": c.active,
        "moe_num_primary_experts": c.experts,
        "moe_primary_router_apply_softmax": False,
        "num_attention_heads": c.heads,
        "num_hidden_layers": c.layers,
        "num_key_value_heads": c.kv_heads,
        "pad_token_id": ids[END],
        "rms_norm_eps": c.eps,
        "rope_layout": layout,
        "rope_scaling": None,
        "rope_theta": c.rope_theta,
        "sliding_window_layout": layout,
        "sliding_window_size": c.window,
        "tie_word_embeddings": True,
        "vocab_size": c.vocab,
    }


def tensors(params, layers):
    """All weights by their published names: an expert is a tensor of its own."""
    out = {"model.embed_tokens": params["token_embd"], "model.norm": params["output_norm"]}
    for layer in range(layers):
        stem = f"model.layers.{layer}"
        out |= {f"{stem}.{new}": params[old][layer] for old, new in LAYER.items()}
        for old, new in EXPERT.items():
            for e, values in enumerate(params[old][layer]):
                out[f"{stem}.block_sparse_moe.experts.{e}.{new}"] = values
    return {f"{name}.weight": np.ascontiguousarray(values, np.float32) for name, values in out.items()}


def write(folder, params, tokenizer, c=None):
    """Writes the folder; `c` is the default shape with the checkpoint's sizes if it is not given."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocab, hidden = params["token_embd"].shape
    c = c or model.Config(vocab=vocab, hidden=hidden, layers=params["attn_q"].shape[0])
    bpe = json.loads(pathlib.Path(tokenizer).read_text(encoding="utf-8"))
    if pathlib.Path(tokenizer).resolve() != (folder / "tokenizer.json").resolve():
        shutil.copy(tokenizer, folder / "tokenizer.json")
    texts = {
        "config.json": config(c, bpe),
        "tokenizer_config.json": {"add_bos_token": False, "bos_token": None, "eos_token": TURN, "pad_token": END},
    }
    for name, value in texts.items():
        (folder / name).write_text(json.dumps(value, indent=1) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    save_file(tensors(params, c.layers), folder / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--checkpoint", default="nano.npz")
    args.add_argument("--tokenizer", default="tokenizer.json")
    args.add_argument("--out", default="nano")
    args = args.parse_args()
    write(args.out, checkpoint.load_params(args.checkpoint), args.tokenizer)
