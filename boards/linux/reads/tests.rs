mod refusals;

use super::*;
use crate::block_file::{ALIGNMENT, Caching};
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Bytes of the file that is read: its last block is not whole.
const SIZE: usize = (1 << 20) + 1234;
/// Bytes that a read in flight has for itself.
const ROOM: usize = 64 << 10;
/// Longer than any read of a test takes.
const LONG: Duration = Duration::from_secs(60);
const EIO: i32 = 5;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// A file of bytes that tell where they are from.
struct Source {
    _folder: TempDir,
    bytes: Vec<u8>,
    files: Arc<[BlockFile]>,
}

impl Source {
    fn new(caching: Caching) -> Source {
        Source::in_folder(tempfile::tempdir().unwrap(), caching)
    }

    fn in_folder(folder: TempDir, caching: Caching) -> Source {
        let mut random = 1u64;
        let mut byte = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8
        };
        let bytes: Vec<u8> = (0..SIZE).map(|_| byte()).collect();
        let path = folder.path().join("file");
        fs::write(&path, &bytes).unwrap();
        let file = BlockFile::open(&path, caching).unwrap();
        Source { _folder: folder, bytes, files: Arc::new([file]) }
    }

    fn alignment(&self) -> usize {
        self.files[0].alignment()
    }

    fn threads(&self, count: usize) -> Threads {
        Threads::new(Arc::clone(&self.files), count).unwrap()
    }

    fn direct(&self) -> Direct {
        Direct::new(Arc::clone(&self.files))
    }

    /// A ring, unless the system refuses it.
    fn uring(&self, memory: &Memory, depth: usize) -> Option<Uring> {
        Uring::new(Arc::clone(&self.files), memory, depth).ok()
    }

    /// All that reads by itself.
    fn readers(&self, memory: &Memory) -> Vec<Box<dyn Reads>> {
        let mut all: Vec<Box<dyn Reads>> =
            vec![Box::new(self.threads(1)), Box::new(self.threads(3)), Box::new(self.direct())];
        for depth in [1, 4, 64] {
            all.extend(self.uring(memory, depth).map(|uring| Box::new(uring) as Box<dyn Reads>));
        }
        let elsewhere = Memory::new(ALIGNMENT).unwrap();
        all.extend(self.uring(&elsewhere, 8).map(|uring| Box::new(uring) as Box<dyn Reads>));
        all
    }
}

fn request(memory: &Arc<Memory>, id: usize, offset: usize, len: usize) -> Request {
    Request {
        id: id as u64,
        file: 0,
        offset: offset as u64,
        memory: Arc::clone(memory),
        start: id * ROOM,
        len,
        least: len.min(SIZE.saturating_sub(offset)),
    }
}

fn submit(reads: &mut dyn Reads, request: Request) {
    // SAFETY: in these tests each read has memory of its own.
    unsafe { reads.submit(request) }
}

fn read<R: Reads>(reads: &mut R, request: Request) -> io::Result<usize> {
    let id = request.id;
    submit(reads, request);
    let completion = reads.complete(LONG).unwrap();
    assert_eq!((completion.id, reads.in_flight()), (id, 0));
    completion.result
}

/// Reads of many ranges, all in flight at once, bring the bytes that are there.
fn check(source: &Source, reads: &mut dyn Reads, memory: &mut Arc<Memory>) {
    let (lanes, unit) = (memory.len() / ROOM, source.alignment());
    let ranges: Vec<(usize, usize)> = (0..lanes)
        .map(|i| {
            let offset = (i * 300_007) % SIZE / unit * unit;
            (offset, (1 + i * 7919 % ROOM).next_multiple_of(unit).min(ROOM))
        })
        .collect();
    for (id, (offset, len)) in ranges.iter().enumerate() {
        submit(reads, request(memory, id, *offset, *len));
    }
    assert_eq!(reads.in_flight(), lanes);
    let mut seen = vec![0; lanes];
    while let Some(completion) = reads.complete(LONG) {
        let (offset, len) = ranges[completion.id as usize];
        assert_eq!(completion.result.unwrap(), len.min(SIZE - offset));
        seen[completion.id as usize] += 1;
    }
    assert_eq!((seen, reads.in_flight()), (vec![1; lanes], 0));
    assert!(reads.complete(Duration::ZERO).is_none());
    for (id, (offset, len)) in ranges.iter().enumerate() {
        let len = (*len).min(SIZE - offset);
        let found = &bytes_of(memory)[id * ROOM..][..len];
        assert!(found == &source.bytes[*offset..][..len], "{len} bytes at {offset}");
    }
}

/// All of a memory that no read has any more.
fn bytes_of(memory: &mut Arc<Memory>) -> &mut [u8] {
    Arc::get_mut(memory).unwrap().as_mut_slice()
}

#[test]
fn every_reader_brings_the_bytes() {
    for caching in [Caching::Direct, Caching::Buffered] {
        let source = Source::new(caching);
        let count = source.readers(&Memory::new(1).unwrap()).len();
        for which in 0..count {
            let mut memory = Arc::new(Memory::new(200 * ROOM).unwrap());
            let mut reads = source.readers(&memory).swap_remove(which);
            check(&source, &mut reads, &mut memory);
            check(&source, &mut reads, &mut memory);
        }
    }
}

#[test]
fn wrapped_reads_bring_the_same() {
    let source = Source::new(Caching::Direct);
    let mut memory = Arc::new(Memory::new(40 * ROOM).unwrap());
    let reads = Reading::default().open(Arc::clone(&source.files), &memory).unwrap();
    let reads = Throttle::new(reads, Device::NVME);
    check(&source, &mut Faults::new(reads, FaultScript::default()), &mut memory);
}

#[test]
fn filesystems_without_direct_reads_are_read() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
    let source = Source::in_folder(folder, Caching::Direct);
    let mut memory = Arc::new(Memory::new(20 * ROOM).unwrap());
    let mut reads = Reading::default().open(Arc::clone(&source.files), &memory).unwrap();
    check(&source, &mut reads, &mut memory);
}

#[test]
fn reads_in_flight_end_before_the_memory_goes() {
    let source = Source::new(Caching::Direct);
    for _ in 0..20 {
        let memory = Arc::new(Memory::new(100 * ROOM).unwrap());
        for mut reads in source.readers(&memory) {
            (0..100).for_each(|id| submit(&mut *reads, request(&memory, id, 0, ROOM)));
            drop(reads);
        }
    }
}

#[test]
fn a_refused_read_is_reported() {
    let source = Source::new(Caching::Direct);
    if source.alignment() == 1 {
        return;
    }
    let memory = Arc::new(Memory::new(ROOM).unwrap());
    for mut reads in source.readers(&memory) {
        let request = Request { offset: 1, ..request(&memory, 0, 0, ALIGNMENT) };
        // Kernels may do without alignment one day; an answer must come in any case.
        if let Err(error) = read(&mut reads, request) {
            assert_eq!(error.raw_os_error(), Some(EINVAL));
        }
    }
}

fn faulty(source: &Source) -> (Faults<Threads>, FaultScript) {
    let script = FaultScript::default();
    (Faults::new(source.threads(2), script.clone()), script)
}

#[test]
fn faults_are_those_of_the_script() {
    let source = Source::new(Caching::Direct);
    let memory = Arc::new(Memory::new(ROOM).unwrap());
    let (mut reads, script) = faulty(&source);
    script.add(Which::Bytes { file: 0, bytes: 70_000..70_001 }, Fault::Error(EIO));
    let error = read(&mut reads, request(&memory, 0, 65_536, ROOM)).unwrap_err();
    assert_eq!((error.raw_os_error(), is_transient(&error)), (Some(EIO), true));
    assert!(!is_transient(&io::Error::from_raw_os_error(ENODEV)));
    assert_eq!(read(&mut reads, request(&memory, 0, 0, ROOM)).unwrap(), ROOM);
    assert_eq!(script.submitted(), 2);
    let past = Request { least: ROOM, ..request(&memory, 0, 1 << 20, ROOM) };
    assert_eq!(read(&mut reads, past).unwrap(), SIZE - (1 << 20));
}

#[test]
fn a_lost_read_is_waited_for_no_longer_than_asked() {
    let source = Source::new(Caching::Direct);
    let mut memory = Arc::new(Memory::new(2 * ROOM).unwrap());
    let (mut reads, script) = faulty(&source);
    script.add_next(1, Fault::Lost);
    submit(&mut reads, request(&memory, 0, 0, ROOM));
    submit(&mut reads, request(&memory, 1, 0, ROOM));
    assert_eq!(reads.complete(LONG).unwrap().id, 1);
    let (start, wait) = (Instant::now(), Duration::from_millis(20));
    assert!(reads.complete(wait).is_none() && reads.in_flight() == 1);
    assert!(start.elapsed() >= wait && start.elapsed() < LONG);
    script.release();
    assert_eq!(reads.complete(LONG).unwrap().result.unwrap(), ROOM);
    assert!(bytes_of(&mut memory)[..ROOM] == source.bytes[..ROOM]);

    // A read that goes on when nobody waits for it keeps its memory.
    script.add_next(1, Fault::Lost);
    submit(&mut reads, request(&memory, 0, 0, ROOM));
    assert!(Arc::get_mut(&mut memory).is_none());
    drop(reads);
    assert!(start.elapsed() < LONG);
}

/// Neither waiting nor dropping takes longer than it may when a read does not end, and the memory stays
/// with the read.
#[test]
fn threads_leave_what_does_not_end() {
    // A read of so many random bytes takes a while.
    let file = BlockFile::of_device(fs::File::open("/dev/urandom").unwrap()).unwrap();
    let mut memory = Arc::new(Memory::new(32 << 20).unwrap());
    let mut reads = Threads::new(Arc::new([file]), 1).unwrap();
    let len = memory.len();
    submit(&mut reads, Request { len, ..request(&memory, 0, 0, ROOM) });
    assert!(reads.complete(Duration::from_millis(1)).is_none() && reads.in_flight() == 1);
    drop(reads);
    assert!(Arc::get_mut(&mut memory).is_none());
    while Arc::get_mut(&mut memory).is_none() {
        std::thread::yield_now();
    }
}

/// The same for a read that the kernel does not end.
#[test]
fn a_ring_leaves_what_does_not_end() {
    let (pipe, _writer) = io::pipe().unwrap();
    let file = BlockFile::of_device(fs::File::from(OwnedFd::from(pipe))).unwrap();
    let mut memory = Arc::new(Memory::new(ROOM).unwrap());
    // Emulators and containers refuse io_uring.
    let Ok(mut reads) = Uring::new(Arc::new([file]), &memory, 4) else { return };
    submit(&mut reads, request(&memory, 0, 0, ROOM));
    let (start, wait) = (Instant::now(), Duration::from_millis(30));
    assert!(reads.complete(Duration::ZERO).is_none());
    assert!(reads.complete(wait).is_none() && reads.in_flight() == 1);
    assert!(start.elapsed() >= wait);
    drop(reads);
    assert!(start.elapsed() < LONG);
    assert!(Arc::get_mut(&mut memory).is_none());
}

#[test]
fn wrong_and_late_bytes_are_made() {
    let source = Source::new(Caching::Direct);
    let mut memory = Arc::new(Memory::new(2 * ROOM).unwrap());
    let (mut reads, script) = faulty(&source);
    script.add_next(1, Fault::Wrong);
    assert_eq!(read(&mut reads, request(&memory, 0, 0, ROOM)).unwrap(), ROOM);
    let differ = bytes_of(&mut memory).iter().zip(&source.bytes[..ROOM]).filter(|(a, b)| a != b);
    assert_eq!(differ.count(), 1);

    let delay = Duration::from_millis(20);
    script.add_next(1, Fault::Delay(delay));
    let start = Instant::now();
    submit(&mut reads, request(&memory, 0, 0, ROOM));
    submit(&mut reads, request(&memory, 1, 0, ROOM));
    let mut both = [reads.complete(LONG).unwrap().id, reads.complete(LONG).unwrap().id];
    assert!(start.elapsed() >= delay);
    both.sort();
    assert_eq!(both, [0, 1]);
}

/// Bytes per second of many reads of `len` bytes that are all submitted at once, in a device's own
/// time.
fn bandwidth(device: Device, len: usize) -> f64 {
    let mut schedule = Schedule::new(device);
    let end = (0..1000).map(|_| schedule.due(Duration::ZERO, len)).max().unwrap();
    (1000 * len) as f64 / end.as_secs_f64()
}

#[test]
fn devices_have_their_speed() {
    for (name, device) in Device::KINDS {
        let large = bandwidth(device, 1 << 20) / device.bandwidth;
        assert!((0.97..=1.0).contains(&large), "{name}: {large}");
        let small = bandwidth(device, 512) / 512.0;
        let lanes = device.lanes as f64 / device.latency.as_secs_f64();
        let expected = device.iops.min(lanes);
        assert!((0.85..=1.01).contains(&(small / expected)), "{name}: {small}");
        assert_eq!(Device::of_kind(name), Some(device));
    }
    assert_eq!(Device::of_kind("tape"), None);
    assert_eq!(Device::SD.with_bandwidth(1e6).bandwidth, 1e6);
}

#[test]
fn a_read_alone_waits_for_its_latency() {
    let mut schedule = Schedule::new(Device::SD);
    let expected = Device::SD.latency + Duration::from_secs_f64(9e4 / 90e6);
    let start = Duration::from_secs(7);
    assert_eq!(schedule.due(start, 90_000) - start, expected);
    let later = Duration::from_secs(9);
    assert_eq!(schedule.due(later, 90_000) - later, expected);
}

/// Whatever the machine has to do: nothing is faster than the device that is emulated.
#[test]
fn throttled_reads_take_their_time() {
    let source = Source::new(Caching::Direct);
    let memory = Arc::new(Memory::new(16 * ROOM).unwrap());
    let mut reads = Throttle::new(source.threads(2), Device::SD);
    let start = Instant::now();
    (0..16).for_each(|id| submit(&mut reads, request(&memory, id, id * ROOM, ROOM)));
    let mut ids = Vec::new();
    while let Some(completion) = reads.complete(LONG) {
        ids.push(completion.id);
        let least = (ids.len() * ROOM) as f64 / Device::SD.bandwidth;
        assert!(start.elapsed().as_secs_f64() >= least);
    }
    // Of two threads, either may be done first.
    ids.sort_unstable();
    assert_eq!(ids, Vec::from_iter(0..16));
    assert_eq!(reads.in_flight(), 0);
}
