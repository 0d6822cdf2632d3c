#!/usr/bin/env python3
"""Train the vocabulary of the tokenizer's tests.

Writes vocabulary.json, a `tokenizer.json` as Hugging Face's `tokenizers` reads it: byte-level BPE with the
split rule of Qwen2, trained on scripts.txt and on this file. Its special tokens are those of the model, with
two of kind "user defined" (not special), one a prefix of the other.

    pip install tokenizers
    python3 tests/text/make_vocabulary.py
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).resolve().parent
SIZE = 3000
SPLIT = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<tool", "<tool_call>", "</tool_call>"]


def read(path):
    """The file's text with its line ends as they are."""
    return path.read_bytes().decode("utf-8")


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([read(HERE / "scripts.txt"), read(Path(__file__))], trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in USER_DEFINED])
    return tokenizer


def main():
    tokenizer = json.loads(train().to_str())
    path = HERE / "vocabulary.json"
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")
    model = tokenizer["model"]
    print(f"{path.name}: {len(model['vocab'])} tokens, {len(model['merges'])} merges, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
