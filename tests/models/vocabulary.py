"""Byte-level BPE vocabularies for generated models, as GGUF metadata stores them.

Tokens are written in GPT-2's printable alphabet for bytes; the order is always 256 bytes, one token
per merge, the special tokens, then unused padding.
"""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

NORMAL, CONTROL, UNUSED = 1, 3, 5

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TEXT = """
The little flame asked the wick for more fuel, and the wick drew up only what the flame needed.
There was a lantern in the window, and then there were ten in the town; each of them was small,
none of them was lonely. In the morning the children were running over the hill to the river,
counting the stones: one, two, three. "What is that?" they said. "It is the light of the evening,"
said the old man, "and it has been waiting there for the night to come again."
"""


@dataclass
class Vocabulary:
    tokens: list[str]
    types: list[int]
    merges: list[str]

    def id(self, token: str) -> int:
        return self.tokens.index(token)


def byte_alphabet() -> list[str]:
    """One printable character per byte, GPT-2's mapping, indexed by byte."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = (chr(0x100 + n) for n in range(256))
    return [chr(b) if b in shown else next(hidden) for b in range(256)]


def assemble(merges: list[tuple[str, str]], size: int) -> Vocabulary:
    alphabet = sorted(byte_alphabet())
    normal = alphabet + [a + b for a, b in merges]
    padding = [f"[PAD{n}]" for n in range(len(normal) + len(SPECIALS), size)]
    tokens = normal + SPECIALS + padding
    types = [NORMAL] * len(normal) + [CONTROL] * len(SPECIALS) + [UNUSED] * len(padding)
    assert len(tokens) == size and len(set(tokens)) == size
    return Vocabulary(tokens, types, [f"{a} {b}" for a, b in merges])


def small(size: int) -> Vocabulary:
    """A vocabulary trained on a paragraph: the most frequent pair first, ties in code point order."""
    alphabet = byte_alphabet()
    pieces = re.findall(r" ?[A-Za-z]+|\s+|[^\sA-Za-z]+", TEXT.strip().replace("\n", " "))
    words = [[alphabet[b] for b in piece.encode()] for piece in pieces]
    merges = []
    while len(merges) < size - 256 - len(SPECIALS):
        pairs = Counter(pair for word in words for pair in zip(word, word[1:]))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = [merge(word, best) for word in words]
    return assemble(merges, size)


def merge(word: list[str], pair: tuple[str, str]) -> list[str]:
    out = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


def large(size: int, merge_count: int, seed: int) -> Vocabulary:
    """Random merges in natural proportions: words with and without a leading space, and short
    strings of two- and three-byte characters. Every product is new, as training would have it."""
    rng = np.random.default_rng(seed)
    alphabet = byte_alphabet()
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    capitals = [c.upper() for c in letters]
    merges: list[tuple[str, str]] = []
    known = set(alphabet)

    def add(left: str, right: str) -> bool:
        if left + right in known:
            return False
        known.add(left + right)
        merges.append((left, right))
        return True

    foreign = []
    for code in [*range(0x3B1, 0x3CA), *range(0x430, 0x450), *range(0x5D0, 0x5EB), *range(0x4E00, 0x5200)]:
        symbols = [alphabet[b] for b in chr(code).encode()]
        for end in range(2, len(symbols) + 1):
            add("".join(symbols[: end - 1]), symbols[end - 1])
        foreign.append("".join(symbols))

    words = [*letters, *capitals, alphabet[0x20]]
    tails = list(letters)
    while len(merges) < merge_count:
        coin, left, right = rng.random(3)
        if coin < 0.12:
            pool_left = pool_right = foreign
        else:
            pool_left, pool_right = words, tails
        # Squaring favors early, short tokens: the lengths come out like those of a trained vocabulary.
        a = pool_left[int(left**2 * len(pool_left))]
        b = pool_right[int(right**2 * len(pool_right))]
        if len(a + b) <= 9 and add(a, b):
            pool_left.append(a + b)
            if pool_left is words and a[0] in letters:
                tails.append(a + b)
    return assemble(merges, size)


def add_to(writer, vocabulary: Vocabulary) -> None:
    """Writes the tokenizer's keys as the published files have them."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.id("<|im_end|>"))
    writer.add_pad_token_id(vocabulary.id("<|endoftext|>"))
    writer.add_bos_token_id(vocabulary.id("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
