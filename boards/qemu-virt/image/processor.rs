//! The processor: what it can do, and its other cores.

use crate::image::exit::{Exit, Failure};
use crate::image::machine::{Conduit, Machine};
use crate::image::timer;
use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::{Once, RelaxStrategy};
use wick_core::Parallel;
use wick_kernels::Kernels;
use wick_virt::cores::Cores;

/// Microseconds that a core has to come up.
const PATIENCE: u64 = 1_000_000;

/// The fastest kernels that the processor runs.
pub(crate) fn kernels() -> &'static Kernels {
    let (first, second): (u64, u64);
    // SAFETY: reads constants (ARM DDI 0487, ID_AA64ISAR0_EL1 and ID_AA64ISAR1_EL1).
    unsafe {
        asm!("mrs {}, id_aa64isar0_el1", out(reg) first, options(nomem, nostack, pure));
        asm!("mrs {}, id_aa64isar1_el1", out(reg) second, options(nomem, nostack, pure));
    }
    let (has_dot_product, has_i8mm) = (first >> 44 & 0xf != 0, second >> 52 & 0xf != 0);
    // SAFETY: the instructions are there where the registers say so, NEON on every core that runs this.
    unsafe {
        match (has_dot_product, has_i8mm) {
            (true, true) => Kernels::neon_i8mm(),
            (true, false) => Kernels::neon_dotprod(),
            _ => Kernels::neon(),
        }
    }
}

/// Logs what processor this is.
pub(crate) fn report() {
    let id: u64;
    // SAFETY: reads a constant (MIDR_EL1).
    unsafe { asm!("mrs {}, midr_el1", out(reg) id, options(nomem, nostack, pure)) };
    let name = match (id >> 24 & 0xff, id >> 4 & 0xfff) {
        (0x41, 0xd03) => "Cortex-A53",
        (0x41, 0xd05) => "Cortex-A55",
        (0x41, 0xd08) => "Cortex-A72",
        (0x41, 0xd0b) => "Cortex-A76",
        _ => "unknown",
    };
    log::info!("processor: {name} ({id:#x}), {} kernels", kernels().name());
}

/// While a core waits, the others may go first: under an emulator they share one processor.
pub(crate) struct Yield;

impl RelaxStrategy for Yield {
    fn relax() {
        // SAFETY: a hint.
        unsafe { asm!("yield", options(nomem, nostack)) };
    }
}

static CORES: Once<Cores<Yield>> = Once::new();
static ARRIVED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    fn _start_core();
    static __core_stacks: u8;
    static __core_stack_size: u8;
}

/// The cores of the machine, up and waiting for work.
pub(crate) struct SmpCores;

impl SmpCores {
    /// Starts cores until `wanted` are up, all if nothing is said.
    pub(crate) fn start(
        machine: &Machine,
        wanted: Option<usize>,
    ) -> Result<&'static dyn Parallel, Failure> {
        let there = machine.cores.len().max(1);
        let count = wanted.unwrap_or(there);
        if count > there || (count > 1 && machine.psci.is_none()) {
            let message = format_args!("{count} cores wanted, {there} found");
            return Err(Failure::new(Exit::Machine, message));
        }
        let own = affinity();
        let others = machine.cores.iter().filter(|core| **core != own).take(count - 1);
        for (i, core) in others.enumerate() {
            let (stacks, size) = (&raw const __core_stacks, &raw const __core_stack_size);
            let stack_end = stacks as usize + (i + 1) * size as usize;
            start_core(machine.psci, *core, stack_end)?;
            let start = timer::microseconds();
            while ARRIVED.load(Ordering::Acquire) <= i {
                if timer::microseconds() - start > PATIENCE {
                    let message = format_args!("core {core:#x} does not come up");
                    return Err(Failure::new(Exit::Machine, message));
                }
                Yield::relax();
            }
        }
        log::info!("cores: {count} of {there}");
        Ok(CORES.call_once(|| Cores::new(count)))
    }
}

/// Number of this core (MPIDR_EL1 without what is no affinity).
fn affinity() -> usize {
    let affinity: usize;
    // SAFETY: reads a constant.
    unsafe { asm!("mrs {}, mpidr_el1", out(reg) affinity, options(nomem, nostack, pure)) };
    affinity & 0xff_00ff_ffff
}

/// Lets firmware start a core at `_start_core`, with a stack (PSCI, ARM DEN 0022, CPU_ON).
fn start_core(psci: Option<Conduit>, core: usize, stack_end: usize) -> Result<(), Failure> {
    const CPU_ON: usize = 0xc400_0003;
    let mut result = CPU_ON;
    macro_rules! call {
        ($instruction:literal) => {
            // SAFETY: the other core begins in `start.s`, on a stack that is its own.
            unsafe {
                asm!(
                    $instruction,
                    inout("x0") result,
                    inout("x1") core => _,
                    inout("x2") _start_core as *const () as usize => _,
                    inout("x3") stack_end => _,
                    clobber_abi("C"),
                )
            }
        };
    }
    match psci {
        Some(Conduit::SecureMonitor) => call!("smc #0"),
        _ => call!("hvc #0"),
    }
    match result as isize {
        0 => Ok(()),
        code => {
            let message = format_args!("core {core:#x} cannot be started: PSCI says {code}");
            Err(Failure::new(Exit::Machine, message))
        }
    }
}

/// Where `start.s` goes on, on the other cores.
#[unsafe(no_mangle)]
extern "C" fn start_core_main() -> ! {
    ARRIVED.fetch_add(1, Ordering::Release);
    loop {
        match CORES.get() {
            Some(cores) => cores.serve(),
            None => Yield::relax(),
        }
    }
}
