//! The guests tier: a private libvirtd with real QEMU guests, emulated (TCG), as KubeVirt would define them.

mod guest;
mod hypervisor;
mod spec;
mod stats;
mod virsh;

pub use crate::load::Load;
pub use guest::Guest;
pub use hypervisor::Hypervisor;
pub use spec::{Balloon, GuestSpec};
pub use stats::MemoryStats;
