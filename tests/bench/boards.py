#!/usr/bin/env python3
"""What `wick plan` expects of boards, beside what the technical report measured there with its own engine.

    boards.py 4B.gguf [21B.gguf] [--wick BINARY]

The files are such as `wick synth --shape 4b --like report --no-run` and `--shape 21b` write. Nothing is computed but plans.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

WICK = Path(__file__).resolve().parents[2] / "target/release/wick"

# Tokens per second in Q4_0, in RAM and limited (the 4B to 1 GiB, the 21B to 8 GiB), from the technical report; it does not say
# which storage a board had.
REPORT = {
    "rk3588": ((39.76, 15.04), (10.84, 8.56)),
    "rk3588-nvme": ((39.76, 15.04), (10.84, 8.56)),
    "pi5": ((28.77, 0.75), (6.61, None)),
    "pi5-nvme": ((28.77, 0.75), (6.61, None)),
    "rk3576": ((15.10, 2.60), (None, None)),
    "rdk-x5": ((7.23, 0.67), (None, None)),
    "rk3566": ((6.33, 0.74), (None, None)),
}
LIMITS = ["1G", "8G"]


def expected(wick: Path, model: Path, board: str, memory: str) -> tuple[float, str]:
    """Tokens per second that are expected, and what bounds them."""
    command = [str(wick), "plan", str(model), "--board", board, "--memory", memory, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"boards.py: {done.stderr.strip()}")
    bounds = json.loads(done.stdout)["bounds"][0]
    return bounds["expected"], bounds["by"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--wick", type=Path, default=WICK)
    args = parser.parse_args()
    print("| board | model, memory | expected, tokens/s | bound by | the report's |\n|---|---|---|---|---|")
    for model, which in zip(args.models, range(2)):
        for board, measured in REPORT.items():
            for memory, found in zip(["64G", LIMITS[which]], measured[which]):
                rate, bound = expected(args.wick, model, board, memory)
                where = "in RAM" if memory == "64G" else memory
                print(f"| `{board}` | {model.stem}, {where} | {rate:.1f} | {bound} | {found or '–'} |")


if __name__ == "__main__":
    main()
