//! How much memory the process may take.

use clap::Args;
use std::str::FromStr;

pub(crate) use wick_linux::Mib;

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

/// Where `--help` lists what memory is for and how experts are read that have no room there.
pub(crate) const MEMORY: &str = "Memory and streaming";

/// How much memory may be taken.
#[derive(Args, Clone, Copy)]
pub(crate) struct MemoryArguments {
    /// Memory that the whole process may take, such as 1G: experts that do not fit are read from the
    /// file when they are wanted [default: what the machine and the control group leave]
    #[arg(long, value_name = "SIZE", help_heading = MEMORY)]
    memory: Option<Size>,
}

impl MemoryArguments {
    /// Bytes, if somebody has asked.
    pub(crate) fn bytes(&self) -> Option<usize> {
        self.memory.map(|size| size.0)
    }
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
