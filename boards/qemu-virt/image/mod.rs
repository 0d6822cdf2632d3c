//! The image for QEMU's `virt` board.

#[macro_use]
mod console;
mod exit;
mod machine;
mod memory;
mod model;
mod processor;
mod session;
mod timer;
mod virtio;

use crate::image::exit::{Exit, Failure, exit};
use crate::image::machine::Machine;
use crate::image::processor::SmpCores;
use alloc::string::ToString;
use core::arch::global_asm;
use wick_virt::settings::Settings;

global_asm!(include_str!("../start.s"));

/// Where `start.s` goes on: on the first core, with MMU, caches and NEON on and `.bss` cleared.
#[unsafe(no_mangle)]
extern "C" fn start(device_tree: usize) -> ! {
    memory::paint_stack();
    // SAFETY: the first that is done with memory.
    unsafe { memory::start_heap() };
    console::start(machine::UART);
    log::info!("wick {}", env!("CARGO_PKG_VERSION"));
    let code = match run(device_tree) {
        Ok(()) => Exit::Done,
        Err(Failure { code, message }) => {
            println!("wick: {message}");
            code
        }
    };
    exit(code)
}

fn run(device_tree: usize) -> Result<(), Failure> {
    let machine = Machine::read(device_tree)?;
    console::start(machine.uart);
    let usage = |e: &dyn core::fmt::Display| Failure::new(Exit::Usage, e);
    let settings = Settings::parse(machine.arguments).map_err(|e| usage(&e.to_string()))?;
    console::set_verbose(settings.debug);
    let region = memory::region(machine.ram_end)?;
    processor::report();
    let cores = SmpCores::start(&machine, settings.cores)?;
    let disk = virtio::Disk::find(&machine)?;
    session::run(&settings, region, disk, cores)
}
