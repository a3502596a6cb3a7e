//! The cache's folder: locks, temporary names, atomic renames.

use super::{Part, Workshop, progress};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

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

/// Builds `part` into `folder` unless another process did so meanwhile.
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
    let watch = progress::start(part.name, part.cost);
    let built = (part.build)(&workshop);
    drop(watch);
    remove_tree(&workshop.scratch)?;
    if built.is_err() {
        remove_tree(&workshop.out)?;
    }
    built?;
    fs::rename(&workshop.out, folder).with_context(|| folder.display().to_string())?;
    Ok(())
}

fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| dir.display().to_string())
        }
        _ => Ok(()),
    }
}
