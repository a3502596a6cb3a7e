//! SIGTERM hands over (an upgrade and an uninstall look alike), SIGINT on a host without Kubernetes releases.

use std::sync::mpsc::Sender;

use tokio::signal::unix::{SignalKind, signal};

use crate::tick::{Stop, Wake};

/// Turns signals into wakes until the loop is gone.
///
/// # Errors
/// When the process may not handle signals.
pub(crate) fn forward(wakes: Sender<Wake>, interrupt_releases: bool) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let stop = tokio::select! {
            _ = terminate.recv() => Stop::Handover,
            _ = interrupt.recv() => if interrupt_releases { Stop::Release } else { Stop::Handover },
        };
        tracing::info!(?stop, "stopping");
        drop(wakes.send(Wake::Stop(stop)));
    });
    Ok(())
}
