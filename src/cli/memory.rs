//! How much memory the process may take.

use crate::exit::{Exit, Failure};
use clap::Args;
use std::fmt;
use std::str::FromStr;
use wick_linux::memory_limit;

/// A number of bytes, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

impl FromStr for Size {
    type Err = String;

    /// `512M`, `1G`, `1.5GiB`, `1073741824`: units are powers of 1024.
    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || format!("a size such as 512M, 1G or 1.5G expected, {text:?} found");
        let upper = text.trim().to_ascii_uppercase();
        let digits = upper.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: f64 = match &upper[digits.len()..] {
            "" | "B" => 1.0,
            "K" | "KB" | "KIB" => 1024.0,
            "M" | "MB" | "MIB" => 1024f64.powi(2),
            "G" | "GB" | "GIB" => 1024f64.powi(3),
            _ => return Err(wrong()),
        };
        let number: f64 = digits.trim_end().parse().map_err(|_| wrong())?;
        let bytes = number * unit;
        let fits = bytes.is_finite() && (1.0..isize::MAX as f64).contains(&bytes);
        if fits { Ok(Size(bytes as usize)) } else { Err(wrong()) }
    }
}

/// Bytes, shown in MiB.
pub(crate) struct Mib(pub(crate) usize);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

/// How much memory may be taken.
#[derive(Args, Clone, Copy)]
pub(crate) struct MemoryArguments {
    /// Memory that the whole process may take, such as 1G: experts that do not fit are read from the
    /// file when they are wanted [default: what the machine and the control group leave]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Size>,
}

/// The memory that a model may take.
pub(crate) struct Budget {
    /// Bytes that are left for the model beside what the process has taken and may still take.
    pub(crate) bytes: usize,
    /// Bytes of the process so far.
    pub(crate) taken: usize,
    /// Bytes that are kept free.
    pub(crate) margin: usize,
    /// Who set the limit.
    pub(crate) source: String,
}

impl MemoryArguments {
    /// What is left for a model; `None` if nobody knows.
    pub(crate) fn budget(&self) -> Result<Option<Budget>, Failure> {
        let taken = wick_linux::resident().unwrap_or(0) as usize;
        let (whole, source) = match (self.memory, memory_limit()) {
            (Some(Size(bytes)), _) => (bytes, "--memory".to_string()),
            (None, None) => return Ok(None),
            // What is left to the process does not count what it has.
            (None, Some(limit)) => {
                ((limit.bytes as usize).saturating_add(taken), limit.source.to_string())
            }
        };
        let margin = margin(whole);
        match whole.checked_sub(taken + margin) {
            Some(bytes) => Ok(Some(Budget { bytes, taken, margin, source })),
            None => Err(Failure::new(
                Exit::Memory,
                format_args!(
                    "{source} is {}, of which the program itself takes {} and {} are kept free; \
                     allow more memory",
                    Mib(whole),
                    Mib(taken),
                    Mib(margin)
                ),
            )),
        }
    }
}

/// Bytes of a budget that are kept free: for stacks, buffers of reads, what the allocator holds back
/// and what the system counts on top (page tables, pages of the file that it reads ahead).
fn margin(whole: usize) -> usize {
    (8 << 20) + whole / 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let bytes = |text: &str| text.parse::<Size>().map(|size| size.0).ok();
        assert_eq!(bytes("1G"), Some(1 << 30));
        assert_eq!(bytes("1.5GiB"), Some(3 << 29));
        assert_eq!(bytes(" 512 mb "), Some(512 << 20));
        assert_eq!(bytes("4096"), Some(4096));
        for wrong in ["", "G", "1T5", "-1G", "nan", "inf", "0", "1e400", "1 potato"] {
            assert_eq!(bytes(wrong), None, "{wrong:?}");
        }
    }
}
