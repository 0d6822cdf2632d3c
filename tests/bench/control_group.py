"""A control group with a hard memory limit, of either version of control groups. Needs root, on Linux."""

import os
import subprocess
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def parse(size: str) -> int:
    """Bytes that a size such as 1G or 750M says."""
    unit = "KMG".find(size[-1:].upper()) + 1
    return int(float(size[:-1] if unit else size) * 1024**unit)


def forget(path: str) -> None:
    """Drops a file's pages: what is in the page cache counts where it was read first."""
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


class ControlGroup:
    """What runs in it takes no more than so many bytes, pages of files included, and no swap."""

    def __init__(self, limit: int):
        unified = (ROOT / "cgroup.controllers").exists()
        self.folder = (ROOT if unified else ROOT / "memory") / f"wick-compare.{os.getpid()}"
        self.peak_file = self.folder / ("memory.peak" if unified else "memory.max_usage_in_bytes")
        self.limits = {"memory.max": limit, "memory.swap.max": 0}
        if not unified:
            self.limits = {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit}

    def __enter__(self) -> "ControlGroup":
        self.folder.mkdir()
        for name, value in self.limits.items():
            if (self.folder / name).exists():
                (self.folder / name).write_text(str(value))
        return self

    def __exit__(self, *_) -> None:
        self.folder.rmdir()

    def run(self, command: list[str], **options) -> subprocess.CompletedProcess:
        """Runs a command in the group; whether it was killed, its caller sees by how it ended."""
        enter = lambda: (self.folder / "cgroup.procs").write_text(str(os.getpid()))  # noqa: E731
        return subprocess.run(command, preexec_fn=enter, **options)

    def peak(self) -> int | None:
        """The most bytes that there were at once, as the kernel counts them; before version 2 had a counter, nobody knows."""
        return int(self.peak_file.read_text()) if self.peak_file.exists() else None
