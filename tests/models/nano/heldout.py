"""Writes the held-out tests: skills/{commands,arithmetic,recall,identity}.jsonl and skills/heldout.txt.

Their slots (not merely their sentences) never occur in training; see corpus/common.py.
"""

import argparse
import json
import pathlib
import random

from tokenizers import Tokenizer

import corpus
from corpus import recall, stories

COUNTS = {"commands": 400, "arithmetic": 400, "identity": 150}
RECALL_PER_WINDOW = 30
WINDOW = 64
SEED = 20


def line(skill, turns, **more):
    answer = turns[-1][1]
    if len(turns) == 2:
        return {"skill": skill, "prompt": turns[0][1], "answer": answer, **more}
    messages = [{"role": role, "content": text} for role, text in turns[:-1]]
    return {"skill": skill, "messages": messages, "answer": answer, **more}


def distance(tokenizer, turns):
    """Tokens between the end of the told fact and the first token of the answer."""
    fact = turns[-1][1][1:].rstrip(".")  # its first letter may be a capital
    text = corpus.render(turns[:-1]).removesuffix("<|endoftext|>") + "<|im_start|>assistant\n"
    told = text.index(fact) + len(fact)
    return len(tokenizer.encode(text[told:]).ids), len(tokenizer.encode(text).ids)


def recall_lines(tokenizer, rng, context):
    """Equally many for each distance of 2, 3, 4, 5 and 6 windows (rounded down)."""
    wanted = dict.fromkeys(range(2, 7), RECALL_PER_WINDOW)
    while any(wanted.values()):
        turns = recall.sample(rng, True, size=rng.randrange(300, recall.LONGEST + 200)).turns
        far, total = distance(tokenizer, turns)
        windows = far // WINDOW
        if total <= context - 32 and wanted.get(windows, 0) > 0:
            wanted[windows] -= 1
            yield line("recall", turns, windows=windows)


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--tokenizer", default="tokenizer.json")
    args.add_argument("--out", type=pathlib.Path, default="skills")
    args.add_argument("--context", type=int, default=512)
    args = args.parse_args()
    rng = random.Random(SEED)
    tests = {s: [line(s, corpus.SKILLS[s](rng, True).turns) for _ in range(n)] for s, n in COUNTS.items()}
    tests["recall"] = list(recall_lines(Tokenizer.from_file(args.tokenizer), rng, args.context))
    args.out.mkdir(exist_ok=True)
    for skill, lines in tests.items():
        text = "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines)
        (args.out / f"{skill}.jsonl").write_text(text)
    (args.out / "heldout.txt").write_text("\n".join(stories.story(rng, True) for _ in range(300)) + "\n")


if __name__ == "__main__":
    main()
