//! The machine that was measured, as far as the figures depend on it.

use std::fs;

use anyhow::{Context as _, Result};
use jiff::Zoned;
use overcommit_tests::about;

/// The day and the machine in one paragraph, with the load average of the last minute: above 1, what is measured waits for
/// others. Asked before anything is started.
pub(crate) fn description() -> Result<String> {
    let loads = fs::read_to_string("/proc/loadavg")?;
    let load = loads.split(' ').next().context("/proc/loadavg is empty")?;
    let (day, machine) = (Zoned::now().date(), about::description()?);
    Ok(format!("*Measured on {day}: {machine} Load average of the minute before: {load}.*"))
}
