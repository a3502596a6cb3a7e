//! Who comes to the socket is let in, also by a process that may open no further file: somebody who sees that something is
//! wrong asks just then.

use std::fs::File;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use overcommit_host::more_files;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::Desk;

/// So many connections are open at a time. Who comes later waits in the kernel's queue for one of these to end, which are
/// idle for `Patience::heard` at most.
const OPEN: usize = 256;
/// Pause after a connection that could not be accepted: out of file descriptors, trying at once would spin.
const BACK_OFF: Duration = Duration::from_secs(1);

/// A file that is open for nothing but its descriptor, which is given up to take a connection when there is no other. It is
/// to be the first that a process opens: a limit that is lowered later refuses the larger numbers, whoever let go of them.
#[derive(Debug)]
pub(crate) struct Reserve(Option<File>);

impl Reserve {
    /// Opens it; where no file can be opened there is none.
    pub(crate) fn open() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Takes a connection in its place.
    async fn accept(&mut self, listener: &UnixListener) -> Came {
        if self.0.take().is_none() {
            return Came::Unheard;
        }
        // At once, or others would take the descriptor.
        match poll_fn(|context| Poll::Ready(listener.poll_accept(context))).await {
            Poll::Ready(Ok((stream, _))) => Came::One(stream),
            Poll::Ready(Err(_)) => Came::Unheard,
            Poll::Pending => Came::Nobody,
        }
    }

    /// Opens it anew, as soon as that can be done.
    fn keep(&mut self) {
        if self.0.is_none() {
            *self = Self::open();
        }
    }
}

/// Who came.
enum Came {
    One(UnixStream),
    /// The kernel wants a descriptor before it looks whether there is anybody.
    Nobody,
    /// That is not known.
    Unheard,
}

/// Lets in who comes, until the runtime ends.
pub(super) async fn attend(listener: UnixListener, desk: Desk, mut reserve: Reserve) {
    let open = Arc::new(Semaphore::new(OPEN));
    let mut shut = false;
    // It is never closed.
    while let Ok(place) = Arc::clone(&open).acquire_owned().await {
        reserve.keep();
        match listener.accept().await {
            Ok((stream, _)) => {
                if std::mem::take(&mut shut) {
                    tracing::info!("no longer: questions on the socket cannot be taken");
                }
                let desk = desk.clone();
                tokio::spawn(async move {
                    converse(&desk, stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut shut, true) {
                    let remedy = more_files(&error).map_or_else(String::new, |remedy| format!("; {remedy}"));
                    tracing::warn!(
                        "questions on the socket cannot be taken ({error}), or one at a time{remedy}"
                    );
                }
                // One at a time: its descriptor is the next one's.
                match reserve.accept(&listener).await {
                    Came::One(stream) => converse(&desk, stream).await,
                    Came::Nobody => {}
                    Came::Unheard => sleep(BACK_OFF).await,
                }
            }
        }
    }
}

async fn converse(desk: &Desk, stream: UnixStream) {
    if let Err(error) = desk.serve(stream).await {
        tracing::debug!(%error, "a question on the socket was not answered");
    }
}
