//! The node agent's hands on the guests: libvirt, one thread per connection, a deadline on every call.
//!
//! Every call into libvirt blocks for as long as the daemon at the other end likes, and that daemon may belong to a
//! tenant. So each connection lives on a thread of its own, fed by a channel; whoever asks waits until a deadline
//! and no longer. A thread that does not answer is left alone, its guests are reported as unreachable with what was
//! last known of them, nothing more is sent to it, and it is used again as soon as it comes back. A guest of which
//! nothing was ever known is reported as its process shows it, for it may touch its memory all the same.
//!
//! - [`Guests`] is the port that the loop uses: [`Guests::standalone`] for one libvirt with many domains (a
//!   connection lists them, and each domain gets one of its own, so that a stuck QEMU delays no other),
//!   [`Guests::in_cluster`] for one libvirt per launcher pod.
//! - What the host's kernel knows of a guest's process comes in through [`overcommit_core::ports::ProcessPort`], which may
//!   hang as well and has a thread of its own.
//!
//! *Architecture invariants:* this crate alone uses `virt`; nothing here decides; nothing here runs on the caller's
//! thread that could block.

mod balloon;
mod connection;
mod definition;
mod domain;
mod facts;
#[doc(hidden)]
pub mod fuzz;
mod guests;
mod link;
mod relay;
mod session;
mod target;

pub use connection::{BY_ITS_PROCESS, ConnectionReport, ConnectionState};
pub use facts::MakePort;
pub use guests::Guests;
pub use link::Notify;
pub use target::{ConnectionKey, Target};
