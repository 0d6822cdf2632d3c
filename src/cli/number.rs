//! Numbers on the command line, with their ranges. Where -1 means "no limit", it is as llama.cpp's users write it.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

/// A number of positions; what a model has room for is up to the engine.
pub(crate) fn context() -> impl Fn(&str) -> Result<usize, String> + Clone {
    up_to(1 << 24)
}

/// A number from one to `most`.
pub(crate) fn up_to(most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    between(1, most)
}

/// A number from none to `most`.
pub(crate) fn none_to(most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    between(0, most)
}

fn between(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.trim().parse() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("a number from {least} to {most} expected")),
    }
}

/// How many there are of something.
pub(crate) fn count(text: &str) -> Result<NonZeroUsize, String> {
    text.trim().parse().map_err(|_| "a number of 1 or more expected".into())
}

/// How far apart two choices may be, or how flat the distribution of them.
pub(crate) fn spread(text: &str) -> Result<f32, String> {
    within(text, 0.0..=1000.0)
}

/// A factor that divides.
pub(crate) fn factor(text: &str) -> Result<f32, String> {
    within(text, 0.001..=1000.0)
}

/// What is taken off the logits of tokens that were drawn.
pub(crate) fn penalty(text: &str) -> Result<f32, String> {
    within(text, -2.0..=2.0)
}

/// A share of one.
pub(crate) fn share(text: &str) -> Result<f32, String> {
    within(text, 0.0..=1.0)
}

fn within(text: &str, range: RangeInclusive<f32>) -> Result<f32, String> {
    match text.trim().parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("a number from {} to {} expected", range.start(), range.end())),
    }
}

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
    fn numbers_have_ranges() {
        assert_eq!((spread("0"), share(" 1 "), factor("1.1")), (Ok(0.0), Ok(1.0), Ok(1.1)));
        for wrong in ["nan", "inf", "-inf", "-0.1", "1e30", "", "x"] {
            assert!(spread(wrong).is_err() && share(wrong).is_err() && factor(wrong).is_err());
        }
        assert_eq!(share("2").unwrap_err(), "a number from 0 to 1 expected");
        assert!(factor("0").is_err());
        assert_eq!((penalty("-2"), penalty("2"), penalty("-0.5")), (Ok(-2.0), Ok(2.0), Ok(-0.5)));
        assert_eq!(penalty("2.1").unwrap_err(), "a number from -2 to 2 expected");
    }

    #[test]
    fn counts_begin_with_one() {
        assert_eq!((up_to(4)("1"), up_to(4)(" 4 ")), (Ok(1), Ok(4)));
        assert_eq!(count("7").map(NonZeroUsize::get), Ok(7));
        assert_eq!((none_to(4)("0"), none_to(4)("4")), (Ok(0), Ok(4)));
        assert_eq!(none_to(4)("5").unwrap_err(), "a number from 0 to 4 expected");
        for wrong in ["0", "5", "-1", "", "x", "99999999999999999999"] {
            assert_eq!(up_to(4)(wrong).unwrap_err(), "a number from 1 to 4 expected");
        }
        for wrong in ["0", "-1", "", "x", "99999999999999999999"] {
            assert_eq!(count(wrong).unwrap_err(), "a number of 1 or more expected");
        }
    }

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
