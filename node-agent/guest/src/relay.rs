//! What stands between libvirt's client and a launcher's daemon, which may be a tenant's: the client makes room for any
//! answer of up to 32 MiB that it is promised (`VIR_NET_MESSAGE_MAX`, src/rpc/virnetprotocol.x), for each connection at
//! once, and waits for the rest of it without end.
//!
//! Bytes pass as they are. Of what the daemon sends, each message is as long as its first word says; one that is too long,
//! or does not come to its end in time, ends the connection, and only so many long ones are under way at once.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

/// Longest message that passes: the longest definition that is read, and what is around it.
const LONGEST: u32 = (1 << 20) + (64 << 10);
/// Longest message that needs no turn: definitions are about 30 KiB.
const SHORT: u32 = 128 << 10;
/// How many longer ones are under way at once. With two copies of each in the client that is 34 MiB, beside 256 KiB for each
/// connection.
const LONG_AT_ONCE: usize = 16;
/// A message that takes longer from its first byte to its last is not waited for; a daemon writes it at once.
const COMPLETE_WITHIN: Duration = Duration::from_secs(5);
/// What is carried at once.
const PIECE: usize = 16 << 10;
/// Length of the word in front of a message, which counts itself (`VIR_NET_MESSAGE_LEN_MAX`, src/rpc/virnetprotocol.x).
const HEAD: u32 = 4;
/// Shortest message: that word and a header (`virNetMessageHeader`, same file).
const SHORTEST: u32 = HEAD + 24;
/// Where a socket may be made for a moment: memory that every container has, else the usual place.
const SHARED_MEMORY: &str = "/dev/shm";
/// Nothing here recurses.
const STACK: usize = 128 << 10;

/// The turns of long messages, of all connections.
static TURNS: Turns = Turns { taken: Mutex::new(0), freed: Condvar::new() };

/// What libvirt's client connects to, once; kept until it has.
#[derive(Debug)]
pub(crate) struct Door(OwnedFd);

impl Door {
    /// A door to the daemon whose socket is `daemon`, which is connected to at once.
    ///
    /// # Errors
    /// When the daemon takes no connection, or no socket can be made.
    pub(crate) fn open(daemon: &OwnedFd) -> io::Result<Self> {
        let daemon = knock(daemon)?;
        let (listener, inode) =
            listen(Path::new(SHARED_MEMORY)).or_else(|_| listen(&std::env::temp_dir()))?;
        thread::Builder::new().name("relay".to_owned()).stack_size(STACK).spawn(move || {
            let client = accept(&listener);
            drop(listener);
            if let Err(error) = client.and_then(|client| serve(client, daemon, &TURNS)) {
                tracing::debug!(%error, "a connection to a launcher's libvirt was ended");
            }
        })?;
        Ok(Self(inode))
    }

    /// Its path, for as long as it lives.
    pub(crate) fn path(&self) -> String {
        path(&self.0)
    }
}

fn path(inode: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", inode.as_raw_fd())
}

/// A listener whose socket has no name any more when this returns.
fn listen(dir: &Path) -> io::Result<(UnixListener, OwnedFd)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = dir.join(format!("overcommit-{}-{number}.sock", std::process::id()));
    // Left by a process that was killed right here and had the same pid.
    drop(std::fs::remove_file(&name));
    let listener = UnixListener::bind(&name)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inode = rustix::fs::open(&name, flags, Mode::empty());
    std::fs::remove_file(&name)?;
    Ok((listener, inode?))
}

/// The client, which is this very process.
fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    let mut ready = [PollFd::new(listener, PollFlags::IN)];
    retry_on_intr(|| poll(&mut ready, Some(&timespec(COMPLETE_WITHIN))))?;
    listener.set_nonblocking(true)?;
    let (client, _) = listener.accept()?;
    let peer = sockopt::socket_peercred(&client)?.pid.as_raw_nonzero().get();
    if u32::try_from(peer) != Ok(std::process::id()) {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "somebody else connected"));
    }
    client.set_nonblocking(false)?;
    Ok(client)
}

/// The daemon. Never waits: a full queue of connections is a refusal.
fn knock(daemon: &OwnedFd) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path(daemon))?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// Carries until either side closes.
///
/// # Errors
/// What made this side close both.
fn serve(mut client: UnixStream, mut daemon: UnixStream, turns: &Turns) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut messages = Messages::new(turns);
    // Whoever does not read is not waited for.
    client.set_write_timeout(Some(COMPLETE_WITHIN))?;
    daemon.set_write_timeout(Some(COMPLETE_WITHIN))?;
    loop {
        let patience = messages.patience()?.map(timespec);
        let mut ready = [PollFd::new(&client, PollFlags::IN), PollFd::new(&daemon, PollFlags::IN)];
        retry_on_intr(|| poll(&mut ready, patience.as_ref()))?;
        let [from_client, from_daemon] = ready.map(|fd| !fd.revents().is_empty());
        if from_client {
            let count = client.read(&mut piece)?;
            // It asks anew, so it is done with what came.
            messages.turn = None;
            match piece.get(..count).unwrap_or_default() {
                [] => return Ok(()),
                bytes => daemon.write_all(bytes)?,
            }
        }
        if from_daemon {
            let count = daemon.read(&mut piece)?;
            match piece.get(..count).unwrap_or_default() {
                [] => return Ok(()),
                bytes => {
                    messages.pass(bytes)?;
                    client.write_all(bytes)?;
                }
            }
        }
    }
}

/// Where in the daemon's messages the connection is.
struct Messages<'t> {
    turns: &'t Turns,
    /// What is known of the length of the next one, and how many bytes of the word that is.
    head: u32,
    known: u32,
    /// What is still to come of the present one.
    left: u32,
    /// When the present one began.
    since: Option<Instant>,
    /// Held from the head of a long one until the client asks anew.
    turn: Option<Turn<'t>>,
}

/// How many of these pieces pass, one after the other.
pub(crate) fn passing<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> usize {
    let turns = Turns { taken: Mutex::new(0), freed: Condvar::new() };
    let mut messages = Messages::new(&turns);
    pieces.take_while(|piece| messages.pass(piece).is_ok()).count()
}

impl<'t> Messages<'t> {
    fn new(turns: &'t Turns) -> Self {
        Self { turns, head: 0, known: 0, left: 0, since: None, turn: None }
    }

    /// How much longer the present one may take; absent between two.
    fn patience(&self) -> io::Result<Option<Duration>> {
        let Some(since) = self.since else { return Ok(None) };
        let left = COMPLETE_WITHIN.checked_sub(since.elapsed()).filter(|left| !left.is_zero());
        left.map(Some).ok_or_else(|| refusal("a message that does not come to its end"))
    }

    /// Takes note of bytes that are to pass.
    fn pass(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let [first, rest @ ..] = bytes {
            self.since.get_or_insert_with(Instant::now);
            if self.left > 0 {
                let within = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left = self.left.saturating_sub(u32::try_from(within).unwrap_or(u32::MAX));
                bytes = bytes.get(within..).unwrap_or_default();
            } else {
                self.head = self.head << 8 | u32::from(*first);
                self.known = self.known.saturating_add(1);
                bytes = rest;
                if self.known == HEAD {
                    self.begin()?;
                }
            }
            if self.left == 0 && self.known == 0 {
                self.since = None;
            }
        }
        Ok(())
    }

    /// The length of a message is known.
    fn begin(&mut self) -> io::Result<()> {
        let length = std::mem::take(&mut self.head);
        self.known = 0;
        if !(SHORTEST..=LONGEST).contains(&length) {
            return Err(refusal("a message longer than any that is read, or no message at all"));
        }
        self.left = length.saturating_sub(HEAD);
        if length > SHORT && self.turn.is_none() {
            self.turn = Some(self.turns.take()?);
        }
        Ok(())
    }
}

fn refusal(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

/// Turns of long messages.
struct Turns {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// One of them.
struct Turn<'t>(&'t Turns);

impl Turns {
    /// Waits for one, no longer than a message may take.
    fn take(&self) -> io::Result<Turn<'_>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all_taken = |taken: &mut usize| *taken >= LONG_AT_ONCE;
        let waited = self.freed.wait_timeout_while(taken, COMPLETE_WITHIN, all_taken);
        let (mut taken, late) = waited.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            return Err(refusal("a long message, of which too many are under way"));
        }
        *taken = taken.saturating_add(1);
        Ok(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(1);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests;
