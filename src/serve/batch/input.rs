//! The lines of a batch file.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt;

/// What lines may ask for.
const URLS: [&str; 4] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];

/// A request of a batch file.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Which line of the file it is, from 1 on.
    pub number: usize,
    /// The name that its answer has.
    pub custom_id: String,
    /// What is asked for.
    pub url: String,
    /// The request.
    pub body: Value,
}

/// A line of a batch file is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    line: usize,
    reason: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for InputError {}

#[derive(Deserialize)]
struct Raw {
    custom_id: String,
    method: String,
    url: String,
    body: Map<String, Value>,
}

/// The requests of a batch file, empty lines left out.
///
/// # Errors
/// A line is no request, asks for something else, or has the name of another one. Nothing is answered then.
pub fn read(text: &str) -> Result<Vec<Line>, InputError> {
    let (mut lines, mut names) = (Vec::new(), HashMap::new());
    let texts = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (i, text) in texts {
        let number = i + 1;
        let blame = |reason| InputError { line: number, reason };
        let line = line(number, text).map_err(blame)?;
        if let Some(other) = names.insert(line.custom_id.clone(), number) {
            let name = &line.custom_id;
            return Err(blame(format!("line {other} has the custom_id {name:?}, too")));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn line(number: usize, text: &str) -> Result<Line, String> {
    let expected = "an object with custom_id, method, url and body expected";
    let raw: Raw = serde_json::from_str(text).map_err(|e| format!("{expected}: {e}"))?;
    let Raw { custom_id, method, url, body } = raw;
    if !method.eq_ignore_ascii_case("POST") {
        return Err(format!("the method POST expected, {method:?} found"));
    }
    if !URLS.contains(&url.as_str()) {
        return Err(format!("url: one of {} expected, {url:?} found", URLS.join(", ")));
    }
    if body.get("stream").is_some_and(|stream| *stream == Value::Bool(true)) {
        return Err("stream: false expected, a batch has whole answers".into());
    }
    Ok(Line { number, custom_id, url, body: body.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}"#;

    #[test]
    fn lines_are_requests() {
        let found = read(&format!("\n{LINE}\r\n\n{}\n", LINE.replace("\"a\"", "\"b\""))).unwrap();
        let told: Vec<_> = found.iter().map(|line| (line.number, &*line.custom_id)).collect();
        assert_eq!(told, [(2, "a"), (4, "b")]);
        assert_eq!(found[0].body, serde_json::json!({"prompt": "x"}));
    }

    #[test]
    fn what_is_no_request_is_named_by_its_line() {
        for (from, to, reason) in [
            ("\"a\"", "7", "line 2: an object with custom_id"),
            ("POST", "GET", "line 2: the method POST"),
            ("/v1/completions", "/v1/models", "line 2: url: one of /v1/chat"),
            ("{\"prompt\": \"x\"}", "[]", "line 2: an object with custom_id"),
            ("\"x\"", "\"x\", \"stream\": true", "line 2: stream: false"),
            ("\"method\"", "\"methods\"", "missing field `method`"),
            (LINE, "{", "line 2: an object"),
        ] {
            let text = format!("{}\n{}", LINE.replace("\"a\"", "\"b\""), LINE.replace(from, to));
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let error = read(&format!("{LINE}\n\n{LINE}")).unwrap_err();
        assert_eq!(error.to_string(), "line 3: line 1 has the custom_id \"a\", too");
    }
}
