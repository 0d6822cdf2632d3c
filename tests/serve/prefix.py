"""When the first token comes of a second request with the same long system prompt, and of one after a restart.

    python3 tests/serve/prefix.py WICK MODEL [OPTION OF SERVE...]
    python3 tests/serve/prefix.py target/release/wick 4b.gguf --memory 1G

Prompts are ids: 500 that are the same, and a question of 20.
"""

import http.client
import json
import random
import re
import subprocess
import sys
import tempfile
import time

SYSTEM, QUESTION, ROUNDS = 500, 20, 3


def ids(seed, count):
    return random.Random(seed).choices(range(256, 2000), k=count)


def start(command):
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    line = next(line for line in process.stderr if line.endswith("answers\n"))
    return process, re.search(r"http://([\d.]+:\d+)", line).group(1)


def stop(process):
    process.terminate()
    process.wait()


def first_token(address, prompt):
    """Seconds, and tokens of the prompt that were held already."""
    connection, begin, first, cached = http.client.HTTPConnection(address, timeout=600), time.time(), None, 0
    body = {"prompt": prompt, "max_tokens": 8, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    connection.request("POST", "/v1/completions", json.dumps(body))
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            part = json.loads(line[6:])
            first = first or time.time() - begin
            cached = part["usage"]["prompt_tokens_details"]["cached_tokens"] if part.get("usage") else cached
    return first, cached


def main():
    wick, model, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        command = [wick, "serve", model, "--port", "0", "--cache-dir", folder, *options]
        process, address = start(command)
        first_token(address, ids(0, 40))
        firsts = []
        for seed in range(1, ROUNDS + 1):
            firsts.append(first_token(address, ids(seed, SYSTEM) + ids(-seed, QUESTION))[0])
            second, cached = first_token(address, ids(seed, SYSTEM) + ids(100 + seed, QUESTION))
            print(f"first {firsts[-1]:.3f} s, second {second:.3f} s: {100 * second / firsts[-1]:.1f} %, {cached} tokens held")
        stop(process)
        process, address = start(command)
        first_token(address, ids(0, 44))
        for seed, first in enumerate(firsts, 1):
            later, cached = first_token(address, ids(seed, SYSTEM) + ids(200 + seed, QUESTION))
            print(f"after a restart {later:.3f} s: {100 * later / first:.1f} %, {cached} tokens held")
        stop(process)


main()
