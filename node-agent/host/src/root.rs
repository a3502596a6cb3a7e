//! Where the host's `proc` and `sys` are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory that holds `proc/` and `sys/`: `/` on a node, a tree of fixtures in a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(Arc<Path>);

impl Root {
    /// The tree below `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self(Arc::from(path.as_ref()))
    }

    /// `relative` below this root; leading slashes do not lead out of it.
    pub(crate) fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        let relative = relative.as_ref();
        self.0.join(relative.strip_prefix("/").unwrap_or(relative))
    }
}

impl Default for Root {
    /// The running system.
    fn default() -> Self {
        Self::new("/")
    }
}
