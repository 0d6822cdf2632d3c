//! Which processors the process may use, and what they can do.

use crate::cgroup::{folders, read_number};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::path::Path;
use wick_kernels::Kernels;

/// The processors that the process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// Numbers of the processors, the most capable first.
    pub numbers: Vec<usize>,
    /// How many of them are big cores: at least half as capable as the most capable.
    pub big: usize,
    /// Processors' worth of time that the cgroup grants, rounded up, where it sets a limit.
    pub quota: Option<usize>,
}

impl Cpus {
    /// Looks at the affinity of the process, the capacity of its processors and its cgroup.
    pub fn detect() -> Cpus {
        let allowed = match sched_getaffinity(None) {
            Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
            Err(_) => vec![0],
        };
        Cpus::read(Path::new("/"), allowed)
    }

    pub(crate) fn read(root: &Path, mut numbers: Vec<usize>) -> Cpus {
        let capacity = |cpu: &usize| {
            let file = format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity");
            read_number(&root.join(file)).unwrap_or(1024)
        };
        numbers.sort_by_key(|cpu| std::cmp::Reverse(capacity(cpu)));
        let most = numbers.first().map_or(0, capacity);
        let big = numbers.iter().filter(|cpu| capacity(cpu) >= most.div_ceil(2)).count();
        Cpus { numbers, big, quota: quota(root) }
    }

    /// The number of threads that computes fastest: one for each big core, within the quota.
    pub fn threads(&self) -> usize {
        self.quota.map_or(self.big, |quota| quota.min(self.big)).max(1)
    }
}

/// Binds the calling thread to one processor. A refusal costs speed only, so it is just logged.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        log::debug!("cannot bind a thread to processor {cpu}: {error}");
    }
}

/// The processors that the calling thread may use, which it may use again when this is dropped.
pub(crate) struct Affinity(Option<CpuSet>);

impl Affinity {
    pub(crate) fn keep() -> Affinity {
        Affinity(sched_getaffinity(None).ok())
    }
}

impl Drop for Affinity {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.map(|set| sched_setaffinity(None, &set)) {
            log::debug!("cannot give a thread its processors back: {error}");
        }
    }
}

/// The cgroup's limit of processor time: v2 `cpu.max`, v1 quota over period.
fn quota(root: &Path) -> Option<usize> {
    folders(root, "cpu").into_iter().filter_map(|folder| folder_quota(&folder)).min()
}

fn folder_quota(folder: &Path) -> Option<usize> {
    let (quota, period) = match fs::read_to_string(folder.join("cpu.max")) {
        Ok(text) => {
            let mut words = text.split_whitespace();
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?)
        }
        Err(_) => {
            let file = |name| read_number(&folder.join(name));
            (file("cpu.cfs_quota_us")?, file("cpu.cfs_period_us")?)
        }
    };
    (period > 0).then(|| usize::try_from(quota.div_ceil(period)).unwrap_or(usize::MAX).max(1))
}

/// The fastest kernels that this processor can run.
pub fn kernels() -> &'static Kernels {
    all_kernels().last().expect("there are always the scalar kernels")
}

/// All kernels that this processor can run, the fastest last.
pub fn all_kernels() -> Vec<&'static Kernels> {
    let mut all = vec![Kernels::scalar()];
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected as has;
        // SAFETY: these targets run only on processors with NEON.
        all.push(unsafe { Kernels::neon() });
        if has!("dotprod") {
            // SAFETY: the feature is there.
            all.push(unsafe { Kernels::neon_dotprod() });
            if has!("i8mm") {
                // SAFETY: the features are there.
                all.push(unsafe { Kernels::neon_i8mm() });
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx2") && has!("f16c") {
            // SAFETY: the features are there.
            all.push(unsafe { Kernels::avx2() });
            if has!("avxvnni") {
                // SAFETY: the features are there.
                all.push(unsafe { Kernels::avx_vnni() });
            }
            if has!("avx512bw") && has!("avx512vl") && has!("avx512vnni") {
                // SAFETY: the features are there.
                all.push(unsafe { Kernels::avx512_vnni() });
            }
        }
    }
    all
}

/// The processor's features that kernels can make use of, of those that it has.
pub fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "aarch64")]
    let all = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
    ];
    #[cfg(target_arch = "x86_64")]
    let all = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
    ];
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    let all: [(&str, bool); 0] = [];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_cores_come_first_and_the_quota_counts() {
        let root = tempfile::tempdir().unwrap();
        for (cpu, capacity) in [(0, 400), (1, 400), (2, 1024), (3, 1000)] {
            let folder = root.path().join(format!("sys/devices/system/cpu/cpu{cpu}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cpu_capacity"), format!("{capacity}\n")).unwrap();
        }
        let mut cpus = Cpus::read(root.path(), vec![0, 1, 2, 3]);
        assert_eq!(cpus, Cpus { numbers: vec![2, 3, 0, 1], big: 2, quota: None });
        assert_eq!(cpus.threads(), 2);
        let group = root.path().join("sys/fs/cgroup/box");
        fs::create_dir_all(&group).unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/cgroup"), "0::/box\n").unwrap();
        fs::write(group.join("cpu.max"), "50000 100000\n").unwrap();
        cpus = Cpus::read(root.path(), vec![0, 1, 2, 3]);
        assert_eq!((cpus.quota, cpus.threads()), (Some(1), 1));
        fs::write(group.join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(Cpus::read(root.path(), vec![0]).quota, None);
    }

    #[test]
    fn this_machine_has_a_processor() {
        let cpus = Cpus::detect();
        assert!(!cpus.numbers.is_empty() && cpus.threads() <= cpus.numbers.len());
    }
}
