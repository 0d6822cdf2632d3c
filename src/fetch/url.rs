//! Addresses: as much of them as it takes to know who is asked.

use crate::Error;
use std::fmt;

/// An address that has no name of a user in it, nor anything that programs read in different ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    is_secure: bool,
    /// Host and port, in lower case.
    authority: String,
    /// What stands behind that, from the slash on.
    path: String,
}

impl Url {
    /// Reads an address that `shown` tells where it comes from.
    pub(crate) fn parse(text: &str, shown: &str) -> Result<Url, Error> {
        let wrong = || {
            Error::usage(format_args!(
                "{shown}: an address such as https://huggingface.co expected, {text:?} found"
            ))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let is_secure = match &*scheme.to_ascii_lowercase() {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
        if authority.is_empty() || !authority.chars().all(is_host) || !is_plain(path) {
            return Err(wrong());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Url {
            is_secure,
            authority: authority.to_ascii_lowercase(),
            path: format!("{slash}{path}"),
        })
    }

    /// Where an answer from here leads to.
    pub(crate) fn join(&self, location: &str) -> Result<Url, Error> {
        let scheme = if self.is_secure { "https" } else { "http" };
        let whole = if location.contains("://") {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{}{location}", self.authority)
        } else {
            let path = self.path.split('?').next().unwrap_or_default();
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{}{folder}/{location}", self.authority)
        };
        let wrong =
            |_| Error::hub(self, format_args!("redirects to {location:?}, which is no address"));
        Url::parse(&whole, "redirect").map_err(wrong)
    }

    /// The same with more path, which is made of these parts.
    pub(crate) fn below<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Url {
        let mut path = self.path.trim_end_matches('/').to_owned();
        for part in parts {
            path.push('/');
            path.push_str(part);
        }
        Url { path, ..self.clone() }
    }

    /// Whether both are the same scheme, host and port.
    pub(crate) fn is_same_origin(&self, other: &Url) -> bool {
        self.is_secure == other.is_secure && self.host_and_port() == other.host_and_port()
    }

    fn host_and_port(&self) -> (&str, &str) {
        let default = if self.is_secure { "443" } else { "80" };
        match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() && !port.ends_with(']') => (host, port),
            Some((host, "")) => (host, default),
            _ => (&self.authority, default),
        }
    }

    /// Whether it is HTTPS.
    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether it is this machine that is asked.
    pub(crate) fn is_loopback(&self) -> bool {
        let (host, _) = self.host_and_port();
        host == "localhost" || host == "[::1]" || host.starts_with("127.")
    }

    /// The whole of it, with what may be secret.
    pub(crate) fn whole(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path)
    }
}

/// Without what may be a signature.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.whole();
        f.write_str(whole.split('?').next().unwrap_or_default())
    }
}

fn is_plain(path: &str) -> bool {
    path.chars().all(|c| c.is_ascii_graphic() && c != '\\' && c != '"')
}

/// A part of a path in which everything but letters, digits and `-._~` is escaped.
pub(crate) fn escaped(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into())
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text, "test").unwrap()
    }

    #[test]
    fn who_is_asked_is_known() {
        let hub = url("HTTPS://Hub.example/base/");
        assert!(hub.is_same_origin(&url("https://hub.example:443/other")));
        for other in ["http://hub.example", "https://hub.example:444", "https://hub.example.evil"] {
            assert!(!hub.is_same_origin(&url(other)), "{other}");
        }
        assert_eq!(
            hub.below(["a", &escaped("b c/ü")]).whole(),
            "https://hub.example/base/a/b%20c%2F%C3%BC"
        );
        assert!(url("http://127.0.0.1:8080").is_loopback() && url("http://[::1]:1/").is_loopback());
        assert!(url("http://[::1]/").is_same_origin(&url("http://[::1]:80")));
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let at = url("https://hub.example/a/b?x=/y");
        for (location, whole) in [
            ("/c?d", "https://hub.example/c?d"),
            ("c", "https://hub.example/a/c"),
            ("//cdn.example/c", "https://cdn.example/c"),
            ("http://cdn.example", "http://cdn.example/"),
        ] {
            assert_eq!(at.join(location).unwrap().whole(), whole);
        }
        for wrong in ["ftp://x/", "https://", "https://a@b/", "https://a\\b/", "/a\nb", "/a b"] {
            assert!(at.join(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(
            url("https://cdn.example/f?signature=secret").to_string(),
            "https://cdn.example/f"
        );
    }
}
