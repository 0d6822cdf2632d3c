"""Clients that ask for long answers one after the other, against `wick serve` in a control group. Needs root.

    python3 tests/serve/within.py LIMIT MODEL [MINUTES] [CLIENTS] [OPTION OF SERVE...]
    python3 tests/serve/within.py 1G 4b.gguf 30 4

Prints tokens per second, the time to the first token, and what the kernel counted. Fails where a request failed, the service
ended, or the kernel counted more than the limit.
"""

import http.client
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading
import time

LOCK, FIRST, FAILED = threading.Lock(), [], []
PROMPT, ANSWER = 64, 128


def ask(address, seed, entries):
    """An answer to a prompt that nobody has asked before; tokens drawn."""
    ids = random.Random(seed).choices(range(256, entries), k=PROMPT)
    body = {"prompt": ids, "max_tokens": ANSWER, "stream": True, "seed": seed, "stream_options": {"include_usage": True}}
    connection, start = http.client.HTTPConnection(*address, timeout=600), time.time()
    connection.request("POST", "/v1/completions", json.dumps(body))
    answer, drawn, first = connection.getresponse(), None, None
    for line in answer:
        if line.startswith(b"data: {"):
            part = json.loads(line[6:])
            first = first or (time.time() - start if part["choices"] else None)
            drawn = (part.get("usage") or {}).get("completion_tokens", drawn)
    with LOCK:
        FIRST.append(first or 0)
        if answer.status != 200 or drawn is None:
            FAILED.append(answer.status)
    return drawn or 0


def metric(address, name):
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("GET", "/metrics")
    return float(re.search(rf"^{name} (\S+)$", connection.getresponse().read().decode(), re.M).group(1))


def main():
    limit, model, *rest = sys.argv[1:]
    minutes, clients, options = float(rest[0]) if rest else 30, int(rest[1]) if rest[1:] else 4, rest[2:]
    script = pathlib.Path(__file__).parents[2] / "ci/within-memory"
    command = [script, limit, "serve", model, "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, text=True)
    for line in process.stderr:
        if line.endswith("answers\n"):
            break
    host, port = re.search(r"http://([\d.]+):(\d+)", line).groups()
    address, end, drawn = (host, int(port)), time.time() + 60 * minutes, [0] * clients
    threading.Thread(target=lambda: sys.stderr.writelines(process.stderr), daemon=True).start()

    def client(i):
        while time.time() < end:
            drawn[i] += ask(address, i + clients * drawn[i], 2000)

    threads = [threading.Thread(target=client, args=[i]) for i in range(clients)]
    start = time.time()
    for thread in threads:
        thread.start()
    while time.time() < end:
        time.sleep(min(60 * minutes / 10, max(0.1, end - time.time())))
        resident, seconds = metric(address, "wick_resident_bytes"), time.time() - start
        print(f"{seconds:7.0f} s {resident / 2**20:8.1f} MiB {sum(drawn) / seconds:6.1f} tokens/s", flush=True)
    for thread in threads:
        thread.join()
    seconds, step = time.time() - start, metric(address, "wick_next_token_seconds_sum")
    steps = metric(address, "wick_next_token_seconds_count")
    FIRST.sort()
    print(f"{len(FIRST)} answers, {sum(drawn)} tokens: {sum(drawn) / seconds:.2f} tokens/s, {step / steps * 1e3:.0f} ms a token")
    print(f"first token: median {FIRST[len(FIRST) // 2]:.2f} s, at most {FIRST[-1]:.2f} s; {len(FAILED)} failed {FAILED[:5]}")
    os.killpg(process.pid, signal.SIGTERM)
    sys.exit(process.wait(120) or bool(FAILED))


main()
