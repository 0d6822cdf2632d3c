#!/usr/bin/env python3
"""wick beside llama.cpp on the same model file and the same token ids, in turn.

    compare.py MODEL.gguf [--wick target/release/wick] [--threads N] [--rounds 3] [--settings a,b] [--json OUT]

Every measurement is a process of its own: one reads a prompt of 512 tokens, one reads 16 and decodes 128. A round
measures wick, then llama.cpp in each of its settings; shown are the medians over the rounds, and wick over the best
setting of llama.cpp for that figure. Within a process each figure is the median of --repeat passes, the time to the
first token that of the first pass. llama.cpp is called through ctypes, a call of llama_decode for each batch, so Python
costs it a few microseconds a token; its clock starts only when Python and its library are loaded. Before each process
another one fills and frees as much memory as the largest will need: on a virtual machine memory that was not used
lately comes slowly, and the first to ask for it would pay for all.

Needs: pip install llama-cpp-python==0.3.36, built from source on the machine (--no-binary llama-cpp-python).
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROMPT, SHORT_PROMPT, DECODED = 512, 16, 128

# (memory-mapped, repacked): repacking is what `use_extra_bufts` allows, a copy of the weights in the order that
# llama.cpp's fastest kernels read them.
SETTINGS = {
    "repack+mmap": (True, True),
    "repack": (False, True),
    "mmap": (True, False),
    "plain": (False, False),
}

# Key, heading, format, whether more is better.
FIGURES = [
    ("decode", "decode, tokens/s", "{:.2f}", True),
    ("prefill", "prefill, tokens/s", "{:.2f}", True),
    ("first_token", "first token, s", "{:.3f}", False),
    ("resident", "resident, MiB", "{:.0f}", False),
    ("peak_resident", "at most, MiB", "{:.0f}", False),
]


def ids(n: int, vocabulary: int) -> list[int]:
    """The ids of `wick bench`."""
    out, seed = [], 12_345
    for _ in range(n):
        seed = (seed * 1_664_525 + 1_013_904_223) % 2**32
        out.append((seed >> 8) % vocabulary)
    return out


def memory(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def measure_llama(model: str, setting: str, threads: int, prompt: int, decoded: int, repeat: int) -> dict:
    import llama_cpp as llama

    start = time.perf_counter()
    mapped, repacked = SETTINGS[setting]
    llama.llama_backend_init()
    quiet = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(quiet, None)
    params = llama.llama_model_default_params()
    params.load_mode = llama.LLAMA_LOAD_MODE_MMAP if mapped else llama.LLAMA_LOAD_MODE_NONE
    params.use_extra_bufts = repacked
    loaded = llama.llama_model_load_from_file(model.encode(), params)
    if not loaded:
        sys.exit(f"{model}: llama.cpp cannot load it")
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = prompt + decoded, max(prompt, 512), 512
    params.n_threads = params.n_threads_batch = threads
    context = llama.llama_init_from_model(loaded, params)
    if not context:
        sys.exit(f"{model}: llama.cpp cannot make a context of {prompt + decoded}")
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(loaded))
    all_ids = ids(prompt + decoded, vocabulary)
    tokens = (ctypes.c_int32 * len(all_ids))(*all_ids)

    def decode(first: int, count: int) -> None:
        at = ctypes.cast(ctypes.byref(tokens, first * 4), ctypes.POINTER(ctypes.c_int32))
        code = llama.llama_decode(context, llama.llama_batch_get_one(at, count))
        llama.llama_synchronize(context)
        if code != 0:
            sys.exit(f"{model}: llama_decode of {count} tokens at {first} returned {code}")

    first_token, prefill, decoding = None, [], []
    for _ in range(repeat):
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        began = time.perf_counter()
        decode(0, prompt)
        read = time.perf_counter()
        first_token = first_token or read - start
        for i in range(decoded):
            decode(prompt + i, 1)
        prefill.append(prompt / (read - began))
        decoding.append(decoded / (time.perf_counter() - read))
    return {
        "prefill": statistics.median(prefill),
        "decode": statistics.median(decoding),
        "first_token": first_token,
        "resident": memory("VmRSS:") / 2**20,
        "peak_resident": memory("VmHWM:") / 2**20,
    }


def measure_wick(wick: str, model: str, threads: int, prompt: int, decoded: int, repeat: int) -> dict:
    numbers = {"-p": prompt, "-n": decoded, "-t": threads, "-r": repeat}
    command = [wick, "bench", "-m", model, "--json", "--no-bandwidth"]
    command += [word for flag, number in numbers.items() for word in (flag, str(number))]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {
        "kernels": found["kernels"],
        "prefill": found["prefill"]["median"],
        "decode": found["decode"]["median"],
        "first_token": found["first_token_seconds"],
        "resident": found["resident"] / 2**20,
        "peak_resident": found["peak_resident"] / 2**20,
    }


def fetch_memory(model: str) -> None:
    """Fills memory for two copies of the model, or nine tenths of what nobody uses, and gives it back."""
    fill = "import sys; room = bytearray(int(sys.argv[1])); room[::4096] = bytes(len(range(0, len(room), 4096)))"
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemFree:"))
    amount = min(2 * os.path.getsize(model) + 2**28, free * 9 // 10)
    subprocess.run([sys.executable, "-c", fill, str(amount)], check=True)


def measure(engine: str, args: argparse.Namespace) -> dict:
    """All figures of one engine: the prompt's from a process that reads 512 tokens, the others from one that decodes."""

    def process(prompt: int, decoded: int) -> dict:
        fetch_memory(args.model)
        if engine == "wick":
            return measure_wick(args.wick, args.model, args.threads, prompt, decoded, args.repeat)
        work = [args.model, engine, args.threads, prompt, decoded, args.repeat]
        command = [sys.executable, __file__, "--work", json.dumps(work)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    figures = process(SHORT_PROMPT, DECODED)
    return figures | {"prefill": process(PROMPT, 1)["prefill"]}


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        print(json.dumps(measure_llama(*json.loads(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--wick", default="target/release/wick")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3, help="passes within a process")
    parser.add_argument("--settings", default=",".join(SETTINGS), help=f"of {', '.join(SETTINGS)}")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    args = parser.parse_args()
    settings = args.settings.split(",")
    if unknown := set(settings) - set(SETTINGS):
        parser.error(f"--settings: {', '.join(SETTINGS)} expected, {', '.join(unknown)} found")
    if min(args.threads, args.rounds, args.repeat) < 1:
        parser.error("--threads, --rounds, --repeat: at least 1 expected")

    with open(args.model, "rb") as file:  # the page cache is to be warm
        while file.read(1 << 24):
            pass
    engines = ["wick", *settings]
    rounds: dict[str, list[dict]] = {engine: [] for engine in engines}
    for round_ in range(args.rounds):
        for engine in engines:
            rounds[engine].append(measure(engine, args))
            shown = {key: round(rounds[engine][-1][key], 3) for key, *_ in FIGURES}
            print(f"round {round_ + 1} of {args.rounds}: {engine}: {shown}", file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(rounds, indent=1))
    report(rounds, settings, args)


def report(rounds: dict[str, list[dict]], settings: list[str], args: argparse.Namespace) -> None:
    import llama_cpp

    kernels = rounds["wick"][0]["kernels"]
    print(f"{args.model}, {args.threads} threads, medians of {args.rounds} rounds")
    print(f"wick: {kernels} kernels; llama.cpp: llama-cpp-python {llama_cpp.__version__}\n")
    print("| | wick | " + " | ".join(settings) + " | wick / best |")
    print("|---" * (len(settings) + 3) + "|")
    for key, heading, form, more_is_better in FIGURES:
        medians = {engine: statistics.median(m[key] for m in found) for engine, found in rounds.items()}
        best = (max if more_is_better else min)(medians[setting] for setting in settings)
        cells = [form.format(medians[engine]) for engine in ["wick", *settings]]
        print(f"| {heading} | {' | '.join(cells)} | {medians['wick'] / best:.2f} |")


if __name__ == "__main__":
    main()
