#!/usr/bin/env python3
"""wick beside llama.cpp and the authors' engine on the same model, in turn.

    compare.py MODEL.gguf [--wick target/release/wick] [--threads N] [--rounds 3] [--settings a,b] [--json OUT]
        [--packed MODEL.wick.gguf] [--coarse MODEL] [--memory 1G]
        [--authors LLAMA_CLI [--authors-model MODEL.gguf] [--bundle BUNDLE]]

Every measurement is a process of its own: one reads a prompt of 512 tokens, one reads 16 and decodes 128. A round
measures wick, then llama.cpp in each of its settings, then the authors' engine; shown are the medians over the rounds, and wick over the best
setting of llama.cpp for that figure. Within a process each figure is the median of --repeat passes, the time to the
first token that of the first pass. llama.cpp is called through ctypes, a call of llama_decode for each batch, so Python
costs it a few microseconds a token; its clock starts only when Python and its library are loaded. Before each process
another one fills and frees as much memory as the largest will need: on a virtual machine memory that was not used
lately comes slowly, and the first to ask for it would pay for all.

With --memory each engine is also measured in a control group of that size (needs root): a prompt of 128, then 128 decoded. wick gets
`--memory` and, by --packed, its own file; llama.cpp is mapped; the authors' engine gets its bundle of experts, and must have been built
for as many as fit. An engine that the kernel kills has no figures. The model of the authors' engine has its downs transposed, so
it is another file of the same model: --authors-model.

Beside the table stand the processor and what memory and storage gave in the same run.

Needs: pip install llama-cpp-python==0.3.36, built from source on the machine (--no-binary llama-cpp-python).
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from control_group import ControlGroup, forget, parse
from engines import SETTINGS, Authors, Llama, Wick

PROMPT, SHORT_PROMPT, PROMPT_WITHIN, DECODED = 512, 16, 128, 128

# Key, heading, format, whether more is better.
FIGURES = [
    ("decode", "decode, tokens/s", "{:.2f}", True),
    ("prefill", f"prompt of {PROMPT}, tokens/s", "{:.2f}", True),
    ("first_token", "first token, s", "{:.3f}", False),
    ("resident", "resident, MiB", "{:.0f}", False),
    ("peak_resident", "at most, MiB", "{:.0f}", False),
]
WITHIN = [
    ("within_decode", "within {}: decode, tokens/s", "{:.2f}", True),
    ("within_prefill", f"prompt of {PROMPT_WITHIN}, tokens/s", "{:.2f}", True),
    ("within_peak", "peak as the kernel counts it, MB", "{:.0f}", False),
]


def fetch_memory(model: str) -> None:
    """Fills memory for two copies of the model, or nine tenths of what nobody uses, and gives it back."""
    fill = "import sys; room = bytearray(int(sys.argv[1])); room[::4096] = bytes(len(range(0, len(room), 4096)))"
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemFree:"))
    amount = min(2 * os.path.getsize(model) + 2**28, free * 9 // 10)
    subprocess.run([sys.executable, "-c", fill, str(amount)], check=True)


def measure(engine, args: argparse.Namespace) -> dict:
    """All figures of one engine: the prompt's from a process that reads 512 tokens, the others from one that decodes."""

    def process(prompt: int, decoded: int) -> dict:
        fetch_memory(args.model)
        command, environment = engine.command(prompt, decoded, None), os.environ | engine.environment
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            sys.exit(f"{engine.name}: ended with {done.returncode}: {done.stderr[-2000:]}")
        return engine.figures(done)

    figures = process(SHORT_PROMPT, DECODED)
    figures["prefill"] = process(PROMPT, 1)["prefill"]
    return figures | (measure_within(engine, args) if args.memory else {})


def measure_within(engine, args: argparse.Namespace) -> dict:
    """The figures of one engine in a control group; none if it was killed."""
    for path in filter(None, [args.model, args.packed, args.coarse, args.authors_model, args.bundle]):
        forget(path)
    with ControlGroup(parse(args.memory)) as group:
        command = engine.command(PROMPT_WITHIN, DECODED, args.memory)
        done = group.run(command, capture_output=True, text=True, env=os.environ | engine.environment)
        if done.returncode != 0:
            why = done.stderr.strip().splitlines()[-1:] or ["killed"]
            print(f"{engine.name}: ended with {done.returncode} within {args.memory}: {why[0]}", file=sys.stderr)
            return {}
        figures, peak = engine.figures(done), group.peak()
    within = {f"within_{key}": figures[key] for key in ("decode", "prefill")}
    return within | ({"within_peak": peak / 1e6} if peak else {})


def main() -> None:
    args = arguments()
    with open(args.model, "rb") as file:  # the page cache is to be warm
        while file.read(1 << 24):
            pass
    engines = [Wick(args, "wick", args.packed or args.model)]
    if args.coarse:
        engines.append(Wick(args, "wick, coarse", args.coarse, "--output", "coarse"))
    engines += [Llama(args, setting) for setting in args.settings]
    if args.authors:
        engines.append(Authors(args))
    rounds: dict[str, list[dict]] = {engine.name: [] for engine in engines}
    for round_ in range(args.rounds):
        for engine in engines:
            rounds[engine.name].append(measure(engine, args))
            shown = {key: round(value, 3) for key, value in rounds[engine.name][-1].items() if isinstance(value, float)}
            print(f"round {round_ + 1} of {args.rounds}: {engine.name}: {shown}", file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(rounds, indent=1))
    report(rounds, args)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--wick", default="target/release/wick")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3, help="passes within a process")
    parser.add_argument("--settings", default=",".join(SETTINGS), help=f"of {', '.join(SETTINGS)}")
    parser.add_argument("--packed", help="the same model as `wick pack` writes it, for wick")
    parser.add_argument("--coarse", metavar="MODEL", help="wick with --output coarse too, with this file of the model")
    parser.add_argument("--memory", help="a control group of this size, too")
    parser.add_argument("--authors", help="the authors' engine: its llama-cli")
    parser.add_argument("--authors-model", help="the model with its downs transposed")
    parser.add_argument("--bundle", help="its bundle of experts, for --memory")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    args = parser.parse_args()
    args.settings = args.settings.split(",")
    if unknown := set(args.settings) - set(SETTINGS):
        parser.error(f"--settings: {', '.join(SETTINGS)} expected, {', '.join(unknown)} found")
    if min(args.threads, args.rounds, args.repeat) < 1:
        parser.error("--threads, --rounds, --repeat: at least 1 expected")
    return args


def report(rounds: dict[str, list[dict]], args: argparse.Namespace) -> None:
    import llama_cpp

    kernels = rounds["wick"][0]["kernels"]
    print(f"{args.model}, {args.threads} threads, medians of {args.rounds} rounds, {datetime.date.today()}")
    print(f"{processor()}; storage by {storage(args)}")
    print(f"wick: {kernels} kernels; llama.cpp: llama-cpp-python {llama_cpp.__version__}\n")
    beside = [*args.settings, *([Authors.name] if args.authors else [])]
    ours = [name for name in rounds if name not in beside]
    print("| | " + " | ".join([*ours, *beside]) + " | wick / llama.cpp's best |")
    print("|---" * (len(rounds) + 2) + "|")
    for key, heading, form, more_is_better in FIGURES + (WITHIN if args.memory else []):
        found = {name: [m[key] for m in measured if key in m] for name, measured in rounds.items()}
        medians = {name: statistics.median(values) for name, values in found.items() if values}
        best = (max if more_is_better else min)((medians[s] for s in args.settings if s in medians), default=None)
        cells = [form.format(medians[name]) if name in medians else "–" for name in [*ours, *beside]]
        ratio = f"{medians['wick'] / best:.2f}" if best and "wick" in medians else "–"
        print(f"| {heading.format(args.memory)} | {' | '.join(cells)} | {ratio} |")
    bandwidths = [m["bandwidth"] for m in rounds["wick"]]
    drawn = [m["decode"] * m["weights"] / m["bandwidth"] for m in rounds["wick"]]
    print(f"\nmemory {min(bandwidths) / 1e9:.1f} to {max(bandwidths) / 1e9:.1f} GB/s beside each run of wick, ", end="")
    print(f"of which decoding uses {statistics.median(drawn):.0%}")


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "processor unknown")
    return f"{name}, {os.cpu_count()} processors"


def storage(args: argparse.Namespace) -> str:
    """What `wick plan --measure` finds of the device that the model lies on, past the page cache."""
    command = [args.wick, "plan", "-m", args.packed or args.model, "--memory", args.memory or "1G", "--measure", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout)["bounds"][0]["source"] if done.returncode == 0 else "storage not measured"


if __name__ == "__main__":
    main()
