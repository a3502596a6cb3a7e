//! One target under libFuzzer: `FUZZ_TARGET` names it.

#![no_main]

use std::sync::LazyLock;

use overcommit_fuzz::{TARGETS, Target};

/// libFuzzer owns the command line, so the environment is all that is left.
static TARGET: LazyLock<Option<&Target>> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = overcommit_fuzz::target(&name);
    if target.is_none() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("FUZZ_TARGET={name:?} is none of {names:?}");
        std::process::exit(2);
    }
    target
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(target) = *TARGET {
        (target.check)(bytes);
    }
});
