//! Who may ask.

use super::App;
use super::cors::Origin;
use super::error::ApiError;
use super::page;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use log::{Level, log_enabled};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use subtle::{Choice, ConstantTimeEq};

/// Who may ask, and under which names the service is known.
#[derive(Debug, Default)]
pub struct Access {
    /// Keys of which a request must have one; none to let all in.
    pub keys: Keys,
    /// Names of hosts besides those of this machine, which are always known. Without keys, requests for others are
    /// refused: a page of a stranger's can have its own name lead here.
    pub hosts: Vec<String>,
    /// Whose pages may read answers besides the service's own.
    pub origins: Vec<Origin>,
}

/// Keys that can be exchanged while the service runs. They are never shown.
#[derive(Default)]
pub struct Keys(RwLock<Vec<(String, Caller)>>);

impl Keys {
    /// Lets in who has one of these: a key a line, empty lines and lines that begin with `#` left out. Where there is none,
    /// which would let all in, nothing changes. Returns whether there was one.
    pub fn set(&self, text: &str) -> bool {
        let lines = text.lines().map(str::trim);
        let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<_> = keys.map(|key| (key.to_owned(), Caller::with(key))).collect();
        let is_any = !keys.is_empty();
        if is_any {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
        }
        is_any
    }

    /// Whether all are let in.
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Who has a key, compared in a time that does not tell how much of it is right.
    fn find(&self, key: &str) -> Option<Caller> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for (known, caller) in keys.iter() {
            let is_equal: Choice = known.as_bytes().ct_eq(key.as_bytes());
            if bool::from(is_equal) {
                found = Some(*caller);
            }
        }
        found
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// Whose key a request came with, the same after a restart; all are one where there are none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) usize);

impl Caller {
    /// Who has this key: half of the numbers, so that none is anybody's.
    fn with(key: &str) -> Caller {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let number = digest[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Caller((number >> 1) as usize)
    }
}

/// A request that no page can have sent: it came over a Unix socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoBrowser;

/// Refuses who may not ask, and counts what is answered.
pub(super) async fn guard(
    State((access, service)): State<(Arc<Access>, App)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let what =
        log_enabled!(Level::Info).then(|| format!("{} {}", request.method(), request.uri().path()));
    // Who looks after the service asks again and again.
    let is_watching = matches!(request.uri().path(), "/health" | "/metrics");
    let _asking = (!is_watching).then(|| service.activity.begin());
    let response = match admit(&access, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.at(request.uri()),
    };
    let status = response.status().as_u16();
    what.iter().for_each(|what| log::info!("{what}: {status}"));
    service.metrics.response(path.as_deref().unwrap_or("other"), status);
    response
}

fn admit(access: &Access, request: &Request) -> Result<Caller, ApiError> {
    if access.keys.is_empty() {
        let refused = |message: &str| Err(ApiError::new(StatusCode::FORBIDDEN, message));
        if !is_known_host(access, request) {
            return refused(
                "the Host header names none of this service's hosts; use localhost, start the service with --allow-host for \
                 this one, or set a key",
            );
        }
        if !is_known_origin(access, request) {
            return refused(
                "the Origin header names a page from elsewhere; start the service with --cors for it, or set a key",
            );
        }
        return Ok(Caller(0));
    }
    if is_open(request) {
        return Ok(Caller(0));
    }
    let key = key(request.headers());
    key.and_then(|key| access.keys.find(key)).ok_or_else(|| {
        let message = match key {
            Some(_) => "the API key is none of this service's",
            None => "an API key is needed: Authorization: Bearer KEY",
        };
        ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key")
    })
}

/// Whether a request needs no key: how the service is, and the page, which asks for the key.
fn is_open(request: &Request) -> bool {
    let path = request.uri().path();
    match *request.method() {
        Method::OPTIONS => true,
        Method::GET | Method::HEAD => path == "/health" || page::is_part(path),
        _ => path == "/health",
    }
}

/// The key that a request comes with.
fn key(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

/// Whether a request comes from a page that may ask, or from none. Browsers send the requests of any page, though they keep
/// the answers from it; what only reads is harmless then.
fn is_known_origin(access: &Access, request: &Request) -> bool {
    let headers = request.headers();
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let is_own = || {
        let host = headers.get(header::HOST)?.to_str().ok()?;
        let (_, place) = origin.to_str().ok()?.split_once("://")?;
        Some(place.eq_ignore_ascii_case(host))
    };
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        || is_own().unwrap_or(false)
        || access.origins.iter().any(|known| known.names(origin))
}

/// Whether a request is for this machine by a name that nobody else can give it.
fn is_known_host(access: &Access, request: &Request) -> bool {
    if request.extensions().get::<NoBrowser>().is_some() {
        return true;
    }
    let header = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    let Some(host) = header.or_else(|| request.uri().host()) else { return true };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if port.is_empty() || port.starts_with(':') => address,
        Some(_) => "?",
        None => host.split(':').next().unwrap_or(host),
    };
    // An address is nobody's name.
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok()
        || access.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}
