//! Questions on the socket, and who asks them.

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc::channel;

use overcommit_core::step::Release;
use tokio::runtime::Builder;

use super::*;

fn serve(stream: UnixStream, desk: &Desk) -> anyhow::Result<()> {
    stream.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { desk.serve(tokio::net::UnixStream::from_std(stream)?).await })
}

/// What is answered to these bytes, and whether a release was asked for.
fn ask(question: &[u8]) -> (Option<Value>, bool) {
    let (client, server) = UnixStream::pair().unwrap();
    let (wakes, inbox) = channel();
    let a_loop_without_orders = std::thread::spawn(move || {
        let mut released = false;
        for wake in inbox {
            match wake {
                Wake::Ask(reply) => reply.send(None).unwrap(),
                Wake::AskProgram(reply) => reply.send(None).unwrap(),
                Wake::Release => released = true,
                _ => {}
            }
        }
        released
    });
    let server = std::thread::spawn(move || drop(serve(server, &Desk::new(wakes, None))));
    // Whoever sends too much finds the connection closed.
    drop((&client).write_all(question));
    drop(client.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    drop((&client).read_to_end(&mut answer));
    server.join().unwrap();
    (serde_json::from_slice(&answer).ok(), a_loop_without_orders.join().unwrap())
}

fn error(question: &[u8]) -> String {
    ask(question).0.unwrap()["error"].as_str().unwrap().to_owned()
}

#[test]
fn questions_are_answered_with_or_without_an_end_of_line() {
    for question in ["status", "status\n", " status \r\n"] {
        assert!(error(question.as_bytes()).contains("nothing is done yet"), "{question:?}");
    }
    let (answer, released) = ask(b"release\n");
    assert!(released && answer.is_some());
    assert!(error(b"explain a/b\n").contains("nothing is done yet"));
    assert!(error(b"explain \n").contains("name is missing"));
    assert!(error(b"program\n").contains("no program was evaluated yet"));
}

#[test]
fn anything_else_releases_nothing_and_gets_an_error_or_nothing() {
    let long = [b"release ".repeat(1 << 17), b"release\n".to_vec()].concat();
    let questions: [&[u8]; 11] = [
        b"",
        b"\n",
        b"\nrelease\n",
        b"release now\n",
        b"RELEASE\n",
        b"explain\n",
        b"explain \n",
        b"\xff\xfe\n",
        b"release\0\n",
        b"status\0",
        &long,
    ];
    for question in questions {
        let (answer, released) = ask(question);
        assert!(!released, "{:?}", question.get(..20).unwrap_or(question));
        assert!(answer.is_none_or(|a| a.get("error").is_some()));
    }
}

#[test]
fn whoever_says_nothing_or_a_letter_now_and_then_is_left_and_holds_nobody_up() {
    let (client, server) = UnixStream::pair().unwrap();
    let (wakes, _inbox) = channel();
    let patience = Patience { heard: Duration::from_millis(200), answered: Duration::from_millis(200) };
    let desk = Desk { patience, ..Desk::new(wakes, None) };
    let slow = std::thread::spawn(move || {
        while (&client).write_all(b"s").is_ok() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
    });
    assert!(serve(server, &desk).is_err());
    slow.join().unwrap();

    let temp = tempfile::tempdir().unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (wakes, inbox) = channel();
    std::thread::spawn(move || {
        for wake in inbox {
            if let Wake::Ask(reply) = wake {
                reply.send(None).unwrap();
            }
        }
    });
    listen(&socket(temp.path()), runtime.handle(), wakes, None, Reserve::open()).unwrap();
    let idle: Vec<_> = (0..300).map(|_| UnixStream::connect(socket(temp.path())).unwrap()).collect();
    let answer = put(temp.path(), "status").map_err(|failure| failure.words()).unwrap();
    assert!(answer["error"].as_str().unwrap().contains("nothing is done yet"), "{answer}");
    drop(idle);
}

#[test]
fn who_asks_an_agent_that_does_not_answer_is_told_so_and_what_follows() {
    let (client, server) = UnixStream::pair().unwrap();
    // A loop that hangs, and one that has ended.
    let (wakes, inbox) = channel();
    let patience = Patience { answered: Duration::from_millis(100), ..Patience::default() };
    let desk = Desk { patience, ..Desk::new(wakes, None) };
    (&client).write_all(b"release\n").unwrap();
    serve(server, &desk).unwrap();
    let mut told = String::new();
    (&client).read_to_string(&mut told).unwrap();
    assert!(
        told.contains("loop does not answer") && told.contains("not turned 70 s after its start"),
        "{told}"
    );
    assert!(matches!(inbox.try_recv(), Ok(Wake::Release)), "it does so when it turns again");
    for told in [
        understood("").unwrap_err(),
        unfinished(&ErrorKind::WouldBlock.into()),
        unfinished(&ErrorKind::ConnectionReset.into()),
    ] {
        let told = format!("{told:#}");
        assert!(told.contains("starts it anew") && told.contains("log"), "{told}");
        assert!(!told.contains("os error") && !told.contains("EOF"), "{told}");
    }
}

/// An agent that gives these answers, one after the other; what it was asked.
fn agent<const N: usize>(
    state_dir: &Path,
    answers: [&'static str; N],
) -> std::thread::JoinHandle<[String; N]> {
    let listener = UnixListener::bind(socket(state_dir)).unwrap();
    std::thread::spawn(move || {
        answers.map(|answer| {
            let (stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            BufReader::new(&stream).read_line(&mut asked).unwrap();
            (&stream).write_all(answer.as_bytes()).unwrap();
            asked
        })
    })
}

#[test]
fn a_release_waits_for_an_agent_that_has_done_nothing_yet_and_not_without_end() {
    let temp = tempfile::tempdir().unwrap();
    let error = r#"{"error":"nothing is done yet"}"#;
    let agent = agent(temp.path(), [error, r#"{"report":{"release":"Done"}}"#, error]);
    let answer = released(temp.path(), Pace::default(), drop).map_err(|failure| failure.words());
    assert_eq!(answer.unwrap()["report"]["release"], "Done");
    let no_time = Pace { begun_within: Duration::ZERO, ..Pace::default() };
    let failure = released(temp.path(), no_time, drop).unwrap_err();
    assert_eq!(failure.words().unwrap(), "nothing is done yet");
    assert_eq!(agent.join().unwrap(), ["release\n", "status\n", "release\n"]);
}

#[test]
fn a_release_says_at_once_what_it_waits_for_and_again_while_it_does() {
    let temp = tempfile::tempdir().unwrap();
    let blocked = r#"{"progress":"the node lacks 9 MiB","report":{"release":{"Blocked":{"short":9437184}}}}"#;
    let begun = r#"{"error":"nothing is done yet"}"#;
    let agent = agent(temp.path(), [begun, blocked, blocked, r#"{"report":{"release":"Done"}}"#]);
    let mut told = Vec::new();
    let each = Pace { told_each: Duration::ZERO, ..Pace::default() };
    released(temp.path(), each, |words| told.push(words)).map_err(|failure| failure.words()).unwrap();
    agent.join().unwrap();
    let begins = |n: usize, words: &str| told[n].starts_with(words) && told[n].ends_with(" s more");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(begins(0, "giving back: nothing is done yet, for at most 1"), "{told:?}");
    assert!(begins(1, "giving back: the node lacks 9 MiB, for at most 11"), "{told:?}");
    assert!(begins(2, "giving back: the node lacks 9 MiB, for at most 11"), "{told:?}");
}

#[test]
fn what_a_release_waits_for_is_told_as_by_an_agent_that_ends_with_one() {
    let mib = overcommit_core::units::Bytes::from_mib;
    let told = |release, whom| lines::giving_back(release, whom);
    assert_eq!(told(Some(Release::Underway { outstanding: mib(30) }), None), "30.0 MiB to go");
    assert_eq!(told(Some(Release::Underway { outstanding: mib(0) }), Some("guests")), "waits for guests");
    let blocked = Some(Release::Blocked { short: mib(115) });
    assert_eq!(told(blocked, None), "the node lacks 115.0 MiB; more comes as memory becomes free");
    assert!(told(blocked, Some("guests")).ends_with("becomes free, and it waits for guests"));
    assert_eq!(told(None, None), "what guests hold is being asked");
}

#[test]
fn a_guest_of_any_name_is_explained_or_missed_by_it() {
    let latest = serde_json::json!({
        "explain": { "n/\"g\u{1}": "because" },
        "report": { "guests": [{ "name": { "namespace": "n", "name": "\"g\u{1}" } }, 7, {}] },
    });
    assert_eq!(explained(&latest, "n/\"g\u{1}")["text"], "because");
    assert!(explained(&latest, "n/\"g\u{1}")["report"].is_object());
    for (latest, guest) in
        [(&latest, ""), (&latest, "n"), (&Value::Null, "n/g"), (&serde_json::json!([1]), "0")]
    {
        assert!(explained(latest, guest)["error"].as_str().unwrap().contains("no guest"), "{guest}");
    }
}

#[test]
fn whoever_misses_a_guest_is_told_which_there_are_and_what_may_hide_it() {
    let latest = serde_json::json!({ "explain": { "n/g": "", "n/h": "" }, "report": { "troubles": ["libvirt hangs"] } });
    let told = explained(&latest, "n/i")["error"].as_str().unwrap().to_owned();
    assert_eq!(told, "no guest \"n/i\" here; there are: n/g, n/h\n  ! libvirt hangs");
}

#[test]
fn who_may_not_ask_is_told_so_and_who_finds_nobody_where_it_was_looked_for() {
    let told = |kind: ErrorKind| {
        format!("{:#}", unanswered(Path::new("/state/agent.sock"), std::io::Error::from(kind)))
    };
    let refused = told(ErrorKind::PermissionDenied);
    assert!(refused.contains("only root may ask") && !refused.contains("is it running"), "{refused}");
    for kind in [ErrorKind::NotFound, ErrorKind::ConnectionRefused] {
        assert!(told(kind).contains("no agent answers on /state/agent.sock: is it running"), "{kind}");
    }
}
