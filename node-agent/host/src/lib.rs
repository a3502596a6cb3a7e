//! The node agent's eyes on the host: what the kernel says of memory, of QEMU's processes and their pods, and
//! where KubeVirt's launchers listen.
//!
//! - [`HostReader`] reads meminfo, vmstat, PSI and KSM each tick, files held open.
//! - [`ProcessFactsReader`] finds the QEMU process of a guest and says what it and its pod hold; [`Visits`] keeps one that
//!   hangs at a process from holding up the next.
//! - [`Glimpses`] looks at those processes between two samples.
//! - [`Launchers`] finds the libvirt daemons in KubeVirt's launcher pods and pins their sockets.
//! - [`EvictionLine`] says at which line the kubelet starts to evict.
//!
//! Everything is read below a [`Root`], so that a directory tree can stand for a host. What is read is size-capped,
//! because pods can shape much of it (command lines, process names, mapped files, sockets). `procfs` understands what
//! is read once per process (mountinfo, cgroup); the parsers on the path of a tick are our own: small, total on any
//! input, without allocation. ARCHITECTURE.md says why.
//!
//! *Architecture invariant:* nothing here decides, and nothing here writes.

mod cgroup;
mod cpus;
mod eviction;
mod facts;
mod files;
#[doc(hidden)]
pub mod fuzz;
mod glimpse;
mod held;
mod ksm;
mod kubelet;
mod launcher;
mod meminfo;
mod mounts;
mod oom_score;
mod proc;
mod psi;
mod qemu;
mod quantity;
mod reader;
mod root;
mod smaps;
mod socket;
mod status;
mod text;
mod visits;
mod vmstat;

pub use cgroup::{CgroupPlace, Qos};
pub use eviction::EvictionLine;
pub use facts::ProcessFactsReader;
pub use files::more_files;
pub use glimpse::Glimpses;
pub use held::ReadError;
pub use launcher::{Launcher, Launchers, Refusal, Scan};
pub use oom_score::request_from_score;
pub use proc::runs;
pub use reader::HostReader;
pub use root::Root;
pub use socket::SocketError;
pub use visits::Visits;
