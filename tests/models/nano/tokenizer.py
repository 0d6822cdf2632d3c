"""Trains nano's byte-level BPE on a sample of the corpus: the Qwen2 split rule, ChatML specials."""

import argparse
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import corpus

SPLIT = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MIX = {"commands": 5, "arithmetic": 3, "recall": 1, "identity": 3, "stories": 3}


def texts(seed, count):
    rng = random.Random(seed)
    names, weights = zip(*MIX.items())
    for _ in range(count):
        for _, text in corpus.document(rng, rng.choices(names, weights)[0]):
            yield text


def train(vocab, seed=7, count=20000):
    """A tokenizer of `vocab` entries: 256 bytes, merges, then the three special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts(seed, count), trainer)
    missing = vocab - len(SPECIAL) - tokenizer.get_vocab_size()
    if missing > 0:
        raise SystemExit(f"the corpus gives {missing} entries too few; ask for a smaller vocabulary")
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return tokenizer


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--vocab", type=int, default=2048)
    args.add_argument("--out", default="tokenizer.json")
    args = args.parse_args()
    train(args.vocab).save(args.out)
