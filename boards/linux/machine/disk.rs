//! On what a file lies.

use super::text;
use crate::board::StorageKind;
use crate::cgroup::read_number;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The device that a file lies on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disk {
    /// As the kernel calls it.
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
    /// PCI Express: transfers per second of a lane and lanes, as they are and as both ends could.
    Pcie {
        /// In units of 10⁹.
        speed: f64,
        /// Lanes.
        lanes: u64,
        /// What the drive could.
        most_speed: f64,
        /// What the drive could.
        most_lanes: u64,
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
        let (folder, filesystem) = match path.strip_prefix("/dev") {
            Ok(name) if path.file_name() == name.file_name() => {
                (fs::canonicalize(root.join("sys/class/block").join(name)).ok()?, None)
            }
            _ => {
                let mount = mount_of(root, path)?;
                (folder_of(root, &mount)?, Some(mount.filesystem))
            }
        };
        let disk = whole(root, &folder);
        let name = disk.file_name()?.to_string_lossy().into_owned();
        let link = link(&disk);
        Some(Disk {
            kind: kind(&name, &disk),
            name,
            model: text(&disk.join("device/model")).or_else(|| text(&disk.join("device/name"))),
            filesystem,
            is_rotational: read_number(&disk.join("queue/rotational")) == Some(1),
            link,
        })
    }
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
        // Spaces are written as the kernel escapes them.
        let place = place.replace("\\040", " ").into();
        Some(Mount { number, place, filesystem, source })
    }
}

/// The folder of a mount's device: by its number, or by its name where a filesystem has a number of its own (btrfs).
fn folder_of(root: &Path, mount: &Mount) -> Option<PathBuf> {
    let by_number = fs::canonicalize(root.join("sys/dev/block").join(&mount.number));
    by_number.ok().or_else(|| {
        let name = mount.source.strip_prefix("/dev/")?;
        fs::canonicalize(root.join("sys/class/block").join(name)).ok()
    })
}

/// The folder of the device that a partition, or a device made of others, belongs to.
fn whole(root: &Path, folder: &Path) -> PathBuf {
    let disk = match folder.parent() {
        Some(parent) if folder.join("partition").exists() => parent.to_owned(),
        _ => folder.to_owned(),
    };
    let below = super::entries(&disk.join("slaves")).into_iter().next();
    let below = below.and_then(|below| fs::canonicalize(below).ok());
    // Devices made of devices end at one that is not.
    below
        .filter(|below| *below != disk && below.starts_with(real(root)))
        .map_or(disk, |below| whole(root, &below))
}

fn real(root: &Path) -> PathBuf {
    fs::canonicalize(root).unwrap_or_else(|_| root.to_owned())
}

fn kind(name: &str, disk: &Path) -> StorageKind {
    let path = disk.to_string_lossy();
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
        let number = |name: &str| {
            let text = text(&folder.join(name))?;
            text.split(' ').next()?.parse::<f64>().ok()
        };
        if let Some(speed) = number("current_link_speed") {
            let lanes = number("current_link_width")? as u64;
            let most_speed = number("max_link_speed").unwrap_or(speed);
            let most_lanes = number("max_link_width").map_or(lanes, |lanes| lanes as u64);
            return Some(Link::Pcie { speed, lanes, most_speed, most_lanes });
        }
        let is_usb = folder.join("bDeviceClass").exists();
        Some(Link::Usb(number("speed").filter(|_| is_usb)? as u64))
    })
}
