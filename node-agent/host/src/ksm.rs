//! `/sys/kernel/mm/ksm` (Documentation/admin-guide/mm/ksm.rst): what merging does, and what it is told to do.

use std::time::Duration;

use overcommit_core::ksm::{Advisor, Knobs};
use overcommit_core::sample::Ksm;
use overcommit_core::units::Bytes;

use crate::held::{Held, ReadError};
use crate::proc;
use crate::root::Root;

/// Where all of it is.
const FOLDER: &str = "sys/kernel/mm/ksm";
/// The parent of all kernel threads (kernel/kthread.c): nobody else's process has that parent.
const KTHREADD: &str = "2";
/// What the kernel needs for each page that it keeps track of: `sizeof(struct ksm_rmap_item)`.
const TRACKING: u64 = 64;
/// `USER_HZ` is 100 (include/asm-generic/param.h).
const TICK: Duration = Duration::from_millis(10);

/// KSM's counters and knobs, held open.
#[derive(Debug)]
pub(crate) struct KsmFiles {
    root: Root,
    run: Held,
    pages_sharing: Held,
    pages_shared: Held,
    pages_unshared: Held,
    pages_volatile: Held,
    full_scans: Held,
    general_profit: Held,
    pages_to_scan: Held,
    sleep_millisecs: Held,
    advisor_mode: Held,
    merge_across_nodes: Held,
    daemon: Daemon,
    /// The kernel has none of it (`CONFIG_KSM`), and will not get it while it runs.
    is_missing: bool,
    page_size: u64,
}

/// ksmd's `stat`.
#[derive(Debug)]
enum Daemon {
    NotSought,
    Found(Held),
    /// Not among the processes that can be seen.
    Hidden,
}

impl KsmFiles {
    pub(crate) fn new(root: &Root) -> Self {
        let file = |name: &str| Held::new(root.join(FOLDER).join(name));
        Self {
            root: root.clone(),
            run: file("run"),
            pages_sharing: file("pages_sharing"),
            pages_shared: file("pages_shared"),
            pages_unshared: file("pages_unshared"),
            pages_volatile: file("pages_volatile"),
            full_scans: file("full_scans"),
            general_profit: file("general_profit"),
            pages_to_scan: file("pages_to_scan"),
            sleep_millisecs: file("sleep_millisecs"),
            advisor_mode: file("advisor_mode"),
            merge_across_nodes: file("merge_across_nodes"),
            daemon: Daemon::NotSought,
            is_missing: false,
            page_size: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
        }
    }

    /// What it does now; absent where the kernel has no KSM.
    ///
    /// # Errors
    /// When the kernel has it, and does not say, or something else.
    pub(crate) fn read(&mut self) -> Result<Option<Ksm>, ReadError> {
        self.is_missing |= self.run.read().is_err_and(|error| error.is_gone());
        if self.is_missing {
            return Ok(None);
        }
        let counters = self.counters();
        counters.map(Some).ok_or_else(|| ReadError::missing(&self.root.join(FOLDER), "counters"))
    }

    fn counters(&mut self) -> Option<Ksm> {
        let run = number(&mut self.run)?;
        let (sharing, shared) = (number(&mut self.pages_sharing)?, number(&mut self.pages_shared)?);
        let (unshared, volatile): (Option<u64>, Option<u64>) =
            (number(&mut self.pages_unshared), number(&mut self.pages_volatile));
        let size = |pages: u64| Bytes::new(pages.saturating_mul(self.page_size));
        Some(Ksm {
            run,
            sharing: size(sharing),
            shared: size(shared),
            full_scans: number(&mut self.full_scans)?,
            profit: number(&mut self.general_profit).or_else(|| {
                let others = unshared?.checked_add(volatile?)?;
                self.profit(sharing, sharing.checked_add(shared)?.checked_add(others)?)
            }),
            cpu: self.cpu(),
            knobs: self.knobs(run),
            merge_across_nodes: number(&mut self.merge_across_nodes),
            pages_unshared: unshared,
            pages_volatile: volatile,
        })
    }

    /// `general_profit` as the kernel computes it since Linux 6.4, of `all` pages that it keeps track of: those four counts
    /// (mm/ksm.c, `pages_volatile_show`).
    fn profit(&self, sharing: u64, all: u64) -> Option<i64> {
        let tracked = all.checked_mul(TRACKING)?;
        i64::try_from(sharing.checked_mul(self.page_size)?).ok()?.checked_sub_unsigned(tracked)
    }

    fn knobs(&mut self, run: u8) -> Option<Knobs> {
        let advisor = match self.advisor_mode.read() {
            Ok(text) => advisor(text)?,
            Err(error) if error.is_gone() => Advisor::None,
            Err(_) => return None,
        };
        Some(Knobs {
            run: u64::from(run),
            pages_to_scan: number(&mut self.pages_to_scan)?,
            sleep_millisecs: number(&mut self.sleep_millisecs)?,
            advisor,
        })
    }

    /// CPU time of ksmd since boot.
    fn cpu(&mut self) -> Option<Duration> {
        if matches!(self.daemon, Daemon::NotSought) {
            self.daemon = find(&self.root);
        }
        let Daemon::Found(stat) = &mut self.daemon else { return None };
        let text = stat.read().ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let ticks = |field: Option<&str>| field.and_then(|n| n.parse::<u32>().ok());
        let (user, system) = (ticks(fields.next())?, ticks(fields.next())?);
        Some(TICK.saturating_mul(user).saturating_add(TICK.saturating_mul(system)))
    }
}

/// A kernel thread of that name. It lives as long as the kernel.
fn find(root: &Root) -> Daemon {
    let Ok(pids) = proc::pids(root) else { return Daemon::NotSought };
    for pid in pids {
        match proc::name(root, pid) {
            Ok(name) if name == "ksmd" => {}
            Ok(_) => continue,
            Err(_) => return Daemon::NotSought,
        }
        let mut stat = Held::new(root.join(format!("proc/{pid}/stat")));
        let text = stat.read().unwrap_or_default();
        let parent = text.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1));
        if parent == Some(KTHREADD) {
            return Daemon::Found(stat);
        }
    }
    Daemon::Hidden
}

/// The mode in brackets; absent if it is one that is not known.
fn advisor(text: &str) -> Option<Advisor> {
    match text.split_once('[')?.1.split_once(']')?.0 {
        "none" => Some(Advisor::None),
        "scan-time" => Some(Advisor::ScanTime),
        _ => None,
    }
}

fn number<N: std::str::FromStr>(file: &mut Held) -> Option<N> {
    file.read().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::tests::add_process;

    const FILES: [(&str, &str); 10] = [
        ("run", "1\n"),
        ("pages_sharing", "10\n"),
        ("pages_shared", "2\n"),
        ("pages_unshared", "700\n"),
        ("pages_volatile", "88\n"),
        ("full_scans", "3\n"),
        ("general_profit", "-64\n"),
        ("pages_to_scan", "100\n"),
        ("sleep_millisecs", "20\n"),
        ("advisor_mode", "none [scan-time]\n"),
    ];

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(FOLDER)).unwrap();
        for (name, text) in FILES {
            std::fs::write(dir.path().join(FOLDER).join(name), text).unwrap();
        }
        dir
    }

    fn read(dir: &tempfile::TempDir) -> Option<Ksm> {
        KsmFiles::new(&Root::new(dir.path())).read().unwrap()
    }

    #[test]
    fn merging_is_counted_in_bytes_and_its_knobs_are_read() {
        let dir = tree();
        let ksm = read(&dir).unwrap();
        assert_eq!((ksm.run, ksm.full_scans, ksm.profit, ksm.cpu), (1, 3, Some(-64), None));
        let page = u64::try_from(rustix::param::page_size()).unwrap();
        assert_eq!((ksm.sharing, ksm.shared), (Bytes::new(10 * page), Bytes::new(2 * page)));
        let knobs = Knobs { run: 1, pages_to_scan: 100, sleep_millisecs: 20, advisor: Advisor::ScanTime };
        assert_eq!(ksm.knobs, Some(knobs));
        // As before Linux 6.4.
        std::fs::remove_file(dir.path().join(FOLDER).join("general_profit")).unwrap();
        let profit = i64::try_from(10 * page).unwrap() - 800 * 64;
        assert_eq!(read(&dir).unwrap().profit, Some(profit), "what it would say");
        // As before Linux 6.8.
        std::fs::remove_file(dir.path().join(FOLDER).join("advisor_mode")).unwrap();
        assert_eq!(read(&dir).unwrap().knobs, Some(Knobs { advisor: Advisor::None, ..knobs }));
        std::fs::write(dir.path().join(FOLDER).join("advisor_mode"), "none [other]\n").unwrap();
        assert_eq!(read(&dir).unwrap().knobs, None, "what cannot be put back is not taken");
    }

    #[test]
    fn the_daemons_time_is_the_kernel_threads_and_nobody_elses_of_that_name() {
        let dir = tree();
        let stat = |pid: u32, parent: u32| {
            add_process(dir.path(), pid, "ksmd", "0::/\n", &[]);
            let text = format!("{pid} (ksmd) S {parent} 0 0 0 -1 2097216 0 0 0 0 7 250 0 0 25 5 1 0 34 0 0");
            std::fs::write(dir.path().join(format!("proc/{pid}/stat")), text).unwrap();
        };
        stat(700, 1);
        assert_eq!(read(&dir).unwrap().cpu, None);
        stat(36, 2);
        assert_eq!(read(&dir).unwrap().cpu, Some(Duration::from_millis(2570)));
    }

    #[test]
    fn a_kernel_without_ksm_has_none() {
        assert_eq!(KsmFiles::new(&Root::new("/nonexistent")).read().unwrap(), None);
    }

    #[test]
    fn one_that_does_not_say_what_it_does_is_none_of_those() {
        for (name, text) in [("run", "yes\n"), ("pages_sharing", "many\n"), ("pages_shared", "")] {
            let dir = tree();
            std::fs::write(dir.path().join(FOLDER).join(name), text).unwrap();
            assert!(KsmFiles::new(&Root::new(dir.path())).read().is_err(), "{name}");
        }
    }
}
