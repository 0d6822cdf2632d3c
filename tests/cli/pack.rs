//! `wick pack` and `wick unpack`.

use crate::program::{fails, golden, model, stdout, wick};
use serde_json::Value;

#[test]
fn packing_gives_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["q4_0-tied.gguf", "split-00001-of-00002.gguf", "powerinfer.gguf"] {
        let (model, packed, unpacked) = (model(name), path("packed"), path("unpacked"));
        let said = stdout(&wick(&["pack", &model, "-o", &packed]));
        assert!(said.starts_with(&packed) && said.contains(" experts, "), "{said}");
        let said = stdout(&wick(&["pack", "--verify", &packed]));
        assert!(said.contains("as it was packed"), "{said}");
        stdout(&wick(&["unpack", &packed, "-o", &unpacked]));
        if !name.starts_with("split") {
            assert!(std::fs::read(&unpacked).unwrap() == std::fs::read(golden(name)).unwrap());
        }
        let run = |file: &str| stdout(&wick(&["run", "-m", file, "-n", "20", "--seed", "3", "hi"]));
        assert_eq!(run(&packed), run(&model), "{name}");
        assert_eq!(run(&unpacked), run(&model), "{name}");
        let inspect = |file: &str| -> Value {
            serde_json::from_str(&stdout(&wick(&["inspect", file, "--json"]))).unwrap()
        };
        let (before, after) = (inspect(&model), inspect(&packed));
        for key in ["shape", "parameters", "types", "unused_tensors", "tokenizer"] {
            assert_eq!(before[key], after[key], "{name}: {key}");
        }
        assert!(before["packed"].is_null() && after["alignment"] == 4096);
    }
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 2, "nothing else is left behind");
}

#[test]
fn a_file_is_packed_for_one_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed").display().to_string();
    let model = model("powerinfer.gguf");
    let run = |more: &[&str]| {
        wick(&[&["run", "-n", "9", "--temperature", "0", "hi", "-m"], more].concat())
    };
    let chosen = ["--output", "profiler"];
    stdout(&wick(&["pack", &model, "-o", &path]));
    fails(&run(&[&[&path[..]][..], &chosen].concat()), 3, "pack it again with --output profiler");
    stdout(&wick(&[&["pack", &model, "-o", &path][..], &chosen].concat()));
    fails(&run(&[&path]), 3, "packed for --output profiler: run it with that, or pack it again");
    let packed = stdout(&run(&[&[&path[..]][..], &chosen].concat()));
    assert_eq!(packed, stdout(&run(&[&[&model[..]][..], &chosen].concat())));
    fails(
        &wick(&[&["pack", "@q8_0.gguf", "-o", &path][..], &chosen].concat()),
        3,
        "lm_head_profiler",
    );
}

#[test]
fn coarse_output_draws_the_same_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, packed) = (path("model.gguf"), path("packed"));
    stdout(&wick(&["synth", "--shape", "tiny,vocab=2048", "-o", &model]));
    stdout(&wick(&["pack", &model, "-o", &packed, "--output", "coarse"]));
    let samplings = [("temperature", "0"), ("top-k", "5"), ("repeat-penalty", "1.3")];
    let samplings = samplings.into_iter().chain([("presence-penalty", "-1.5")]);
    for (name, value) in samplings {
        let sampling = [format!("--{name}"), value.to_owned()];
        let sampling = sampling.each_ref().map(String::as_str);
        let run = |file: &str, more: &[&str]| {
            let common = ["run", "-n", "20", "--seed", "7", "hi", "-m", file];
            stdout(&wick(&[&common[..], &sampling, more].concat()))
        };
        let exact = run(&model, &[]);
        assert_eq!(run(&model, &["--output", "coarse"]), exact, "{sampling:?}");
        assert_eq!(run(&packed, &["--output", "coarse"]), exact, "{sampling:?}");
        assert_eq!(run(&packed, &[]), exact, "{sampling:?}");
    }
    let exact = path("exact");
    stdout(&wick(&["pack", &model, "-o", &exact]));
    let refused = wick(&["run", "-m", &exact, "--output", "coarse", "hi"]);
    fails(&refused, 3, "packed for --output exact: run it with that, or pack it again with");
    let odd = path("odd.gguf");
    stdout(&wick(&["synth", "--shape", "tiny,vocab=2049", "-o", &odd]));
    let refused = wick(&["run", "-m", &odd, "--output", "coarse", "hi"]);
    fails(&refused, 3, "multiples of 8 rows and of 32 columns expected, 2049 and");
    let bench =
        ["bench", "-m", &model, "-p", "4", "-n", "4", "-r", "1", "--no-bandwidth", "--json"];
    let figures: Value =
        serde_json::from_str(&stdout(&wick(&[&bench[..], &["--output", "coarse"]].concat())))
            .unwrap();
    assert!(figures["output_rows"].as_f64().unwrap() < 1.0, "{figures}");
}

#[test]
fn changed_metadata_are_no_packed_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed").display().to_string();
    stdout(&wick(&["pack", "@q4_0-tied.gguf", "-o", &path]));
    let json: Value = serde_json::from_str(&stdout(&wick(&["inspect", &path, "--json"]))).unwrap();
    let identity = json["identity"].as_str().unwrap();
    assert!(
        stdout(&wick(&["inspect", &path]))
            .contains(&format!("version 2, LM head grouped, identity {identity}"))
    );
    let mut bytes = std::fs::read(&path).unwrap();
    let key = b"smallthinker.rope.freq_base";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    bytes[at + key.len() + 4 + 2] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let message = "header, metadata and tensor table: CRC-32 ";
    for verb in [&["pack", "--verify"][..], &["run", "hi", "-m"]] {
        fails(&wick(&[verb, &[&path]].concat()), 3, message);
    }
    fails(&wick(&["unpack", &path, "-o", &format!("{path}.gguf")]), 3, message);
    assert!(stdout(&wick(&["inspect", &path])).contains(&format!("cannot run  {path}: {message}")));
}

#[test]
fn files_of_version_1_are_packed_models() {
    let path = model("../models/packed/version-1.gguf");
    let said = stdout(&wick(&["pack", "--verify", &path]));
    assert!(said.contains("as it was packed but for metadata, of which version 1"), "{said}");
    assert!(stdout(&wick(&["inspect", &path])).contains("packed      version 1, "));
    for low_bit in [&[][..], &["--low-bit"]] {
        let run = ["run", "-n", "4", "--seed", "1", "--raw", "hi", "-m", &path];
        stdout(&wick(&[&run[..], low_bit].concat()));
    }
}

#[test]
fn packing_refuses_what_makes_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (original, packed, other) = (path("original"), path("packed"), path("other"));
    std::fs::copy(golden("q4_0-tied.gguf"), &original).unwrap();
    stdout(&wick(&["pack", &original, "-o", &packed]));
    fails(&wick(&["pack", &original, "-o", &original]), 2, "is the input; name another file");
    std::fs::hard_link(&original, &other).unwrap();
    fails(&wick(&["pack", &original, "-o", &other]), 2, "is the input");
    std::fs::remove_file(&other).unwrap();
    fails(&wick(&["unpack", &packed, "-o", &packed]), 2, "is the input");
    fails(&wick(&["pack", &packed, "-o", &other]), 3, "packed already");
    fails(&wick(&["unpack", &original, "-o", &other]), 3, "is not packed");
    fails(&wick(&["pack", "--verify", &original]), 3, "is not packed");
    fails(&wick(&["pack", "/nowhere.gguf", "-o", &other]), 3, "No such file");
    fails(&wick(&["pack", &original, "-o", "/nowhere/x"]), 1, "bytes cannot be written");
    fails(&wick(&["pack", &original]), 2, "-o");
    fails(&wick(&["pack"]), 2, "<IN>");
    fails(&wick(&["pack", &original, "--verify", &packed]), 2, "--verify");

    let mut bytes = std::fs::read(&packed).unwrap();
    let last = bytes.len() - 5000;
    bytes[last] ^= 4;
    std::fs::write(&packed, &bytes).unwrap();
    let output = wick(&["pack", "--verify", &packed]);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("damaged in 1 place"), "{err}");
    assert!(
        out.starts_with("blk.") && out.contains(", expert ") && out.contains(", at byte "),
        "{out}"
    );
    fails(&wick(&["unpack", &packed, "-o", &other]), 3, "the file is damaged");
    std::fs::write(&packed, &bytes[..last]).unwrap();
    fails(&wick(&["pack", "--verify", &packed]), 3, "the file is incomplete");
    let mut files: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["original", "packed"]);
}
