//! Broken headers and values.

use crate::cases::{Broken, patched, put, valued};
use wick_tests::gguf::Writer;
use wick_tests::tiny::Tiny;

pub(crate) fn headers() -> Vec<Broken> {
    vec![
        patched("an empty file", Vec::clear, "header: 4 bytes needed at byte 0, 0 left[again]"),
        patched(
            "three bytes",
            |b| b.truncate(3),
            "header: 4 bytes needed at byte 0, 3 left[again]",
        ),
        patched(
            "magic alone",
            |b| b.truncate(4),
            "header: 4 bytes needed at byte 4, 0 left[again]",
        ),
        patched(
            "another magic",
            |b| put(b, 0, *b"ggml"),
            "header: \"GGUF\" expected, \"ggml\" found: this is no GGUF file",
        ),
        patched(
            "a magic of control characters",
            |b| put(b, 0, *b"\n\0\x1b["),
            "header: \"GGUF\" expected, \"\\n\\x00\\x1b[\" found: this is no GGUF file",
        ),
        patched(
            "version 1",
            |b| put(b, 4, 1u32.to_le_bytes()),
            "header: GGUF version 2 or 3 expected, 1 found: convert the model again",
        ),
        patched(
            "version 4",
            |b| put(b, 4, 4u32.to_le_bytes()),
            "header: GGUF version 2 or 3 expected, 4 found: the file is newer than this wick",
        ),
        patched(
            "version 0",
            |b| put(b, 4, 0u32.to_le_bytes()),
            "header: GGUF version 2 or 3 expected, 0 found",
        ),
        patched(
            "big endian",
            |b| put(b, 4, 3u32.to_be_bytes()),
            "header: a little-endian file expected, a big-endian one found: convert it \
             again",
        ),
        patched(
            "all tensors in the world",
            |b| put(b, 8, u64::MAX.to_le_bytes()),
            "header: at most 2048 tensors expected at byte 8, 18446744073709551615 found",
        ),
        patched(
            "a tensor too many",
            |b| put(b, 8, 2049u64.to_le_bytes()),
            "header: at most 2048 tensors expected at byte 8, 2049 found",
        ),
        patched(
            "all keys in the world",
            |b| put(b, 16, u64::MAX.to_le_bytes()),
            "header: at most 512 metadata entries expected at byte 16, \
             18446744073709551615 found",
        ),
        patched(
            "a key too many",
            |b| put(b, 16, 513u64.to_le_bytes()),
            "header: at most 512 metadata entries expected at byte 16, 513 found",
        ),
        patched(
            "end after the counts",
            |b| b.truncate(24),
            "metadata entry 0: 8 bytes needed at byte 24, 0 left[again]",
        ),
        patched(
            "end within a key's length",
            |b| b.truncate(30),
            "metadata entry 0: 8 bytes needed at byte 24, 6 left[again]",
        ),
        patched(
            "end within a key",
            |b| b.truncate(40),
            "metadata entry 0: 20 bytes needed at byte 32, 8 left[again]",
        ),
        patched(
            "a key longer than the file",
            |b| put(b, 24, (1u64 << 40).to_le_bytes()),
            "metadata entry 0: 1099511627776 bytes needed at byte 32, 177152 left[again]",
        ),
        patched(
            "a key whose end overflows",
            |b| put(b, 24, u64::MAX.to_le_bytes()),
            "metadata entry 0: 18446744073709551615 bytes needed at byte 32, 177152 \
             left[again]",
        ),
        patched(
            "a key of more than 65,535 bytes",
            |b| put(b, 24, 65_536u64.to_le_bytes()),
            "metadata entry 0: at most 65535 bytes of name expected at byte 24, 65536 found",
        ),
        patched(
            "a key that is not UTF-8",
            |b| b[32] = 0xff,
            "metadata entry 0: a name in UTF-8 expected at byte 24",
        ),
        patched(
            "no metadata",
            |b| *b = Writer { entries: vec![], ..Tiny::default().writer() }.to_bytes(),
            "general.architecture: missing from the metadata",
        ),
    ]
}

/// What people take for a model's file.
pub(crate) fn foreign() -> Vec<Broken> {
    let given = |name, bytes: &'static [u8], message| {
        let file = [bytes, &[b'.'; 300]].concat();
        Broken { name, files: vec![file], message }
    };
    let mut tar = vec![b'm'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    vec![
        given(
            "a Git LFS pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 2472877152\n",
            "header: \"GGUF\" expected, \"vers\" found: this is a Git LFS pointer, not the file that it \
             stands for: fetch that with \"git lfs pull\"",
        ),
        given(
            "a web page",
            b"\xef\xbb\xbf \n<!DOCTYPE html><html>",
            "header: \"GGUF\" expected, \"\\xef\\xbb\\xbf \" found: this is a web page: the link that it \
             was downloaded from leads to a page about the file",
        ),
        given(
            "a server's message",
            b"Entry not found",
            "header: \"GGUF\" expected, \"Entr\" found: this is a server's message, not the file: check \
             the link, and whether it asks for a login",
        ),
        given(
            "safetensors",
            b"\x40\x9c\0\0\0\0\0\0{\"__metadata__\":{",
            "header: \"GGUF\" expected, \"@\\x9c\\x00\\x00\" found: this is a safetensors file: convert the \
             model to GGUF (llama.cpp's convert_hf_to_gguf.py)",
        ),
        given(
            "a PyTorch file",
            b"PK\x03\x04\0\0\x08\x08",
            "header: \"GGUF\" expected, \"PK\\x03\\x04\" found: this is a ZIP archive: unpack it, or, if \
             PyTorch made it, convert the model to GGUF",
        ),
        given(
            "a pickle",
            b"\x80\x02}q\0",
            "header: \"GGUF\" expected, \"\\x80\\x02}q\" found: this is a PyTorch file: convert the model to \
             GGUF (llama.cpp's convert_hf_to_gguf.py)",
        ),
        given(
            "a gzip archive",
            b"\x1f\x8b\x08\0",
            "header: \"GGUF\" expected, \"\\x1f\\x8b\\x08\\x00\" found: this is a gzip archive: unpack it \
             with gunzip",
        ),
        given(
            "a GGML file",
            b"tjgg\x03\0\0\0",
            "header: \"GGUF\" expected, \"tjgg\" found: this is an old GGML file, from before GGUF: convert \
             the model again",
        ),
        given(
            "a file of zeros",
            &[0; 64],
            "header: \"GGUF\" expected, \"\\x00\\x00\\x00\\x00\" found: this is a file that begins with \
             zeros: it is incomplete: download it again",
        ),
        Broken {
            name: "a tar archive",
            files: vec![tar],
            message: "header: \"GGUF\" expected, \"mmmm\" found: this is a tar archive: unpack it",
        },
    ]
}

pub(crate) fn values() -> Vec<Broken> {
    let le = |n: u64| n.to_le_bytes();
    let array = |kind: u32, len: u64| [&kind.to_le_bytes()[..], &le(len)].concat();
    let nested = |depth: usize| array(9, 1).repeat(depth - 1);
    vec![
        valued(
            "an unknown type",
            13,
            &[0; 8],
            "k: a value type from 0 to 12 expected at byte 33, 13 found",
        ),
        valued("no value", 4, &[], "k: 4 bytes needed at byte 37, 0 left[again]"),
        valued("half a value", 10, &[0; 4], "k: 8 bytes needed at byte 37, 4 left[again]"),
        valued("a bool of 2", 7, &[2], "k: a bool of 0 or 1 expected at byte 37, 2 found"),
        valued(
            "a string without end",
            8,
            &le(100),
            "k: 100 bytes needed at byte 45, 0 left[again]",
        ),
        valued(
            "a string of all bytes",
            8,
            &le(u64::MAX),
            "k: 18446744073709551615 bytes needed at byte 45, 0 left[again]",
        ),
        valued(
            "an array of an unknown type",
            9,
            &array(99, 0),
            "k: a value type from 0 to 12 expected at byte 37, 99 found",
        ),
        valued(
            "an array without length",
            9,
            &[4, 0, 0, 0],
            "k: 8 bytes needed at byte 41, 0 left[again]",
        ),
        valued(
            "an array longer than the file",
            9,
            &array(4, 1 << 33),
            "k: 34359738368 bytes needed at byte 49, 0 left[again]",
        ),
        valued(
            "an array whose size overflows",
            9,
            &array(10, u64::MAX / 4),
            "k: 18446744073709551615 bytes needed at byte 49, 0 left[again]",
        ),
        valued(
            "an array of all strings",
            9,
            &array(8, u64::MAX),
            "k: 18446744073709551615 bytes needed at byte 49, 0 left[again]",
        ),
        valued(
            "an array with a string cut",
            9,
            &[array(8, 1), le(9).to_vec()].concat(),
            "k: 9 bytes needed at byte 57, 0 left[again]",
        ),
        valued(
            "an array with a bool of 3",
            9,
            &[array(7, 2), vec![1, 3]].concat(),
            "k: a bool of 0 or 1 expected at byte 50, 3 found",
        ),
        valued(
            "arrays five deep",
            9,
            &[nested(5), array(4, 0)].concat(),
            "k: at most 4 arrays within each other expected at byte 97, 5 found",
        ),
        valued(
            "arrays a thousand deep",
            9,
            &nested(1000),
            "k: at most 4 arrays within each other expected at byte 97, 5 found",
        ),
        valued(
            "a nested array cut",
            9,
            &[nested(2), array(4, 7)].concat(),
            "k: 28 bytes needed at byte 61, 0 left[again]",
        ),
    ]
}
