//! The loop's side of its keeper: it says when it will be back, and notices when nobody looks after it any more.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::net::{SendFlags, send};

use crate::tick::{Stop, Wake};

/// What a loop says at each turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    /// It turns again within this time.
    pub(crate) back_within: Duration,
}

impl Beat {
    /// Bytes on the wire: milliseconds, little-endian.
    pub(crate) const SIZE: usize = 8;

    /// From the wire.
    pub(crate) fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        Self { back_within: Duration::from_millis(u64::from_le_bytes(bytes)) }
    }

    fn to_bytes(self) -> [u8; Self::SIZE] {
        u64::try_from(self.back_within.as_millis()).unwrap_or(u64::MAX).to_le_bytes()
    }
}

/// Tells the keeper; tells nobody where there is none.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Option<UnixStream>);

impl Pulse {
    /// To the keeper at the other end of standard input. Hands over when it is gone.
    ///
    /// # Errors
    /// When standard input is no keeper.
    pub(crate) fn to_keeper(wakes: Sender<Wake>) -> anyhow::Result<Self> {
        let stream = UnixStream::from(rustix::io::dup(std::io::stdin())?);
        let mut ears = stream.try_clone()?;
        std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            // It says nothing; the end of its words is its end.
            while ears.read(&mut [0; 16]).is_ok_and(|count| count > 0) {}
            tracing::error!("the process that looks after this one is gone");
            drop(wakes.send(Wake::Stop(Stop::Handover)));
        })?;
        Ok(Self(Some(stream)))
    }

    /// The loop turns, and will again within this time. What does not fit is not said: the keeper reads each second.
    pub(crate) fn back_within(&self, back_within: Duration) {
        if let Some(stream) = &self.0 {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = send(stream, &Beat { back_within }.to_bytes(), flags);
        }
    }
}
