//! How the files of a split model are called.

use core::fmt;

/// The name of a part's file: `STEM-00001-of-00003.gguf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitName<'a> {
    /// Everything before the numbers, folders included.
    pub stem: &'a str,
    /// Number of the part, counted from 1.
    pub part: u32,
    /// Number of parts.
    pub count: u32,
}

impl<'a> SplitName<'a> {
    /// Takes a name or path apart; `None` if it is not that of a part.
    pub fn parse(name: &'a str) -> Option<SplitName<'a>> {
        let name = name.strip_suffix(".gguf")?;
        let (name, count) = number(name)?;
        let (stem, part) = number(name.strip_suffix("-of")?)?;
        (1..=count).contains(&part).then_some(SplitName { stem, part, count })
    }

    /// The name of another part.
    pub fn sibling(self, part: u32) -> SplitName<'a> {
        SplitName { part, ..self }
    }
}

/// Splits the five digits and the hyphen before them off the end.
fn number(name: &str) -> Option<(&str, u32)> {
    let (rest, digits) = name.rsplit_once('-')?;
    let number = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
    Some((rest, digits.parse().ok().filter(|_| number)?))
}

impl fmt::Display for SplitName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:05}-of-{:05}.gguf", self.stem, self.part, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn names_of_parts_are_taken_apart() {
        let name = "models/st-4b-00002-of-00003.gguf";
        let split = SplitName { stem: "models/st-4b", part: 2, count: 3 };
        assert_eq!(SplitName::parse(name), Some(split));
        assert_eq!(split.to_string(), name);
        assert_eq!(split.sibling(3).to_string(), "models/st-4b-00003-of-00003.gguf");
    }

    #[test]
    fn other_names_are_none_of_parts() {
        for name in [
            "model.gguf",
            "m-00001-of-00002",
            "m-00000-of-00002.gguf",
            "m-00003-of-00002.gguf",
            "m-1-of-2.gguf",
            "m-+0001-of-00002.gguf",
            "m-00001-00002.gguf",
            "00001-of-00002.gguf",
            "",
        ] {
            assert_eq!(SplitName::parse(name), None, "{name}");
        }
    }
}
