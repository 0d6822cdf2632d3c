//! Numbers on the command line of which -1 means "no limit", as llama.cpp's users write it.

/// A number of tokens; -1 is as many as the context has room for.
pub(crate) fn tokens(text: &str) -> Result<usize, String> {
    let expected = "a number of tokens expected, or -1 for as many as the context has room for";
    unless_minus_one(text, usize::MAX, expected)
}

/// How many of the likeliest tokens are chosen among; 0 and -1 are all.
pub(crate) fn top(text: &str) -> Result<usize, String> {
    unless_minus_one(text, 0, "a number of tokens expected, 0 or -1 for all")
}

/// The seed of the random choice; -1 is a new one each time.
pub(crate) fn seed(text: &str) -> Result<Option<u64>, String> {
    match text.trim() {
        "-1" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            format!("a number from 0 to {} expected, or -1 for a new one each time", u64::MAX)
        }),
    }
}

fn unless_minus_one(text: &str, unlimited: usize, expected: &str) -> Result<usize, String> {
    match text.trim() {
        "-1" => Ok(unlimited),
        text => text.parse().map_err(|_| expected.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_no_limit() {
        assert_eq!(tokens("-1"), Ok(usize::MAX));
        assert_eq!((tokens("7"), top("-1"), top("0")), (Ok(7), Ok(0), Ok(0)));
        assert_eq!((seed("-1"), seed("18446744073709551615")), (Ok(None), Ok(Some(u64::MAX))));
        for wrong in ["-2", "", "x", "1.5", "1e3", "18446744073709551616"] {
            assert!(
                tokens(wrong).is_err() && top(wrong).is_err() && seed(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
