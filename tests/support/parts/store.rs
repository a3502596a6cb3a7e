//! The cache's folder: locks, temporary names, atomic renames, and the end of parts that nobody uses any more.

use super::{Part, Workshop, progress};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A part of former inputs is kept this long after its last use, for whoever goes back to them.
const KEPT: Duration = Duration::from_hours(1);

/// `${XDG_CACHE_HOME:-$HOME/.cache}/overcommit`.
///
/// # Errors
/// Neither variable is set.
pub fn cache_root() -> Result<PathBuf> {
    let from = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = from("XDG_CACHE_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set, so there is no place for the cache")?;
    Ok(base.join("overcommit"))
}

pub(super) fn parts_root() -> Result<PathBuf> {
    Ok(cache_root()?.join("parts"))
}

/// Keeps the part in this folder from being forgotten as long as this process lives, and notes that it was used; false
/// if it is not there.
pub(super) fn hold(folder: &Path) -> Result<bool> {
    static HELD: Mutex<BTreeMap<PathBuf, File>> = Mutex::new(BTreeMap::new());
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if held.contains_key(folder) {
        return Ok(folder.is_dir());
    }
    let Ok(dir) = File::open(folder) else { return Ok(false) };
    dir.lock_shared().with_context(|| folder.display().to_string())?;
    // Whoever forgets a part moves it away under its lock.
    if !folder.is_dir() {
        return Ok(false);
    }
    dir.set_modified(SystemTime::now()).with_context(|| folder.display().to_string())?;
    held.insert(folder.to_owned(), dir);
    Ok(true)
}

/// Builds `part` into `folder` unless another process did so meanwhile, and forgets what it was with former inputs.
pub(super) fn build(part: &Part, folder: &Path) -> Result<()> {
    let root = parts_root()?;
    fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
    let lock_path = root.join(format!(".{}.lock", part.name));
    let lock = File::create(&lock_path).with_context(|| lock_path.display().to_string())?;
    if lock.try_lock().is_err() {
        progress::say(&format!("{}: another process builds it, waiting", part.name));
        lock.lock().with_context(|| lock_path.display().to_string())?;
    }
    if folder.is_dir() {
        return Ok(());
    }
    // Under the lock, whatever bears these names was left by a process that died.
    let workshop = Workshop {
        out: root.join(format!(".{}.new", part.name)),
        scratch: root.join(format!(".{}.scratch", part.name)),
        log: root.join(format!("{}.log", part.name)),
    };
    for dir in [&workshop.out, &workshop.scratch] {
        remove_tree(dir)?;
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    File::create(&workshop.log).with_context(|| workshop.log.display().to_string())?;
    let built = (part.build)(&workshop);
    remove_tree(&workshop.scratch)?;
    if built.is_err() {
        remove_tree(&workshop.out)?;
    }
    built?;
    fs::rename(&workshop.out, folder).with_context(|| folder.display().to_string())?;
    forget_former(part, folder);
    Ok(())
}

/// Removes this part's folders of other inputs that no process holds and none has used for a while. Called under the
/// part's lock. What cannot be removed stays: it is a cache.
fn forget_former(part: &Part, current: &Path) {
    let Some(entries) = current.parent().and_then(|root| fs::read_dir(root).ok()) else { return };
    let gone = current.with_file_name(format!(".{}.forgotten", part.name));
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path != current && is_of(part, &name.to_string_lossy()) && is_unused(&path) {
            let _ = remove_tree(&gone);
            let Ok(dir) = File::open(&path) else { continue };
            if dir.try_lock().is_ok() && fs::rename(&path, &gone).is_ok() {
                drop(dir);
                let _ = remove_tree(&gone);
            }
        }
    }
}

/// Whether this is the name of a folder of that part: its own and the 16 digits of a hash, for one part's name may
/// begin with another's.
fn is_of(part: &Part, name: &str) -> bool {
    let hash = name.strip_prefix(part.name).and_then(|rest| rest.strip_prefix('-'));
    hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_unused(folder: &Path) -> bool {
    let used = fs::metadata(folder).and_then(|meta| meta.modified());
    used.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > KEPT))
}

fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| dir.display().to_string())
        }
        _ => Ok(()),
    }
}
