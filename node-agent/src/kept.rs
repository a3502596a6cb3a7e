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
    /// Everything was asked back of it.
    pub(crate) released: bool,
}

impl Beat {
    /// Bytes on the wire: a little-endian number, whose highest bit says that everything was asked back and whose others
    /// are milliseconds.
    pub(crate) const SIZE: usize = 8;
    const RELEASED: u64 = 1 << 63;

    /// From the wire.
    pub(crate) fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let word = u64::from_le_bytes(bytes);
        let back_within = Duration::from_millis(word & !Self::RELEASED);
        Self { back_within, released: word & Self::RELEASED != 0 }
    }

    fn to_bytes(self) -> [u8; Self::SIZE] {
        let millis = u64::try_from(self.back_within.as_millis()).unwrap_or(u64::MAX) & !Self::RELEASED;
        (millis | if self.released { Self::RELEASED } else { 0 }).to_le_bytes()
    }
}

/// Tells the keeper; tells nobody where there is none.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    keeper: Option<UnixStream>,
    released: bool,
}

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
        Ok(Self { keeper: Some(stream), released: false })
    }

    /// The loop turns, and will again within this time. What does not fit is not said: the keeper reads each second.
    pub(crate) fn back_within(&self, back_within: Duration) {
        if let Some(stream) = &self.keeper {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = send(stream, &Beat { back_within, released: self.released }.to_bytes(), flags);
        }
    }

    /// Everything was asked back.
    pub(crate) fn released(&mut self) {
        self.released = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_heard_as_it_was_said() {
        for released in [false, true] {
            for millis in [0, 5, 200, 3_600_000] {
                let beat = Beat { back_within: Duration::from_millis(millis), released };
                assert_eq!(Beat::from_bytes(beat.to_bytes()), beat);
            }
        }
    }
}
