//! Pages of others that may ask (CORS). Without any, browsers keep answers from them.

use axum::http::{HeaderValue, Method, Uri, header};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// How long browsers may go on without asking again whether they may ask.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Where a page is from, as browsers name it, or `*` for anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// No origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginError;

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("scheme, host and port expected, as in https://lamp.example:8443, or *")
    }
}

impl std::error::Error for OriginError {}

impl FromStr for Origin {
    type Err = OriginError;

    /// Browsers write hosts in small letters, and nothing behind the port.
    fn from_str(text: &str) -> Result<Origin, OriginError> {
        let (_, host) = text.split_once("://").unwrap_or(("", text));
        let is_known = text == "*" || text == "null" || {
            let uri: Uri = text.parse().map_err(|_| OriginError)?;
            let has_port = host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
            uri.scheme().is_some()
                && uri.authority().is_some_and(|authority| authority.as_str() == host)
                && !host.contains('@')
                && uri.port_u16().is_some() == has_port
        };
        if !is_known {
            return Err(OriginError);
        }
        HeaderValue::from_str(&text.to_ascii_lowercase()).map(Origin).map_err(|_| OriginError)
    }
}

impl Origin {
    /// Whether pages from there are meant.
    pub(super) fn names(&self, origin: &HeaderValue) -> bool {
        self.0 == "*" || self.0 == origin
    }
}

/// What tells browsers that pages from `origins` may ask and read the answers.
pub(super) fn layer(origins: &[Origin]) -> Option<CorsLayer> {
    let is_any = origins.iter().any(|Origin(origin)| origin == "*");
    let allowed = if is_any {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().map(|Origin(origin)| origin.clone()))
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        // OpenAI's client sends a dozen of its own.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER])
        .max_age(MAX_AGE);
    (!origins.is_empty()).then_some(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_name() {
        for origin in
            ["*", "null", "http://localhost:3000", "https://[::1]:8443", "app://obsidian.md"]
        {
            origin.parse::<Origin>().unwrap();
        }
        assert_eq!("HTTP://Lamp".parse::<Origin>(), "http://lamp".parse());
        for wrong in [
            "",
            "lamp",
            "lamp:80",
            "http://",
            "http://lamp/",
            "http://lamp/page",
            "http://me@lamp",
            "http://lamp:99999",
            "http://a b",
            "http://lamp?x",
            "**",
        ] {
            assert_eq!(wrong.parse::<Origin>(), Err(OriginError), "{wrong}");
        }
    }
}
