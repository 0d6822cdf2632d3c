//! `wick fetch` where the network, the server or the process itself ends what it is at.

use crate::fetch::{SOURCE, fails, hub, is_in_cache, nano_bytes, said};
use crate::hub::{Deed, names, sha256, until};
use crate::program::stdout;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

/// By where it is broken off, how much is asked for again.
#[test]
fn what_breaks_off_is_gone_on_with() {
    for cut in [0, 1, 1_000_000, 5_049_119] {
        let hub = hub();
        hub.behave(move |asked| match asked.is_for_bytes() && asked.nth == 0 {
            true => Deed::Cut(cut),
            false => Deed::Usual,
        });
        let output = hub.fetch(&[SOURCE]);
        stdout(&output);
        assert!(said(&output).contains("again in 0.0 s"), "{}", said(&output));
        assert_eq!(hub.ranges(), [(0, 5049119), (cut, 5049119)]);
        is_in_cache(&hub);
    }
}

#[test]
fn what_a_killed_process_fetched_is_not_fetched_again() {
    for there in [0, 70_000, 2_500_000] {
        let hub = hub();
        hub.behave(
            move |asked| if asked.is_for_bytes() { Deed::Stall(there) } else { Deed::Usual },
        );
        let mut child = hub.start(&[SOURCE]);
        hub.wait(|asked| asked.is_for_bytes());
        let record = hub.cache(&format!("blobs/{}.wick-ranges", sha256(&nano_bytes())));
        until("a record", || {
            let text = fs::read_to_string(&record).unwrap_or_default();
            there == 0 || text.contains(&format!("\n0-{there}\n"))
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!hub.cache("snapshots").exists(), "half a file has a name");
        hub.behave(|_| Deed::Usual);
        hub.asked();
        stdout(&hub.fetch(&[SOURCE]));
        assert_eq!(hub.ranges(), [(there, 5049119)]);
        is_in_cache(&hub);
    }
}

#[test]
fn a_signal_ends_curl_too() {
    let hub = hub();
    hub.behave(|asked| if asked.is_for_bytes() { Deed::Stall(9) } else { Deed::Usual });
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        hub.asked();
        let child = hub.start(&[SOURCE, "--stall", "3600"]);
        hub.wait(|asked| asked.is_for_bytes());
        let curls = children(child.id());
        assert_eq!(curls.len(), 1);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(code));
        until("the end of curl", || !is_running(curls[0]));
    }
}

/// Processes that this one has started.
fn children(parent: u32) -> Vec<u32> {
    let ids = names(Path::new("/proc")).into_iter().filter_map(|name| name.parse().ok());
    ids.filter(|id| parent_of(*id) == Some(parent)).collect()
}

fn parent_of(id: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    status.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Whether it is there, and not merely waited for by whoever is its parent now.
fn is_running(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let hub = hub();
    let all = usize::MAX;
    hub.behave(move |asked| match asked.is_for_bytes() {
        true => Deed::Whole(if asked.nth == 0 { 3_000_000 } else { all }),
        false => Deed::Usual,
    });
    let output =
        hub.command(&["fetch", SOURCE, "--segment", "1000000", "--pause", "10"]).output().unwrap();
    stdout(&output);
    assert!(said(&output).contains("the server sends no ranges"), "{}", said(&output));
    is_in_cache(&hub);
    // What was there before is not believed more than what comes.
    let hub = crate::fetch::hub();
    hub.behave(move |asked| match (asked.is_for_bytes(), asked.nth) {
        (true, 0) => Deed::Cut(3_000_000),
        (true, _) => Deed::Whole(all),
        _ => Deed::Usual,
    });
    stdout(&hub.fetch(&[SOURCE]));
    is_in_cache(&hub);
}

#[test]
fn what_is_wrong_gets_no_name_and_is_not_gone_on_with() {
    let hub = hub();
    hub.behave(|asked| if asked.is_for_bytes() { Deed::Wrong } else { Deed::Usual });
    let digest = sha256(&nano_bytes());
    let wrong = format!("SHA-256 {digest} expected, ");
    fails(&hub.fetch(&[SOURCE]), 1, &wrong);
    fails(&hub.fetch(&[SOURCE]), 1, "what was fetched is removed, try again");
    assert_eq!(hub.ranges(), [(0, 5049119); 2]);
    assert!(names(&hub.cache("blobs")).is_empty() && !hub.cache("snapshots").exists());
    hub.behave(|_| Deed::Usual);
    stdout(&hub.fetch(&[SOURCE]));
    is_in_cache(&hub);
    // Bytes that went bad on the disk.
    let mut bytes = nano_bytes();
    bytes[77] ^= 1;
    fs::write(hub.cache(&format!("blobs/{digest}")), bytes).unwrap();
    let output = hub.fetch(&[SOURCE]);
    stdout(&output);
    assert!(said(&output).contains("it is fetched again"), "{}", said(&output));
    is_in_cache(&hub);
}

#[test]
fn sizes_must_agree() {
    let hub = hub();
    hub.behave(|asked| if asked.is_for_bytes() { Deed::OtherSize } else { Deed::Usual });
    fails(&hub.fetch(&[SOURCE]), 1, "5049120 bytes expected, 5049121 found");
    hub.behave(|asked| match asked.method == "HEAD" {
        true => Deed::Status(302, "Location: /x\r\nX-Linked-Size: 7\r\n"),
        false => Deed::Usual,
    });
    fails(&hub.fetch(&[SOURCE]), 1, "a size of 5.0 MB (5049120 bytes) expected, 7 found");
    hub.behave(|asked| match asked.method == "HEAD" {
        true => Deed::Status(302, "Location: /x\r\nX-Linked-Etag: \"abc\"\r\n"),
        false => Deed::Usual,
    });
    fails(&hub.fetch(&[SOURCE]), 1, "checksum ");
}

#[test]
fn who_is_asked_too_often_is_asked_later() {
    let hub = hub();
    hub.behave(|asked| match (asked.is_for_bytes(), asked.nth) {
        (true, 0) => Deed::Status(429, "Retry-After: 1\r\n"),
        (true, 1) => Deed::Status(503, ""),
        (true, 2) => Deed::Status(500, ""),
        _ => Deed::Usual,
    });
    stdout(&hub.fetch(&[SOURCE]));
    let asked: Vec<_> = hub.asked().into_iter().filter(|asked| asked.is_for_bytes()).collect();
    assert_eq!(asked.len(), 4);
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(1));
    is_in_cache(&hub);
    let hub = crate::fetch::hub();
    hub.behave(|_| Deed::Status(502, ""));
    fails(&hub.fetch(&[SOURCE]), 1, "the server cannot answer (502), after 6 attempts");
    assert_eq!(hub.asked().len(), 6);
}

/// An address that is not good any more is asked for again.
#[test]
fn addresses_that_grow_old_are_asked_for_again() {
    let hub = hub();
    hub.behave(|asked| match (asked.is_for_bytes(), asked.nth) {
        (true, 0) => Deed::Cut(1000),
        (true, 1) => Deed::Status(403, ""),
        _ => Deed::Usual,
    });
    stdout(&hub.fetch(&[SOURCE]));
    let asked = hub.asked();
    assert_eq!(asked.iter().filter(|asked| asked.method == "HEAD").count(), 2);
    is_in_cache(&hub);
}

#[test]
fn the_token_is_for_the_hub_alone() {
    let hub = hub();
    hub.behave(|asked| if asked.is_for_bytes() { Deed::Stall(9) } else { Deed::Usual });
    // curl's own settings are not asked.
    fs::write(hub.home.path().join(".curlrc"), "header = \"Authorization: Bearer curlrc\"\n")
        .unwrap();
    let folder = hub.home.path().join(".cache/huggingface");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("token"), "hf_secret\n").unwrap();
    let mut child = hub.start(&[SOURCE]);
    hub.wait(|asked| asked.is_for_bytes());
    for id in children(child.id()) {
        let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap();
        assert!(line.contains("curl") && !line.contains("secret"), "{line}");
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap();
        assert!(!String::from_utf8_lossy(&environment).contains("hf_secret"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let asked = hub.asked();
    assert!(asked.len() >= 4);
    for asked in asked {
        let expected = (!asked.is_store).then_some("Bearer hf_secret");
        assert_eq!(asked.token.as_deref(), expected, "{asked:?}");
    }
}

#[test]
fn a_transfer_that_stalls_is_begun_again() {
    let hub = hub();
    hub.behave(|asked| match asked.is_for_bytes() && asked.nth == 0 {
        true => Deed::Stall(1_000_000),
        false => Deed::Usual,
    });
    stdout(&hub.fetch(&[SOURCE, "--stall", "1"]));
    assert_eq!(hub.ranges(), [(0, 5049119), (1_000_000, 5049119)]);
    is_in_cache(&hub);
}

#[test]
fn two_processes_fetch_a_file_once() {
    let hub = hub();
    hub.behave(
        |asked| if asked.is_for_bytes() && asked.nth == 0 { Deed::Stall(9) } else { Deed::Usual },
    );
    let first = hub.start(&[SOURCE, "--stall", "3"]);
    hub.wait(|asked| asked.is_for_bytes());
    let mut second = hub.start(&[SOURCE]);
    let mut err = BufReader::new(second.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert!(line.contains("another process fetches it; waiting for that"), "{line}");
    stdout(&first.wait_with_output().unwrap());
    stdout(&second.wait_with_output().unwrap());
    assert_eq!(hub.ranges(), [(0, 5049119), (9, 5049119)]);
    is_in_cache(&hub);
}

#[test]
fn without_curl_or_a_network_it_is_said() {
    let hub = hub();
    let empty = tempfile::tempdir().unwrap();
    let output = hub.fetching(&[SOURCE]).env("PATH", empty.path()).output().unwrap();
    fails(&output, 1, "install it (Debian: apt install curl): No such file");
    let start = Instant::now();
    let output = hub.fetch(&[SOURCE, "--endpoint", "http://127.0.0.1:1"]);
    fails(&output, 1, "after 6 attempts");
    assert!(start.elapsed() < Duration::from_secs(30));
    let offline = || hub.fetching(&[SOURCE]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    fails(&offline(), 2, "HF_HUB_OFFLINE forbids to ask the hub, and the cache has no such file");
    stdout(&hub.fetch(&[SOURCE]));
    hub.asked();
    stdout(&offline());
    assert!(hub.asked().is_empty());
    let output = hub.fetch(&[SOURCE, "--endpoint", "http://127.0.0.1:1"]);
    assert!(stdout(&output).contains("was there already"));
    assert!(said(&output).contains("cannot be reached; what the cache has is used"));
}

/// Where a link stands in place of what is fetched, it is not followed.
#[test]
fn links_are_not_written_through() {
    let hub = hub();
    let folder = tempfile::tempdir().unwrap();
    let (to, victim) = (folder.path().join("to"), folder.path().join("victim"));
    fs::create_dir(&to).unwrap();
    fs::write(&victim, "mine").unwrap();
    symlink(&victim, to.join(".nano.gguf.wick-part")).unwrap();
    let output = hub.fetch(&[SOURCE, "--to", &to.display().to_string()]);
    fails(&output, 1, ".nano.gguf.wick-part: ");
    assert_eq!(fs::read(&victim).unwrap(), b"mine");
    assert!(!to.join("nano.gguf").exists());
    fs::remove_file(to.join(".nano.gguf.wick-part")).unwrap();
    stdout(&hub.fetch(&[SOURCE, "--to", &to.display().to_string()]));
    assert!(fs::read(to.join("nano.gguf")).unwrap() == nano_bytes());
}
