//! What every verb refuses, in one line and with its exit code.

use crate::program::{Q8_0, fails, model, nano, wick, wick_with};

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let q8_0 = model(Q8_0);
    fails(&wick(&["run", "-m", "/nowhere.gguf", "hi"]), 3, "/nowhere.gguf: No such file");
    fails(&wick(&["inspect", "@index.json"]), 3, "index.json: ");
    fails(&wick(&["run", "-m", &q8_0, "--context", "4", "a longer prompt"]), 5, "larger --context");
    fails(&wick(&["run", "-m", &q8_0, "--output", "profiler", "hi"]), 3, "lm_head_profiler.weight");
    let head_16 = model("window8.gguf");
    for verb in [&["run", "hi"][..], &["logits", "--ids", "1 2"], &["bench"]] {
        let refused = wick(&[verb, &["-m", &head_16, "--kv", "q8_0"]].concat());
        fails(&refused, 2, "a head size that is a multiple of 32 expected, 16 found");
    }
    let text = "@index.json";
    fails(&wick(&["eval", "--output", "profiler", "--text", text]), 2, "--output exact expected");
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
    fails(&wick(&["bench", "-p", "16777216"]), 2, "context: 1 to 16777216 expected");
    fails(&wick(&["fly"]), 2, "fly");
}

#[test]
fn absurd_numbers_are_refused_with_their_range() {
    let spread = ("0 to 1000", &["NaN", "inf", "-inf", "-1", "1e30", ""][..]);
    let share = ("0 to 1", &["NaN", "inf", "-0.1", "1.5", "x"][..]);
    let signed = ("-2 to 2", &["NaN", "inf", "-2.1", "3", "x"][..]);
    let floats = [
        ("temperature", spread),
        ("prefer-resident", spread),
        ("repeat-penalty", ("0.001 to 1000", &["NaN", "inf", "0", "-1", "1e30"])),
        ("presence-penalty", signed),
        ("frequency-penalty", signed),
        ("top-p", share),
        ("min-p", share),
        ("skip-missing", share),
    ];
    let numbers = [
        ("context", ("1 to 16777216", &["0", "-5", "99999999"][..])),
        ("depth", ("1 to 4096", &["0", "4097", "99999999999999999999"])),
        ("read-timeout", ("1 to 86400", &["0", "4000000000"])),
    ];
    for (flag, (range, wrong)) in floats.into_iter().chain(numbers) {
        for value in wrong {
            fails(&wick(&["run", &format!("--{flag}={value}"), "hi"]), 2, range);
            if value.starts_with("-") && *value != "-inf" {
                fails(&wick(&["run", &format!("--{flag}"), value, "hi"]), 2, range);
            }
        }
    }
    fails(&wick(&["bench", "--rounds", "10000000000"]), 2, "1 to 1000000000");
    for verb in [&["run", "-t", "0", "hi"][..], &["eval", "--text", "x", "-b", "-1"]] {
        fails(&wick(verb), 2, "a number of 1 or more expected");
    }
}

/// Also where nothing would be read from the file.
#[test]
fn low_bit_copies_must_be_in_the_file() {
    let nano = nano();
    for verb in [&["run", "--low-bit", "hi"][..], &["run", "-m", &nano, "--low-bit", "hi"]] {
        fails(&wick(verb), 3, "no low-bit copies of experts: pack the model with --low-bit");
    }
}
