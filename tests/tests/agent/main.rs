//! The agent on real guests under libvirt, which do what guests do, or do not do what is expected of them.
#![cfg(test)]

mod without_orders;
/// Run several at a time: see `make test`.
mod waits {
    mod blocked;
    mod capped;
    mod conduct;
    mod contested;
    mod descriptors;
    mod faults;
    mod guests;
    mod keeper;
    mod learned;
    mod lies;
    mod silent;
    mod told;
    mod turns;
    mod unanswered;
}
