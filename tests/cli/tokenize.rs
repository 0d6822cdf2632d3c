//! `wick tokenize` and `wick detokenize`.

use crate::program::{model, stdout, wick_with};

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
