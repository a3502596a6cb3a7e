//! Worlds and results as JSON, for `policy eval` and `policy input`.
//!
//! Not by `serde_json`: it reads an integer of more than 64 bits as a float, and a float to within the last digit, unless
//! features are on that change what it does for the whole workspace. Here numbers come out as they went in.

mod json;
mod read;
mod write;

pub use read::{MAX_INPUT, read};
pub use write::{write, write_world};
