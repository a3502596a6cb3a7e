//! The socket in the state directory: `status`, `explain`, `policy input` and `release` of a running agent, for root only.
//!
//! One line in, one JSON document out, then the connection ends.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::Value;

use crate::args::{Ask, Explain, Output};
use crate::contact::Contact;
use crate::report::{explain, lines};
use crate::run::Failure;
use crate::tick::Wake;

/// A question is a word; more is not read.
const MAX_QUESTION: u64 = 1024;
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause after a connection that could not be accepted: out of file descriptors, trying at once would spin.
const BACK_OFF: Duration = Duration::from_secs(1);
const RELEASE_PATIENCE: Duration = Duration::from_mins(2);
/// An agent that has done nothing yet does so within this time if there is anything to be given back: it looks for launchers,
/// their guests and the kernel's word about them, for 2 s each at most.
const BEGUN_WITHIN: Duration = Duration::from_secs(10);

/// Listens on the socket until the process ends.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn listen(path: &Path, wakes: Sender<Wake>, contact: Option<Arc<Contact>>) -> anyhow::Result<()> {
    // The state directory is locked: whoever made the old socket is gone.
    drop(std::fs::remove_file(path));
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a question on the socket cannot be taken");
                    std::thread::park_timeout(BACK_OFF);
                    continue;
                }
            };
            match catch_unwind(AssertUnwindSafe(|| serve(&stream, &wakes, contact.as_deref()))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a question on the socket was not answered"),
                Err(_) => tracing::error!("answering a question on the socket failed inside"),
            }
        }
    })?;
    Ok(())
}

/// Where the socket of a state directory is.
pub(crate) fn socket(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join("agent.sock")
}

fn serve(stream: &UnixStream, wakes: &Sender<Wake>, contact: Option<&Contact>) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut question = String::new();
    BufReader::new(stream.take(MAX_QUESTION)).read_line(&mut question)?;
    let answer = match question.trim().split_once(' ') {
        None if question.trim() == "status" => latest(wakes, contact)?,
        None if question.trim() == "release" => {
            wakes.send(Wake::Release)?;
            latest(wakes, contact)?
        }
        None if question.trim() == "program" => program_saw(wakes)?,
        Some(("explain", guest)) => explained(&latest(wakes, contact)?, guest),
        _ => serde_json::json!({ "error": "unknown question" }),
    };
    (&mut &*stream).write_all(answer.to_string().as_bytes())?;
    Ok(())
}

fn latest(wakes: &Sender<Wake>, contact: Option<&Contact>) -> anyhow::Result<Value> {
    let (reply, answer) = sync_channel(1);
    wakes.send(Wake::Ask(reply))?;
    let report = answer.recv_timeout(PATIENCE)?;
    Ok(match report {
        None => {
            let why = contact.map(Contact::without_orders);
            let why = why.unwrap_or_else(|| "the first turn is under way".to_owned());
            serde_json::json!({ "error": format!("nothing is done yet: {why}") })
        }
        Some(report) => serde_json::json!({ "report": &*report, "text": lines::table(&report), "explain":
            report.guests.iter().map(|g| (g.name.to_string(), Value::from(explain::explanation(&report, g)))).collect::<serde_json::Map<_, _>>() }),
    })
}

/// As texts, as which they are put together again: numbers of programs may be longer than those of this JSON.
fn program_saw(wakes: &Sender<Wake>) -> anyhow::Result<Value> {
    let (reply, answer) = sync_channel(1);
    wakes.send(Wake::AskProgram(reply))?;
    Ok(match answer.recv_timeout(PATIENCE)? {
        None => {
            serde_json::json!({ "error": "no program was evaluated yet: the policy has none (engine.mom), gives everything back, \
            or its first cycle is under way" })
        }
        Some(seen) => {
            serde_json::json!({ "report": { "input": seen.input, "said": seen.said } })
        }
    })
}

fn explained(latest: &Value, guest: &str) -> Value {
    if latest.get("error").is_some() {
        return latest.clone();
    }
    let Some(text) = latest.get("explain").and_then(|e| e.get(guest)) else {
        return serde_json::json!({ "error": missed(latest, guest) });
    };
    let guests = latest.get("report").and_then(|r| r.get("guests")).and_then(Value::as_array);
    let named = |g: &&Value| {
        let part = |key: &str| g.get("name").and_then(|n| n.get(key)).and_then(Value::as_str);
        part("namespace")
            .map_or_else(|| part("name").map(str::to_owned), |ns| part("name").map(|n| format!("{ns}/{n}")))
            .is_some_and(|full| full == guest)
    };
    serde_json::json!({ "report": guests.and_then(|all| all.iter().find(named)), "text": text })
}

/// Which guests there are instead, and what may hide one.
fn missed(latest: &Value, guest: &str) -> String {
    let known: Vec<&str> = latest
        .get("explain")
        .and_then(Value::as_object)
        .map_or_else(Vec::new, |known| known.keys().map(String::as_str).collect());
    let there = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let troubles = latest.pointer("/report/troubles").and_then(Value::as_array);
    let told = troubles.into_iter().flatten().filter_map(Value::as_str);
    let unlisted = latest.pointer("/report/unlisted/pods").and_then(Value::as_u64).filter(|pods| *pods > 0);
    let unlisted = unlisted
        .map_or_else(String::new, |pods| format!("; and {pods} that look like guests and are not listed"));
    let there = format!("no guest {guest:?} here; there are: {there}{unlisted}");
    told.fold(there, |all, trouble| all + "\n  ! " + trouble)
}

/// `overcommit-agent status`.
pub(crate) fn status(ask: &Ask) -> Result<(), Failure> {
    show(&question(&ask.state_dir, "status")?, ask.output)
}

/// `overcommit-agent explain GUEST`.
pub(crate) fn explain(explain: &Explain) -> Result<(), Failure> {
    let answer = question(&explain.ask.state_dir, &format!("explain {}", explain.guest))?;
    show(&answer, explain.ask.output)
}

/// `overcommit-agent policy input`.
pub(crate) fn program(ask: &Ask) -> Result<(), Failure> {
    let answer = question(&ask.state_dir, "program")?;
    let part = |path| answer.pointer(path).and_then(Value::as_str).unwrap_or("null");
    let (input, said) = (part("/report/input"), part("/report/said"));
    say(&match ask.output {
        Output::Json => format!("{{\"input\":{input},\"said\":{said}}}\n"),
        Output::Text => format!("{input}\n"),
    })
}

/// `overcommit-agent release`: asks, then waits until it is done.
pub(crate) fn release(ask: &Ask) -> Result<(), Failure> {
    let answer = released(&ask.state_dir, BEGUN_WITHIN)?;
    show(&answer, ask.output)?;
    match answer.pointer("/report/release") {
        Some(state) if state == "Done" => Ok(()),
        state => {
            let state = state.unwrap_or(&Value::Null);
            Err(Failure::failed(anyhow!("not everything could be given back: {state}")))
        }
    }
}

/// Asks for everything back, and waits until it is given or the patience is over; fails if nothing was begun within this time.
fn released(state_dir: &Path, begun_within: Duration) -> Result<Value, Failure> {
    let began = Instant::now();
    let mut answer = put(state_dir, "release")?;
    loop {
        let is_done = answer.pointer("/report/release").is_some_and(|state| state == "Done");
        if is_done || began.elapsed() >= RELEASE_PATIENCE {
            return Ok(answer);
        }
        if began.elapsed() >= begun_within {
            unless_error(answer)?;
        }
        std::thread::park_timeout(Duration::from_secs(1));
        answer = put(state_dir, "status")?;
    }
}

fn question(state_dir: &Path, question: &str) -> Result<Value, Failure> {
    put(state_dir, question).and_then(unless_error)
}

/// What is answered to a question, be it an error.
fn put(state_dir: &Path, question: &str) -> Result<Value, Failure> {
    let path = socket(state_dir);
    let ask = || -> anyhow::Result<Value> {
        let stream = UnixStream::connect(&path).map_err(|error| unanswered(&path, error))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        (&stream).write_all(format!("{question}\n").as_bytes())?;
        let mut text = String::new();
        (&stream).read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    };
    ask().map_err(Failure::failed)
}

fn unless_error(answer: Value) -> Result<Value, Failure> {
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(Failure::failed(anyhow!("{error}"))),
        None => Ok(answer),
    }
}

/// Nobody is behind the socket, or it is not for whoever asks.
fn unanswered(path: &Path, error: std::io::Error) -> anyhow::Error {
    let why = match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("only root may ask the agent, on {}: ask with sudo", path.display())
        }
        _ => format!("no agent answers on {}: is it running, with this --state-dir?", path.display()),
    };
    anyhow::Error::new(error).context(why)
}

fn show(answer: &Value, output: Output) -> Result<(), Failure> {
    say(&match output {
        Output::Json => format!("{}\n", answer.get("report").unwrap_or(answer)),
        Output::Text => answer.get("text").and_then(Value::as_str).unwrap_or_default().to_owned(),
    })
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever closes the pipe has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("the answer cannot be written").map_err(Failure::failed),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

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
        let server = std::thread::spawn(move || drop(serve(&server, &wakes, None)));
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
    fn a_release_waits_for_an_agent_that_has_done_nothing_yet_and_not_without_end() {
        let temp = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(temp.path())).unwrap();
        let error = r#"{"error":"nothing is done yet"}"#;
        let answers = [error, r#"{"report":{"release":"Done"}}"#, error];
        let agent = std::thread::spawn(move || {
            answers.map(|answer| {
                let (stream, _) = listener.accept().unwrap();
                let mut asked = String::new();
                BufReader::new(&stream).read_line(&mut asked).unwrap();
                (&stream).write_all(answer.as_bytes()).unwrap();
                asked
            })
        });
        let answer = released(temp.path(), BEGUN_WITHIN).map_err(|failure| failure.words());
        assert_eq!(answer.unwrap()["report"]["release"], "Done");
        let failure = released(temp.path(), Duration::ZERO).unwrap_err();
        assert_eq!(failure.words().unwrap(), "nothing is done yet");
        assert_eq!(agent.join().unwrap(), ["release\n", "status\n", "release\n"]);
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
}
