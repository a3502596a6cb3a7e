//! Logs, on standard error.

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// What the client logs of its errors is told again by us, with what follows from it. A filter may ask for it.
const CLIENT: &str = "kube_client=off,kube_runtime=off";

/// Starts logging.
///
/// # Errors
/// A filter that cannot be read.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let quieter = format!("{CLIENT},{filter}");
    let filter = EnvFilter::try_new(quieter).map_err(|e| format!("--log {filter:?}: {e}"))?;
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => base.with_ansi(false).init(),
        LogFormat::Json => base.json().flatten_event(true).init(),
    }
    Ok(())
}
