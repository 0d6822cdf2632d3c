//! Files that are given for GGUF files and are something else.

/// What a file is that begins with these bytes, and what to do; `None` if they do not tell.
pub(crate) fn recognize(bytes: &[u8]) -> Option<&'static str> {
    let known = BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning));
    let is_page = || PAGES.iter().any(|page| starts_with_text(bytes, page));
    match known {
        Some((_, what)) => Some(what),
        None if is_page() => Some(PAGE),
        None if bytes.get(8..10) == Some(b"{\"") => Some(SAFETENSORS),
        None if bytes.get(257..262) == Some(b"ustar") => Some("a tar archive: unpack it"),
        None => None,
    }
}

const PAGE: &str =
    "a web page: the link that it was downloaded from leads to a page about the file";
const MESSAGE: &str =
    "a server's message, not the file: check the link, and whether it asks for a login";
/// A header in JSON, after its length.
const SAFETENSORS: &str =
    "a safetensors file: convert the model to GGUF (llama.cpp's convert_hf_to_gguf.py)";
const LEGACY: &str = "an old GGML file, from before GGUF: convert the model again";
const PICKLE: &str =
    "a PyTorch file: convert the model to GGUF (llama.cpp's convert_hf_to_gguf.py)";

const BEGINNINGS: [(&[u8], &str); 19] = [
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file that it stands for: fetch that with \"git lfs pull\"",
    ),
    (b"Entry not found", MESSAGE),
    (b"Invalid username", MESSAGE),
    (b"{\"error\"", MESSAGE),
    (b"lmgg", LEGACY),
    (b"tjgg", LEGACY),
    (b"fmgg", LEGACY),
    (b"PK\x03\x04", "a ZIP archive: unpack it, or, if PyTorch made it, convert the model to GGUF"),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"\x1f\x8b", "a gzip archive: unpack it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it with unzstd"),
    (b"\xfd7zXZ\0", "an xz archive: unpack it with unxz"),
    (b"BZh", "a bzip2 archive: unpack it with bunzip2"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it"),
    (b"\x7fELF", "a program or library"),
    (b"\0\0\0\0", "a file that begins with zeros: it is incomplete: download it again"),
];

/// How web pages and their errors begin, in small letters.
const PAGES: [&str; 4] = ["<!doctype", "<html", "<head", "<?xml"];

/// Whether a text begins so, after white space and a byte order mark, in small or capital letters.
fn starts_with_text(bytes: &[u8], beginning: &str) -> bool {
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes).trim_ascii_start();
    text.get(..beginning.len())
        .is_some_and(|found| found.eq_ignore_ascii_case(beginning.as_bytes()))
}
