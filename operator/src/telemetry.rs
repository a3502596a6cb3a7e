//! Logs, on standard error.

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Starts logging.
///
/// # Errors
/// A filter that cannot be read.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("--log {filter:?}: {e}"))?;
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => base.with_ansi(false).init(),
        LogFormat::Json => base.json().flatten_event(true).init(),
    }
    Ok(())
}
