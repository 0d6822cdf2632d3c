#!/usr/bin/env python3
"""Cycles of the inner loops of functions, as llvm-mca computes them for processors that are not at hand.

    cycles.py [--binary BINARY] [--cpu CPU]... [--list] NAME[=BYTES]...

NAME is a regular expression for a function's demangled name, such as 'rms_norm' or 'neon.*q4_0'; it must be compiled
into a function of its own. A loop counts as inner when no other loop lies in it. BYTES, the bytes of weights that an
iteration of the loop consumes, turns cycles into bytes per cycle. --list shows the functions and stops.

What is computed is an iteration in the steady state with all data in the first-level cache and every branch predicted:
a bound, not a measurement. Neoverse N1 stands for the Cortex-A76, which has no model of its own.

Needs llvm-objdump and llvm-mca 17 or newer (Debian: apt-get install llvm-19); the newest on the path are taken, or
those in the folder that LLVM names. BINARY is by default what `cargo board` builds.
"""

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ITERATIONS = 1000
OLDEST = 17  # the first with a model of the Neoverse N1
CPUS = ["cortex-a53", "cortex-a72", "neoverse-n1"]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parents[2] / "target"))
BINARY = TARGET / "aarch64-unknown-linux-musl/release/wick"

FUNCTION = re.compile(r"[0-9a-f]+ <(.*)>:$")
INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\s+(\S.*)$")
ADDRESS = re.compile(r"0x([0-9a-f]+) <.*>")
BRANCH = re.compile(r"(b|b\.\w+|cbn?z|tbn?z)\s")


@functools.cache
def tool(name: str) -> str:
    """The tool in the folder LLVM, or the newest of its versions on the path."""
    if folder := os.environ.get("LLVM"):
        candidates = [str(Path(folder) / name)]
    else:
        candidates = [shutil.which(name + suffix) for suffix in [*(f"-{n}" for n in range(40, OLDEST - 1, -1)), ""]]
    found = next((path for path in candidates if path), None)
    version = re.search(r"LLVM version (\d+)", run([found, "--version"])) if found else None
    if not version or int(version[1]) < OLDEST:
        sys.exit(f"cycles.py: no {name} of version {OLDEST} or newer; install LLVM (Debian: llvm-19) or name its folder in LLVM")
    return str(found)


def run(command: list[str], text: str = "") -> str:
    """What the command prints."""
    if not shutil.which(command[0]):
        sys.exit(f"cycles.py: {command[0]}: not there")
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"cycles.py: {command[0]}: {done.stderr.strip()}")
    return done.stdout


def functions(binary: Path) -> dict[str, list[tuple[int, str]]]:
    """The addresses and instructions of every function."""
    listing = run([tool("llvm-objdump"), "-d", "-C", "--no-show-raw-insn", str(binary)])
    found: dict[str, list[tuple[int, str]]] = {}
    body: list[tuple[int, str]] = []
    for line in listing.splitlines():
        if head := FUNCTION.match(line):
            body = found.setdefault(head[1], [])
        elif instruction := INSTRUCTION.match(line):
            text = instruction[2].split("//")[0].split(";")[0].strip()
            body.append((int(instruction[1], 16), text))
    return found


def inner_loops(body: list[tuple[int, str]]) -> list[tuple[int, int]]:
    """First and last address of each loop that has no other in it: a branch back and what it jumps over."""
    loops = []
    for address, text in body:
        target = ADDRESS.search(text)
        if target and BRANCH.match(text) and body[0][0] <= int(target[1], 16) <= address:
            loops.append((int(target[1], 16), address))

    def has_other(loop: tuple[int, int]) -> bool:
        return any(other != loop and loop[0] <= other[0] and other[1] <= loop[1] for other in loops)

    return [loop for loop in loops if not has_other(loop)]


def cycles(instructions: list[str], cpu: str) -> float:
    """Cycles of an iteration. Addresses become a label: llvm-mca follows no branches."""
    code = "".join(f"{ADDRESS.sub('place', text)}\n" for text in instructions)
    command = [tool("llvm-mca"), "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", "-mattr=+dotprod,+i8mm"]
    report = run([*command, f"-iterations={ITERATIONS}"], f"place:\n{code}")
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / ITERATIONS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=BINARY)
    parser.add_argument("--cpu", action="append", help=f"as llvm-mca calls it [default: {', '.join(CPUS)}]")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="+", metavar="NAME[=BYTES]")
    args = parser.parse_args()
    if not args.binary.exists():
        parser.error(f"{args.binary}: not there; run: cargo board")
    cpus = args.cpu or CPUS
    everything = functions(args.binary)
    for argument in args.names:
        name, _, size = argument.partition("=")
        if size and not size.isdecimal():
            parser.error(f"{argument}: a number of bytes expected after =")
        chosen = {f: body for f, body in everything.items() if body and re.search(name, f)}
        if not chosen:
            sys.exit(f"cycles.py: {name}: no function of that name in {args.binary}")
        for function, body in chosen.items():
            print(function)
            for first, last in [] if args.list else inner_loops(body):
                loop = [text for address, text in body if first <= address <= last]
                show(first, loop, cpus, int(size or 0))


def show(first: int, loop: list[str], cpus: list[str], size: int) -> None:
    calls = " (calls a function: its cycles are missing)" if any(re.match(r"blr?\s", i) for i in loop) else ""
    cells = []
    for cpu in cpus:
        count = cycles(loop, cpu)
        speed = f" = {size / count:.2f} bytes/cycle" if size else ""
        cells.append(f"{cpu} {count:.1f}{speed}")
    print(f"  loop at {first:#x}, {len(loop)} instructions{calls}; cycles: {', '.join(cells)}")


if __name__ == "__main__":
    main()
