"""Several services behind a balancer: the same texts, one of them killed under load. Run by ci/balancer.

    balancer.py WICK haproxy|nginx CONFIGURATION
"""

import collections
import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BOARDS = 3
CLIENTS = 8
REQUESTS = 240


class Board:
    def __init__(self, wick):
        command = [wick, "serve", "--port", "0", "--parallel", "2"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if line.endswith("answers\n"):
                break
        self.port = int(re.search(r":(\d+): ", line).group(1))

    def metric(self, name):
        _, text, _ = ask(self.port, "GET", "/metrics")
        return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))


def ask(port, method, path, body=None, session=None):
    """Status, text and board of an answer; raises where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"X-Session": session} if session else {}
    connection.request(method, path, body and json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text, response.headers.get("X-Board")


def question(i):
    said = [{"role": "user", "content": f"what is {i % 17} plus {i % 5}?"}]
    return {"messages": said, "seed": i, "temperature": 1.5, "max_tokens": 200}


def answer(port, i, session=None):
    status, text, board = ask(port, "POST", "/v1/chat/completions", question(i), session)
    assert status == 200, f"{status}: {text}"
    return json.loads(text)["choices"], board


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(kind, configuration, folder, boards):
    """The balancer with the boards' addresses in place of those of its configuration; its port."""
    text = pathlib.Path(configuration).read_text()
    for i, board in enumerate(boards):
        text = text.replace(f"192.168.1.1{i + 1}:8080", f"127.0.0.1:{board.port}")
    port = free_port()
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    path = pathlib.Path(folder) / pathlib.Path(configuration).name
    if kind == "nginx":
        places = "".join(
            f"    {name}_temp_path {folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = text.replace("http {\n", "http {\n" + places)
    path.write_text(text)
    command = {
        "haproxy": ["haproxy", "-db", "-f", path],
        "nginx": ["nginx", "-p", folder, "-c", path, "-g", f"daemon off; pid {folder}/pid; error_log {folder}/log;"],
    }[kind]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            if ask(port, "GET", "/health")[0] == 200:
                return process, port
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{kind} does not start")


def check_sessions(port):
    """A session stays with its board, and sessions are shared out."""
    seen = collections.defaultdict(set)
    for round in range(4):
        for session in range(12):
            _, board = answer(port, session, f"session {session}")
            seen[session].add(board)
    assert all(len(boards) == 1 for boards in seen.values()), seen
    assert len(set.union(*seen.values())) > 1, seen


def check_stream(port, boards):
    """What comes first is there while the rest is being written."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    ends = {"2045": -100, "2047": -100}
    body = {"prompt": "a b c", "max_tokens": 3500, "temperature": 0, "stream": True, "logit_bias": ends}
    connection.request("POST", "/v1/completions", json.dumps(body))
    response = connection.getresponse()
    assert response.readline().startswith(b"data: ")
    assert sum(board.metric("wick_running_requests") for board in boards) == 1
    connection.close()
    for _ in range(200):
        if not sum(board.metric("wick_running_requests") for board in boards):
            return
        time.sleep(0.02)
    raise AssertionError("a client that left is still answered")


def load(port, expected, victim):
    """Asks all from several threads and kills a board in the middle: when, and when requests began that were lost."""
    lost, wrong, killed = [], [], []
    lock, left = threading.Lock(), list(range(REQUESTS))

    def client():
        while True:
            with lock:
                if not left:
                    return
                i = left.pop()
                if len(left) == REQUESTS // 2:
                    victim.process.send_signal(signal.SIGKILL)
                    victim.process.wait()
                    killed.append(time.monotonic())
            begun = time.monotonic()
            try:
                status, text, _ = ask(port, "POST", "/v1/chat/completions", question(i))
            except (OSError, http.client.HTTPException):
                status = 0
            with lock:
                if status in (0, 502, 503, 504):
                    lost.append(begun)
                elif status != 200 or json.loads(text)["choices"] != expected[i]:
                    wrong.append((i, status, text))

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not left and not wrong, wrong
    return lost, killed[0]


def main(wick, kind, configuration):
    boards = [Board(wick) for _ in range(BOARDS)]
    folder = tempfile.TemporaryDirectory()
    balancer = None
    try:
        balancer, port = start(kind, configuration, folder.name, boards)
        expected = [answer(boards[0].port, i)[0] for i in range(REQUESTS)]
        check_sessions(port)
        check_stream(port, boards)
        lost, killed = load(port, expected, boards[1])
        late = [begun - killed for begun in lost if begun > killed]
        assert not late, f"begun after the kill and lost, seconds: {late}"
        assert len(lost) < CLIENTS, lost
        for session in range(12):
            answer(port, session, f"session {session}")
        print(f"{kind}: {REQUESTS} requests, {len(lost)} in flight on the board that was killed and lost")
    finally:
        for process in [board.process for board in boards] + [balancer]:
            if process:
                process.kill()
                process.wait()
        folder.cleanup()


if __name__ == "__main__":
    main(*sys.argv[1:])
