//! The generic timer (ARM DDI 0487, D12).

use core::arch::asm;

/// Ticks since power-on.
pub(crate) fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter; the barrier keeps it from being read early.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Ticks in a second.
pub(crate) fn frequency() -> u64 {
    let frequency: u64;
    // SAFETY: reads a constant.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack, pure)) };
    frequency.max(1)
}

/// Microseconds since power-on.
pub(crate) fn microseconds() -> u64 {
    (u128::from(ticks()) * 1_000_000 / u128::from(frequency())) as u64
}
