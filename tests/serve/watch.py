"""A day in an hour: `wick serve` with nano and a third of its experts in memory, under a mixed load at the highest rate, with a
fault every few seconds.

    python3 tests/serve/watch.py WICK [MINUTES] [SECONDS FROM FAULT TO FAULT]

Prints requests by outcome, memory and descriptors over time, and how often the service was started again. Fails where a request failed that
no fault explains, where a text was another one, where the process took more than its `--memory`, where descriptors are left, or
where it ended by itself. As root the disk is filled (a small tmpfs) and memory pressed (a control group); with libfaketime (Debian: faketime) the
clock is stepped.
"""

import glob
import http.client
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter

import soak

NANO = pathlib.Path(__file__).parents[1] / "models/nano/nano.gguf"
FAILURES = ("FAILED", "CUT OFF", "ask:", "stream:", "form:", "embed:")
BARS = "▁▂▃▄▅▆▇█"
# The loader maps the library into the service alone; other clocks than that of the day are left as they are.
CLOCK = {"FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}


class Service:
    """The service, started again where it was killed."""

    def __init__(self, wick, folder):
        self.wick, self.folder, self.port, self.starts, self.said = wick, folder, "0", 0, []
        self.model, self.cache, self.clock = folder / "model.gguf", folder / "cache", folder / "clock"
        self.keys = folder / "wick.toml"
        subprocess.run([wick, "pack", NANO, "-o", self.model], check=True, stderr=subprocess.DEVNULL)
        self.keys.write_text("temperature = 0.6\n")
        self.clock.write_text("+0")
        self.whole, self.library, self.group = self.model.read_bytes(), preloaded(), group()
        self.cache.mkdir()
        small = ["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", self.cache]
        self.has_small_disk = os.geteuid() == 0 and subprocess.run(small).returncode == 0
        self.memory = self.least() + 8 * 1024
        self.start()

    def options(self, memory):
        cache = ["--cache-dir", self.cache, "--cache-size", "4M"]
        return [self.wick, "serve", self.model, "--config", self.keys, "--parallel", "4", "--memory", memory, *cache]

    def least(self):
        """KiB that the model can be served within."""
        refused = subprocess.run(self.options("1M"), capture_output=True, text=True)
        return int(re.search(r"MiB \((\d+)K\)", refused.stderr).group(1))

    def start(self):
        variables = dict(os.environ, FAKETIME_TIMESTAMP_FILE=str(self.clock), **CLOCK)
        if self.library:
            variables["LD_PRELOAD"] = self.library
        command = [*self.options(f"{self.memory}K"), "--port", self.port]
        self.process = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)
        if self.group:
            (self.group / "cgroup.procs").write_text(str(self.process.pid))
        for line in self.process.stderr:
            place = re.search(r"http://([\d.]+):(\d+)", line)
            if place:
                self.port = place.group(2)
            if line.endswith("answers\n"):
                break
        self.starts += 1
        threading.Thread(target=self.listen, args=[self.process.stderr], daemon=True).start()

    def listen(self, lines):
        self.said.extend(lines)

    def leave(self):
        if self.has_small_disk:
            subprocess.run(["umount", self.cache], check=True)
        if self.group:
            self.group.rmdir()

    def wait(self):
        """Until it answers; whether it does within a minute."""
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", int(self.port), timeout=10)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return True
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.1)
        return False


def preloaded():
    """The library that steps the clock."""
    return next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)


def group():
    """A control group for the service, if one may be made."""
    base = "/sys/fs/cgroup" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "/sys/fs/cgroup/memory"
    path = pathlib.Path(base) / f"wick-watch.{os.getpid()}"
    try:
        path.mkdir()
    except OSError:
        return None
    return path if any((path / name).exists() for name in ("memory.high", "memory.limit_in_bytes")) else None


class Faults:
    """What goes wrong, one after the other in any order."""

    def __init__(self, service):
        self.service, self.counts, self.windows, self.unexpected = service, Counter(), [], []
        self.last = "before any fault"
        # Of these, requests may fail.
        self.failing = [self.damaged, self.cut_short, self.killed]
        self.others = [self.replaced, self.clients_gone, self.reloaded, self.stalled]
        self.others += [self.disk_full] if service.has_small_disk else []
        self.others += [self.pressed] if service.group else []
        self.others += [self.clock_stepped] if service.library else []

    def make(self, seconds, until):
        while time.time() < until:
            for fault in random.sample(self.failing + self.others, len(self.failing + self.others)):
                if time.time() < until:
                    self.one(fault)
                    time.sleep(seconds)

    def one(self, fault):
        self.counts[fault.__name__.replace("_", " ")] += 1
        window = [time.time(), None]
        if fault in self.failing:
            self.windows.append(window)
        self.last = f"while {fault.__name__}"
        fault()
        if fault in self.failing:
            # The service answers until it has seen that its model was written over, at its next step, and loads it once more.
            time.sleep(1)
        if not self.service.wait():
            self.unexpected.append(f"{fault.__name__}: no answer a minute later")
        window[1] = time.time()
        self.last = f"after {fault.__name__}"

    def explains(self, began):
        """Whether a fault may be why something fails that began then."""
        return any(end is None or end >= began for _, end in self.windows[-3:])

    def damaged(self):
        """Experts are other bytes for a second."""
        bad = bytearray(self.service.whole)
        for at in range(len(bad) // 2, len(bad) * 9 // 10, 4096):
            bad[at] ^= 1
        self.service.model.write_bytes(bad)
        time.sleep(1)
        self.service.model.write_bytes(self.service.whole)

    def cut_short(self):
        os.truncate(self.service.model, len(self.service.whole) // 2)
        time.sleep(1)
        self.service.model.write_bytes(self.service.whole)

    def replaced(self):
        other = self.service.model.with_suffix(".new")
        other.write_bytes(self.service.whole)
        other.rename(self.service.model)

    def killed(self):
        self.service.process.kill()
        self.service.process.wait()
        self.service.start()

    def clients_gone(self):
        body = json.dumps(dict(soak.LIGHT, stream=True, max_tokens=400)).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        for _ in range(20):
            with soak.socket.create_connection(("127.0.0.1", int(self.service.port)), timeout=20) as stream:
                stream.sendall(head + body)

    def reloaded(self):
        self.service.keys.write_text(f"temperature = {random.random():.2f}\n")
        self.service.process.send_signal(signal.SIGHUP)

    def stalled(self):
        self.service.process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        self.service.process.send_signal(signal.SIGCONT)

    def disk_full(self):
        filler = self.service.cache / "filler"
        try:
            with open(filler, "wb") as file:
                while file.write(bytes(1 << 16)):
                    pass
        except OSError:
            time.sleep(2)
        filler.unlink()

    def pressed(self):
        """The kernel takes pages back; where it knows no other limit than one that kills, only those beside the budget."""
        group, resident = self.service.group, soak.state(self.service.process)[0]
        if (group / "memory.high").exists():
            limit, pressed, free = group / "memory.high", resident * 1024, "max"
        else:
            limit, pressed, free = group / "memory.limit_in_bytes", (self.service.memory + 10 * 1024) * 1024, "-1"
        try:
            limit.write_text(str(pressed))
            time.sleep(2)
        except OSError:
            self.counts["pressed, refused"] += 1
        limit.write_text(free)

    def clock_stepped(self):
        self.service.clock.write_text(random.choice(["+3d", "-3d", "+1h", "-1h", "+0"]))
        time.sleep(2)


class Client(soak.Client):
    """What clients of the soak do, and forms, embeddings and texts that nobody has asked for."""

    faults = None

    def kinds(self):
        return super().kinds() + [self.form] * 2 + [self.embed] * 2

    def count(self, name):
        if name.startswith(FAILURES):
            is_expected = self.faults.explains(self.began)
            name = f"expected: {name}" if is_expected else f"UNEXPECTED: {name}, {self.faults.last}"
        super().count(name)

    def form(self):
        asked = f"tell me about {self.random.randrange(1000)}"
        body = {"messages": [{"role": "user", "content": asked}], "max_tokens": 60, "response_format": {"type": "json_object"}}
        connection, answer = self.post(body)
        text = answer.read()
        if answer.status == 200:
            choice = json.loads(text)["choices"][0]
            if choice["finish_reason"] == "stop":
                json.loads(choice["message"]["content"])
            self.count("form")
        else:
            self.count("refused, 429" if answer.status == 429 else f"FAILED, {answer.status}")
        connection.close()

    def embed(self):
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        connection.request("POST", "/v1/embeddings", json.dumps({"input": f"light {self.random.randrange(9)}"}))
        answer = connection.getresponse()
        answer.read()
        self.count({200: "embedded", 429: "refused, 429"}.get(answer.status, f"FAILED, {answer.status}"))
        connection.close()


def plot(name, numbers):
    low, high = min(numbers), max(numbers)
    bars = "".join(BARS[int((number - low) / ((high - low) or 1) * 7)] for number in numbers)
    print(f"{name:14} {low:7.1f} {bars} {high:.1f}")


def watch(service, minutes, faults):
    """Memory and descriptors, sixty times, while clients ask."""
    end, samples = time.time() + 60 * minutes, []
    clients = [Client(("127.0.0.1", int(service.port)), end, seed) for seed in range(6)]
    for client in clients:
        client.start()
    while time.time() < end:
        time.sleep(minutes)
        try:
            samples.append(soak.state(service.process))
        except (OSError, AttributeError):
            pass  # It is being started again.
    for client in clients:
        client.join()
    time.sleep(17)  # A head that is not whole is waited for so long.
    return samples


def report(service, samples, before, faults):
    after, outcomes = soak.state(service.process), soak.outcomes
    print(f"{sum(outcomes.values())} requests, {sum(faults.counts.values())} faults")
    for name, number in [*sorted(outcomes.items()), *sorted(faults.counts.items())]:
        print(f"{number:8} {name}")
    plot("resident, MiB", [resident / 1024 for resident, _ in samples])
    plot("descriptors", [descriptors for _, descriptors in samples])
    print(f"{service.starts - 1} starts after {faults.counts['killed']} kills; {after[1]} descriptors, {before[1]} at first")
    wrong = faults.unexpected + [name for name in outcomes if name.startswith(("UNEXPECTED", "WRONG"))]
    wrong += ["more memory than it may take"] * (max(resident for resident, _ in samples) > service.memory)
    wrong += ["descriptors are left"] * (after[1] > before[1])
    wrong += ["it has ended by itself"] * (service.starts - 1 != faults.counts["killed"] or service.process.poll() is not None)
    wrong += [line for line in service.said if "panicked" in line]
    return wrong


def main():
    wick, minutes = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60
    gap = float(sys.argv[3]) if len(sys.argv) > 3 else 3
    with tempfile.TemporaryDirectory() as folder:
        service = Service(wick, pathlib.Path(folder))
        Client.faults = faults = Faults(service)
        before, until = soak.state(service.process), time.time() + 60 * minutes
        maker = threading.Thread(target=faults.make, args=[gap, until])
        maker.start()
        samples = watch(service, minutes, faults)
        maker.join()
        wrong = report(service, samples, before, faults)
        service.process.terminate()
        wrong += [f"exit code {service.process.returncode}"] * (service.process.wait(60) != 0)
        service.leave()
    print("watch:", "; ".join(wrong) if wrong else "all is well")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
