"""An emulated board: Debian with systemd on QEMU, in which check.sh tries the package.

    python3 boards/linux/emulated/board.py FOLDER CPU MODE

FOLDER has root.tar (Debian for arm64 with kernel/), old.deb, new.deb and wick.tar.gz, model.gguf and wick, a binary for this
machine. Needs root, mke2fs and qemu-system-aarch64. Prints what check.sh says; fails unless all went well and all answers are those of this machine.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
# In the order in which they need each other.
MODULES = ["virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "scsi_common", "scsi_mod", "virtio_scsi", "crc-t10dif", "t10-pi", "crc64", "crc64-rocksoft", "sd_mod"]
# Longer than the pieces in which prompts are kept (64 tokens).
SYSTEM = "You look after lights, blinds, heaters and speakers in a house. Answer with one command for one device. " * 3
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "dim the kitchen light to 40 percent"}]
REQUEST = {"messages": MESSAGES, "seed": 7, "temperature": 0.8, "max_tokens": 48}
# Seconds until the machine is turned off whatever it is at.
PATIENCE = {"short": 600, "long": 1500}

INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for module in {modules}; do /bin/busybox insmod /modules/$module; done
until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
"""
UNIT = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/check/check.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyAMA0
TimeoutStartSec=infinity
"""


def archive(path, files):
    """A cpio archive in the form that kernels unpack (newc) of pairs of names and bytes; None is a folder."""
    def entry(number, name, mode, data):
        name = name.encode() + b"\0"
        numbers = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        head = b"070701" + b"".join(b"%08X" % field for field in numbers) + name
        return head.ljust(-(-len(head) // 4) * 4, b"\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")

    with open(path, "wb") as out:
        for number, (name, data) in enumerate(files, 1):
            out.write(entry(number, name, 0o040755 if data is None else 0o100755, data or b""))
        out.write(entry(0, "TRAILER!!!", 0, b""))


def unpack_root(folder):
    """The root file system, with what is to be tried."""
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    subprocess.run(["tar", "-xpf", folder / "root.tar", "-C", root], check=True)
    kernel = folder / "kernel"
    shutil.rmtree(kernel, ignore_errors=True)
    shutil.move(root / "kernel", kernel)
    return root, kernel


def initramfs(folder, root, kernel):
    """What loads the drivers of the disk and goes on from there."""
    found = {path.name.split(".ko")[0]: path for path in kernel.rglob("*.ko*")}
    modules = [found[name] for name in MODULES if name in found]
    files = [(name, None) for name in ["bin", "dev", "proc", "root", "modules"]]
    files.append(("bin/busybox", (root / "usr/bin/busybox").read_bytes()))
    files += [(f"modules/{path.name}", path.read_bytes()) for path in modules]
    files.append(("init", INIT.format(modules=" ".join(path.name for path in modules)).encode()))
    archive(folder / "initramfs", files)


def prepare(root, folder, mode):
    """Writes what is to be tried into the root, and how."""
    check = root / "check"
    check.mkdir()
    for name in ["old.deb", "new.deb", "new-version", "wick.tar.gz"]:
        shutil.copy(folder / name, check / name)
    shutil.copy(HERE / "check.sh", check / "check.sh")
    (check / "check.sh").chmod(0o755)
    (check / "mode").write_text(mode)
    (check / "request.json").write_text(json.dumps(REQUEST))
    units = root / "etc/systemd/system"
    (units / "check.service").write_text(UNIT)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "check.service").symlink_to("../check.service")
    # It waits for a terminal that is not there, and for a name server.
    for name in ["serial-getty@ttyAMA0.service", "systemd-resolved.service", "systemd-firstboot.service"]:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    # Nothing but what is tried writes to the disk.
    journal = root / "etc/systemd/journald.conf.d"
    journal.mkdir(parents=True, exist_ok=True)
    (journal / "volatile.conf").write_text("[Journal]\nStorage=volatile\n")
    (root / "etc/fstab").write_text("")
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").write_text("board\n")


def disks(root, folder):
    """The root, and the model on a disk of its own."""
    models = folder / "models"
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir()
    shutil.copy(folder / "model.gguf", models / "model.gguf")
    for path, size, source, label in [("root.img", "600M", root, "root"), ("model.img", "64M", models, "model")]:
        (folder / path).unlink(missing_ok=True)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", label, "-d", source, folder / path, size], check=True)


def expected(folder):
    """The answer of this machine."""
    command = [folder / "wick", "serve", "--port", "0", folder / "model.gguf"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = next(line for line in process.stderr if line.endswith("answers\n"))
            address = re.search(r"http://[\d.]+:\d+", line).group()
            ask = urllib.request.Request(f"{address}/v1/chat/completions", json.dumps(REQUEST).encode())
            return json.load(urllib.request.urlopen(ask))["choices"]
        finally:
            process.terminate()


def boot(folder, kernel, cpu, mode):
    """Runs the machine until it is turned off; the lines of its console."""
    image = next(kernel.rglob("vmlinuz-*"))
    machine = ["timeout", "--foreground", str(PATIENCE[mode]), "qemu-system-aarch64", "-M", "virt", "-cpu", cpu, "-smp", "2", "-m", "1024"]
    machine += ["-accel", "tcg,thread=multi"]
    machine += ["-nographic", "-nic", "none", "-global", "virtio-mmio.force-legacy=false", "-kernel", image]
    machine += ["-initrd", folder / "initramfs", "-append", "console=ttyAMA0 quiet panic=-1 systemd.firstboot=off"]
    machine += ["-drive", f"file={folder}/root.img,if=none,format=raw,id=root", "-device", "virtio-blk-device,drive=root"]
    machine += ["-device", "virtio-scsi-device", "-drive", f"file={folder}/model.img,if=none,format=raw,id=model"]
    machine += ["-device", "scsi-hd,drive=model"]
    with subprocess.Popen(machine, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            yield line.decode(errors="replace").rstrip()


def main():
    folder, cpu, mode = pathlib.Path(sys.argv[1]).resolve(), *sys.argv[2:]
    choices = expected(folder)
    root, kernel = unpack_root(folder)
    initramfs(folder, root, kernel)
    prepare(root, folder, mode)
    disks(root, folder)
    start, failed, count, is_over = time.time(), [], 0, False
    for line in boot(folder, kernel, cpu, mode):
        print(f"{time.time() - start:6.1f} {line}", flush=True)
        if line.startswith("RESULT "):
            _, name, status, *_ = line.split(" ")
            is_over |= name == "end"
            failed += [name] if status != "ok" else []
            count += 1
        elif line.startswith("ANSWER "):
            _, name, body = (line + " ").split(" ", 2)
            count += 1
            try:
                is_same = json.loads(body)["choices"] == choices
            except (ValueError, KeyError):
                is_same = False
            failed += [] if is_same else [f"answer {name}"]
    if not is_over:
        failed.append("end")
        count += 1
    # As cargo does, so that ci/test counts them.
    outcome = f"{count - len(failed)} passed; {len(failed)} failed; 0 ignored; finished in {time.time() - start:.0f} s"
    print(" ".join([f"test result: {cpu}. {outcome}", *failed]))
    sys.exit(bool(failed))


main()
