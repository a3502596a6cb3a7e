//! The wire: what people write ([`policy`]), what the operator hands to a node and the node reports ([`node`]),
//! and the pure steps between wire and core ([`resolve`], [`program`], [`classify`], [`mod@file`]).
//!
//! All API strings live in [`names`]. *Architecture invariant:* no client, no clock, no I/O; operator, agent and
//! tests share these very functions.

#![allow(clippy::duplicated_attributes)] // kube reads one printcolumn(...) per column, clippy takes their fields for repeats

pub mod classify;
pub mod condition;
pub mod crd;
pub mod file;
pub mod names;
pub mod node;
pub mod policy;
pub mod program;
pub mod quantity;
pub mod resolve;
pub mod selector;

pub use condition::Condition;
pub use node::{NodeOvercommit, NodeOvercommitSpec, NodeOvercommitStatus};
pub use policy::{OvercommitPolicy, OvercommitPolicySpec, OvercommitPolicyStatus};
