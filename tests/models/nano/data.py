"""Packs documents into training sequences, one stream of skills for each data-parallel group."""

import random

import numpy as np

import corpus
from corpus.common import pieces

# Share of the tokens that each skill gets inside its group; the groups see different skills.
GROUPS = [
    {"commands": 0.40, "recall": 0.60},
    {"arithmetic": 0.48, "stories": 0.34, "identity": 0.18},
]
# A further leg leans towards what takes longest to learn.
LATER_GROUPS = [
    {"commands": 0.22, "recall": 0.78},
    {"arithmetic": 0.70, "stories": 0.18, "identity": 0.12},
]
UNLEARNED = 0.1  # weight of a token that the model never has to say itself


def encode(tokenizer, turns):
    """(ids, weights) of a document; weights[i] belongs to predicting ids[i]."""
    ids, weights = [], []
    for text, learned in pieces(turns):
        part = tokenizer.encode(text, add_special_tokens=False).ids
        ids += part
        weights += [1.0 if learned else UNLEARNED] * len(part)
    ids.append(tokenizer.token_to_id("<|endoftext|>"))
    weights.append(1.0 if turns[-1][0] == "text" else UNLEARNED)
    return ids, weights


class Stream:
    """Endless sequences of one group: documents of its skills, packed to `length` + 1 tokens."""

    def __init__(self, tokenizer, shares, length, seed):
        self.tokenizer, self.shares, self.length = tokenizer, shares, length
        self.rng = random.Random(seed)
        self.spent = dict.fromkeys(shares, 0)
        self.waiting, self.reach = [], 1.0

    def next_document(self):
        """A document of the skill that is furthest behind its share."""
        skill = min(self.shares, key=lambda s: self.spent[s] / self.shares[s])
        while True:
            ids, weights = encode(self.tokenizer, corpus.document(self.rng, skill, self.reach))
            if len(ids) <= self.length + 1:
                self.spent[skill] += len(ids)
                return ids, weights

    def fitting(self, room):
        """The first waiting document that fits, else one of a few new ones."""
        for i, document in enumerate(self.waiting):
            if len(document[0]) <= room:
                return self.waiting.pop(i)
        while len(self.waiting) < 12:
            document = self.next_document()
            if len(document[0]) <= room:
                return document
            self.waiting.append(document)
        return None

    def sequence(self):
        """ids, weights, segments, positions, each [length + 1]; what stays empty has segment -1."""
        size = self.length + 1
        ids, segments, positions = (np.zeros(size, np.int32) for _ in range(3))
        weights = np.zeros(size, np.float32)
        segments[:] = -1
        at = number = 0
        while document := self.fitting(size - at):
            n = len(document[0])
            ids[at : at + n], weights[at : at + n] = document
            weights[at] = 0  # nothing comes before a document's first token
            segments[at : at + n], positions[at : at + n] = number, np.arange(n)
            at, number = at + n, number + 1
        return ids, weights, segments, positions


class Batches:
    """Batches [groups * per_group, length]; the rows of a group lie together."""

    def __init__(self, tokenizer, groups, per_group, length, seed):
        self.streams = [Stream(tokenizer, g, length, f"{seed} {i}") for i, g in enumerate(groups)]
        self.per_group = per_group

    @property
    def reach(self):
        """Share (0 to 1) of the longest distance that documents recall across."""
        return self.streams[0].reach

    @reach.setter
    def reach(self, value):
        for stream in self.streams:
            stream.reach = value

    def __next__(self):
        rows = [s.sequence() for s in self.streams for _ in range(self.per_group)]
        ids, weights, segments, positions = (np.stack(x) for x in zip(*rows))
        return {
            "tokens": ids[:, :-1], "targets": ids[:, 1:], "weights": weights[:, 1:],
            "segments": segments[:, :-1], "positions": positions[:, :-1],
        }
