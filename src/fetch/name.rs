//! Names from elsewhere, which are to stay within the folder that they are put into.

/// Most characters of a path.
const LONGEST: usize = 1024;
/// Most bytes of a part of it that filesystems have, with what is put before and behind while it is fetched.
const LONGEST_PART: usize = 230;

/// Whether a path stays below a folder: no part of it is empty, `.` or `..`, and nothing in it is a command to a terminal.
pub(crate) fn is_safe(path: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= LONGEST_PART;
    path.len() <= LONGEST
        && path.split('/').all(is_part)
        && !path.chars().any(|c| c.is_control() || c == '\\')
}

/// Whether the hub would have this as a name of a user or a repository.
pub(crate) fn is_of_repository(part: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !part.is_empty()
        && part.len() <= 96
        && part.chars().all(is_letter)
        && !part.starts_with(['-', '.'])
        && !part.contains("..")
        && !part.contains("--")
}

/// Whether this is the number of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below() {
        for safe in ["a", "a/b.gguf", "..a", "a b", "ü"] {
            assert!(is_safe(safe), "{safe:?}");
        }
        let long = "n".repeat(300);
        for wrong in
            ["", "/a", "a/", "a//b", "../a", "a/..", "a/./b", "a\nb", "a\x1b[2J", "a\\b", &long]
        {
            assert!(!is_safe(wrong), "{wrong:?}");
        }
    }
}
