//! Where to connect to.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Which connection: the pod's UID in a cluster, the domain's UUID on a host without Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(Arc<str>);

impl ConnectionKey {
    /// A key from its text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The text, to keep.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Display for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where to connect to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A libvirt URI, as people write it.
    Uri(Arc<str>),
    /// A pinned socket of a launcher's daemon: its inode, held open so that it can be connected to again.
    Launcher(Arc<OwnedFd>),
    /// A launcher's daemon that must not be connected to, and why: its guest is there all the same.
    Refused(Arc<str>),
}

impl Target {
    /// URIs to try, in this order. A launcher's daemon is a session's, or with KubeVirt's legacy `Root` feature
    /// gate the system's; each refuses the other's path.
    pub(crate) fn uris(&self) -> Vec<String> {
        match self {
            Self::Uri(uri) => vec![uri.to_string()],
            Self::Refused(_) => Vec::new(),
            Self::Launcher(socket) => ["session", "system"]
                .iter()
                .map(|path| format!("qemu+unix:///{path}?socket=/proc/self/fd/{}", socket.as_raw_fd()))
                .collect(),
        }
    }

    /// True if both mean the same daemon.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Uri(a), Self::Uri(b)) | (Self::Refused(a), Self::Refused(b)) => a == b,
            (Self::Launcher(a), Self::Launcher(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
