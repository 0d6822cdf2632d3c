//! The page at `/`: conversations in a browser. It has no secrets, and asks for the key itself.

use super::error::ApiError;
use super::ollama::models::GREETING;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

const PAGE: &str = include_str!("../page/index.html");

/// What the page loads from `/page/`: names, types and texts.
const FILES: [(&str, &str, &str); 8] = [
    ("style.css", CSS, include_str!("../page/style.css")),
    ("main.js", JAVASCRIPT, include_str!("../page/main.js")),
    ("client.js", JAVASCRIPT, include_str!("../page/client.js")),
    ("dom.js", JAVASCRIPT, include_str!("../page/dom.js")),
    ("figures.js", JAVASCRIPT, include_str!("../page/figures.js")),
    ("markdown.js", JAVASCRIPT, include_str!("../page/markdown.js")),
    ("store.js", JAVASCRIPT, include_str!("../page/store.js")),
    ("view.js", JAVASCRIPT, include_str!("../page/view.js")),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing from elsewhere, nothing inline, in nobody's frame: a text that got into the page as HTML could do nothing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether this is a path of the page's.
pub(super) fn is_part(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

/// `GET /`: the page to browsers, a greeting to all others.
pub(super) async fn root(headers: HeaderMap) -> Response {
    if accepts_html(&headers) {
        return respond(HTML, PAGE);
    }
    ([(header::VARY, "accept")], GREETING).into_response()
}

/// `GET /page/…`: what the page loads.
pub(super) async fn file(Path(name): Path<String>) -> Result<Response, ApiError> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, text) = found.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, format_args!("the page has no file {name:?}"))
    })?;
    Ok(respond(kind, text))
}

/// Whether a client names HTML among what it takes.
fn accepts_html(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::ACCEPT).iter().filter_map(|field| field.to_str().ok());
    let mut kinds = fields.flat_map(|field| field.split(','));
    kinds.any(|kind| {
        let name = kind.split(';').next().unwrap_or(kind);
        name.trim().eq_ignore_ascii_case("text/html")
    })
}

fn respond(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of wick has another page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept"),
    ];
    (headers, text).into_response()
}
