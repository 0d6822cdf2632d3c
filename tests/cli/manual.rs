//! `wick manual`: what packages have beside the program.

use crate::program::{stdout, wick};
use std::fs;

#[test]
fn a_package_has_a_page_for_each_verb_and_all_settings_of_a_service() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    stdout(&wick(&["manual", folder.path().to_str().unwrap()]));
    let read = |name: &str| fs::read_to_string(path(name)).unwrap();
    let help = stdout(&wick(&["--help"]));
    let (_, verbs) = help.split_once("Commands:\n").unwrap();
    let verbs = verbs.lines().map_while(|line| line.split_whitespace().next());
    let verbs: Vec<&str> = verbs.filter(|verb| *verb != "help").collect();
    assert!(verbs.contains(&"serve") && !verbs.contains(&"manual"), "{verbs:?}");
    for verb in &verbs {
        assert!(read(&format!("man/wick-{verb}.1")).contains(".SH OPTIONS"), "{verb}");
        for name in ["wick.bash", "_wick", "wick.fish"] {
            assert!(read(&format!("completions/{name}")).contains(verb), "{verb} in {name}");
        }
    }
    assert_eq!(fs::read_dir(path("man")).unwrap().count(), verbs.len() + 1);
    // All defaults are taken as they stand; what has none says what it takes.
    let settings = read("wick.toml");
    let lines = settings.lines().filter_map(|line| line.strip_prefix('#'));
    let keys = lines.filter(|line| line.contains(" = ") && line.starts_with(char::is_lowercase));
    let keys: Vec<&str> = keys.collect();
    let is_default = |line: &&&str| {
        !line.split('"').nth(1).is_some_and(|v| v.chars().all(|c| c.is_uppercase() || c == '|'))
    };
    let defaults: Vec<&str> = keys.iter().filter(is_default).copied().collect();
    assert!(keys.len() > 35 && defaults.len() > 20, "{settings}");
    assert!(defaults.contains(&"port = 8080") && keys.contains(&"memory = \"SIZE\""), "{keys:?}");
    let config = path("used.toml");
    fs::write(&config, defaults.join("\n")).unwrap();
    let options = ["serve", "--config", config.to_str().unwrap(), "--port", "0", "--memory", "1M"];
    let refused = wick(&options);
    // It is read; there is too little memory.
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
}
