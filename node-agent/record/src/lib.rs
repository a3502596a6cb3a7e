//! What the loop of a node was told and what it decided, so that every decision can be made again.
//!
//! `line` is the format; [`Recorder`] writes it while decisions are made, and owns the [`State`](overcommit_core::step::State)
//! meanwhile, so that nothing can change it unrecorded; [`Player`] makes the decisions again; `file` is where lines lie:
//! compressed, in two files of bounded size.
//!
//! *Architecture invariant:* a recording holds everything that a decision rests on, and nothing here decides. Recording changes no
//! decision, and waits for no disk: who takes the lines may lose some, and says so.

mod decided;
mod delta;
mod file;
mod line;
mod player;
mod recorder;
mod spool;

pub use decided::Decided;
pub use file::{Faults, NotRead, Reader, Writer, read};
pub use line::Line;
pub use player::{Made, NotPlayed, Played, Player};
pub use recorder::{Before, Recorder, Tape};
pub use spool::Spool;
