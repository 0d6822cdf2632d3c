//! `wick fetch`, and models that are named by where they are on the hub.

use crate::hub::{COMMIT, Deed, Hub, git, names, sha256};
use crate::program::{nano, stdout, wick};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

/// The name of nano on the hub.
pub(crate) const NANO: &str = "nano.gguf";
/// nano in the repository.
pub(crate) const SOURCE: &str = "some/model:nano.gguf";

pub(crate) fn nano_bytes() -> Vec<u8> {
    fs::read(nano()).unwrap()
}

pub(crate) fn hub() -> Hub {
    Hub::new(&[(NANO, &nano_bytes()), ("README.md", b"# nano\n"), ("config.json", b"{}")])
}

/// Checks that wick ended with this code and a last line on stderr that has `text` in it.
pub(crate) fn fails(output: &Output, code: i32, text: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    let last = err.lines().last().unwrap_or_default();
    assert!(last.starts_with("wick: ") && last.contains(text), "{text:?} expected, {err:?} found");
    assert!(output.stdout.is_empty());
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks that nano is in the cache as the hub's own tools have it, and nothing beside it.
pub(crate) fn is_in_cache(hub: &Hub) {
    let link = hub.cache(&format!("snapshots/{COMMIT}/{NANO}"));
    let blob = sha256(&nano_bytes());
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("../../blobs").join(&blob));
    assert!(fs::read(&link).unwrap() == nano_bytes());
    assert_eq!(names(&hub.cache("blobs")), [blob]);
    assert_eq!(fs::read_to_string(hub.cache("refs/main")).unwrap(), COMMIT);
}

#[test]
fn a_model_is_fetched_once_and_found_by_its_name() {
    let hub = hub();
    let said = stdout(&hub.fetch(&["some/model"]));
    let link = hub.cache(&format!("snapshots/{COMMIT}/{NANO}"));
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with(&format!("{}: 5.0 MB, 5.0 MB fetched in ", link.display())),
        "{said}"
    );
    assert_eq!(lines[1], format!("wick run -m {} \"Why is the sky blue?\"", link.display()));
    is_in_cache(&hub);
    assert_eq!(hub.ranges(), [(0, 5049119)]);
    // The command that was printed is one.
    let text = ["-n", "8", "--temperature", "0", "hello"];
    let expected = stdout(&wick(&[&["run"], &text[..]].concat()));
    let run = |model: &str| {
        stdout(&hub.command(&[&["run", "-m", model], &text[..]].concat()).output().unwrap())
    };
    assert_eq!(run(&link.display().to_string()), expected);
    for name in ["hf:some/model", "hf:some/model:nano.gguf"] {
        assert_eq!(run(name), expected);
    }
    let inspect = hub.command(&["inspect", "hf:some/model", "--json"]).output().unwrap();
    assert!(stdout(&inspect).contains(NANO));
    assert!(hub.asked().is_empty(), "what is in the cache is asked for");
    let again = stdout(&hub.fetch(&[SOURCE]));
    assert!(again.contains(": 5.0 MB, was there already\n"), "{again}");
    assert_eq!(hub.ranges(), []);
}

#[test]
fn a_model_that_is_not_there_is_fetched_by_who_wants_it() {
    let hub = hub();
    let text = ["run", "-n", "8", "--temperature", "0", "hello"];
    let output = hub.command(&[&text[..], &["-m", "hf:some/model"]].concat()).output().unwrap();
    assert_eq!(stdout(&output), stdout(&wick(&text)));
    assert!(said(&output).starts_with("wick: fetching nano.gguf (5.0 MB)\n"), "{}", said(&output));
    is_in_cache(&hub);
}

#[test]
fn ranges_are_fetched_side_by_side() {
    let hub = hub();
    // None ends before three are there.
    let output = hub.command(&[
        "fetch",
        SOURCE,
        "--connections",
        "3",
        "--segment",
        "1000000",
        "--pause",
        "10",
    ]);
    let mut output = output;
    hub.behave(|asked| {
        match asked.is_for_bytes() && asked.range == Some((2_000_000, 2_999_999)) && asked.nth < 4 {
            true => Deed::Cut(5),
            false => Deed::Usual,
        }
    });
    stdout(&output.output().unwrap());
    let mut ranges = hub.ranges();
    ranges.sort();
    ranges.dedup_by_key(|range| range.1);
    let ends: Vec<usize> = ranges.iter().map(|range| range.1).collect();
    assert_eq!(ends, [999_999, 1_999_999, 2_999_999, 3_999_999, 4_999_999, 5_049_119]);
    is_in_cache(&hub);
}

#[test]
fn refusals_say_what_to_do() {
    let hub = hub();
    let refuse = |status, headers| hub.behave(move |_| Deed::Status(status, headers));
    refuse(401, "");
    let output = hub.fetch(&[SOURCE]);
    fails(
        &output,
        1,
        "is not there or wants a token (401): check the name, or give a token in HF_TOKEN",
    );
    let with_token = |token: &str| hub.fetching(&[SOURCE]).env("HF_TOKEN", token).output().unwrap();
    fails(&with_token("wrong"), 1, "the token is not accepted (401)");
    assert!(!said(&with_token("wrong")).contains("wrong"));
    fails(&with_token("a\nb"), 2, "HF_TOKEN: a token on one line expected");
    refuse(403, "X-Error-Code: GatedRepo\r\n");
    fails(&hub.fetch(&[SOURCE]), 1, "some/model is gated (403): accept its terms");
    refuse(403, "");
    fails(&hub.fetch(&[SOURCE]), 1, "the token gives no right to some/model (403)");
    refuse(404, "X-Error-Code: RevisionNotFound\r\n");
    fails(&hub.fetch(&[SOURCE, "--revision", "v2"]), 1, "some/model has no revision \"v2\" (404)");
    refuse(404, "");
    fails(&hub.fetch(&[SOURCE]), 1, "some/model:nano.gguf is not there (404)");
    assert!(
        hub.asked().iter().all(|asked| asked.path.contains("/revision/")),
        "refused, and asked again"
    );
    hub.behave(|_| Deed::Usual);
    fails(
        &hub.fetch(&["some/model:other.gguf"]),
        2,
        "has no such file; name one as some/model:FILE: nano.gguf (5.0 MB)",
    );
    for wrong in ["some/model/x", "../model", "some/model:../x", "some/model:/etc/passwd", ""] {
        fails(
            &hub.fetch(&[wrong]),
            2,
            "USER/NAME, USER/NAME:FILE or USER/NAME@REVISION:FILE expected",
        );
    }
    fails(&hub.fetch(&[SOURCE, "--endpoint", "ftp://x"]), 2, "--endpoint: an address such as");
    hub.behave(|_| Deed::Text("<html>".into()));
    fails(&hub.fetch(&[SOURCE]), 1, "answers with something else than the hub's JSON");
}

#[test]
fn a_full_disk_is_found_before_or_on_the_way() {
    let hub = hub();
    let huge = json!([{"type": "file", "path": NANO, "size": 1u64 << 60, "oid": git(b""),
                       "lfs": {"oid": sha256(b""), "size": 1u64 << 60}}]);
    hub.behave(move |asked| match asked.path.contains("/tree/") {
        true => Deed::Text(huge.to_string()),
        false => Deed::Usual,
    });
    fails(&hub.fetch(&[SOURCE]), 1, "1152921504.6 GB are wanted and ");
    assert!(hub.ranges().is_empty() && names(&hub.cache("blobs")).is_empty());
    hub.behave(|_| Deed::Usual);
    // A limit on sizes is what a disk is that fills.
    let fetch = hub.fetching(&[SOURCE]);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", r#"ulimit -f 2000; exec "$0" "$@""#])
        .arg(fetch.get_program())
        .args(fetch.get_args());
    for (name, value) in fetch.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    fails(&limited.output().unwrap(), 1, "it is gone on with when there is room: File too large");
    hub.asked();
    stdout(&hub.fetch(&[SOURCE]));
    let ranges = hub.ranges();
    assert!(ranges.len() == 1 && (900_000..=2_048_000).contains(&ranges[0].0), "{ranges:?}");
    is_in_cache(&hub);
}

#[test]
fn names_and_addresses_of_a_hostile_hub_lead_nowhere() {
    let hub = hub();
    for name in [
        "../../../evil.gguf",
        "/evil.gguf",
        "a/../../evil.gguf",
        "evil\x1b[2J.gguf",
        "a//evil.gguf",
    ] {
        let list = json!([{"type": "file", "path": name, "size": 1, "oid": git(b"x")}]).to_string();
        hub.behave(move |asked| match asked.path.contains("/tree/") {
            true => Deed::Text(list.clone()),
            false => Deed::Usual,
        });
        let output =
            hub.fetch(&["some/model", "--to", &hub.home.path().join("a/b").display().to_string()]);
        fails(&output, 1, "which does not stay in its folder");
        assert!(!said(&output).contains('\x1b'));
    }
    let list = json!([{"type": "file", "path": NANO, "size": 1, "oid": "../../evil"}]).to_string();
    hub.behave(move |asked| match asked.path.contains("/tree/") {
        true => Deed::Text(list.clone()),
        false => Deed::Usual,
    });
    fails(&hub.fetch(&[SOURCE]), 1, "the hub lists no checksum of it");
    hub.behave(|_| Deed::Text(json!({"sha": "../../evil"}).to_string()));
    fails(&hub.fetch(&[SOURCE]), 1, "answers with something that is no commit");
    for to in ["file:///etc/passwd", "https://a@b/", "http://x/\\..", "gopher://x/"] {
        let header: &'static str = Box::leak(format!("Location: {to}\r\n").into_boxed_str());
        hub.behave(move |asked| match asked.method == "HEAD" {
            true => Deed::Status(302, header),
            false => Deed::Usual,
        });
        fails(&hub.fetch(&[SOURCE]), 1, "which is no address");
    }
    hub.behave(|asked| match asked.method == "HEAD" {
        true => Deed::Status(302, "Location: /mirror/round\r\n"),
        false => Deed::Usual,
    });
    fails(&hub.fetch(&[SOURCE]), 1, "leads from redirect to redirect");
    hub.behave(|_| Deed::Text(" ".repeat(17 << 20)));
    fails(&hub.fetch(&[SOURCE]), 1, "answers with more than 16777216 bytes");
    assert_eq!(names(hub.home.path()), [".cache"]);
}

#[test]
fn a_folder_gets_plain_files_which_the_cache_may_have() {
    let hub = hub();
    let folder = hub.home.path().join("it's here");
    let to = folder.display().to_string();
    let file = folder.join(NANO);
    let said = stdout(&hub.fetch(&[SOURCE, "--to", &to]));
    let command =
        format!("wick run -m '{}' \"Why", file.display().to_string().replace('\'', r"'\''"));
    assert!(said.contains(&command), "{said}");
    assert!(
        fs::symlink_metadata(&file).unwrap().is_file() && fs::read(&file).unwrap() == nano_bytes()
    );
    assert!(names(&folder) == [NANO] && !hub.cache("").exists());
    hub.asked();
    assert!(stdout(&hub.fetch(&[SOURCE, "--to", &to])).contains("was there already"));
    assert!(hub.ranges().is_empty());
    fs::write(&file, "something else").unwrap();
    stdout(&hub.fetch(&[SOURCE, "--to", &to]));
    assert!(hub.ranges() == [(0, 5049119)] && fs::read(&file).unwrap() == nano_bytes());
    // From the cache.
    stdout(&hub.fetch(&[SOURCE]));
    hub.asked();
    fs::remove_file(&file).unwrap();
    stdout(&hub.fetch(&[SOURCE, "--to", &to]));
    let blob = hub.cache(&format!("blobs/{}", sha256(&nano_bytes())));
    assert_eq!(fs::metadata(&file).unwrap().ino(), fs::metadata(blob).unwrap().ino());
    assert!(hub.ranges().is_empty() && names(&folder) == [NANO]);
}

#[test]
fn of_several_models_one_is_named() {
    let hub = Hub::new(&[
        ("m.Q8_0.gguf", b"x"),
        ("m.Q4_0.gguf", b"yy"),
        ("m.Q4_0.powerinfer.gguf", b"z"),
    ]);
    stdout(&hub.fetch(&["some/model"]));
    assert_eq!(names(&hub.cache(&format!("snapshots/{COMMIT}"))), ["m.Q4_0.gguf"]);
    let hub = Hub::new(&[("m.Q8_0.gguf", b"x"), ("m.Q5_K.gguf", b"yy")]);
    let choice = "name one as some/model:FILE: m.Q5_K.gguf (2 bytes), m.Q8_0.gguf (1 bytes)";
    fails(&hub.fetch(&["some/model"]), 2, choice);
    let run = hub.command(&["run", "-m", "hf:some/model", "hi"]).output().unwrap();
    fails(&run, 2, choice);
    // All parts of one.
    let parts = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    let hub = Hub::new(&[(parts[0], b"x"), (parts[1], b"yy"), ("other.gguf", b"z")]);
    let said = stdout(&hub.fetch(&["some/model:m-00002-of-00002.gguf"]));
    assert!(said.contains("m-00001-of-00002.gguf: 3 bytes in 2 files, 3 bytes fetched"), "{said}");
    assert_eq!(names(&hub.cache(&format!("snapshots/{COMMIT}"))), parts);
}

#[test]
fn safetensors_come_with_what_converts_them() {
    let files: [(&str, &[u8]); 9] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{1}"),
        ("tokenizer_config.json", b"{2}"),
        ("chat_template.jinja", b"{{}}"),
        ("model.safetensors.index.json", b"{3}"),
        ("model-00001-of-00002.safetensors", b"one"),
        ("model-00002-of-00002.safetensors", b"two"),
        ("README.md", b"not this"),
        ("training_args.bin", b"nor this"),
    ];
    let hub = Hub::new(&files);
    let to = hub.home.path().join("model");
    let said = stdout(&hub.fetch(&["some/model", "--to", &to.display().to_string()]));
    assert_eq!(said.lines().last().unwrap(), format!("wick convert {} -o OUT.gguf", to.display()));
    let mut wanted: Vec<&str> = files[..7].iter().map(|(name, _)| *name).collect();
    wanted.sort();
    assert_eq!(names(&to), wanted);
    for (name, bytes) in &files[..7] {
        assert_eq!(fs::read(to.join(name)).unwrap(), *bytes);
    }
    let run = hub.command(&["run", "-m", "hf:some/model", "hi"]).output().unwrap();
    fails(&run, 2, "safetensors, which are converted first: wick convert ");
}
