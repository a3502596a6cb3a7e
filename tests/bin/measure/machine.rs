//! The machine that was measured, as far as the figures depend on it.

use std::fs;

use anyhow::Result;
use overcommit_tests::about;

/// Load average of the last minute: above 1, what is measured waits for others.
pub(crate) fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// The machine in one paragraph; `load` is that before anything was started.
pub(crate) fn description(load: &str) -> Result<String> {
    Ok(format!("{} Load average of the minute before: {load}.", about::description()?))
}
