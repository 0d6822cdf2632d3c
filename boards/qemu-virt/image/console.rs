//! The serial line, a PL011: what is printed, what is logged, what is typed.

use crate::image::timer;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};
use log::{LevelFilter, Log, Metadata, Record};

/// Prints formatted text.
macro_rules! print {
    ($($arguments:tt)*) => {{
        use core::fmt::Write as _;
        // The line never refuses.
        let _written = write!($crate::image::console::Console, $($arguments)*);
    }};
}

/// Prints formatted text and ends the line.
macro_rules! println {
    ($($arguments:tt)*) => {{
        use core::fmt::Write as _;
        // The line never refuses.
        let _written = writeln!($crate::image::console::Console, $($arguments)*);
    }};
}

// Registers (ARM DDI 0183).
const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const LINE_CONTROL: usize = 0x2c;
const CONTROL: usize = 0x30;
const INTERRUPT_MASK: usize = 0x38;

const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;
/// Eight bits, FIFOs on.
const EIGHT_BITS: u32 = 0b111 << 4;
/// UART, transmitter and receiver on.
const ENABLE: u32 = 0x301;
/// A line that takes no byte for so long is not listened to.
const PATIENCE: u64 = 1_000_000;

static BASE: AtomicUsize = AtomicUsize::new(0);

/// Takes the line at an address into use, at the speed that it was left at.
pub(crate) fn start(base: usize) {
    if BASE.swap(base, Ordering::Relaxed) == base {
        return;
    }
    write(CONTROL, 0);
    write(LINE_CONTROL, EIGHT_BITS);
    write(INTERRUPT_MASK, 0);
    write(CONTROL, ENABLE);
    // Only the first call sets the logger, to the same one.
    let _already_set = log::set_logger(&Console);
    log::set_max_level(LevelFilter::Info);
}

/// Whether what is of use to developers only is logged.
pub(crate) fn set_verbose(verbose: bool) {
    log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Info });
}

fn read(register: usize) -> u32 {
    let address = BASE.load(Ordering::Relaxed) + register;
    // SAFETY: a register of the PL011, which is mapped as a device.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    let address = BASE.load(Ordering::Relaxed) + register;
    // SAFETY: a register of the PL011, which is mapped as a device.
    unsafe { (address as *mut u32).write_volatile(value) }
}

/// A byte that was typed.
pub(crate) fn take() -> Option<u8> {
    (read(FLAGS) & RECEIVE_EMPTY == 0).then(|| read(DATA) as u8)
}

/// Sends bytes as they are.
pub(crate) fn put(bytes: &[u8]) {
    for byte in bytes {
        let start = timer::microseconds();
        while read(FLAGS) & TRANSMIT_FULL != 0 {
            if timer::microseconds() - start > PATIENCE {
                return;
            }
        }
        write(DATA, (*byte).into());
    }
}

/// The line as a place for text.
pub(crate) struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (i, line) in text.split('\n').enumerate() {
            if i > 0 {
                put(b"\r\n");
            }
            put(line.as_bytes());
        }
        Ok(())
    }
}

impl Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What drivers say of themselves is for developers.
        metadata.target().starts_with("wick") || log::max_level() > LevelFilter::Info
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let (time, level) = (timer::microseconds(), record.level());
            let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
            println!("[{seconds:4}.{micros:06}] {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}
