"""Clients that ask, leave, send garbage, megabytes or a byte a second, and many connections at once, against `wick serve`.

    python3 tests/serve/soak.py WICK [MINUTES] [OPTION OF SERVE...]

Prints requests by outcome, memory and descriptors over time. Fails where a well-formed request failed, where memory grew by
more than 2 % (10 % in less than five minutes) over what the first third of the time took, where descriptors did not come back, or where the service ended.
"""

import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

LIGHT = {"messages": [{"role": "user", "content": "turn on the light in the kitchen"}], "temperature": 0}
ON = '{"device":"light","room":"kitchen","action":"on"}'
outcomes, lock, first_tokens = Counter(), threading.Lock(), []


class Client(threading.Thread):
    def __init__(self, address, until, seed):
        super().__init__(daemon=True)
        self.address, self.until, self.random = address, until, random.Random(seed)

    def kinds(self):
        kinds = [self.ask] * 6 + [self.stream] * 3 + [self.leave] * 3
        return kinds + [self.garbage, self.large, self.slow, self.crowd]

    def run(self):
        kinds = self.kinds()
        while time.time() < self.until:
            kind, self.began = self.random.choice(kinds), time.time()
            try:
                kind()
            except (OSError, http.client.HTTPException) as error:
                self.count(f"{kind.__name__}: {type(error).__name__}")

    def count(self, name):
        with lock:
            outcomes[name] += 1

    def post(self, body):
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        return connection, connection.getresponse()

    def ask(self):
        connection, answer = self.post(LIGHT)
        text = answer.read()
        if answer.status == 200:
            same = json.loads(text)["choices"][0]["message"]["content"] == ON
            self.count("answered" if same else "WRONG TEXT")
        else:
            self.count("refused, 429" if answer.status == 429 else f"FAILED, {answer.status}")
        connection.close()

    def stream(self):
        start = time.time()
        connection, answer = self.post(dict(LIGHT, stream=True))
        if answer.status == 200:
            answer.readline()
            first_tokens.append(time.time() - start)
            whole = answer.read().endswith(b"data: [DONE]\n\n")
            self.count("streamed" if whole else "CUT OFF")
        else:
            self.count("refused, 429" if answer.status == 429 else f"FAILED, {answer.status}")
        connection.close()

    def leave(self):
        ends = {"2045": -100, "2047": -100}
        connection, answer = self.post(dict(LIGHT, stream=True, max_tokens=400, logit_bias=ends))
        answer.read(self.random.randrange(1, 400))
        connection.close()
        self.count("left")

    def raw(self, data, name):
        with socket.create_connection(self.address, timeout=20) as stream:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            while stream.recv(65536):
                pass
        self.count(name)

    def garbage(self):
        self.raw(self.random.randbytes(self.random.randrange(1, 3000)), "garbage")

    def large(self):
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"
        self.raw(head + b"x" * 10_000_000, "10 MB")

    def slow(self):
        with socket.create_connection(self.address, timeout=20) as stream:
            for byte in b"GET /":
                stream.sendall(bytes([byte]))
                time.sleep(0.2)
        self.count("byte by byte")

    def crowd(self):
        crowd = [socket.create_connection(self.address, timeout=20) for _ in range(50)]
        time.sleep(0.1)
        for stream in crowd:
            stream.close()
        self.count("50 connections")


def state(process):
    with open(f"/proc/{process.pid}/status") as status:
        resident = int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))
    return resident, len(os.listdir(f"/proc/{process.pid}/fd"))


def main():
    wick, minutes = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 20
    options = ["serve", "--port", "0", "--parallel", "4", *sys.argv[3:]]
    process = subprocess.Popen([wick, *options], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.endswith("answers\n"):
            break
    host, port = re.search(r"http://([\d.]+):(\d+)", line).groups()
    threading.Thread(target=process.stderr.read, daemon=True).start()
    before, end = state(process), time.time() + 60 * minutes
    clients = [Client((host, int(port)), end, seed) for seed in range(6)]
    for client in clients:
        client.start()
    samples = []
    while time.time() < end:
        time.sleep(min(60 * minutes / 10, max(0.1, end - time.time())))
        now = state(process)
        samples.append(now[0])
        print(f"{now[0] / 1024:8.1f} MiB {now[1]:4} descriptors", flush=True)
    for client in clients:
        client.join()
    time.sleep(17)  # A head that is not whole is waited for so long.
    after = state(process)
    print(f"{after[0] / 1024:8.1f} MiB {after[1]:4} descriptors at the end, {before[1]} at first")
    for name, number in sorted(outcomes.items()):
        print(f"{number:8} {name}")
    times = sorted(first_tokens)
    print(f"first token of a stream: median {times[len(times) // 2]:.3f} s, 99 % {times[-1 - len(times) // 100]:.3f} s")
    wrong = [name for name in outcomes if name.split(",")[0] in ("FAILED", "WRONG TEXT", "CUT OFF")]
    # What is first used late is a larger share of a short time.
    more = 0.02 if minutes >= 5 else 0.1
    wrong += ["memory grew"] * (after[0] > (1 + more) * max(samples[: len(samples) // 3]))
    wrong += ["descriptors are left"] * (after[1] > before[1])
    wrong += ["the service has ended"] * (process.poll() is not None)
    process.terminate()
    if process.wait(60) != 0:
        wrong.append(f"exit code {process.returncode}")
    print("soak:", ", ".join(wrong) if wrong else "all is well")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
