//! Proof against the real thing: MOM's own evaluator and ours on the same programs and data. Whatever differs stands in
//! `docs/mom.md` by its name (`differences.rs`), or is a bug.

#[cfg(test)]
mod checked;
#[cfg(test)]
mod command;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod differences;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod ours;
#[cfg(test)]
mod stock;
#[cfg(test)]
mod waits;
#[cfg(test)]
mod worlds;
