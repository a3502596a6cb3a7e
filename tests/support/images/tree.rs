//! A folder tree in the making: the content of a layer.

use super::Layer;
use crate::parts::command;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Collects files for a layer. Paths are those in the image, with or without a leading slash; folders above a file
/// are made as needed (root, 0755). Removed with its value.
#[derive(Debug)]
pub struct Tree {
    root: tempfile::TempDir,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Result<Self> {
        let root = tempfile::Builder::new().prefix("layer-").tempdir()?;
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { root })
    }

    /// Where `path` of the image lies while the tree is made.
    pub fn place(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// A folder.
    pub fn dir(&self, path: &str, mode: u32) -> Result<&Self> {
        let place = self.place(path);
        fs::create_dir_all(&place).with_context(|| path.to_owned())?;
        self.mode(path, mode)
    }

    /// A file with this content.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<&Self> {
        fs::write(self.parent_made(path)?, content).with_context(|| path.to_owned())?;
        self.mode(path, mode)
    }

    /// A copy of a file of this machine.
    pub fn copy(&self, from: &Path, path: &str, mode: u32) -> Result<&Self> {
        fs::copy(from, self.parent_made(path)?).with_context(|| format!("{} to {path}", from.display()))?;
        self.mode(path, mode)
    }

    /// A symbolic link.
    pub fn link(&self, path: &str, target: &str) -> Result<&Self> {
        symlink(target, self.parent_made(path)?).with_context(|| path.to_owned())?;
        Ok(self)
    }

    /// Sets the owner.
    pub fn owner(&self, path: &str, uid: u32, gid: u32) -> Result<&Self> {
        chown(self.place(path), Some(uid), Some(gid)).with_context(|| format!("owner of {path}"))?;
        Ok(self)
    }

    /// Sets file capabilities, in setcap's words: `cap_net_bind_service=ep`.
    pub fn capability(&self, path: &str, capability: &str) -> Result<&Self> {
        command::output(Command::new("setcap").arg(capability).arg(self.place(path)))?;
        Ok(self)
    }

    /// Packs the tree into `tar` as a layer.
    pub fn pack(&self, tar: &Path) -> Result<Layer> {
        Layer::pack(self.root.path(), tar)
    }

    fn mode(&self, path: &str, mode: u32) -> Result<&Self> {
        fs::set_permissions(self.place(path), fs::Permissions::from_mode(mode))
            .with_context(|| path.to_owned())?;
        Ok(self)
    }

    fn parent_made(&self, path: &str) -> Result<PathBuf> {
        let place = self.place(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).with_context(|| path.to_owned())?;
        }
        Ok(place)
    }
}
