"""What the skills share: the split into training and held-out slots, and everyday spelling."""

import hashlib
from dataclasses import dataclass

HELD_OUT_PER_MILLE = 80


@dataclass
class Exchange:
    """Turns as (role, text); the last one is the answer that a test compares."""

    turns: list


def is_held_out(*slots):
    """Whether training leaves this combination of slots out; depends on the slots alone."""
    digest = hashlib.blake2b("|".join(map(str, slots)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % 1000 < HELD_OUT_PER_MILLE


def draw(rng, make, held_out):
    """Calls make(rng) -> (slots, value) until the slots fall into the wanted part."""
    while True:
        slots, value = make(rng)
        if is_held_out(*slots) == held_out:
            return value


def typo(rng, text):
    """Swaps two neighboring letters inside one word of five or more lowercase letters."""
    words = text.split(" ")
    long = [i for i, w in enumerate(words) if len(w) >= 6 and w.isalpha() and w.islower()]
    if not long:
        return text
    i = rng.choice(long)
    at = rng.randrange(2, len(words[i]) - 2)
    w = words[i]
    words[i] = w[:at] + w[at + 1] + w[at] + w[at + 2 :]
    return " ".join(words)


def polish(rng, text, question=False, typos=True, polite=True):
    """Writes a lowercase request as people do: capitals, punctuation, politeness, rare typos."""
    r = rng.random() if polite else 1.0
    if r < 0.10:
        text = "please " + text
    elif r < 0.18:
        text = text + rng.choice([" please", ", please"])
    elif r < 0.26:
        text = rng.choice(["hey nano, ", "nano, ", "hi, ", "hey, ", "ok, ", "ok nano, ", "and now "]) + text
    if typos and rng.random() < 0.02:
        text = typo(rng, text)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    r = rng.random()
    if question:
        text += "?" if r < 0.6 else ""
    else:
        text += "." if r < 0.3 else "!" if r < 0.34 else ""
    return text


def render(turns):
    """The text of a document: ChatML, or the bare text."""
    return "".join(piece for piece, _ in pieces(turns)) + "<|endoftext|>"


def pieces(turns):
    """(text, learned) parts of a document; `learned` marks what the model itself should say."""
    out = []
    for role, text in turns:
        if role == "text":
            out.append((text + "\n", True))
        else:
            out.append((f"<|im_start|>{role}\n", False))
            out.append((text + "<|im_end|>", role == "assistant"))
            out.append(("\n", False))
    return out
