"""Reads a SmallThinker GGUF back: configuration, dequantized parameters, tokenizer."""

import gguf
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

import model
from tokenizer import SPLIT


def open_file(path):
    return gguf.GGUFReader(path)


def config(reader):
    def key(name):
        return reader.fields[f"smallthinker.{name}"].contents()

    return model.Config(
        vocab=len(reader.fields["tokenizer.ggml.tokens"].data),
        hidden=key("embedding_length"),
        layers=key("block_count"),
        heads=key("attention.head_count"),
        kv_heads=key("attention.head_count_kv"),
        head_size=key("attention.key_length"),
        experts=key("expert_count"),
        active=key("expert_used_count"),
        expert_width=key("expert_feed_forward_length"),
        window=key("attention.sliding_window"),
        context=key("context_length"),
        rope_theta=float(key("rope.freq_base")),
        eps=float(key("attention.layer_norm_rms_epsilon")),
    )


def params(reader):
    """f32 parameters as `model.init` lays them out."""
    values = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    out = {k: values[f"{k}.weight"] for k in ("token_embd", "output_norm")}
    layers = reader.fields["smallthinker.block_count"].contents()
    for name in (n.split(".")[2] for n in values if n.startswith("blk.0.")):
        out[name] = np.stack([values[f"blk.{i}.{name}.weight"] for i in range(layers)])
    return out


def tokenizer(reader):
    """The tokenizer rebuilt from the file's own vocabulary and merges."""
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    special = [t for t, kind in zip(tokens, types) if kind == gguf.TokenType.CONTROL]
    bpe = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return bpe
