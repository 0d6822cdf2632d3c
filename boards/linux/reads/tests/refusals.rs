//! Threads and rings that the system refuses.

use super::*;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads of which `most` are granted.
fn some_threads(source: &Source, most: usize) -> io::Result<Threads> {
    let started = AtomicUsize::new(0);
    Threads::start(Arc::clone(&source.files), READERS, |name, body| {
        if started.fetch_add(1, Ordering::Relaxed) == most {
            return Err(Errno::AGAIN.into());
        }
        std::thread::Builder::new().name(name.into()).spawn(body).map(drop)
    })
}

#[test]
fn threads_that_are_refused_are_done_without() {
    let source = Source::new(Caching::Direct);
    assert!(some_threads(&source, 0).is_err());
    for most in [1, 3] {
        let mut memory = Arc::new(Memory::new(20 * ROOM).unwrap());
        check(&source, &mut some_threads(&source, most).unwrap(), &mut memory);
    }
}

/// Nobody else makes such reads, so they end even if nobody waits.
#[test]
fn reads_without_threads_end_when_they_are_asked_about() {
    let source = Source::new(Caching::Direct);
    let memory = Arc::new(Memory::new(2 * ROOM).unwrap());
    let mut reads = source.direct();
    (0..2).for_each(|id| submit(&mut reads, request(&memory, id, 0, ROOM)));
    let ended = [(); 2].map(|()| reads.complete(Duration::ZERO).unwrap().id);
    assert_eq!((ended, reads.in_flight()), ([0, 1], 0));
}

/// Has the system refuse to let this thread enter a ring from now on, as a container's filter does. `None` if it
/// refuses such a filter, as emulators do.
fn refuse_rings(error: u32) -> Option<()> {
    let step = |code, k, jf| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut steps = [
        // The number of the call is compared; it is refused, or else let through.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_enter as u32, 1),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | error, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program is as long as it says, and is copied by the call.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    (!refused).then_some(())
}

/// Does `work` on a thread of its own, which may have a filter for good.
fn apart(work: impl FnOnce() -> Option<()> + Send + 'static) {
    let _without_rings_or_filters = std::thread::spawn(work).join().unwrap();
}

#[test]
fn a_ring_that_may_not_be_entered_is_none() {
    for errno in [Errno::PERM, Errno::NOSYS, Errno::ACCESS] {
        apart(move || {
            refuse_rings(errno.raw_os_error() as u32)?;
            let source = Source::new(Caching::Direct);
            let mut memory = Arc::new(Memory::new(20 * ROOM).unwrap());
            let error = Uring::new(Arc::clone(&source.files), &memory, 4).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
            let mut reads = Reading::default().open(Arc::clone(&source.files), &memory).unwrap();
            check(&source, &mut reads, &mut memory);
            Some(())
        });
    }
}

/// Threads make what the kernel has not taken; what it has taken ends when it does.
#[test]
fn a_ring_that_is_refused_later_hands_its_reads_over() {
    apart(|| {
        let source = Source::new(Caching::Direct);
        let (pipe, mut writer) = io::pipe().unwrap();
        let pipe = BlockFile::of_device(fs::File::from(OwnedFd::from(pipe))).unwrap();
        let file = BlockFile::open(source.files[0].path(), Caching::Direct).unwrap();
        let mut memory = Arc::new(Memory::new(20 * ROOM).unwrap());
        let mut reads = Uring::new(Arc::new([file, pipe]), &memory, 4).ok()?;
        submit(&mut reads, Request { file: 1, ..request(&memory, 19, 0, ROOM) });
        refuse_rings(Errno::PERM.raw_os_error() as u32)?;
        for round in 0..2 {
            (0..19).for_each(|id| submit(&mut reads, request(&memory, id, id * ROOM, ROOM)));
            assert_eq!(reads.in_flight(), 20);
            let mut ids: Vec<_> = (0..19).map(|_| reads.complete(LONG).unwrap()).collect();
            ids.sort_by_key(|completion| completion.id);
            let expected = |id: usize| ROOM.min(SIZE.saturating_sub(id * ROOM));
            for (id, completion) in ids.into_iter().enumerate() {
                assert_eq!((completion.id, completion.result.unwrap()), (id as u64, expected(id)));
            }
            assert!(reads.complete(Duration::from_millis(5)).is_none(), "round {round}");
        }
        writer.write_all(b"late").unwrap();
        let late = reads.complete(LONG).unwrap();
        assert_eq!((late.id, late.result.unwrap(), reads.in_flight()), (19, 4, 0));
        drop(reads);
        let bytes = bytes_of(&mut memory);
        assert!(bytes[19 * ROOM..].starts_with(b"late") && bytes[..SIZE] == source.bytes[..]);
        Some(())
    });
}
