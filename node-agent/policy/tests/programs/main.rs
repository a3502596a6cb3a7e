//! Programs of the policy language: what they come to, what is found in them, and that nothing they say can do harm.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // helpers outside #[test] functions are test code too

mod apart;
mod constructs;
mod exchanged;
mod findings;
mod orders;
mod places;
mod stock;
mod support;
mod total;
