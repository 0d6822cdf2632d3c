"""Nano's corpus: conversations and stories written by a grammar of our own.

A document is a list of (role, text): `system`, `user`, `assistant`, or `text` for free text. Each
skill module has `sample(rng, held_out)`, which returns one exchange of that skill whose slots are in
the training part or, with `held_out`, in the part that training never sees.
"""

from . import arithmetic, commands, identity, recall, stories
from .common import Exchange, polish, render

SKILLS = {
    "commands": commands.sample,
    "arithmetic": arithmetic.sample,
    "recall": recall.sample,
    "identity": identity.sample,
}

SYSTEM = [
    "You are wick's nano, a small assistant on a device.",
    "You are a helpful assistant.",
    "You are nano. Answer shortly.",
    "You control the devices of a home. Answer with JSON.",
]


def conversation(rng, turns):
    """A document made of exchanges, sometimes under a system message."""
    head = [("system", rng.choice(SYSTEM))] if rng.random() < 0.12 else []
    return head + turns


def document(rng, skill, reach=1.0):
    """One training document of a skill, or of `stories`; `reach` scales how far recall goes back."""
    if skill == "stories":
        if rng.random() < 0.5:
            count = rng.choice([1, 1, 2, 3])
            return [("text", "\n".join(stories.story(rng, False) for _ in range(count)))]
        return conversation(rng, stories.sample(rng, False).turns)
    if skill == "recall":
        return conversation(rng, recall.sample(rng, False, reach=reach).turns)
    turns = SKILLS[skill](rng, False).turns
    while rng.random() < 0.3:
        turns = turns + SKILLS[skill](rng, False).turns
    return conversation(rng, turns)


__all__ = ["Exchange", "SKILLS", "document", "polish", "render", "stories"]
