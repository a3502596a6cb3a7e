//! The decisions of the node agent, without I/O.
//!
//! One turn of the loop is `sample → fold → decide → guard → actuate → report`; this crate holds everything
//! between `sample` and `actuate`. Time is an argument, state is a value ([`step::State`]), so a simulator, a
//! replay and a property test run the very code that runs on a node.
//!
//! *Architecture invariant:* nothing here knows kube, tokio, virt or procfs, reads a clock, or touches a file.

#![warn(clippy::arithmetic_side_effects)]

pub mod adaptive;
mod apart;
pub mod by_guest;
pub mod cadence;
pub mod conduct;
pub mod contest;
pub mod dealings;
pub mod eligibility;
pub mod emergency;
pub mod evidence;
pub mod fallback;
pub mod floor;
pub mod growth;
pub mod guard;
pub mod ksm;
pub mod lane;
pub mod ledger;
pub mod model;
pub mod mom;
pub mod plan;
pub mod policy;
pub mod ports;
pub mod quantile;
pub mod reason;
pub mod roster;
pub mod sample;
pub mod shadow;
pub mod step;
pub mod stranger;
pub mod troubles;
pub mod turns;
pub mod units;
pub mod view;
mod workshop;
