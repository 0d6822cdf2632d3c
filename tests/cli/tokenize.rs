//! `wick tokenize` and `wick detokenize`.

use crate::program::{model, stdout, wick_with};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

#[test]
fn text_survives_the_tokenizer() {
    let model = model("f16-softmax-untied.gguf");
    let text = "Naïve café — 東京 🦀\r\n\tfn main() {}   <|im_start|> \u{0301}";
    let ids = stdout(&wick_with(text.as_bytes(), &["tokenize", "-m", &model]));
    assert_eq!(ids.lines().count(), 1);
    assert!(ids.trim_end().split(' ').all(|id| id.parse::<u32>().is_ok()), "{ids}");
    let back = wick_with(ids.as_bytes(), &["detokenize", "-m", &model]);
    assert_eq!(stdout(&back), text);

    let json = stdout(&wick_with(text.as_bytes(), &["tokenize", "-m", &model, "--json"]));
    let list: Vec<u32> = serde_json::from_str(&json).unwrap();
    assert_eq!(list.iter().map(u32::to_string).collect::<Vec<_>>().join(" "), ids.trim_end());
    assert_eq!(stdout(&wick_with(json.as_bytes(), &["detokenize", "-m", &model])), text);

    let plain = stdout(&wick_with(b"<|im_end|>", &["tokenize", "-m", &model, "--plain"]));
    let special = stdout(&wick_with(b"<|im_end|>", &["tokenize", "-m", &model]));
    assert!(plain.split(' ').count() > 1 && special.split(' ').count() == 1);
}

/// The example of the help, tried.
#[test]
fn the_help_has_ids_of_nano() {
    let help = stdout(&wick_with(b"", &["detokenize", "--help"]));
    let (_, rest) = help.split_once("echo \"").unwrap();
    let (ids, rest) = rest.split_once('"').unwrap();
    assert!(rest.starts_with(" | wick detokenize\n"), "{rest}");
    let text = stdout(&wick_with(ids.as_bytes(), &["detokenize"]));
    assert_eq!(text, "Hello world");
    assert_eq!(stdout(&wick_with(text.as_bytes(), &["tokenize"])).trim_end(), ids);
}

/// What wick prints that was given so much address space.
fn within(kib: usize, verb: &str, input: &[u8]) -> Vec<u8> {
    let script = format!("ulimit -v {kib} && exec \"$0\" {verb}");
    let mut child = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_wick")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    output.stdout
}

/// 21 MB of text is tokenized, and back, in memory that does not hold it: lines, one line, one word.
#[test]
fn a_text_of_any_length_takes_bounded_memory() {
    let sentence = "dim the kitchen light to 40 percent; ";
    let lines = "dim the kitchen light <|im_end|>\n".repeat(21_000_000 / 33);
    let line = sentence.repeat(21_000_000 / sentence.len());
    let word = "a".repeat(21_000_000);
    for (text, kib) in [(lines, 100_000), (line, 100_000), (word, 250_000)] {
        let ids = within(kib, "tokenize", text.as_bytes());
        assert!(ids.len() > 1_000_000);
        let back = within(100_000, "detokenize", &ids);
        assert!(back == text.as_bytes());
    }
}
