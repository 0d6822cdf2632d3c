#!/usr/bin/env python3
"""How well cores of differing speed share a decoded token of the 4B, tile by tile, before they wait for each other.

shares.py SPEED,SPEED,...          the fastest is 1, as in 1,1,0.3,0.3
"""

import argparse
import heapq

ROW = 1536 // 32 * 18  # bytes of a row of Q4_0
LAYERS, EXPERTS, WIDTH, ACTIVE, VOCABULARY = 32, 4, 768, 0.22, 151936
TILE, NEURONS = 32, 128  # rows of a tile, neurons of one in gate and up
SCALES = 1 / 9  # of a matrix in Q4_0

# The parallel parts that move weights: tiles, and bytes of each. A tile of `down` is a whole expert.
LAYER = [
    ((12 + 2 + 2) * 128 // TILE, TILE * ROW),
    (1536 // TILE, TILE * ROW),
    (EXPERTS * WIDTH // NEURONS, NEURONS * ROW * (1 + ACTIVE)),
    (EXPERTS, WIDTH * ROW * (SCALES + ACTIVE * (1 - SCALES))),
]
TOKEN = LAYER * LAYERS + [(VOCABULARY // TILE, TILE * ROW)]


def time(tiles: int, work: float, speeds: list[float]) -> float:
    """The time until the last of some tiles is done."""
    free = [(0.0, core) for core in range(len(speeds))]
    for _ in range(tiles):
        start, core = free[0]
        heapq.heapreplace(free, (start + work / speeds[core], core))
    return max(free)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speeds", help="relative speeds of the cores")
    speeds = [float(speed) for speed in parser.parse_args().speeds.split(",")]
    big = [speed for speed in speeds if 2 * speed >= max(speeds)]
    took = sum(time(*part, speeds) for part in TOKEN)
    ideal = sum(tiles * work for tiles, work in TOKEN) / sum(speeds)
    alone = sum(time(*part, big) for part in TOKEN)
    print(f"{ideal / took:.3f} of their summed speed, {alone / took:.3f} times the {len(big)} big ones alone")


if __name__ == "__main__":
    main()
