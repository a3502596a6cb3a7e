//! Where to connect to.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::relay::Door;

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

/// One way to connect.
pub(crate) enum Way {
    /// By a URI as it is.
    Straight(Arc<str>),
    /// To a launcher's daemon, with this path in the URI, through a relay.
    Relayed(&'static str, Arc<OwnedFd>),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Straight(uri) => f.write_str(uri),
            Self::Relayed(path, _) => write!(f, "qemu+unix:///{path}"),
        }
    }
}

impl Way {
    /// The URI to connect to now, once, and what has to live until then.
    pub(crate) fn open(&self) -> std::io::Result<(String, Option<Door>)> {
        match self {
            Self::Straight(uri) => Ok((uri.to_string(), None)),
            Self::Relayed(_, socket) => {
                let door = Door::open(socket)?;
                Ok((format!("{self}?socket={}", door.path()), Some(door)))
            }
        }
    }
}

impl Target {
    /// Ways to try, in this order. A launcher's daemon is a session's, or with KubeVirt's legacy `Root` feature
    /// gate the system's; each refuses the other's path.
    pub(crate) fn ways(&self) -> Vec<Way> {
        match self {
            Self::Uri(uri) => vec![Way::Straight(Arc::clone(uri))],
            Self::Refused(_) => Vec::new(),
            Self::Launcher(socket) => {
                ["session", "system"].map(|path| Way::Relayed(path, Arc::clone(socket))).into()
            }
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
