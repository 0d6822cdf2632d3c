//! What the environment says, in the variables that the hub's own tools read.

use crate::Error;
use crate::error::at;
use crate::url::Url;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Most bytes of a token.
const LONGEST_TOKEN: usize = 4096;

/// What lets somebody in. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    fn parse(text: &str, place: &str) -> Result<Option<Token>, Error> {
        let text = text.trim();
        let is_token = text.len() <= LONGEST_TOKEN && text.bytes().all(|b| b.is_ascii_graphic());
        match (text.is_empty(), is_token) {
            (true, _) => Ok(None),
            (false, true) => Ok(Some(Token(text.into()))),
            (false, false) => {
                Err(Error::usage(format_args!("{place}: a token on one line expected")))
            }
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

/// How long is waited, and for how much at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time after which a transfer has ended that brings less than a kilobyte a second.
    pub stall: Duration,
    /// What is waited before the second attempt; twice as much before the third, and so on.
    pub pause: Duration,
    /// Attempts in a row that bring nothing.
    pub attempts: u32,
    /// Ranges of a file that are fetched at the same time.
    pub connections: usize,
    /// Most bytes that are asked for at once.
    pub segment: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            stall: Duration::from_secs(30),
            pause: Duration::from_secs(1),
            attempts: 6,
            connections: 4,
            segment: 64 << 20,
        }
    }
}

/// Whom to ask, as whom, and where files are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) endpoint: Url,
    pub(crate) token: Option<Token>,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) is_offline: bool,
    pub(crate) limits: Limits,
}

/// The value of a variable.
type Variables<'v> = &'v dyn Fn(&str) -> Option<OsString>;

impl Settings {
    /// What variables say, and `endpoint` in place of `HF_ENDPOINT`.
    ///
    /// # Errors
    /// The address is none, or a file with a token cannot be read.
    pub fn from_environment(endpoint: Option<&str>, limits: Limits) -> Result<Settings, Error> {
        Settings::read(endpoint, limits, &|name| {
            env::var_os(name).filter(|value| !value.is_empty())
        })
    }

    fn read(
        endpoint: Option<&str>,
        limits: Limits,
        variables: Variables<'_>,
    ) -> Result<Settings, Error> {
        let text = |name| variables(name).and_then(|value| value.into_string().ok());
        let named = text("HF_ENDPOINT");
        let endpoint = match (endpoint, &named) {
            (Some(given), _) => Url::parse(given, "--endpoint")?,
            (None, Some(named)) => Url::parse(named, "HF_ENDPOINT")?,
            (None, None) => Url::parse("https://huggingface.co", "endpoint")?,
        };
        let is_offline = text("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "true", "yes", "on"].contains(&&*value.to_ascii_lowercase())
        });
        let token = token(variables)?;
        Ok(Settings { endpoint, token, cache: cache(variables), is_offline, limits })
    }
}

/// The folder of the hub's tools, in which there are a cache and a token.
fn home(variables: Variables<'_>) -> Option<PathBuf> {
    let cache = || {
        let home = || variables("HOME").map(|home| PathBuf::from(home).join(".cache"));
        variables("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
    };
    let home = || cache().map(|folder| folder.join("huggingface"));
    variables("HF_HOME").map(PathBuf::from).or_else(home)
}

fn cache(variables: Variables<'_>) -> Option<PathBuf> {
    let named = variables("HF_HUB_CACHE").or_else(|| variables("HUGGINGFACE_HUB_CACHE"));
    named.map(PathBuf::from).or_else(|| home(variables).map(|home| home.join("hub")))
}

fn token(variables: Variables<'_>) -> Result<Option<Token>, Error> {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(value) = variables(name) {
            return Token::parse(&value.to_string_lossy(), name);
        }
    }
    let named = variables("HF_TOKEN_PATH").map(PathBuf::from);
    let Some(path) = named.or_else(|| home(variables).map(|home| home.join("token"))) else {
        return Ok(None);
    };
    match fs::read_to_string(&path) {
        Ok(text) => Token::parse(&text, &path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(&path, "the token cannot be read")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Settings {
        let find = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        };
        Settings::read(None, Limits::default(), &find).unwrap()
    }

    #[test]
    fn places_are_those_of_other_tools() {
        let cache = |variables: &[_]| read(variables).cache.unwrap();
        let all =
            [("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/u")];
        let places = ["/c", "/h/hub", "/x/huggingface/hub", "/u/.cache/huggingface/hub"];
        for (i, place) in places.iter().enumerate() {
            assert_eq!(cache(&all[i..]), PathBuf::from(place));
        }
        assert!(read(&[]).cache.is_none());
    }

    #[test]
    fn a_token_is_taken_from_the_first_place_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("token"), "of-home\n").unwrap();
        fs::write(path("named"), "of-path\n").unwrap();
        let (home, named) = (path(""), path("named"));
        let all = [
            ("HF_TOKEN", "a"),
            ("HUGGING_FACE_HUB_TOKEN", "b"),
            ("HF_TOKEN_PATH", &*named),
            ("HF_HOME", &*home),
        ];
        for (i, token) in ["a", "b", "of-path", "of-home"].iter().enumerate() {
            assert_eq!(read(&all[i..]).token.unwrap().secret(), *token);
        }
        assert!(!format!("{:?}", read(&[("HF_TOKEN", "secret")])).contains("secret"));
        assert!(Token::parse("a\nb", "x").is_err());
    }
}
