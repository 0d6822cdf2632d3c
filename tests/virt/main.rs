//! The image without an operating system, on QEMU's `virt` board: answers as on this machine, and fails
//! as it should. `ci/qemu-virt` builds what these tests run and calls them.

mod linux;
mod machine;

use linux::{ANSWERS, PACKED, answer, nano, target};
use machine::{Machine, Running, changed};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use wick_core::{ExpertKey, Part};
use wick_format::{Gguf, Model, Overrides};

/// Checksums of the logits of each answer, whatever machine it came from first.
static CHECKSUMS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Checks that logits are the same bits on every machine.
fn compare_bits(prompt: &str, said: &str) {
    let found = said.lines().find(|line| line.starts_with("[logits: CRC-32 ")).expect(said);
    let mut checksums = CHECKSUMS.lock().unwrap();
    let first = checksums.entry(prompt.to_owned()).or_insert_with(|| found.to_owned());
    assert_eq!(found, first, "{prompt}");
}

/// Asks the first prompts and compares the answers; returns what was said of the last.
fn compare(machine: &mut Running, prompts: usize) -> String {
    let mut figures = String::new();
    machine.until("\n> ");
    for (prompt, expected) in ANSWERS.iter().take(prompts) {
        let (found, said) = machine.ask(prompt);
        assert_eq!(found, *expected, "{prompt}");
        if said.contains("[logits: ") {
            compare_bits(prompt, &said);
        }
        figures = said;
    }
    figures
}

/// Ends a machine that waits for a prompt.
fn close(mut machine: Running) {
    machine.types(b"\x04");
    let (code, text) = machine.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("INFO: stack: "), "{text}");
}

fn check(cpu: &str, cores: usize, slots: &str, prompts: usize) {
    let arguments = format!("temperature=0 checksum slots={slots}");
    let machine = Machine { cpu, cores, arguments: &arguments, ..Machine::default() };
    let mut machine = machine.start();
    let figures = compare(&mut machine, prompts);
    assert!(figures.contains("[logits: "), "{figures}");
    assert_eq!(figures.contains("[experts: "), slots != "ram", "{figures}");
    close(machine);
}

/// The place of a part of an expert in the packed nano.
fn place(layer: usize, expert: usize, part: Part) -> (usize, usize) {
    let bytes = fs::read(&*PACKED).unwrap();
    let files = [Gguf::parse(&bytes).unwrap()];
    let model = Model::new(&files).unwrap();
    let config = model.config(Overrides::default()).unwrap();
    let packed = model.packed().unwrap();
    assert!(packed.checksum(ExpertKey { layer, expert }, part).is_some());
    let layer = packed.layer(&config, layer).unwrap();
    (layer.offset(expert, part) as usize, layer.parts[part as usize].bytes)
}

/// Checks that a machine without a prompt ends with a code and says something.
fn fails(machine: &Machine<'_>, code: i32, text: &str) {
    let (found, said) = machine.start().end();
    let line = said.lines().find(|line| line.starts_with("wick: ")).unwrap_or_default();
    assert!(line.contains(text), "{text:?} expected, {said:?} found");
    assert_eq!(found, code, "{said}");
}

/// Checks that asking ends a machine with the code of a bad model, and returns the message.
fn fails_when_asked(machine: Machine<'_>, before: impl FnOnce(&mut Running)) -> String {
    let mut machine = machine.start();
    machine.until("\n> ");
    before(&mut machine);
    machine.types(b"tell me a story about a fox\r");
    let (code, said) = machine.end();
    assert_eq!(code, 3, "{said}");
    said.lines().find(|line| line.starts_with("wick: ")).unwrap_or(&said).to_owned()
}

/// Seconds each: what every submission is checked for.
mod short {
    use super::*;

    #[test]
    fn with_the_dot_product_on_two_cores_and_half_of_the_slots() {
        check("cortex-a76", 2, "half", usize::MAX);
    }

    #[test]
    fn without_it_on_four_cores_and_one_slot() {
        check("cortex-a72", 4, "least", 8);
    }

    #[test]
    fn on_one_core_with_all_slots() {
        check("cortex-a53", 1, "all", 8);
    }

    #[test]
    fn with_all_in_memory_from_exception_level_2() {
        let (model, arguments) = ("virt,virtualization=on", "temperature=0 checksum slots=ram");
        let machine = Machine { model, cores: 2, arguments, ..Machine::default() };
        let mut machine = machine.start();
        compare(&mut machine, 3);
        close(machine);
    }

    #[test]
    fn a_file_that_is_not_packed_runs_in_memory() {
        let disk = target("qemu-virt/nano.gguf");
        fs::copy(nano("nano.gguf"), &disk).unwrap();
        let mut machine = Machine { disk: Some(disk), ..Machine::default() }.start();
        compare(&mut machine, 3);
        close(machine);
    }

    #[test]
    fn a_seed_gives_the_text_that_it_gives_on_linux() {
        let arguments = "temperature=1.2 top-k=50 seed=7 slots=20 n=60";
        let mut machine = Machine { arguments, ..Machine::default() }.start();
        machine.until("\n> ");
        let prompt = "tell me a story about a boat";
        let options = ["--temperature", "1.2", "--top-k", "50", "--seed", "7", "-n", "60"];
        assert_eq!(machine.ask(prompt).0, answer(&options, prompt));
        close(machine);
    }

    #[test]
    fn keys_are_obeyed() {
        let mut machine = Machine::default().start();
        machine.until("\n> ");
        let (prompt, expected) = &ANSWERS[0];
        // What is forgotten and what is taken back leaves no trace.
        machine.types(b"forget\x03");
        machine.until("^C\n> ");
        machine.types(b"xy\x7f\x7f");
        machine.until("\x08 \x08\x08 \x08");
        assert_eq!(machine.ask(prompt).0, *expected);
        // What is typed while an answer is drawn is the next line.
        machine.types(format!("{prompt}\r{prompt}\r").as_bytes());
        for _ in 0..2 {
            assert!(machine.until("\n> ").contains(expected));
        }
        close(machine);
    }

    #[test]
    fn a_bad_machine_is_refused() {
        fails(
            &Machine { disk: None, ..Machine::default() },
            3,
            "no disk: none of 32 virtio devices",
        );
        let small = Machine { mebibytes: 48, ..Machine::default() };
        fails(&small, 4, "64 MiB of RAM expected, 48 found");
        let arguments = |arguments| Machine { arguments, ..Machine::default() };
        fails(
            &arguments("slots=none"),
            2,
            "slots=none: all, half, least, ram or a number expected",
        );
        fails(&arguments("cores=2"), 1, "2 cores wanted, 1 found");
    }

    #[test]
    fn a_damaged_disk_is_refused() {
        let (start, len) = place(3, 5, Part::Up);
        let check = |arguments: &str, change: &dyn Fn(&mut Vec<u8>), message: &str| {
            let disk = Some(changed("damaged.img", change));
            fails(&Machine { disk, arguments, ..Machine::default() }, 3, message);
        };
        let on_the_disk = "the model on the disk: ";
        check("", &|b| b.fill(0), &format!("{on_the_disk}header: \"GGUF\" expected"));
        check("", &|b| b.truncate(40 << 10), on_the_disk);
        check(
            "",
            &|b| b.truncate(800 << 10),
            "disk: at byte 0: 1617920 bytes expected, 819200 found",
        );
        check("", &|b| b[400 << 10] ^= 1, ", at byte ");
        let expert = format!("blk.3.ffn_up_exps.weight, expert 5, at byte {start}: ");
        let short = format!("disk: {expert}{len} bytes expected, 512 found");
        check("", &|b| b.truncate(start + 512), &short);
        check("slots=ram", &|b| b.truncate(start), &format!("{on_the_disk}blk.3.experts: "));
        // Experts are compared at once only where all are read at once.
        let crc = format!("{on_the_disk}{expert}CRC-32 ");
        check("slots=ram", &|b| b[start + len - 1] ^= 0x80, &crc);
    }

    #[test]
    fn a_damaged_expert_is_named_when_it_is_read() {
        let mut places = Vec::new();
        for expert in 0..16 {
            places.push(place(2, expert, Part::Down).0);
        }
        let disk = changed("layer.img", |bytes| places.iter().for_each(|at| bytes[*at + 7] ^= 2));
        let message = fails_when_asked(Machine { disk: Some(disk), ..Machine::default() }, |_| {});
        let expert = places.iter().position(|at| message.contains(&format!("at byte {at}: ")));
        let expected = format!("blk.2.ffn_down_exps.weight, expert {}", expert.expect(&message));
        assert!(message.contains(&expected) && message.contains("CRC-32"), "{message}");
    }

    #[test]
    fn a_disk_that_becomes_slow_is_given_up() {
        let machine =
            Machine { arguments: "temperature=0 timeout=300 slots=least", ..Machine::default() };
        let message = fails_when_asked(machine, |machine| {
            machine.monitor("block_set_io_throttle d0 0 1000 0 0 0 0");
        });
        assert!(message.contains("_exps.weight, expert ") && message.contains(", at byte "));
        assert!(message.ends_with("the device does not answer"), "{message}");
    }

    #[test]
    fn a_slow_disk_is_waited_for() {
        // 2 MB/s: an answer takes seconds, and is the same.
        let drive = ",throttling.bps-read=2000000";
        let machine =
            Machine { drive, arguments: "temperature=0 slots=half", ..Machine::default() };
        let mut machine = machine.start();
        compare(&mut machine, 1);
        close(machine);
    }

    #[test]
    fn a_read_error_is_reported_with_its_place() {
        let rules = target("qemu-virt/errors.conf");
        // Every read of the first layer's experts fails.
        let rule = |sector: usize| {
            format!("[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\nsector = \"{sector}\"\n")
        };
        let places = (0..16).map(|expert| place(0, expert, Part::Gate).0 / 512);
        fs::write(&rules, places.map(rule).collect::<String>()).unwrap();
        let disk = format!("blkdebug:{}:{}", rules.display(), PACKED.display());
        let message =
            fails_when_asked(Machine { disk: Some(disk.into()), ..Machine::default() }, |_| {});
        assert!(message.contains("blk.0.ffn_gate_exps.weight, expert "), "{message}");
        assert!(message.ends_with("reading failed with error 1"), "{message}");
    }
}

/// Minutes: every processor with every number of cores and slots.
mod long {
    use super::*;

    fn all_of(cpu: &str) {
        for cores in [1, 2, 4] {
            for slots in ["all", "half", "least"] {
                check(cpu, cores, slots, usize::MAX);
            }
        }
        check(cpu, 1, "ram", usize::MAX);
    }

    #[test]
    fn cortex_a53() {
        all_of("cortex-a53");
    }

    #[test]
    fn cortex_a72() {
        all_of("cortex-a72");
    }

    #[test]
    fn cortex_a76() {
        all_of("cortex-a76");
    }

    /// Prints the instructions of a decoded token.
    #[test]
    fn instructions() {
        println!(
            "instructions of a decoded token, in thousands, those that wait for the disk left out:"
        );
        for cpu in ["cortex-a72", "cortex-a76"] {
            for slots in ["ram", "all", "half", "least"] {
                println!("{cpu}, slots={slots}: {:.0}", instructions_with(cpu, slots));
            }
        }
    }

    /// With `-icount shift=0` an instruction takes a nanosecond.
    fn instructions_with(cpu: &str, slots: &str) -> f64 {
        let arguments = format!("temperature=0 slots={slots}");
        let more = ["-icount", "shift=0,sleep=off"];
        let machine = Machine { cpu, arguments: &arguments, more: &more, ..Machine::default() };
        let mut machine = machine.start();
        let boot = machine.until("\n> ");
        if slots == "half" {
            println!("{boot}");
        }
        // The first answer brings experts in. Of the second, whose prompt is short, the waiting is
        // counted as if all of it were for decoding.
        machine.ask("tell me a story about a fox");
        let (_, figures) = machine.ask("tell me a story about a boat");
        println!("{figures}");
        close(machine);
        let number = |before: &str| {
            let rest = figures.split(before).nth(1)?;
            rest.split(' ').next()?.parse::<f64>().ok()
        };
        let tokens = number("decode ").unwrap();
        let micros = figures.split("decode ").nth(1).and_then(|rest| rest.split(' ').nth(3));
        let micros: f64 = micros.unwrap().parse().unwrap();
        let waited = figures.rsplit(" us waited").nth(1).and_then(|rest| rest.rsplit(' ').next());
        let waited = waited.and_then(|waited| waited.parse().ok()).unwrap_or(0.0);
        (micros - waited) / tokens
    }
}
