//! What every verb refuses, in one line and with its exit code.

use crate::program::{Q8_0, fails, model, wick, wick_with};

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let q8_0 = model(Q8_0);
    fails(&wick(&["run", "-m", "/nowhere.gguf", "hi"]), 3, "/nowhere.gguf: No such file");
    fails(&wick(&["inspect", "@index.json"]), 3, "index.json: ");
    fails(&wick(&["run", "-m", &q8_0, "--context", "4", "a longer prompt"]), 5, "larger --context");
    fails(&wick(&["run", "-m", &q8_0, "--context", "0", "hi"]), 5, "context 0");
    fails(&wick(&["run", "-m", &q8_0, "--context", "99999999", "hi"]), 2, "context: 1 to 16777216");
    fails(&wick(&["run", "-m", &q8_0, "--output", "profiler", "hi"]), 3, "lm_head_profiler.weight");
    let head_16 = model("window8.gguf");
    for verb in [&["run", "hi"][..], &["logits", "--ids", "1 2"], &["bench"]] {
        let refused = wick(&[verb, &["-m", &head_16, "--kv", "q8_0"]].concat());
        fails(&refused, 2, "a head size that is a multiple of 32 expected, 16 found");
    }
    let text = "@index.json";
    fails(&wick(&["eval", "--output", "profiler", "--text", text]), 2, "--output exact expected");
    fails(&wick(&["run", "-m", &q8_0, "--top-p", "1.5", "hi"]), 2, "a number from 0 to 1 expected");
    fails(&wick(&["run", "-m", &q8_0, "--temperature", "NaN", "hi"]), 2, "0 or more expected");
    fails(&wick_with(b"a\xffb", &["run", "-m", &q8_0]), 5, "stdin: UTF-8 expected, byte 1 is not");
    fails(&wick_with(b"a\xffb", &["tokenize", "-m", &q8_0]), 5, "byte 1");
    fails(&wick_with(b"1 x", &["detokenize", "-m", &q8_0]), 5, "\"x\" found");
    fails(&wick_with(b"99999", &["detokenize", "-m", &q8_0]), 5, "token 99999: the vocabulary has");
    fails(&wick(&["logits", "-m", &q8_0, "--ids", ""]), 5, "at least one");
    fails(&wick(&["logits", "-m", &q8_0, "--ids", "1 99999"]), 5, "token 99999");
    fails(&wick(&["logits", "-m", &q8_0, "--ids", "1", "--out", "/nowhere/x"]), 1, "/nowhere/x: ");
    for nonsense in [["-p", "0"], ["-n", "0"], ["-r", "0"], ["-t", "0"], ["-p", "many"]] {
        fails(&wick(&[&["bench"][..], &nonsense].concat()), 2, nonsense[1]);
    }
    fails(&wick(&["bench", "-p", "99999999"]), 2, "context: 1 to 16777216 expected");
    fails(&wick(&["fly"]), 2, "fly");
}
