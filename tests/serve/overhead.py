"""How fast one stream of `wick serve` is beside `wick bench`, in pairs of runs.

    python3 tests/serve/overhead.py WICK MODEL [PAIRS] [TOKENS] [OPTION OF SERVE...]
    python3 tests/serve/overhead.py target/release/wick 4b.gguf

The stream is read by curl, which takes little of the processors that both share with it; the service says how long it took from
token to token. Prints tokens per second of each pair, their ratio, and the median of the ratios.
"""

import json
import os
import re
import statistics
import subprocess
import sys

PROMPT = "How are you doing in this place, and what is going on there today?"


def bench(wick, model, tokens):
    """Tokens per second of `wick bench`."""
    command = [wick, "bench", model, "-p", "16", "-n", str(tokens), "-r", "2", "-c", "4096", "--no-bandwidth", "--json"]
    return json.loads(subprocess.check_output(command))["decode"]["median"]


def stream(address, seed, tokens):
    """Tokens per second of an answer, by Ollama's API, whose last line tells."""
    options = {"num_predict": tokens, "seed": seed}
    body = json.dumps({"model": "it", "prompt": f"{seed}. {PROMPT}", "raw": True, "options": options})
    last = json.loads(subprocess.check_output(["curl", "-sN", f"{address}/api/generate", "-d", body]).splitlines()[-1])
    return last["eval_count"] / last["eval_duration"] * 1e9


def serve(wick, model, tokens, options):
    """Tokens per second of the service: the median of three answers after one that is not counted."""
    command = [wick, "serve", model, "--port", "0", "--parallel", "1", "--context", "4096", "--alias", "it", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WICK_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as process:
        try:
            line = next(line for line in process.stderr if line.endswith("answers\n"))
            address = re.search(r"http://[\d.]+:\d+", line).group()
            return statistics.median([stream(address, seed, tokens) for seed in range(4)][1:])
        finally:
            process.terminate()


def main():
    wick, model, *rest = sys.argv[1:]
    pairs, tokens, options = int(rest[0]) if rest else 5, int(rest[1]) if rest[1:] else 512, rest[2:]
    ratios = []
    for _ in range(pairs):
        alone, served = bench(wick, model, tokens), serve(wick, model, tokens, options)
        ratios.append(served / alone)
        print(f"bench {alone:.2f}  serve {served:.2f}  {ratios[-1]:.3f}", flush=True)
    print(f"median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
