#!/usr/bin/env python3
"""How long it takes from a cold page cache: to the first token, and to a packed file. As root, on Linux.

    start.py MODEL.gguf PACKED.gguf [--wick target/release/wick] [--rounds 3] [--memory 1G] [--only PART]

The prompt is one token. Beside each run the device reads directly, in large pieces, as many bytes as the run read of it, and
shown is the run's time over that: 1 would be a program that takes no time but for reading what it needs, which is the dense
weights, the experts of a token, and the program. Packing is divided by the time of copying the file to the device.
Before each process another one fills and frees memory, as compare.py does.
"""

import argparse
import mmap
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from compare import fetch_memory

PIECE = 8 << 20


def forget(path: str) -> None:
    """Empties the page cache, with memory at hand for what comes."""
    fetch_memory(path)
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def run(command: list[str]) -> tuple[float, int]:
    """Seconds that a process takes, and bytes that it has had read."""
    blocks, start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock, time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    return seconds, 512 * (resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock - blocks)


def read_directly(path: str, count: int) -> float:
    """Seconds that a device takes for so many bytes."""
    start = time.perf_counter()
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    piece = mmap.mmap(-1, PIECE)
    while count > 0:
        read = os.readv(file, [piece])
        if not read:
            os.lseek(file, 0, os.SEEK_SET)
        count -= read
    os.close(file)
    return time.perf_counter() - start


def first_token(model: str, args: argparse.Namespace, *options: str) -> tuple[float, float, int]:
    forget(model)
    seconds, count = run([args.wick, "run", "-m", model, "-n", "1", "--raw", *options, "A"])
    return seconds, read_directly(model, count), count


def copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def pack(args: argparse.Namespace, *options: str) -> tuple[float, float, int]:
    size = os.path.getsize(args.model)
    with tempfile.TemporaryDirectory(dir=Path(args.packed).parent) as folder:
        target = f"{folder}/packed.wick.gguf"
        forget(args.model)
        packed, _ = run([args.wick, "pack", args.model, *options, "-o", target])
        os.unlink(target)
        forget(args.model)
        start = time.perf_counter()
        copy(args.model, target)
        return packed, time.perf_counter() - start, size


Measure = Callable[[argparse.Namespace], tuple[float, float, int]]
# Name, heading, how it is measured.
PARTS: list[tuple[str, str, Measure]] = [
    ("memory", "first token, within --memory, packed", lambda args: first_token(args.packed, args, "--memory", args.memory)),
    ("packed", "first token, in memory, packed", lambda args: first_token(args.packed, args)),
    ("model", "first token, in memory, not packed", lambda args: first_token(args.model, args)),
    ("pack", "pack, beside copying", pack),
    ("tier2", "pack --tier 2, beside copying", lambda args: pack(args, "--tier", "2")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("packed")
    parser.add_argument("--wick", default="target/release/wick")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--only", choices=[name for name, *_ in PARTS])
    args = parser.parse_args()
    print("| | s | device alone, s | MB | MB/s | over device |\n|---|---|---|---|---|---|")
    for name, heading, measure in PARTS:
        if args.only in (None, name):
            rounds = [measure(args) for _ in range(args.rounds)]
            seconds, device, count = (statistics.median(figures) for figures in zip(*rounds))
            over = statistics.median(seconds / device for seconds, device, _ in rounds)
            row = f"{seconds:.2f} | {device:.2f} | {count / 1e6:.0f} | {count / seconds / 1e6:.0f} | {over:.2f}"
            print(f"| {heading} | {row} |", flush=True)


if __name__ == "__main__":
    main()
