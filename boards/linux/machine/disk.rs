//! On what a file lies.

use super::{text, unescaped};
use crate::board::StorageKind;
use crate::cgroup::read_number;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The device that a file lies on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disk {
    /// As the kernel calls it, or the filesystem's source where that is no device here.
    pub name: String,
    /// What it is.
    pub kind: StorageKind,
    /// What it is called by its maker.
    pub model: Option<String>,
    /// The filesystem; none of a device that is read itself.
    pub filesystem: Option<String>,
    /// Whether it has to move something to read.
    pub is_rotational: bool,
    /// What it hangs on.
    pub link: Option<Link>,
}

/// What a device hangs on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// PCI Express.
    Pcie {
        /// Transfers per second of a lane, in units of 10⁹.
        speed: f64,
        /// Lanes.
        lanes: u64,
        /// What both ends could, as they are set.
        most_speed: f64,
        /// What both ends could.
        most_lanes: u64,
        /// What the drive could.
        drive_speed: f64,
    },
    /// USB, with its Mbit/s.
    Usb(u64),
}

/// A line of `mountinfo`.
struct Mount {
    number: String,
    place: PathBuf,
    filesystem: String,
    source: String,
}

impl Disk {
    /// The device below `root` that `path` lies on, or is; `None` if nobody tells.
    pub fn of(root: &Path, path: &Path) -> Option<Disk> {
        // Only what lies below the root says what something is.
        let real = fs::canonicalize(root).ok()?;
        if let Some(folder) = path.strip_prefix("/dev").ok().and_then(|name| by_name(&real, name)) {
            return Disk::at(&real, &folder, None);
        }
        let mount = mount_of(&real, path)?;
        match folder_of(&real, &mount) {
            Some(folder) => Disk::at(&real, &folder, Some(mount.filesystem)),
            None => Some(Disk::elsewhere(mount)),
        }
    }

    /// The device whose folder, or that of a part of it, is `folder`.
    fn at(root: &Path, folder: &Path, filesystem: Option<String>) -> Option<Disk> {
        let disk = whole(root, folder, DEEPEST);
        let name = disk.file_name()?.to_string_lossy().into_owned();
        Some(Disk {
            kind: kind(&name, disk.strip_prefix(root).unwrap_or(&disk), &disk),
            name,
            model: text(&disk.join("device/model")).or_else(|| text(&disk.join("device/name"))),
            filesystem,
            is_rotational: read_number(&disk.join("queue/rotational")) == Some(1),
            link: link(&disk),
        })
    }

    /// What a filesystem without a device here is on.
    fn elsewhere(mount: Mount) -> Disk {
        let Mount { filesystem, source, .. } = mount;
        let kind = match &*filesystem {
            "tmpfs" | "ramfs" | "rootfs" => StorageKind::Memory,
            "9p" | "cifs" | "smb3" | "virtiofs" | "ceph" | "fuse.sshfs" => StorageKind::Network,
            other if other.starts_with("nfs") => StorageKind::Network,
            _ => StorageKind::Other,
        };
        let (model, is_rotational, link) = (None, false, None);
        Disk { name: source, kind, model, filesystem: Some(filesystem), is_rotational, link }
    }
}

/// Devices that devices are made of, one below the other.
const DEEPEST: usize = 8;

/// The folder of the device of a name below `/dev`.
fn by_name(root: &Path, name: &Path) -> Option<PathBuf> {
    if let Ok(mapped) = name.strip_prefix("mapper") {
        let mapped = mapped.to_str()?;
        let devices = super::entries(&root.join("sys/class/block"));
        let is_it = |device: &&PathBuf| text(&device.join("dm/name")).as_deref() == Some(mapped);
        return fs::canonicalize(devices.iter().find(is_it)?).ok();
    }
    let is_plain = name.components().count() == 1;
    fs::canonicalize(root.join("sys/class/block").join(name)).ok().filter(|_| is_plain)
}

/// Where the filesystem of a path is mounted.
fn mount_of(root: &Path, path: &Path) -> Option<Mount> {
    let told = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let mounts = told.lines().filter_map(Mount::of_line);
    // Of several at one place, the last hides the others.
    mounts
        .filter(|mount| path.starts_with(&mount.place))
        .max_by_key(|mount| mount.place.components().count())
}

impl Mount {
    /// As in `25 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw`.
    fn of_line(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let (number, place) = (before.next()?.to_owned(), before.nth(1)?);
        let mut after = after.split(' ');
        let (filesystem, source) = (after.next()?.to_owned(), after.next()?.to_owned());
        let (place, source) = (unescaped(place).into(), unescaped(&source));
        Some(Mount { number, place, filesystem, source })
    }
}

/// The folder of a mount's device: by its number, or by its name where a filesystem has a number of its own (btrfs).
fn folder_of(root: &Path, mount: &Mount) -> Option<PathBuf> {
    let by_number = fs::canonicalize(root.join("sys/dev/block").join(&mount.number));
    by_number.ok().or_else(|| by_name(root, Path::new(mount.source.strip_prefix("/dev/")?)))
}

/// The folder of the device that a partition, or a device made of others, belongs to.
fn whole(root: &Path, folder: &Path, deepest: usize) -> PathBuf {
    let disk = match folder.parent() {
        Some(parent) if folder.join("partition").exists() => parent.to_owned(),
        _ => folder.to_owned(),
    };
    let below = super::entries(&disk.join("slaves")).into_iter().next();
    let below = below.and_then(|below| fs::canonicalize(below).ok());
    match below.filter(|below| below.starts_with(root)) {
        Some(below) if deepest > 0 => whole(root, &below, deepest - 1),
        _ => disk,
    }
}

/// What the device of a name is, whose folder is `disk`, below the root `path`.
fn kind(name: &str, path: &Path, disk: &Path) -> StorageKind {
    let path = format!("/{}", path.display());
    let on = |bus: &str| path.contains(bus);
    let card = text(&disk.join("device/type"));
    match card.as_deref() {
        Some("SD") if name.starts_with("mmcblk") => StorageKind::Sd,
        Some("MMC") if name.starts_with("mmcblk") => StorageKind::Emmc,
        _ if name.starts_with("nvme") => StorageKind::Nvme,
        _ if name.starts_with("vd") || on("/virtio") => StorageKind::Virtual,
        _ if on("/usb") => StorageKind::Usb,
        _ if on("ufs") => StorageKind::Ufs,
        _ if on("/ata") => StorageKind::Sata,
        _ => StorageKind::Other,
    }
}

/// What the device hangs on: the nearest that tells, on the way up.
fn link(disk: &Path) -> Option<Link> {
    disk.ancestors().skip(1).find_map(|folder| {
        if let Some(speed) = number(folder, "current_link_speed") {
            let lanes = number(folder, "current_link_width")?;
            let drive_speed = number(folder, "max_link_speed").unwrap_or(speed);
            // The other end is the port that the drive is below.
            let both = |name: &str, now: f64| {
                let port = number(folder.parent()?, name);
                let drive = number(folder, name).unwrap_or(now);
                Some(port.map_or(drive, |port| port.min(drive)))
            };
            let most_speed = both("max_link_speed", speed)?;
            let most_lanes = both("max_link_width", lanes)? as u64;
            return Some(Link::Pcie {
                speed,
                lanes: lanes as u64,
                most_speed,
                most_lanes,
                drive_speed,
            });
        }
        let is_usb = folder.join("bDeviceClass").exists();
        Some(Link::Usb(number(folder, "speed").filter(|_| is_usb)? as u64))
    })
}

/// The number with which a file begins, as in `5.0 GT/s PCIe`.
fn number(folder: &Path, name: &str) -> Option<f64> {
    text(&folder.join(name))?.split(' ').next()?.parse().ok()
}
