//! Machines as their `/proc` and `/sys` tell of them, by what is publicly known of them (`tests/machines`).

use std::path::Path;
use wick_linux::board::{Boards, StorageKind};
use wick_linux::machine::{Disk, Heat, Link, Machine, Supply};
use wick_tests::machine::{MACHINES, machine};

fn read(name: &str) -> Machine {
    Machine::read(machine(name).path())
}

fn disk(name: &str, path: &str) -> Option<Disk> {
    Disk::of(machine(name).path(), Path::new(path))
}

#[test]
fn boards_are_known_by_their_device_tree_and_disk() {
    let boards = Boards::read(Path::new("/nowhere")).unwrap();
    for (name, path, expected) in [
        ("pi5", "/home/pi/model.gguf", Some("pi5")),
        ("pi5", "/mnt/models and more/model.gguf", Some("pi5-nvme")),
        ("pi4", "/media/stick/model.gguf", Some("pi4")),
        ("zero2w", "/model.gguf", Some("zero2w")),
        ("rk3588", "/model.gguf", Some("rk3588")),
        ("rk3566", "/model.gguf", Some("rk3566")),
        ("rdk-x5", "/model.gguf", Some("rdk-x5")),
        ("virtual", "/model.gguf", None),
    ] {
        let machine = read(name);
        let kind = disk(name, path).map(|disk| disk.kind);
        let model = machine.model.unwrap_or_default();
        let board = boards.called(&model, &machine.compatible, kind);
        assert_eq!(board.map(|board| &*board.name), expected, "{name} {path}");
    }
}

#[test]
fn processors_of_a_kind_stand_together() {
    let pi = read("pi5");
    let kinds = |machine: &Machine| -> Vec<(String, usize, Option<u64>)> {
        machine.processors.iter().map(|p| (p.name.clone(), p.numbers.len(), p.mhz)).collect()
    };
    assert_eq!(kinds(&pi), [("Cortex-A76".into(), 4, Some(2400))]);
    assert_eq!(pi.features, ["neon", "dotprod", "fp16"]);
    assert_eq!(read("pi4").features, ["neon"]);
    let rock = read("rk3588");
    assert_eq!(
        kinds(&rock),
        [
            ("Cortex-A55".into(), 4, Some(1800)),
            ("Cortex-A76".into(), 2, Some(2352)),
            ("Cortex-A76".into(), 2, Some(2304))
        ]
    );
    assert_eq!(rock.processors[1].numbers, [4, 5]);
    assert_eq!(rock.processors[0].capacity, Some(405));
    let quartz = read("rk3566");
    assert_eq!((&quartz.offline[..], quartz.quota, quartz.big), (&[3][..], Some(2), 3));
    assert_eq!(
        (read("rk3588").big, read("virtual").offline),
        (4, vec![]),
        "no processor is missing"
    );
    let virtual_one = read("virtual");
    assert_eq!(virtual_one.processors[0].name, "Intel(R) Xeon(R) Processor");
    assert_eq!(virtual_one.features, ["avx2", "f16c"], "what both have");
}

#[test]
fn memory_pages_and_swap_are_told() {
    let pi = read("pi5").memory;
    assert_eq!((pi.total, pi.page), (Some(8_245_696 << 10), Some(16 << 10)));
    assert_eq!(pi.huge_pages.as_deref(), Some("always"));
    assert_eq!((pi.swaps[0].place.as_str(), pi.swaps[0].is_zram), ("/var/swap", false));
    let zero = read("zero2w").memory;
    assert_eq!((zero.swaps[0].is_zram, zero.swaps[0].used), (true, 1 << 20));
    assert_eq!(read("rdk-x5").memory.swaps, []);
}

#[test]
fn groups_limit_memory_where_the_kernel_lets_them() {
    for (name, has, is_in, may_use) in [
        ("pi5", false, false, 7_340_032 << 10),
        ("pi4", true, false, 1_503_128 << 10),
        ("rk3566", true, true, (1 << 30) - (20 << 20)),
    ] {
        let machine = read(name);
        let told = (machine.has_memory_groups, machine.is_in_group, machine.may_use);
        assert_eq!(told, (has, is_in, Some(may_use)), "{name}");
    }
}

#[test]
fn heat_and_power_are_told() {
    let heat = |name| read(name).heat;
    let limit = Some(80.0);
    let cool =
        Heat { celsius: Some(52.15), limit, is_slowed: false, supply: Some(Supply::default()) };
    assert_eq!(heat("pi5"), cool, "the kernel's monitor goes before the firmware's file");
    let all = Supply {
        under_voltage: true,
        was_under_voltage: true,
        throttled: true,
        was_throttled: true,
    };
    let pi4 = heat("pi4");
    assert_eq!((pi4.supply, pi4.is_slowed, pi4.celsius), (Some(all), true, Some(83.277)));
    let zero = heat("zero2w").supply.unwrap();
    assert!(zero.under_voltage && !zero.throttled);
    let rock = heat("rk3588");
    assert_eq!((rock.celsius, rock.limit, rock.is_slowed), (Some(87.769), Some(75.0), true));
    assert_eq!((rock.supply, heat("virtual")), (None, Heat::default()));
}

/// The firmware calls a board throttled by which it is: too little voltage, or heat.
#[test]
fn a_weak_supply_is_no_heat() {
    let pi = machine("pi4");
    let file = pi.path().join("sys/devices/platform/soc/soc:firmware/get_throttled");
    std::fs::write(pi.path().join("sys/class/thermal/thermal_zone0/temp"), "45000\n").unwrap();
    for (flags, low, was_low, hot, was_hot) in [
        ("0", false, false, false, false),
        ("50005", true, true, false, false),
        ("50000", false, true, false, false),
        ("80008", false, false, true, true),
        ("4", false, false, true, false),
        ("d0000", false, true, false, true),
    ] {
        std::fs::write(&file, flags).unwrap();
        let heat = Machine::read(pi.path()).heat;
        let expected = Supply {
            under_voltage: low,
            was_under_voltage: was_low,
            throttled: hot,
            was_throttled: was_hot,
        };
        assert_eq!((heat.supply, heat.is_slowed), (Some(expected), hot), "{flags}");
    }
}

#[test]
fn files_lie_on_disks() {
    let kind = |name, path| disk(name, path).map(|disk| disk.kind);
    assert_eq!(kind("pi5", "/home/pi/model.gguf"), Some(StorageKind::Sd));
    assert_eq!(kind("rk3588", "/srv/model.gguf"), Some(StorageKind::Emmc));
    assert_eq!(kind("rk3588", "/tmp/model.gguf"), Some(StorageKind::Memory));
    assert_eq!(kind("rk3566", "/model.gguf"), Some(StorageKind::Emmc), "through its encryption");
    assert_eq!(
        kind("rk3566", "/srv/model.gguf"),
        Some(StorageKind::Emmc),
        "btrfs has a number of its own"
    );
    assert_eq!(kind("rk3566", "/over/model.gguf"), Some(StorageKind::Other));
    assert_eq!(disk("rk3566", "/over/a").unwrap().filesystem.as_deref(), Some("overlay"));
    assert_eq!(kind("virtual", "/model.gguf"), Some(StorageKind::Virtual));
    let device = disk("pi5", "/dev/mmcblk0p2").unwrap();
    assert_eq!((&*device.name, device.filesystem), ("mmcblk0", None));
    let nvme = disk("pi5", "/mnt/models and more/a/b.gguf").unwrap();
    assert_eq!((&*nvme.name, nvme.filesystem.as_deref()), ("nvme0n1", Some("ext4")));
    assert_eq!(nvme.model.as_deref(), Some("Samsung SSD 970 EVO Plus 500GB"));
    let link =
        Link::Pcie { speed: 5.0, lanes: 1, most_speed: 5.0, most_lanes: 1, drive_speed: 8.0 };
    assert_eq!(nvme.link, Some(link));
    let stick = disk("pi4", "/media/stick/model.gguf").unwrap();
    assert_eq!((stick.kind, stick.link), (StorageKind::Usb, Some(Link::Usb(480))));
    assert_eq!(stick.model.as_deref(), Some("Ultra Fit"));
}

/// Devices that are made of each other in a circle, and copies that lie in folders with telling names.
#[test]
fn a_copy_is_no_trap() {
    let rock = machine("rk3566");
    let device = rock.path().join("sys/devices/virtual/block/dm-0");
    let below = device.join("slaves/mmcblk1p2");
    std::fs::remove_file(&below).unwrap();
    std::os::unix::fs::symlink("../../dm-0", &below).unwrap();
    assert!(Disk::of(rock.path(), Path::new("/model.gguf")).is_some());
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("usb/ata/ufs");
    std::fs::create_dir_all(odd.parent().unwrap()).unwrap();
    let quartz = machine("virtual");
    std::fs::rename(quartz.path(), &odd).unwrap();
    let disk = Disk::of(&odd, Path::new("/model.gguf"));
    std::fs::rename(&odd, quartz.path()).unwrap();
    assert_eq!(disk.unwrap().kind, StorageKind::Virtual);
    let capacity = rock.path().join("sys/devices/system/cpu/cpu0/cpu_capacity");
    std::fs::write(capacity, u64::MAX.to_string()).unwrap();
    assert_eq!(Machine::read(rock.path()).big, 1);
}

/// Whatever is missing, or is not what it should be, stays unknown.
#[test]
fn nothing_is_needed_and_nothing_believed() {
    let empty = tempfile::tempdir().unwrap();
    let nothing = Machine::read(empty.path());
    assert!(nothing.model.is_none() && nothing.processors.is_empty() && nothing.may_use.is_none());
    assert_eq!(Disk::of(empty.path(), Path::new("/model.gguf")), None);
    for name in MACHINES {
        let folder = machine(name);
        for file in wick_tests::machine::files(folder.path()) {
            let good = std::fs::read(&file).unwrap();
            for bad in [&b""[..], b"\xff\xfe\0-1 99999999999999999999999\n: - \n", b"zz zz zz - zz"]
            {
                std::fs::write(&file, bad).unwrap();
                Machine::read(folder.path());
                Disk::of(folder.path(), Path::new("/a"));
            }
            std::fs::write(&file, good).unwrap();
        }
    }
}
