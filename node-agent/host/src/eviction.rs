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
use serde::Deserialize;

use crate::held::ReadError;
use crate::kubelet;
use crate::proc::{Proc, flag_value};
use crate::quantity;
use crate::root::Root;

/// `SignalMemoryAvailable` (pkg/kubelet/eviction/api/types.go).
const SIGNAL: &str = "memory.available";
/// Where kubeadm and most distributions put the configuration.
const USUAL_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// Largest configuration file accepted; real ones are about 2 KiB.
const CONFIG_CAP: usize = 1 << 20;
/// Drop-ins that are read at most.
const DROP_INS: usize = 64;
/// No line is believed beyond this part of the node's memory: a kubelet that evicts while half of its memory is free
/// would evict for ever, and a budget without the other half would squeeze every guest to its floor.
const CREDIBLE: (u64, u64) = (1, 2);

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
#[derive(Debug, Default)]
struct Gathered {
    signals: Option<(BTreeMap<String, String>, String)>,
    merge: bool,
    trouble: Option<String>,
}

impl EvictionLine {
    /// The line of a kubelet that is told nothing: `DefaultEvictionHard` (`pkg/kubelet/eviction/defaults_linux.go`).
    pub const DEFAULT: Bytes = Bytes::from_mib(100);

    /// The line of the kubelet that runs below `root`, on a node with `total` memory.
    pub fn read(root: &Root, total: Bytes) -> Self {
        let mut gathered = Gathered::default();
        match kubelet::find(root) {
            Some(kubelet) => gathered.add_process(&kubelet),
            None => gathered.add_usual_file(root),
        }
        gathered.line(total)
    }

    /// The line that these texts name: those of configuration files, the weakest first, and of the flag.
    pub(crate) fn of_texts(files: &[&str], flag: Option<&str>, total: Bytes) -> Self {
        let mut gathered = Gathered::default();
        for text in files {
            gathered.add_text(text, Path::new(USUAL_CONFIG));
        }
        if let Some(flag) = flag {
            gathered.add_flag(flag);
        }
        gathered.line(total)
    }

    fn default_line(source: &str, trouble: Option<String>) -> Self {
        Self { line: Self::DEFAULT, source: format!("{source}: the kubelet's default"), trouble }
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
            self.add_flag(flag);
        }
    }

    fn add_flag(&mut self, flag: &str) {
        let pairs = flag.split(',').filter_map(|pair| pair.split_once('<'));
        let signals = pairs.map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned())).collect();
        self.signals = Some((signals, "the kubelet's flag --eviction-hard".to_owned()));
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
        match kubelet::read(kubelet, path, CONFIG_CAP) {
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
        let names = kubelet::open_dir(kubelet, dir).and_then(|fd| {
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
        let most = total.scaled(CREDIBLE.0, CREDIBLE.1);
        match threshold(text, total) {
            Some(line) if line > most => {
                let trouble =
                    format!("{source} is more than half of the node's {total}: {most} is kept instead");
                EvictionLine { line: most, source, trouble: Some(trouble) }
            }
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

#[cfg(test)]
mod tests;
