//! Parts of the test bed that take long to make: each is built once per set of inputs and kept in a cache.
//!
//! A [`Part`] names its inputs; their hash names its folder, so a changed input is a different part and nothing is
//! ever stale. A part is built under a temporary name and renamed when whole; a file lock keeps two processes from
//! building the same part. Nothing depends on the cache: what is missing is built, in any order.

pub mod command;
mod debian;
mod golang;
mod ksmtuned;
mod kubevirt;
mod mom;
mod packages;
mod progress;
mod small;
mod store;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use debian::TRIXIE;
pub use golang::{CONTAINERD, HELM, KUBERNETES, KUBERNETES_VERSION, KUBEVIRT, KUBEVIRT_VERSION};
pub use ksmtuned::{KSMTUNED, ksmtuned_program};
pub use kubevirt::{KUBEVIRT_CONTROL_IMAGE, KUBEVIRT_IMAGES, KUBEVIRT_NODE_IMAGE};
pub use mom::{MOM, mom_modules, mom_program, mom_rules};
pub use progress::{Progress, say, told};
pub use small::{
    GUEST_IMAGE, GUEST_IMAGE_NAME, GUEST_INITRD_PATH, GUEST_KERNEL_PATH, PAUSE_IMAGE, PAUSE_IMAGE_NAME,
};
pub use store::cache_root;

/// One named build step: inputs → hash → folder.
#[derive(Debug)]
pub struct Part {
    /// Name, used in the folder's name, in progress lines and in errors.
    pub name: &'static str,
    /// What a cold build takes on two cores: the first estimate of what is left, until this machine shows its own pace.
    pub cost: Duration,
    /// Parts whose folders this one reads.
    pub needs: &'static [&'static Part],
    /// Everything else that shapes the result: pinned versions, package lists, sources.
    pub inputs: fn() -> Result<Vec<Vec<u8>>>,
    /// Fills the empty folder of the workshop.
    pub build: fn(&Workshop) -> Result<()>,
}

/// Where a part is being built.
#[derive(Debug)]
pub struct Workshop {
    /// The folder that becomes the part.
    pub out: PathBuf,
    /// Scratch space, removed afterwards.
    pub scratch: PathBuf,
    /// Output of the commands that run; kept when the build fails.
    pub log: PathBuf,
}

impl Part {
    /// Hash of the inputs, those of the needed parts included, as the 16 hex digits of the folder's name.
    pub fn hash(&self) -> Result<String> {
        // Inputs do not change while a process runs, and some are slow to find.
        static KNOWN: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hash) = known().get(self.name) {
            return Ok(hash.clone());
        }
        let hash = self.compute_hash()?;
        known().insert(self.name, hash.clone());
        Ok(hash)
    }

    fn compute_hash(&self) -> Result<String> {
        let mut fields = vec![self.name.as_bytes().to_vec()];
        for need in self.needs {
            fields.push(need.hash()?.as_bytes().to_vec());
        }
        fields.extend((self.inputs)().with_context(|| format!("inputs of part {}", self.name))?);
        Ok(fingerprint(fields))
    }

    /// The folder of this part, whether or not it exists yet.
    pub fn folder(&self) -> Result<PathBuf> {
        Ok(store::parts_root()?.join(format!("{}-{}", self.name, self.hash()?)))
    }

    /// The folder of this part, built now if it is not there. It stays as long as this process lives.
    ///
    /// # Errors
    /// The failing command with the last lines of its output.
    pub fn ensure(&'static self) -> Result<PathBuf> {
        let folder = self.folder()?;
        if !store::hold(&folder)? {
            ensure_all(&[self])?;
        }
        Ok(folder)
    }

    /// A file of this part, which is built now if it is not there.
    pub fn file(&'static self, name: &str) -> Result<PathBuf> {
        let path = self.ensure()?.join(name);
        anyhow::ensure!(path.exists(), "part {} has no {name}: {} is missing", self.name, path.display());
        Ok(path)
    }
}

// The length keeps ("ab", "c") and ("a", "bc") apart.
/// 16 hexadecimal digits that stand for these fields in this order: the beginning of their SHA-256.
pub fn fingerprint(fields: impl IntoIterator<Item: AsRef<[u8]>>) -> String {
    let mut hasher = Sha256::new();
    for field in fields {
        let field = field.as_ref();
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hasher.update(field.len().to_le_bytes());
        hasher.update(field);
    }
    hasher.finalize().iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// The parts that must be built for `wanted`, needed ones first, each once.
pub fn missing(wanted: &[&'static Part]) -> Result<Vec<&'static Part>> {
    let mut plan: Vec<&'static Part> = Vec::new();
    for part in wanted {
        collect_missing(part, &mut plan)?;
    }
    Ok(plan)
}

fn collect_missing(part: &'static Part, plan: &mut Vec<&'static Part>) -> Result<()> {
    if plan.iter().any(|planned| planned.name == part.name) || part.folder()?.is_dir() {
        return Ok(());
    }
    for need in part.needs {
        collect_missing(need, plan)?;
    }
    plan.push(part);
    Ok(())
}

/// Builds whatever is missing of `wanted`, with the time that is left; holds all of it as long as this process lives.
///
/// # Errors
/// The part that cannot be built, with the end of its log.
pub fn ensure_all(wanted: &[&'static Part]) -> Result<()> {
    let plan = missing(wanted)?;
    if !plan.is_empty() {
        let progress = Progress::begin("part", plan.iter().map(|part| (part.name, part.cost)).collect());
        for (index, part) in plan.iter().enumerate() {
            progress.enter(index);
            store::build(part, &part.folder()?).with_context(|| format!("building part {}", part.name))?;
        }
    }
    for part in wanted {
        anyhow::ensure!(store::hold(&part.folder()?)?, "part {} went away just now: try again", part.name);
    }
    Ok(())
}

/// Folder `tests/testbed` of the source tree: Go modules, manifests, sources of small programs.
pub fn testbed_sources() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testbed"))
}

/// Reads files below [`testbed_sources`] as inputs of a part.
fn source_inputs(names: &[&str]) -> Result<Vec<Vec<u8>>> {
    names
        .iter()
        .map(|name| {
            let path = testbed_sources().join(name);
            std::fs::read(&path).with_context(|| path.display().to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests;
