"""The engines that are compared: how a process of each is begun, and what it tells of its speed.

Figures are tokens per second of `decode` and `prefill`, `first_token` in seconds, `resident` and `peak_resident` in MiB.
"""

import ctypes
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

# (memory-mapped, repacked): repacking is what `use_extra_bufts` allows, a copy of the weights in the order that
# llama.cpp's fastest kernels read them.
SETTINGS = {
    "repack+mmap": (True, True),
    "repack": (False, True),
    "mmap": (True, False),
    "plain": (False, False),
}


def ids(n: int, vocabulary: int) -> list[int]:
    """The ids of `wick bench`."""
    out, seed = [], 12_345
    for _ in range(n):
        seed = (seed * 1_664_525 + 1_013_904_223) % 2**32
        out.append((seed >> 8) % vocabulary)
    return out


def memory(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def measure_llama(model: str, setting: str, threads: int, prompt: int, decoded: int, repeat: int) -> dict:
    import llama_cpp as llama

    start = time.perf_counter()
    mapped, repacked = SETTINGS[setting]
    llama.llama_backend_init()
    quiet = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(quiet, None)
    params = llama.llama_model_default_params()
    params.load_mode = llama.LLAMA_LOAD_MODE_MMAP if mapped else llama.LLAMA_LOAD_MODE_NONE
    params.use_extra_bufts = repacked
    loaded = llama.llama_model_load_from_file(model.encode(), params)
    if not loaded:
        sys.exit(f"{model}: llama.cpp cannot load it")
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = prompt + decoded, max(prompt, 512), 512
    params.n_threads = params.n_threads_batch = threads
    context = llama.llama_init_from_model(loaded, params)
    if not context:
        sys.exit(f"{model}: llama.cpp cannot make a context of {prompt + decoded}")
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(loaded))
    all_ids = ids(prompt + decoded, vocabulary)
    tokens = (ctypes.c_int32 * len(all_ids))(*all_ids)

    def decode(first: int, count: int) -> None:
        at = ctypes.cast(ctypes.byref(tokens, first * 4), ctypes.POINTER(ctypes.c_int32))
        code = llama.llama_decode(context, llama.llama_batch_get_one(at, count))
        llama.llama_synchronize(context)
        if code != 0:
            sys.exit(f"{model}: llama_decode of {count} tokens at {first} returned {code}")

    first_token, prefill, decoding = None, [], []
    for _ in range(repeat):
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        began = time.perf_counter()
        decode(0, prompt)
        read = time.perf_counter()
        first_token = first_token or read - start
        for i in range(decoded):
            decode(prompt + i, 1)
        prefill.append(prompt / (read - began))
        decoding.append(decoded / (time.perf_counter() - read))
    return {
        "prefill": statistics.median(prefill),
        "decode": statistics.median(decoding),
        "first_token": first_token,
        "resident": memory("VmRSS:") / 2**20,
        "peak_resident": memory("VmHWM:") / 2**20,
    }


class Wick:
    """wick on a file of the model, with options of `wick bench`."""

    def __init__(self, args, name: str, model: str, *options: str):
        self.args, self.name, self.model, self.options = args, name, model, options
        self.environment = {}

    def command(self, prompt: int, decoded: int, limit: str | None) -> list[str]:
        numbers = {"-p": prompt, "-n": decoded, "-t": self.args.threads, "-r": self.args.repeat}
        words = [word for flag, number in numbers.items() for word in (flag, str(number))]
        # Measuring the memory's speed takes memory that would count.
        within = ["--memory", limit, "--no-bandwidth"] if limit else []
        return [self.args.wick, "bench", "-m", self.model, "--json", *words, *within, *self.options]

    def figures(self, done: subprocess.CompletedProcess) -> dict:
        found = json.loads(done.stdout)
        return {
            "kernels": found["kernels"],
            "bandwidth": found.get("memory_bandwidth"),
            "weights": found["weights"]["total"],
            "prefill": found["prefill"]["median"],
            "decode": found["decode"]["median"],
            "first_token": found["first_token_seconds"],
            "resident": found["resident"] / 2**20,
            "peak_resident": found["peak_resident"] / 2**20,
        }


class Llama:
    """llama.cpp by its Python package, in one of its settings."""

    def __init__(self, args, setting: str):
        self.args, self.name, self.environment = args, setting, {}

    def command(self, prompt: int, decoded: int, _limit: str | None) -> list[str]:
        work = [self.args.model, self.name, self.args.threads, prompt, decoded, self.args.repeat]
        return [sys.executable, __file__, json.dumps(work)]

    def figures(self, done: subprocess.CompletedProcess) -> dict:
        return json.loads(done.stdout)


class Authors:
    """The authors' engine: its `llama-cli`, built as its README says. Told are the speeds that it prints at its end."""

    name = "authors"

    def __init__(self, args):
        self.args = args
        self.environment = {"EXPERT_BUNDLE_PATH": args.bundle} if args.bundle else {}

    def command(self, prompt: int, decoded: int, limit: str | None) -> list[str]:
        numbers = {"-t": self.args.threads, "-n": decoded, "-c": 2 * prompt + decoded}
        words = [word for flag, number in numbers.items() for word in (flag, str(number))]
        # A word is a token, or a few; its README wants few at once where experts are read.
        words += ["-p", " ".join(["one"] * prompt), *(["-ub", "4"] if limit else [])]
        return [self.args.authors, "-m", self.args.authors_model or self.args.model, "-no-cnv", "--ignore-eos", "--temp", "0", *words]

    def figures(self, done: subprocess.CompletedProcess) -> dict:
        speed = r"eval time =.*?([0-9.]+) tokens per second"
        found = [float(found) for found in re.findall(speed, done.stderr)]
        if len(found) != 2:
            sys.exit(f"{self.args.authors}: two speeds expected, {len(found)} found:\n{done.stderr[-2000:]}")
        return {"prefill": found[0], "decode": found[1]}


if __name__ == "__main__":
    print(json.dumps(measure_llama(*json.loads(sys.argv[1]))))
