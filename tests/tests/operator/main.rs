//! The operator as a process, with the rights that the chart gives it, on a real API server. Agents are played by
//! writing the status that they would report.
#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

mod bench;
mod end;

/// Run several at a time: see `make test`.
mod waits {
    mod faults;
    mod programs;
    mod release;
    mod selection;
}
