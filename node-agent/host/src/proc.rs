//! One process, held by its directory in procfs: a pid that is reused later can never be taken for it.

use std::path::PathBuf;
use std::sync::Arc;

use overcommit_core::sample::Incarnation;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, openat};

use crate::cgroup::CgroupPlace;
use crate::held::{ReadError, read_fd, read_text, unless_gone};
use crate::root::Root;

/// Largest `stat`, `status`, `cgroup` or `comm` accepted; real ones stay under 2 KiB.
const SMALL: usize = 64 << 10;
/// Largest command line accepted; QEMU's are about 10 KiB, a process may set up to 2 MiB.
const COMMAND_LINE: usize = 256 << 10;
/// Most arguments accepted, for each becomes a text of its own; QEMU has some hundreds, a process may have a million.
const ARGUMENTS: usize = 4096;

/// A process. Reads fail with [`ReadError::is_gone`] once it has ended, also when its pid lives on as another's.
#[derive(Debug)]
pub(crate) struct Proc {
    dir: OwnedFd,
    path: PathBuf,
    incarnation: Incarnation,
}

impl Proc {
    /// The process that has `pid` now.
    pub(crate) fn open(root: &Root, pid: u32) -> Result<Self, ReadError> {
        let path = root.join(format!("proc/{pid}"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| ReadError::io(&path, e))?;
        let mut process = Self { dir, path, incarnation: Incarnation { pid, start_ticks: 0 } };
        process.incarnation.start_ticks = process.start_ticks()?;
        Ok(process)
    }

    /// Which process it is.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Its directory in procfs, for relative opens, and for messages its path.
    pub(crate) fn dir(&self) -> (&OwnedFd, &PathBuf) {
        (&self.dir, &self.path)
    }

    /// Opens a file of its directory for reading.
    pub(crate) fn file(&self, name: &str) -> Result<OwnedFd, ReadError> {
        openat(&self.dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| ReadError::io(&self.path.join(name), e))
    }

    /// The text of a small file; bytes that are no UTF-8 (a process names itself) are replaced.
    pub(crate) fn text(&self, name: &str) -> Result<String, ReadError> {
        let bytes = read_fd(self.file(name)?, &self.path.join(name), SMALL)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its arguments; empty for a kernel thread or a zombie.
    pub(crate) fn arguments(&self) -> Result<Vec<String>, ReadError> {
        let path = self.path.join("cmdline");
        let bytes = read_fd(self.file("cmdline")?, &path, COMMAND_LINE)?;
        if bytes.split(|byte| *byte == 0).nth(ARGUMENTS.saturating_add(1)).is_some() {
            return Err(ReadError::missing(&path, "command line: it has too many arguments"));
        }
        Ok(split_arguments(&bytes))
    }

    /// Its place in the tree of cgroups; absent without a memory controller.
    pub(crate) fn place(&self) -> Result<Option<CgroupPlace>, ReadError> {
        Ok(CgroupPlace::parse(&self.text("cgroup")?))
    }

    /// UID of the pod that it runs in; absent outside of pods.
    pub(crate) fn pod_uid(&self) -> Result<Option<Arc<str>>, ReadError> {
        Ok(self.place()?.as_ref().and_then(CgroupPlace::pod_uid).cloned())
    }

    /// `oom_score_adj`.
    pub(crate) fn oom_score(&self) -> Result<i32, ReadError> {
        let text = self.text("oom_score_adj")?;
        text.trim().parse().map_err(|_| ReadError::missing(&self.path.join("oom_score_adj"), "score"))
    }

    /// Start time in clock ticks since boot.
    pub(crate) fn start_ticks(&self) -> Result<u64, ReadError> {
        let ticks = start_time(&self.text("stat")?);
        ticks.ok_or_else(|| ReadError::missing(&self.path.join("stat"), "start time"))
    }
}

/// What stands in `cmdline`, each argument with a zero byte behind it.
pub(crate) fn split_arguments(bytes: &[u8]) -> Vec<String> {
    let trimmed = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if trimmed.is_empty() {
        return Vec::new();
    }
    trimmed.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

/// Field 22 of `stat`, the twentieth after the name in parentheses (which may itself hold spaces and parentheses).
pub(crate) fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// True if that very process still runs, or nobody can tell: only a process that is known to have ended is forgotten.
pub fn runs(root: &Root, process: Incarnation) -> bool {
    match Proc::open(root, process.pid) {
        Ok(found) => found.incarnation() == process,
        Err(error) => !error.is_gone(),
    }
}

/// All pids now, in no order.
pub(crate) fn pids(root: &Root) -> Result<Vec<u32>, ReadError> {
    let path = root.join("proc");
    let entries = std::fs::read_dir(&path).map_err(|e| ReadError::io(&path, e))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The name of a process without opening its directory first: what a scan over all processes asks. Empty once it
/// is gone, or cannot be read.
///
/// # Errors
/// When file descriptors or memory ran out: then nothing is known of any process, and a scan must not say that none is
/// there.
pub(crate) fn name(root: &Root, pid: u32) -> Result<String, ReadError> {
    let mut name = unless_gone(read_text(&root.join(format!("proc/{pid}/comm")), SMALL))?.unwrap_or_default();
    name.truncate(name.trim_end().len());
    Ok(name)
}

/// The value after `flag`, as in `--uid X` or `--uid=X`.
pub(crate) fn flag_value<'a>(arguments: &'a [String], flag: &str) -> Option<&'a str> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.strip_prefix(flag) {
            Some("") => return rest.next().map(String::as_str),
            Some(tail) if tail.starts_with('=') => return tail.strip_prefix('='),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Adds a process to a tree of fixtures.
    pub(crate) fn add_process(
        root: &std::path::Path,
        pid: u32,
        comm: &str,
        cgroup: &str,
        arguments: &[&str],
    ) {
        let dir = root.join(format!("proc/{pid}"));
        std::fs::create_dir_all(&dir).unwrap();
        let stat = format!("{pid} ({comm}) S 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 {} 1 1", pid + 1000);
        std::fs::write(dir.join("stat"), stat).unwrap();
        std::fs::write(dir.join("comm"), format!("{comm}\n")).unwrap();
        std::fs::write(dir.join("cgroup"), cgroup).unwrap();
        std::fs::write(dir.join("oom_score_adj"), "984\n").unwrap();
        let line: String = arguments.iter().flat_map(|a| [a, "\0"]).collect();
        std::fs::write(dir.join("cmdline"), line).unwrap();
    }

    #[test]
    fn a_process_is_known_by_pid_and_start_time() {
        let dir = tempfile::tempdir().unwrap();
        add_process(dir.path(), 42, "a) S (b", "0::/\n", &["x", "", "--uid", "u-1"]);
        let process = Proc::open(&Root::new(dir.path()), 42).unwrap();
        assert_eq!(process.incarnation(), Incarnation { pid: 42, start_ticks: 1042 });
        assert_eq!(process.arguments().unwrap(), ["x", "", "--uid", "u-1"]);
        assert_eq!(process.oom_score().unwrap(), 984);
    }

    #[test]
    fn a_line_of_more_arguments_than_any_qemu_has_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = |count| {
            add_process(dir.path(), 42, "qemu-system-x86", "0::/\n", &vec!["a"; count]);
            Proc::open(&Root::new(dir.path()), 42).unwrap().arguments()
        };
        assert_eq!(arguments(ARGUMENTS).unwrap().len(), ARGUMENTS);
        let error = arguments(ARGUMENTS + 1).unwrap_err();
        assert!(error.to_string().contains("42/cmdline"), "{error}");
    }

    #[test]
    fn a_process_that_ended_is_gone_even_if_its_pid_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        add_process(dir.path(), 42, "one", "0::/\n", &[]);
        let process = Proc::open(&Root::new(dir.path()), 42).unwrap();
        std::fs::rename(dir.path().join("proc/42"), dir.path().join("old")).unwrap();
        std::fs::remove_dir_all(dir.path().join("old")).unwrap();
        add_process(dir.path(), 42, "two", "0::/\n", &[]);
        assert!(process.text("comm").unwrap_err().is_gone());
    }

    #[test]
    fn a_real_child_is_gone_after_it_was_reaped() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Proc::open(&Root::default(), child.id()).unwrap();
        assert!(process.start_ticks().unwrap() > 0);
        child.kill().unwrap();
        child.wait().unwrap();
        let error = process.text("status").unwrap_err();
        assert!(error.is_gone(), "{error}");
    }

    #[test]
    fn a_vanished_pid_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Proc::open(&Root::new(dir.path()), 7).unwrap_err().is_gone());
        assert_eq!(name(&Root::new(dir.path()), 7).unwrap(), "");
    }

    #[test]
    fn flags_are_found_in_both_forms() {
        let arguments: Vec<String> = ["a", "--uidx", "--uid", "1", "--b=2"].map(String::from).into();
        assert_eq!(flag_value(&arguments, "--uid"), Some("1"));
        assert_eq!(flag_value(&arguments, "--b"), Some("2"));
        assert_eq!(flag_value(&arguments, "--c"), None);
    }
}
