//! The line of free memory at which the kubelet starts to evict.
//!
//! Without rights in the API it is told only by the kubelet's own command line and configuration files, which win
//! in this order: `--eviction-hard`, the drop-ins below `--config-dir` in lexical order, `--config`, the default
//! (cmd/kubelet/app/{options/options,server}.go, Kubernetes 1.36). A map that is given replaces the default whole,
//! unless `mergeDefaultEvictionSettings` is true: then signals left out keep their default, else they are off
//! (pkg/kubelet/apis/config/types.go).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use overcommit_core::units::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use serde::Deserialize;

use crate::held::{ReadError, read_fd};
use crate::proc::{self, Proc, flag_value};
use crate::quantity;
use crate::root::Root;

/// `DefaultEvictionHard` (`pkg/kubelet/eviction/defaults_linux.go`).
const DEFAULT: Bytes = Bytes::from_mib(100);
/// `SignalMemoryAvailable` (pkg/kubelet/eviction/api/types.go).
const SIGNAL: &str = "memory.available";
/// Where kubeadm and most distributions put the configuration.
const USUAL_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// Largest configuration file accepted; real ones are about 2 KiB.
const CONFIG_CAP: usize = 1 << 20;
/// Drop-ins that are read at most.
const DROP_INS: usize = 64;

/// The hard line, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionLine {
    /// Free memory below which the kubelet evicts; zero if it never does.
    pub line: Bytes,
    /// Where that is said, for people.
    pub source: String,
    /// What could not be read or understood, so that the default had to stand in for it.
    pub trouble: Option<String>,
}

/// The two fields of a `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1) that matter.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    eviction_hard: Option<BTreeMap<String, String>>,
    merge_default_eviction_settings: Option<bool>,
}

/// What is in force, gathered from the weakest source to the strongest.
#[derive(Debug)]
struct Gathered {
    signals: Option<(BTreeMap<String, String>, String)>,
    merge: bool,
    trouble: Option<String>,
}

impl EvictionLine {
    /// The line of the kubelet that runs below `root`, on a node with `total` memory.
    pub fn read(root: &Root, total: Bytes) -> Self {
        let mut gathered = Gathered { signals: None, merge: false, trouble: None };
        match kubelet(root) {
            Some(kubelet) => gathered.add_process(&kubelet),
            None => gathered.add_usual_file(root),
        }
        gathered.line(total)
    }

    fn default_line(source: &str, trouble: Option<String>) -> Self {
        Self { line: DEFAULT, source: format!("{source}: the kubelet's default"), trouble }
    }
}

impl Gathered {
    fn add_process(&mut self, kubelet: &Proc) {
        let arguments = kubelet.arguments().unwrap_or_default();
        if let Some(path) = flag_value(&arguments, "--config") {
            self.add_file(kubelet, Path::new(path));
        }
        if let Some(dir) = flag_value(&arguments, "--config-dir") {
            for path in self.drop_ins(kubelet, Path::new(dir)) {
                self.add_file(kubelet, &path);
            }
        }
        if let Some(flag) = flag_value(&arguments, "--eviction-hard") {
            let pairs = flag.split(',').filter_map(|pair| pair.split_once('<'));
            let signals = pairs.map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned())).collect();
            self.signals = Some((signals, "the kubelet's flag --eviction-hard".to_owned()));
        }
    }

    /// No kubelet is seen: perhaps its configuration is.
    fn add_usual_file(&mut self, root: &Root) {
        let path = root.join(USUAL_CONFIG);
        match crate::held::read_text(&path, CONFIG_CAP) {
            Ok(text) => self.add_text(&text, Path::new(USUAL_CONFIG)),
            Err(error) if error.is_gone() => {}
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    fn add_file(&mut self, kubelet: &Proc, path: &Path) {
        match read_as(kubelet, path) {
            Ok(text) => self.add_text(&text, path),
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    fn add_text(&mut self, text: &str, path: &Path) {
        match serde_saphyr::from_str::<Config>(text) {
            Ok(config) => {
                if let Some(signals) = config.eviction_hard.filter(|s| !s.is_empty()) {
                    self.signals = Some((signals, path.display().to_string()));
                }
                self.merge = config.merge_default_eviction_settings.unwrap_or(self.merge);
            }
            Err(error) => self.trouble = Some(format!("{}: {error}", path.display())),
        }
    }

    fn drop_ins(&mut self, kubelet: &Proc, dir: &Path) -> Vec<PathBuf> {
        let names = open_as(kubelet, dir, OFlags::RDONLY | OFlags::DIRECTORY).and_then(|fd| {
            let entries = rustix::fs::Dir::read_from(&fd).map_err(|e| ReadError::io(dir, e))?;
            let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
            Ok(names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "conf")).collect())
        });
        let mut names: Vec<String> = names.unwrap_or_else(|error| {
            self.trouble = Some(error.to_string());
            Vec::new()
        });
        names.sort();
        names.truncate(DROP_INS);
        names.into_iter().map(|name| dir.join(name)).collect()
    }

    fn line(self, total: Bytes) -> EvictionLine {
        let Some((signals, source)) = self.signals else {
            return EvictionLine::default_line("nothing set", self.trouble);
        };
        let Some(text) = signals.get(SIGNAL) else {
            if self.merge {
                return EvictionLine::default_line(&source, self.trouble);
            }
            let source = format!("{source}: {SIGNAL} is off");
            return EvictionLine { line: Bytes::ZERO, source, trouble: self.trouble };
        };
        let source = format!("{source}: {SIGNAL} {text}");
        match threshold(text, total) {
            Some(line) => EvictionLine { line, source, trouble: self.trouble },
            None => {
                EvictionLine::default_line(&source, Some(format!("{source}: not a quantity or percentage")))
            }
        }
    }
}

/// A quantity, or a percentage of the node's memory of which 0 and 100 mean off
/// (`parseThresholdStatement`, pkg/kubelet/eviction/helpers.go).
fn threshold(text: &str, total: Bytes) -> Option<Bytes> {
    match text {
        "0%" | "100%" => Some(Bytes::ZERO),
        _ => quantity::parse_percent(text, total).or_else(|| quantity::parse(text)),
    }
}

/// The kubelet's process: the oldest of that name.
fn kubelet(root: &Root) -> Option<Proc> {
    let pids = proc::pids(root).ok()?;
    let named = pids.into_iter().filter(|pid| proc::name(root, *pid) == "kubelet");
    named.filter_map(|pid| Proc::open(root, pid).ok()).min_by_key(|p| p.incarnation().start_ticks)
}

/// Opens `path` as the process sees it: from its own root or working directory, links resolved within.
fn open_as(process: &Proc, path: &Path, flags: OFlags) -> Result<OwnedFd, ReadError> {
    let start = if path.is_absolute() { "root" } else { "cwd" };
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fail = |e: rustix::io::Errno| ReadError::io(path, e);
    let start = openat(process.dir().0, start, directory, Mode::empty()).map_err(fail)?;
    openat2(&start, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).map_err(fail)
}

fn read_as(process: &Proc, path: &Path) -> Result<String, ReadError> {
    let bytes = read_fd(open_as(process, path, OFlags::RDONLY)?, path, CONFIG_CAP)?;
    String::from_utf8(bytes).map_err(|_| ReadError::NotText { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::tests::add_process;

    const TOTAL: Bytes = Bytes::from_gib(10);

    /// A node whose kubelet, with pid 9, has these flags and sees these files below its root.
    fn node(flags: &[&str], files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        add_process(dir.path(), 9, "kubelet", "0::/\n", flags);
        for name in ["root", "cwd"] {
            std::fs::create_dir_all(dir.path().join("proc/9").join(name)).unwrap();
        }
        for (path, text) in files {
            let path = dir.path().join("proc/9").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn read(dir: &tempfile::TempDir) -> EvictionLine {
        EvictionLine::read(&Root::new(dir.path()), TOTAL)
    }

    #[test]
    fn the_kubelets_file_is_read_as_the_kubelet_sees_it() {
        let file = "kind: KubeletConfiguration\nevictionHard: {memory.available: \"50Mi\", nodefs.available: \"1%\"}\nport: 1\n";
        for (flag, path) in [("--config=/etc/k.yaml", "root/etc/k.yaml"), ("--config=k.yaml", "cwd/k.yaml")] {
            let line = read(&node(&["kubelet", flag], &[(path, file)]));
            assert_eq!((line.line, line.trouble), (Bytes::from_mib(50), None));
            assert!(line.source.contains("k.yaml: memory.available 50Mi"), "{}", line.source);
        }
    }

    #[test]
    fn stronger_sources_win() {
        let files = [
            ("root/k", "evictionHard: {memory.available: 1Gi}\n"),
            ("root/d/20.conf", "evictionHard: {memory.available: 5%}\n"),
            ("root/d/10.conf", "evictionHard: {memory.available: 2Gi}\n"),
            ("root/d/30.txt", "evictionHard: {memory.available: 3Gi}\n"),
        ];
        let line = read(&node(&["kubelet", "--config", "/k", "--config-dir", "/d"], &files));
        assert_eq!(line.line, TOTAL.scaled(5, 100), "{line:?}");
        let flag = "--eviction-hard=memory.available<300Mi,nodefs.available<10%";
        assert_eq!(read(&node(&["kubelet", "--config", "/k", flag], &files)).line, Bytes::from_mib(300));
    }

    #[test]
    fn without_a_word_the_default_holds() {
        for dir in [
            node(&["kubelet"], &[]),
            node(&["kubelet", "--config=/k"], &[("root/k", "port: 1\n")]),
            tempfile::tempdir().unwrap(),
        ] {
            let line = read(&dir);
            assert_eq!((line.line, line.trouble), (Bytes::from_mib(100), None), "{}", line.source);
        }
    }

    #[test]
    fn a_signal_left_out_is_off_unless_defaults_are_merged() {
        let without = "evictionHard: {nodefs.available: 1%}\n";
        let flags = ["kubelet", "--config=/k"];
        assert_eq!(read(&node(&flags, &[("root/k", without)])).line, Bytes::ZERO);
        let merged = format!("{without}mergeDefaultEvictionSettings: true\n");
        assert_eq!(read(&node(&flags, &[("root/k", &merged)])).line, Bytes::from_mib(100));
        let off = "evictionHard: {memory.available: 0%}\n";
        assert_eq!(read(&node(&flags, &[("root/k", off)])).line, Bytes::ZERO);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_default_stands_in() {
        for text in ["evictionHard: [", "evictionHard: {memory.available: much}\n", "\u{0}"] {
            let line = read(&node(&["kubelet", "--config=/k"], &[("root/k", text)]));
            assert_eq!(line.line, Bytes::from_mib(100), "{text}");
            assert!(line.trouble.is_some(), "{text}");
        }
        let line = read(&node(&["kubelet", "--config=/gone"], &[]));
        assert!(line.trouble.unwrap().contains("/gone"));
    }

    #[test]
    fn links_are_followed_within_the_kubelets_root() {
        let dir = node(
            &["kubelet", "--config=/etc/k"],
            &[("root/real/k", "evictionHard: {memory.available: 7Mi}\n")],
        );
        std::fs::create_dir_all(dir.path().join("proc/9/root/etc")).unwrap();
        std::os::unix::fs::symlink("/real/k", dir.path().join("proc/9/root/etc/k")).unwrap();
        assert_eq!(read(&dir).line, Bytes::from_mib(7));
    }

    #[test]
    fn without_a_visible_kubelet_the_usual_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::create_dir_all(dir.path().join("var/lib/kubelet")).unwrap();
        std::fs::write(
            dir.path().join("var/lib/kubelet/config.yaml"),
            "evictionHard: {memory.available: 9Mi}\n",
        )
        .unwrap();
        assert_eq!(read(&dir).line, Bytes::from_mib(9));
    }
}
