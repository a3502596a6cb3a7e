//! SIGTERM hands over (an upgrade and an uninstall look alike), and so do SIGHUP and SIGQUIT: a session that was closed is no
//! wish to leave guests to themselves. SIGINT on a host without Kubernetes releases.

use std::future::pending;
use std::sync::mpsc::Sender;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::tick::{Stop, Wake};

/// What a second signal is told: the first one is being obeyed.
pub(crate) const NOT_SHORTER: &str = "it is ending already, and nothing is cut short: what was taken would stay taken, with nobody to give it back";

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To hand over and end.
    HandOver,
    /// Ctrl-C.
    Interrupt,
}

/// The signals that ask for an end.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Absent where whoever started this wishes it to be ignored, as `nohup` does.
    hang_up: Option<Signal>,
    quit: Option<Signal>,
}

impl Signals {
    /// From now on they end nothing by themselves.
    ///
    /// # Errors
    /// When the process may not handle signals.
    pub(crate) fn new() -> std::io::Result<Self> {
        let status = procfs::process::Process::myself().and_then(|process| process.status());
        let ignored = status.map_or(0, |status| status.sigign);
        let unless_ignored = |kind: SignalKind| {
            let bit = ignored.checked_shr(u32::try_from(kind.as_raw_value()).unwrap_or(1).saturating_sub(1));
            (bit.unwrap_or(0) & 1 == 0).then(|| signal(kind)).transpose()
        };
        Ok(Self {
            hang_up: unless_ignored(SignalKind::hangup())?,
            quit: unless_ignored(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::HandOver,
            () = heard(&mut self.hang_up) => Asked::HandOver,
            () = heard(&mut self.quit) => Asked::HandOver,
            _ = self.interrupt.recv() => Asked::Interrupt,
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}

/// Turns signals into wakes until the loop is gone. A second one changes nothing; the keeper says so where there is one,
/// for it hears each of them.
///
/// # Errors
/// When the process may not handle signals.
pub(crate) fn forward(wakes: Sender<Wake>, interrupt_releases: bool, kept: bool) -> std::io::Result<()> {
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        let stop = match signals.next().await {
            Asked::Interrupt if interrupt_releases => Stop::Release,
            Asked::Interrupt | Asked::HandOver => Stop::Handover,
        };
        drop(wakes.send(Wake::Stop(stop)));
        loop {
            signals.next().await;
            if !kept {
                tracing::warn!("{NOT_SHORTER}");
            }
        }
    });
    Ok(())
}
