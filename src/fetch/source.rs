//! What is asked for: `REPO[@REVISION][:FILE]`.

use crate::Error;
use crate::name::{is_of_repository, is_safe};
use std::fmt;
use std::str::FromStr;

/// Files of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The repository, `NAME` or `USER/NAME`.
    pub repository: String,
    /// A branch, tag or commit.
    pub revision: String,
    /// The file, if one is named.
    pub file: Option<String>,
}

impl Source {
    /// The same at another revision.
    ///
    /// # Errors
    /// It is no name of one.
    pub fn at(self, revision: &str) -> Result<Source, Error> {
        if !is_safe(revision) || revision.len() > 200 {
            let message =
                format_args!("revision: a branch, tag or commit expected, {revision:?} found");
            return Err(Error::usage(message));
        }
        Ok(Source { revision: revision.into(), ..self })
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Source, Error> {
        let (place, file) = match text.split_once(':') {
            Some((place, file)) => (place, Some(file)),
            None => (text, None),
        };
        let (repository, revision) = place.split_once('@').unwrap_or((place, "main"));
        let parts: Vec<&str> = repository.split('/').collect();
        let is_repository = parts.len() <= 2 && parts.iter().all(|part| is_of_repository(part));
        if !is_repository || file.is_some_and(|file| !is_safe(file)) {
            return Err(Error::usage(format_args!(
                "{text:?}: USER/NAME, USER/NAME:FILE or USER/NAME@REVISION:FILE expected"
            )));
        }
        let source = Source {
            repository: repository.into(),
            revision: String::new(),
            file: file.map(String::from),
        };
        source.at(revision)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        self.file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_they_are_shown() {
        for text in ["gpt2", "a/b", "a/b:c.gguf", "a/b@v1:d/c.gguf", "a/b@refs/pr/1"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "a/b/c",
            "../b",
            "a/..",
            "a b",
            "a/b:",
            "a/b:/c",
            "a/b:../c",
            "a/b@",
            "a/b@../c",
            "-a",
            "a/b@x/../y:c",
        ] {
            assert!(wrong.parse::<Source>().is_err(), "{wrong:?}");
        }
    }
}
