//! Reads as slow as those of another device.

use super::{Completion, Reads, Request};
use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

/// What reads of a storage device cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Device {
    /// Bytes per second, of all reads together.
    pub bandwidth: f64,
    /// Reads that can be begun per second.
    pub iops: f64,
    /// From the start of a read to its first byte.
    pub latency: Duration,
    /// Reads that the device works on at once; others wait.
    pub lanes: usize,
}

impl Device {
    /// A good SD card in a UHS-I slot: the bus (SDR104, SD Physical Layer Specification 3.01) moves
    /// 104 MB/s, of which about 90 are left; 4,000 random reads per second are what the Application
    /// Performance Class A2 (Specification 6.0) asks for. Two lanes and the latency that fits them.
    pub const SD: Device =
        Device { bandwidth: 90e6, iops: 4_000.0, latency: Duration::from_micros(500), lanes: 2 };

    /// eMMC 5.1 (JEDEC JESD84-B51): the bus moves 400 MB/s (HS400: 200 MHz, both edges, 8 bits), and
    /// up to 32 commands wait in the device's queue, of which dies of a small device serve about
    /// 4 at once. Latency as of flash arrays of its time.
    pub const EMMC: Device =
        Device { bandwidth: 400e6, iops: 12_000.0, latency: Duration::from_micros(200), lanes: 4 };

    /// An NVMe drive behind one lane of PCIe 3.0, as boards have it: 985 MB/s less the packets'
    /// overhead; latency as of TLC flash.
    pub const NVME: Device =
        Device { bandwidth: 800e6, iops: 100_000.0, latency: Duration::from_micros(80), lanes: 32 };

    /// Kinds of devices by name, each as a good one.
    pub const KINDS: [(&str, Device); 3] =
        [("sd", Device::SD), ("emmc", Device::EMMC), ("nvme", Device::NVME)];

    /// The device of the kind of this name.
    pub fn of_kind(name: &str) -> Option<Device> {
        Device::KINDS.into_iter().find_map(|(kind, device)| (kind == name).then_some(device))
    }

    /// The same device with another bandwidth, in bytes per second.
    pub fn with_bandwidth(self, bandwidth: f64) -> Device {
        Device { bandwidth, ..self }
    }
}

/// When the reads of a device end: each waits for a lane, then for its first byte, then for the bus,
/// on which one read at a time moves its bytes. Times count from any fixed moment.
#[derive(Clone, Debug)]
pub struct Schedule {
    device: Device,
    /// When each lane is free.
    lanes: Vec<Duration>,
    /// When the bus is free.
    bus: Duration,
    /// When the next read may begin.
    next: Duration,
}

impl Schedule {
    /// The schedule of a device that has nothing to do.
    pub fn new(device: Device) -> Schedule {
        let lanes = vec![Duration::ZERO; device.lanes.max(1)];
        Schedule { device, lanes, bus: Duration::ZERO, next: Duration::ZERO }
    }

    /// When a read of `len` bytes ends that is submitted at `now`. Reads end in the order in which
    /// they are submitted.
    pub fn due(&mut self, now: Duration, len: usize) -> Duration {
        let lane = self.lanes.iter_mut().min().expect("a device has a lane");
        let start = now.max(*lane).max(self.next);
        self.next = start + Duration::from_secs_f64(1.0 / self.device.iops);
        let transfer = Duration::from_secs_f64(len as f64 / self.device.bandwidth);
        self.bus = self.bus.max(start + self.device.latency) + transfer;
        *lane = self.bus;
        self.bus
    }
}

/// Reads whose ends are held back until the device would have reported them.
#[derive(Debug)]
pub struct Throttle<R> {
    inner: R,
    schedule: Schedule,
    start: Instant,
    /// Reads in flight, in the order of their submission, which is that of their ends.
    running: VecDeque<Running>,
}

#[derive(Debug)]
struct Running {
    id: u64,
    due: Duration,
    /// How it ended further down, if it has.
    completion: Option<Completion>,
}

impl<R: Reads> Throttle<R> {
    /// Makes `inner`'s reads as slow as `device`'s, if they are not slower already.
    pub fn new(inner: R, device: Device) -> Throttle<R> {
        let (schedule, start) = (Schedule::new(device), Instant::now());
        Throttle { inner, schedule, start, running: VecDeque::new() }
    }

    /// Takes note of a read that has ended further down.
    fn note(&mut self, completion: Completion) {
        let ended = |r: &&mut Running| r.id == completion.id && r.completion.is_none();
        let running = self.running.iter_mut().find(ended);
        running.expect("only reads in flight end").completion = Some(completion);
    }
}

// SAFETY: `inner` keeps the promise, and ends are reported later than it reports them.
unsafe impl<R: Reads> Reads for Throttle<R> {
    unsafe fn submit(&mut self, request: Request) {
        let due = self.schedule.due(self.start.elapsed(), request.len);
        self.running.push_back(Running { id: request.id, due, completion: None });
        // SAFETY: as the caller promises.
        unsafe { self.inner.submit(request) };
    }

    fn complete(&mut self, wait: Duration) -> Option<Completion> {
        let end = self.start.elapsed() + wait;
        loop {
            while let Some(completion) = self.inner.complete(Duration::ZERO) {
                self.note(completion);
            }
            // A read that is slower than the device lets those behind it pass.
            let now = self.start.elapsed();
            let ended = self.running.iter().position(|running| running.completion.is_some());
            let due = ended.map(|place| self.running[place].due);
            if let Some(place) = ended.filter(|_| due <= Some(now)) {
                return self.running.remove(place)?.completion;
            }
            if now >= end || self.running.is_empty() {
                return None;
            }
            let until = due.map_or(end, |due| due.min(end));
            match self.inner.complete(until - now) {
                Some(completion) => self.note(completion),
                None => thread::sleep(until.saturating_sub(self.start.elapsed())),
            }
        }
    }

    fn reserve(&mut self, reads: usize) {
        self.inner.reserve(reads);
        self.running.reserve(reads.saturating_sub(self.running.len()));
    }

    fn in_flight(&self) -> usize {
        self.running.len()
    }
}
