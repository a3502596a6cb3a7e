use std::os::unix::net::UnixListener;

use super::*;

/// A daemon's listener, its inode, and where it lives.
fn daemon() -> (tempfile::TempDir, UnixListener, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let (listener, inode) = listen(dir.path()).unwrap();
    (dir, listener, inode)
}

/// A client that is connected to a daemon through a door.
fn through_a_door() -> (UnixStream, UnixStream) {
    let (_dir, listener, inode) = daemon();
    let door = Door::open(&inode).unwrap();
    let client = UnixStream::connect(door.path()).unwrap();
    let (daemon, _) = listener.accept().unwrap();
    for stream in [&client, &daemon] {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    (client, daemon)
}

fn message(length: u32) -> Vec<u8> {
    let mut message = vec![7; usize::try_from(length).unwrap()];
    message[..4].copy_from_slice(&length.to_be_bytes());
    message
}

fn read(stream: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// What comes before the end of the connection.
fn rest(stream: &mut UnixStream) -> usize {
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes));
    bytes.len()
}

#[test]
fn what_is_no_longer_than_it_may_be_passes_in_both_directions_as_it_is() {
    let (mut client, mut daemon) = through_a_door();
    for length in [SHORTEST, 30_000, SHORT + 1, LONGEST] {
        client.write_all(b"question").unwrap();
        assert_eq!(read(&mut daemon, 8), b"question");
        let sent = message(length);
        let mut writer = daemon.try_clone().unwrap();
        let bytes = sent.clone();
        let writing = thread::spawn(move || writer.write_all(&bytes).unwrap());
        assert!(read(&mut client, sent.len()) == sent, "{length}");
        writing.join().unwrap();
    }
    // Two at once, and one in pieces.
    let two = [message(40), message(50)].concat();
    daemon.write_all(&two).unwrap();
    assert_eq!(read(&mut client, 90), two);
    for byte in message(32) {
        daemon.write_all(&[byte]).unwrap();
    }
    assert_eq!(read(&mut client, 32), message(32));
    drop(client);
    assert_eq!(rest(&mut daemon), 0, "an end is an end on both sides");
}

#[test]
fn a_promise_of_more_than_is_read_ends_the_connection_before_the_client_hears_of_it() {
    for length in [LONGEST + 1, 32 << 20, u32::MAX, 0, SHORTEST - 1] {
        let (mut client, mut daemon) = through_a_door();
        drop(daemon.write_all(&length.to_be_bytes()));
        assert!(rest(&mut client) < 4, "{length}");
        assert_eq!(rest(&mut daemon), 0);
    }
}

#[test]
fn a_message_that_does_not_come_to_its_end_ends_the_connection() {
    let (mut client, mut daemon) = through_a_door();
    daemon.write_all(&message(1000)[..999]).unwrap();
    let began = Instant::now();
    assert_eq!(rest(&mut client), 999);
    assert!(began.elapsed() < COMPLETE_WITHIN * 2, "{:?}", began.elapsed());
}

#[test]
fn only_so_many_long_messages_are_under_way_until_their_clients_ask_anew() {
    let turns = Turns { taken: Mutex::new(0), freed: Condvar::new() };
    let new = || Messages::new(&turns);
    let mut all: Vec<Messages<'_>> = (0..LONG_AT_ONCE).map(|_| new()).collect();
    for messages in &mut all {
        messages.pass(&message(SHORT + 1)).unwrap();
        messages.pass(&message(SHORT + 1)).unwrap();
    }
    let mut next = new();
    next.pass(&message(SHORT)).unwrap();
    assert!(next.pass(&message(SHORT + 1)).is_err(), "all turns are taken");
    all.pop();
    new().pass(&message(SHORT + 1)).unwrap();
}

#[test]
fn a_daemon_that_takes_no_connection_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    let path = dir.path().join("full.sock");
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let _filler = UnixStream::connect(&path).unwrap();
    let inode = rustix::fs::open(&path, OFlags::PATH, Mode::empty()).unwrap();
    assert_eq!(Door::open(&inode).unwrap_err().kind(), ErrorKind::WouldBlock);
}
