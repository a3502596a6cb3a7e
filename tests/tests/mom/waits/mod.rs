//! MOM and the agent beside each other on real guests.

mod commands;
mod fields;
mod stage;
