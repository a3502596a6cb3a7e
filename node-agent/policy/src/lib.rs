//! The policy language of MOM, oVirt's Memory Overcommitment Manager: text to [`Program`], and a program over a [`World`]
//! to values and proposals.
//!
//! It faces text of strangers. So everything here is total: each step has a budget ([`Limits`]), nothing recurses without a
//! bound, nothing panics; what is wrong has a place. A program writes nothing: it leaves proposals in the world, and whoever
//! acts on them decides.
//!
//! *Architecture invariant:* nothing here knows kube, tokio, virt, procfs or the core, reads a clock, or touches a file.
//!
//! `source` → `lex` → `parse` → `program` → `eval`; `check` looks at a program that is not run. What the language means and
//! where it differs from MOM stands in `docs/mom.md`.

mod builtin;
mod check;
mod eval;
pub mod exchange;
mod globals;
mod lex;
mod limits;
mod number;
mod ops;
mod parse;
mod program;
mod scopes;
mod source;
mod syntax;
mod value;
mod words;
pub mod world;

pub use check::{Finding, Severity, check};
pub use eval::{Evaluation, GuestTrouble, Trouble, evaluate};
pub use lex::is_number;
pub use limits::Limits;
pub use number::MAX_BITS;
pub use program::Program;
pub use source::{MAX_BYTES, Place, Source};
pub use value::{Entity, Function, List, Method, Value};
pub use world::World;
