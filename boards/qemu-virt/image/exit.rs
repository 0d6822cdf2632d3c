//! The end: reported to whoever runs the machine, by semihosting.

use alloc::string::{String, ToString};
use core::fmt::Display;
use core::panic::PanicInfo;

/// Exit codes, those of the command line where it has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    /// The machine lacks something.
    Machine = 1,
    /// A boot argument is wrong.
    Usage = 2,
    /// The model or the disk.
    Model = 3,
    /// Too little memory.
    Memory = 4,
    /// An exception.
    Exception = 100,
    /// A panic.
    Panic = 101,
}

/// Why the program ends.
pub(crate) struct Failure {
    pub(crate) code: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Exit, message: impl Display) -> Failure {
        Failure { code, message: message.to_string() }
    }
}

pub(crate) fn exit(code: Exit) -> ! {
    semihosting::process::exit(code as i32)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("\nwick: {info}");
    exit(Exit::Panic)
}

/// Where the vectors in `start.s` lead.
#[unsafe(no_mangle)]
extern "C" fn exception(number: u64, syndrome: u64, address: u64, fault: u64) -> ! {
    let kind = ["synchronous", "IRQ", "FIQ", "SError"][number as usize % 4];
    println!(
        "\nwick: {kind} exception at {address:#x}: syndrome {syndrome:#x}, address {fault:#x}"
    );
    exit(Exit::Exception)
}
