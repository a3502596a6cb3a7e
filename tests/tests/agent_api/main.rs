//! The agent in a cluster whose API server, operator, rights or disk fail it: the loop goes on, says so, and catches up. A
//! real API server and the real agent with the rights that the chart gives it; there are no guests.
#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

mod bench;

/// Run several at a time: see `make test`.
mod waits {
    mod away;
    mod disk;
    mod rights;
    mod strangers;
}
