"""Measures a GGUF file or a checkpoint in JAX: exact match, perplexity, sparsity, expert use, caches.

Exact match is that of greedy decoding: an answer is right when each of its tokens, and the end of
the turn, is the most likely one after the right ones before it.
"""

import argparse
import json
import pathlib
from collections import OrderedDict, defaultdict

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

import checkpoint
import load
import model

HERE = pathlib.Path(__file__).parent
BATCH = 8


def read_model(args):
    """(parameters, configuration, tokenizer), from a checkpoint or a GGUF file."""
    if args.checkpoint:
        bpe = Tokenizer.from_file(args.tokenizer)
        params = checkpoint.load_params(args.checkpoint)
        config = model.Config(vocab=bpe.get_vocab_size())
    else:
        reader = load.open_file(args.model)
        params, config, bpe = load.params(reader), load.config(reader), load.tokenizer(reader)
    params = {k: jnp.asarray(v) for k, v in params.items()}
    return model.quantized(params) if args.round else params, config, bpe


def document(bpe, test):
    """Token ids of a test and where its answer begins."""
    messages = test.get("messages") or [{"role": "user", "content": test["prompt"]}]
    prompt = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    prompt = bpe.encode(prompt + "<|im_start|>assistant\n").ids
    return prompt + bpe.encode(test["answer"] + "<|im_end|>").ids, len(prompt)


def pack(documents, length):
    """Rows of (index of document, place) so that each row holds at most `length` tokens."""
    rows, room = [], []
    for i, ids in enumerate(documents):
        fits = next((r for r, left in enumerate(room) if left >= len(ids)), None)
        if fits is None:
            rows.append([])
            room.append(length)
            fits = len(rows) - 1
        rows[fits].append((i, length - room[fits]))
        room[fits] -= len(ids)
    return rows


def run(params, config, documents):
    """Yields (document, logits [n, vocab], chosen [layers, n, active], sparsity) of each document."""
    rows = pack(documents, config.context)
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        tokens, positions = np.zeros((2, BATCH, config.context), np.int32)
        segments = np.full((BATCH, config.context), -1, np.int32)
        for r, row in enumerate(batch):
            for i, at in row:
                n = len(documents[i])
                tokens[r, at : at + n], segments[r, at : at + n] = documents[i], i
                positions[r, at : at + n] = np.arange(n)
        logits, routing = model.forward(params, tokens, segments, positions, config)
        logits, chosen, silent = map(np.asarray, (logits, routing["chosen"], routing["silent"]))
        for r, row in enumerate(batch):
            for i, at in row:
                here = slice(at, at + len(documents[i]))
                yield i, logits[r, here], chosen[:, r, here], silent[:, r, here]


def lru_hit_rate(requests, capacity):
    """Share of (layer, expert) requests that an LRU cache of `capacity` experts answers."""
    cache, hits = OrderedDict(), 0
    for request in requests:
        if request in cache:
            hits += 1
            cache.move_to_end(request)
        else:
            cache[request] = None
            if len(cache) > capacity:
                cache.popitem(last=False)
    return hits / max(1, len(requests))


def requests_of(chosen):
    """The experts of one document in the order in which decoding asks for them."""
    return [(layer, int(e)) for t in range(chosen.shape[1]) for layer in range(len(chosen)) for e in chosen[layer, t]]


def skill_figures(params, config, bpe, tests, show):
    pairs = [document(bpe, t) for t in tests]
    documents = [ids for ids, _ in pairs]
    right, by_window = [], defaultdict(list)
    counts = np.zeros((config.layers, config.experts))
    silent_sum, positions, trace = np.zeros(config.layers), 0, []
    for i, logits, chosen, silent in run(params, config, documents):
        begin = pairs[i][1]
        said = logits[begin - 1 : -1].argmax(-1)
        ok = bool((said == documents[i][begin:]).all())
        right.append(ok)
        if "windows" in tests[i]:
            by_window[tests[i]["windows"]].append(ok)
        if not ok and show > 0:
            show -= 1
            asked = tests[i].get("prompt") or tests[i]["messages"][-1]["content"]
            print(f"  {asked!r}: {tests[i]['answer']!r}, said {bpe.decode(said.tolist())!r}")
        for layer in range(config.layers):
            counts[layer] += np.bincount(chosen[layer].ravel(), minlength=config.experts)
        silent_sum += silent.sum(1)
        positions += len(logits)
        trace += requests_of(chosen)
    return {
        "exact": np.mean(right), "tests": len(right), "trace": trace,
        "windows": {w: np.mean(v) for w, v in sorted(by_window.items())},
        "experts": counts / counts.sum(1, keepdims=True), "sparsity": silent_sum / positions,
    }


def perplexity(params, config, bpe, text, limit):
    """exp of the mean loss over whole contexts of the text, each from an empty cache."""
    ids = bpe.encode(text).ids[: limit * config.context]
    whole = len(ids) // config.context * config.context
    documents = [ids[i : i + config.context] for i in range(0, whole, config.context)]
    total = count = 0
    for i, logits, _, _ in run(params, config, documents):
        log = jax.nn.log_softmax(jnp.asarray(logits[:-1]))
        total -= float(jnp.take_along_axis(log, jnp.asarray(documents[i][1:])[:, None], 1).sum())
        count += len(documents[i]) - 1
    return float(np.exp(total / count)), count


def divergence(a, b):
    """Total variation between two expert distributions, averaged over the layers (0 equal, 1 apart)."""
    return float(np.abs(a - b).sum(-1).mean() / 2)


def report(figures, config):
    names = list(figures)
    for name, f in figures.items():
        windows = " ".join(f"{w}:{v:.3f}" for w, v in f["windows"].items())
        print(f"{name}: exact {f['exact']:.4f} of {f['tests']} {windows}")
    print("sparsity per layer", {n: f["sparsity"].round(3).tolist() for n, f in figures.items()})
    print("highest and lowest expert share", {n: (f["experts"].max().round(3), f["experts"].min().round(3)) for n, f in figures.items()})
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            print(f"expert distance {a} {b}: {divergence(figures[a]['experts'], figures[b]['experts']):.3f}")
    total = config.layers * config.experts
    for share in (0.25, 0.5):
        rates = {n: round(lru_hit_rate(f["trace"], int(total * share)), 3) for n, f in figures.items()}
        print(f"LRU cache of {share:.0%} of {total} experts: hit rate", rates)


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--model", default="nano.gguf")
    a.add_argument("--checkpoint", help="measure a checkpoint instead of a GGUF file")
    a.add_argument("--round", action="store_true", help="round the checkpoint's weights as the file does")
    a.add_argument("--tokenizer", default="tokenizer.json")
    a.add_argument("--skills", type=pathlib.Path, default=HERE / "skills")
    a.add_argument("--limit", type=int, default=10**6, help="tests of each skill, and contexts of text")
    a.add_argument("--show", type=int, default=0, help="wrong answers of each skill to print")
    a.add_argument("--json", type=pathlib.Path, help="write expert shares and sparsity here")
    args = a.parse_args()
    params, config, bpe = read_model(args)
    figures = {}
    for path in sorted(args.skills.glob("*.jsonl")):
        tests = [json.loads(x) for x in path.read_text().splitlines()]
        stride = max(1, len(tests) // args.limit)
        figures[path.stem] = skill_figures(params, config, bpe, tests[::stride], args.show)
    report(figures, config)
    value, count = perplexity(params, config, bpe, (args.skills / "heldout.txt").read_text(), args.limit)
    print(f"perplexity {value:.4f} over {count} tokens of heldout.txt")
    if args.json:
        kept = {n: {k: f[k].tolist() for k in ("experts", "sparsity")} for n, f in figures.items()}
        args.json.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
