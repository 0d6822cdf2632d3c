//! `wick inspect`.

mod differences;

use crate::folder::Folder;
use crate::person::Person;
use crate::program::{fails, golden, model, nano, stdout, wick};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use wick_format::Gguf;
use wick_kernels::{Format, scalar};
use wick_tests::gguf::Writer;
use wick_tests::tiny::Tiny;

const TEMPLATE: &str = "tokenizer.chat_template";

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(&wick(&[arguments, &["--json"]].concat()))).unwrap()
}

impl Folder {
    /// The file at `from`, changed.
    fn changed(&self, name: &str, from: &str, change: impl FnOnce(&mut Writer)) -> String {
        let bytes = std::fs::read(from).unwrap();
        let mut writer = Writer::from(&Gguf::parse(&bytes).unwrap());
        change(&mut writer);
        let path = self.path(name);
        std::fs::write(&path, writer.to_bytes()).unwrap();
        path
    }

    /// A model whose experts have so many times 160 neurons, which are zero: holes of a file.
    fn sparse(&self, name: &str, format: Format, factor: usize) -> String {
        let mut tiny = Tiny { format, ..Tiny::default() };
        (tiny.config.layers, tiny.config.experts) = (8, 64);
        let (width, mut at) = (tiny.config.expert_width, 0);
        let mut writer = tiny.writer();
        writer.set("smallthinker.expert_feed_forward_length", (width * factor) as u32);
        let mut dense = Vec::new();
        for tensor in &mut writer.tensors {
            tensor.offset = Some(at);
            let data = std::mem::take(&mut tensor.data);
            let wide = tensor.dims.iter_mut().find(|size| **size == width as u64);
            let bytes = data.len() * wide.as_ref().map_or(1, |_| factor);
            match wide {
                Some(size) => *size *= factor as u64,
                None => dense.push((at, data)),
            }
            at += bytes.next_multiple_of(32) as u64;
        }
        let (path, head) = (self.path(name), writer.head());
        let start = head.len().next_multiple_of(32) as u64;
        std::fs::write(&path, &head).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        dense.iter().for_each(|(at, data)| file.write_all_at(data, start + at).unwrap());
        // What ends with zeros was not copied to its end.
        file.write_all_at(&[1], start + at - 1).unwrap();
        path
    }
}

/// Formats and bytes of all tensors.
fn tensors(path: &str) -> BTreeMap<String, (Format, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let tensor = |t: wick_format::Tensor<'_>| {
        (t.name().into(), (t.format().unwrap(), t.bytes().unwrap().into()))
    };
    gguf.tensors().map(tensor).collect()
}

fn weights((format, bytes): &(Format, Vec<u8>)) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
    scalar::dequantize(*format, bytes, &mut out);
    out
}

#[test]
fn every_golden_model_can_be_inspected() {
    let index: Value =
        serde_json::from_slice(&std::fs::read(golden("index.json")).unwrap()).unwrap();
    for case in index["models"].as_array().unwrap() {
        let file = model(case["file"].as_str().unwrap());
        let json: Value =
            serde_json::from_str(&stdout(&wick(&["inspect", &file, "--json"]))).unwrap();
        assert_eq!(json["shape"]["vocabulary"], case["vocabulary"]);
        assert_eq!(json["unused_tensors"], Value::Array(vec![]), "{file}");
        let text = stdout(&wick(&["inspect", &file]));
        assert!(text.contains("runs with") && text.contains("kernels"), "{text}");
    }
}

#[test]
fn a_missing_part_of_a_split_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("m-00001-of-00002.gguf");
    std::fs::copy(golden("split-00001-of-00002.gguf"), &first).unwrap();
    fails(&wick(&["inspect", first.to_str().unwrap()]), 3, "m-00002-of-00002.gguf: No such file");
}

/// As they are counted from the tensors of the file.
#[test]
fn bytes_are_told_by_what_they_are_for() {
    for (name, is_tied) in [("q4_0-tied.gguf", true), ("f16-softmax-untied.gguf", false)] {
        let path = golden(name).display().to_string();
        let all = tensors(&path);
        let bytes = |is: &dyn Fn(&str) -> bool| -> usize {
            all.iter().filter(|(name, _)| is(name)).map(|(_, (_, bytes))| bytes.len()).sum()
        };
        let is_expert = |name: &str| name.contains("_exps.");
        let (experts, dense) = (bytes(&is_expert), bytes(&|name| !is_expert(name)));
        let shown = json(&["inspect", &path]);
        let embedding = bytes(&|name| name == "token_embd.weight");
        let row = embedding / shown["shape"]["vocabulary"].as_u64().unwrap() as usize;
        let number = |key: &str| shown["shape"][key].as_u64().unwrap() as usize;
        let active = experts / number("experts") * number("active_experts");
        let rest = if is_tied { dense } else { dense - embedding };
        let sizes = &shown["sizes"];
        assert_eq!(sizes["experts"], experts, "{name}");
        assert_eq!(sizes["dense"], dense, "{name}");
        assert_eq!(sizes["token"], rest + row + active, "{name}");
        let share = experts as f64 / (experts + dense) as f64;
        assert!((sizes["expert_share"].as_f64().unwrap() - share).abs() < 1e-12, "{name}");
        let count: usize = all.values().map(|tensor| weights(tensor).len()).sum();
        let bits = 8.0 * (experts + dense) as f64 / count as f64;
        assert!((shown["bits_per_weight"].as_f64().unwrap() - bits).abs() < 1e-12, "{name}");
        let text = stdout(&wick(&["inspect", &path]));
        assert!(text.contains(&format!(" M of {bits:.2} bits\n")), "{text}");
        assert!(text.contains(&format!("({:.1} %), all else", 100.0 * share)), "{text}");
    }
}

#[test]
fn a_tokenizer_is_told_by_its_parts() {
    let folder = Folder::new();
    let nano = nano();
    let bytes = std::fs::read(&nano).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let len = |key| gguf.get(key).unwrap().array().unwrap().len();
    let kinds = gguf.get("tokenizer.ggml.token_type").unwrap().integers().unwrap();
    let of_kind = |kind| kinds.clone().filter(|found| *found == kind).count();
    let path = folder.changed("special", &nano, |writer| {
        writer.set("tokenizer.ggml.bos_token_id", 65u32).set("tokenizer.ggml.add_bos_token", true);
        writer.set("tokenizer.ggml.padding_token_id", 99_999u32);
        writer.set("tokenizer.ggml.eot_token_id", u32::MAX);
        writer.set("tokenizer.chat_template.brief", "x");
    });
    let shown = json(&["inspect", &path]);
    let tokenizer = &shown["tokenizer"];
    assert_eq!(tokenizer["entries"], len("tokenizer.ggml.tokens"));
    assert_eq!(tokenizer["merges"], len("tokenizer.ggml.merges"));
    assert_eq!(tokenizer["kinds"]["normal"], of_kind(1));
    assert_eq!(tokenizer["kinds"]["control"], of_kind(3));
    assert!(of_kind(3) > 0 && tokenizer["adds_bos"] == true);
    assert_eq!(shown["chat_templates"], serde_json::json!(["default", "brief"]));
    let special: Vec<_> = tokenizer["special"].as_array().unwrap().iter().collect();
    let part = |name: &str| special.iter().find(|special| special["part"] == name);
    let tokens: Vec<&[u8]> =
        gguf.get("tokenizer.ggml.tokens").unwrap().strings().unwrap().collect();
    assert_eq!((&part("bos").unwrap()["id"], part("eot")), (&65.into(), None));
    assert_eq!(part("bos").unwrap()["text"], std::str::from_utf8(tokens[65]).unwrap());
    assert_eq!(part("pad").unwrap()["text"], Value::Null);
    let text = stdout(&wick(&["inspect", &path]));
    assert!(text.contains("; BOS is put before a text\n"), "{text}");
    assert!(text.contains("  pad       99999, which is no entry\n"), "{text}");
    assert!(text.contains("templates   default, brief\n"), "{text}");
}

#[test]
fn a_template_is_written_as_it_stands() {
    let folder = Folder::new();
    let nano = nano();
    let bytes = std::fs::read(&nano).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let template = gguf.get(TEMPLATE).unwrap().str().unwrap();
    let shown = wick(&["inspect", &nano, "--template"]);
    assert_eq!((stdout(&shown).as_str(), shown.stderr.len()), (template, 0));
    assert_eq!(stdout(&wick(&["inspect", "--template"])), template, "the one that is built in");

    let hostile = "a\x1b[2J\u{9b}b\r\n\x07";
    let named = folder.changed("named", &nano, |writer| {
        writer.set("tokenizer.chat_template.brief", hostile);
    });
    let output = wick(&["inspect", "--template=brief", &named]);
    assert_eq!(stdout(&output), hostile, "into a pipe");
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(err, "wick: \"brief\" of the file's chat templates default, brief\n");
    let mut person = Person::new(&["inspect", "--template=brief", &named]);
    person.sees_then(r"a\x1b[2J\x9bb\x0d", r"\x07");
    person.sees_it_end(0);
    let shown = json(&["inspect", "--template=brief", &named]);
    assert_eq!((&shown["template"], &shown["names"][0]), (&hostile.into(), &"default".into()));
    let unknown = wick(&["inspect", "--template=brie", &named]);
    fails(&unknown, 2, "no chat template is called \"brie\"; there are default, brief");

    let none = folder.path("none");
    std::fs::write(&none, Tiny::default().to_bytes()).unwrap();
    fails(&wick(&["inspect", &none, "--template"]), 3, "none: the file has no chat template");
    assert!(!stdout(&wick(&["inspect", &none])).contains("templates"));
    let wrong = folder.changed("wrong", &nano, |writer| _ = writer.set(TEMPLATE, vec![0xffu8]));
    fails(&wick(&["inspect", &wrong, "--template"]), 3, "UTF-8 text expected");
}

/// What fits is what the plan for a memory and a board says.
#[test]
fn memories_are_told_as_they_are_planned() {
    let folder = Folder::new();
    let path = folder.sparse("large", Format::Q8_0, 256);
    let shown = json(&["inspect", &path, "--board", "pi4", "--board", "zero2w"]);
    assert_eq!(shown["refusal"], Value::Null);
    let fits = &shown["fits"];
    let rows = fits["memories"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for (row, memory) in rows.iter().zip(["1G", "2G", "4G", "8G"]) {
        for (place, board) in ["pi4", "zero2w"].into_iter().enumerate() {
            let plan = json(&["plan", "-m", &path, "--memory", memory, "--board", board]);
            assert_eq!(row["memory"], plan["budget"]);
            let (found, bounds) = (&row["plan"]["expected"][place], &plan["bounds"][0]);
            assert_eq!((&found["board"], &found["by"]), (&board.into(), &bounds["by"]));
            // What the two have allocated by themselves may be worth an expert.
            let near = |found: &Value, planned: &Value| {
                let (found, planned) = (found.as_f64().unwrap(), planned.as_f64().unwrap());
                assert!((found / planned - 1.0).abs() < 0.05, "{found} and {planned}, {memory}");
            };
            near(&found["tokens_per_second"], &bounds["expected"]);
            near(&row["plan"]["expert_slots"], &plan["expert_slots"]);
            near(&row["plan"]["hit_rate"], &plan["hit_rate"]);
        }
    }
    let slots = |row: &Value| row["plan"]["expert_slots"].as_u64().unwrap();
    assert!(slots(&rows[0]) < 512 && slots(&rows[3]) == 512, "{fits}");
    let refused = wick(&["plan", "-m", &path, "--memory", "1M"]);
    let least = crate::program::least(&refused) * 1024;
    assert!(least.abs_diff(fits["least"].as_u64().unwrap() as usize) < 1 << 20, "{fits}");
    let text = stdout(&wick(&["inspect", &path]));
    assert!(text.contains("  rk3588\n") && text.contains("8 GiB     512 of 512 (100 %)"), "{text}");
    // Whoever read this one would not come to an end.
    let endless = json(&["inspect", &folder.sparse("endless", Format::Q8_0, 1 << 16)]);
    assert!(endless["bytes"].as_u64().unwrap() > 1 << 39, "{endless}");
    let first = &endless["fits"]["memories"][0];
    assert_eq!((&first["fits"], &first["plan"]), (&false.into(), &Value::Null), "{first}");
    assert!(first["refusal"].as_str().unwrap().contains("is the least that would do"), "{first}");
    let narrow = json(&["inspect", &path, "--context", "256"]);
    assert!(narrow["fits"]["least"].as_u64() < fits["least"].as_u64(), "{narrow}");
    fails(&wick(&["inspect", &path, "--board", "toaster"]), 2, "pi5");

    let llama = folder.path("llama");
    let bytes = Tiny::default().writer().set("general.architecture", "llama").to_bytes();
    std::fs::write(&llama, bytes).unwrap();
    let shown = json(&["inspect", &llama]);
    assert_eq!((&shown["fits"], &shown["sizes"]), (&Value::Null, &Value::Null));
    assert!(shown["bits_per_weight"].as_f64().unwrap() > 4.5);
    assert!(!stdout(&wick(&["inspect", &llama])).contains("experts in memory"));
}
