//! The decisions over courses of turns: chosen ones, and generated ones for which every invariant must hold. One program,
//! because what generates courses takes longer to compile, optimised, than to run.
#![cfg(test)]

mod allocations;
mod contested;
mod course;
mod courses;
mod found;
mod host_swap;
mod hostile_claims;
mod invariants;
mod invariants_absurd;
mod invariants_any_engine;
mod invariants_relief;
mod invariants_totality;
mod invariants_trust;
mod invariants_turns;
mod invariants_undo;
mod late_facts;
mod measure;
mod merged;
mod needs;
mod paying;
mod plugged;
mod programs;
mod seen_from_outside;
mod takes;
mod turns;
mod world;
