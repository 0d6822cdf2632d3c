//! A machine under QEMU, its serial line and its monitor.

use crate::linux::{PACKED, target};
use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// No wait of a test is longer than this.
const PATIENCE: Duration = Duration::from_secs(120);

/// A copy of the packed nano, changed.
pub(crate) fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(&*PACKED).unwrap();
    change(&mut bytes);
    let path = target("qemu-virt").join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// What a machine is made of.
pub(crate) struct Machine<'a> {
    pub(crate) cpu: &'a str,
    pub(crate) cores: usize,
    /// Model of the machine.
    pub(crate) model: &'a str,
    pub(crate) mebibytes: usize,
    /// `None` for no disk.
    pub(crate) disk: Option<PathBuf>,
    /// More about the disk.
    pub(crate) drive: &'a str,
    pub(crate) arguments: &'a str,
    /// Further arguments of QEMU.
    pub(crate) more: &'a [&'a str],
}

impl Default for Machine<'_> {
    fn default() -> Self {
        Machine {
            cpu: "cortex-a72",
            cores: 1,
            model: "virt",
            mebibytes: 128,
            disk: Some(PACKED.clone()),
            drive: "",
            arguments: "temperature=0",
            more: &[],
        }
    }
}

impl Machine<'_> {
    /// Switches the machine on.
    pub(crate) fn start(&self) -> Running {
        let monitor =
            env::temp_dir().join(format!("wick-virt-{}-{}", std::process::id(), serial()));
        let mut qemu = Command::new("qemu-system-aarch64");
        qemu.args(["-M", self.model, "-cpu", self.cpu, "-smp", &self.cores.to_string()])
            .args(["-m", &self.mebibytes.to_string(), "-append", self.arguments])
            // One thread: cores that wait make room for those that work.
            .args(["-accel", "tcg,thread=single", "-display", "none", "-serial", "stdio"])
            .args(["-nic", "none", "-no-reboot", "-semihosting"])
            .args(["-global", "virtio-mmio.force-legacy=false", "-kernel"])
            .arg(target("aarch64-unknown-none/release/wick-virt"))
            .args(["-monitor", &format!("unix:{},server=on,wait=off", monitor.display())])
            .args(self.more);
        if let Some(disk) = &self.disk {
            let file = format!("file={},format=raw,if=none,id=d0", disk.display());
            qemu.args(["-drive", &format!("{file},readonly=on{}", self.drive)]);
            qemu.args(["-device", "virtio-blk-device,drive=d0"]);
        }
        qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = qemu.spawn().expect("qemu-system-aarch64: run ci/setup");
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (sender, bytes) = channel();
        let errors = sender.clone();
        thread::spawn(move || forward(&mut stdout, |bytes| sender.send(bytes).is_ok()));
        thread::spawn(move || forward(&mut stderr, |bytes| errors.send(bytes).is_ok()));
        let stdin = child.stdin.take();
        Running { child, stdin, bytes, text: String::new(), monitor }
    }
}

fn serial() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn forward(from: &mut impl Read, to: impl Fn(Vec<u8>) -> bool) {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) if to(buffer[..n].to_vec()) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            _ => break,
        }
    }
}

/// A machine that runs. It is switched off when it is dropped.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    bytes: Receiver<Vec<u8>>,
    /// What came from the line and has not been taken.
    text: String,
    monitor: PathBuf,
}

impl Running {
    /// Waits until the line has said `end`, and takes all up to there.
    pub(crate) fn until(&mut self, end: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => self.text += &String::from_utf8_lossy(&bytes).replace('\r', ""),
                Err(e) => panic!("{end:?} expected, {e} after {:?}", self.text),
            }
        }
    }

    /// Types bytes.
    pub(crate) fn types(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Types a prompt, and returns the answer and what is said of it.
    pub(crate) fn ask(&mut self, prompt: &str) -> (String, String) {
        self.types(prompt.as_bytes());
        self.types(b"\r");
        self.until(&format!("{prompt}\n"));
        let said = self.until("\n> ");
        let figures = said.find("\n[prefill ").unwrap_or_else(|| panic!("no figures: {said:?}"));
        (said[..figures].into(), said[figures + 1..said.len() - 3].into())
    }

    /// Says something to QEMU's monitor.
    pub(crate) fn monitor(&mut self, command: &str) {
        let mut stream = UnixStream::connect(&self.monitor).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answers = stream.try_clone().unwrap();
        let mut prompt = || {
            let mut seen = Vec::new();
            let mut byte = [0];
            while !seen.ends_with(b"(qemu) ") {
                answers.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
            String::from_utf8_lossy(&seen).into_owned()
        };
        prompt();
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        let said = prompt();
        assert!(!said.contains("Error"), "{said}");
    }

    /// Waits until the machine is off, and returns its exit code and what it said last.
    pub(crate) fn end(mut self) -> (i32, String) {
        self.stdin = None;
        let start = Instant::now();
        loop {
            match self.bytes.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
                Ok(bytes) => self.text += &String::from_utf8_lossy(&bytes).replace('\r', ""),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:?}", self.text),
            }
        }
        let code = self.child.wait().unwrap().code().expect("no signal");
        (code, std::mem::take(&mut self.text))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
        let _gone = fs::remove_file(&self.monitor);
    }
}
