//! Proof against the real thing: MOM's own evaluator and ours on the same programs and data. Whatever differs stands in
//! `docs/mom.md` by its name (`differences.rs`), or is a bug.

mod checked;
mod command;
mod corpus;
mod differences;
mod generate;
mod generated;
mod ours;
mod stock;
mod worlds;
