"""Reloads a GGUF file, runs the JAX forward pass on its dequantized weights and answers greedily.

Prints what it says to a dozen prompts; with --logits writes instead the logits that follow some tokens
of a text, the reference that an engine can be compared with.
"""

import argparse
import json
import pathlib

import jax.numpy as jnp
import numpy as np

import load
import model

HERE = pathlib.Path(__file__).parent
PROMPTS = [
    "dim the kitchen light to 40 percent", "Please turn off the fan in the office.", "lock the garage door",
    "set the bedroom heater to 21 degrees", "turn on the light", "what is 27 + 45?", "convert 12 km to meters",
    "convert 12 kilometers to meters", "what time is it 45 minutes after 9:30?", "Which day is 3 days after Monday?",
    "who are you", "What can you do?", "thanks!", "Tell me a story about a fox and a lamp.",
]


def logits_of(params, config, ids):
    """Logits [n, vocab] of one document."""
    shape = (1, len(ids))
    zeros, positions = np.zeros(shape, np.int32), np.arange(len(ids), dtype=np.int32)[None]
    out, _ = model.forward(params, np.array([ids], np.int32), zeros, positions, config)
    return np.asarray(out[0])


def complete(params, config, ids, ends, limit=160):
    """Greedy continuation of ids; padded to whole windows, so that few shapes are compiled."""
    answer = []
    while len(answer) < limit and len(ids) + len(answer) < config.context:
        seen = ids + answer
        padded = seen + [0] * (-len(seen) % 128)
        answer.append(int(logits_of(params, config, padded)[len(seen) - 1].argmax()))
        if answer[-1] in ends:
            return answer[:-1]
    return answer


def write_reference(folder, params, config, bpe):
    """A window and a half of held-out text, of which every eighth position keeps the file small."""
    ids = bpe.encode((HERE / "skills" / "heldout.txt").read_text()).ids[: config.window * 3 // 2]
    positions = list(range(7, len(ids), 8))
    folder.mkdir(exist_ok=True)
    (folder / "ids.json").write_text(json.dumps({"ids": ids, "positions": positions}) + "\n")
    logits_of(params, config, ids)[positions].astype("<f4").tofile(folder / "logits.f32")


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--model", default="nano.gguf")
    args.add_argument("--logits", type=pathlib.Path, help="folder for ids.json and logits.f32")
    args = args.parse_args()
    reader = load.open_file(args.model)
    config, bpe = load.config(reader), load.tokenizer(reader)
    params = {k: jnp.asarray(v) for k, v in load.params(reader).items()}
    if args.logits:
        return write_reference(args.logits, params, config, bpe)
    ends = [bpe.token_to_id(t) for t in ("<|im_end|>", "<|endoftext|>")]
    for prompt in PROMPTS:
        ids = bpe.encode(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n").ids
        print(f"> {prompt}\n{bpe.decode(complete(params, config, ids, ends))}", flush=True)
    ids = bpe.encode("Once there was").ids
    print(f"Once there was|{bpe.decode(complete(params, config, ids, ends, 100))}")


if __name__ == "__main__":
    main()
