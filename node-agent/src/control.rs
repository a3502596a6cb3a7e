//! The socket in the state directory: `status`, `explain`, `policy input` and `release` of a running agent, for root only.
//!
//! One line in, one JSON document out, then the connection ends.

mod door;

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use overcommit_host::more_files;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::args::{Ask, Explain, Output};
use crate::contact::Contact;
use crate::keeper::{BEGINS_WITHIN, SLACK};
use crate::report::{explain, lines};
use crate::run::Failure;
use crate::tick::{PROGRESS, Wake};
pub(crate) use door::Reserve;

/// A question is a word; more is not read.
const MAX_QUESTION: u64 = 1024;
/// Who asks waits so long: for longer than whom he asks.
const PATIENCE: Duration = Duration::from_secs(15);
/// So many questions are before the loop at a time: each waits on a thread.
const BEFORE_THE_LOOP: usize = 4;
const RELEASE_PATIENCE: Duration = Duration::from_mins(2);
/// An agent that has done nothing yet does so within this time if there is anything to be given back: it looks for launchers,
/// their guests and the kernel's word about them, for 2 s each at most.
const BEGUN_WITHIN: Duration = Duration::from_secs(10);

/// How long what is waited for, each as a whole: whoever sends a letter now and then is not waited for.
#[derive(Clone, Copy)]
struct Patience {
    /// The question, and that the answer is taken: both are written at once.
    heard: Duration,
    /// The loop, whose turns take milliseconds.
    answered: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { heard: Duration::from_secs(3), answered: Duration::from_secs(8) }
    }
}

/// Who answers.
#[derive(Clone)]
struct Desk {
    wakes: Sender<Wake>,
    contact: Option<Arc<Contact>>,
    before_the_loop: Arc<Semaphore>,
    patience: Patience,
}

/// Listens on the socket until the runtime ends.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn listen(
    path: &Path,
    runtime: &Handle,
    wakes: Sender<Wake>,
    contact: Option<Arc<Contact>>,
    reserve: Reserve,
) -> anyhow::Result<()> {
    // The state directory is locked: whoever made the old socket is gone.
    drop(std::fs::remove_file(path));
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let _entered = runtime.enter();
    let listener = tokio::net::UnixListener::from_std(listener)?;
    runtime.spawn(door::attend(listener, Desk::new(wakes, contact), reserve));
    Ok(())
}

/// Where the socket of a state directory is.
pub(crate) fn socket(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join("agent.sock")
}

impl Desk {
    fn new(wakes: Sender<Wake>, contact: Option<Arc<Contact>>) -> Self {
        let before_the_loop = Arc::new(Semaphore::new(BEFORE_THE_LOOP));
        Self { wakes, contact, before_the_loop, patience: Patience::default() }
    }

    async fn serve(&self, mut stream: tokio::net::UnixStream) -> anyhow::Result<()> {
        let mut question = String::new();
        let mut words = tokio::io::BufReader::new((&mut stream).take(MAX_QUESTION));
        timeout(self.patience.heard, words.read_line(&mut question)).await??;
        let question = question.trim().to_owned();
        if question == "release" {
            // A loop that hangs does so when it turns again.
            self.wakes.send(Wake::Release)?;
        }
        let answer = timeout(self.patience.answered, self.answer(question)).await;
        let answer = answer.unwrap_or_else(|_| Ok(silent()))?;
        timeout(self.patience.heard, stream.write_all(answer.to_string().as_bytes())).await??;
        Ok(())
    }

    /// Asks the loop, on a thread: it may not answer.
    async fn answer(&self, question: String) -> anyhow::Result<Value> {
        let place = Arc::clone(&self.before_the_loop).acquire_owned().await?;
        let desk = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let answer = match question.split_once(' ') {
                None if question == "status" || question == "release" => desk.latest()?,
                None if question == "program" => desk.program_saw()?,
                Some(("explain", guest)) => explained(&desk.latest()?, guest),
                None if question == "explain" => {
                    serde_json::json!({ "error": "a guest's name is missing: explain NAME" })
                }
                _ => serde_json::json!({ "error": "unknown question" }),
            };
            drop(place);
            Ok(answer)
        });
        asked.await?
    }

    fn latest(&self) -> anyhow::Result<Value> {
        let (reply, answer) = sync_channel(1);
        self.wakes.send(Wake::Ask(reply))?;
        Ok(match answer.recv_timeout(self.patience.answered) {
            Err(RecvTimeoutError::Timeout) => silent(),
            Err(RecvTimeoutError::Disconnected) => ending(),
            Ok(None) => {
                let why = self.contact.as_deref().map(Contact::without_orders);
                let why = why.unwrap_or_else(|| "the first turn is under way".to_owned());
                serde_json::json!({ "error": format!("nothing is done yet: {why}") })
            }
            Ok(Some(report)) => {
                let explained = report
                    .guests
                    .iter()
                    .map(|g| (g.name.to_string(), Value::from(explain::explanation(&report, g))));
                let progress = lines::giving_back(report.release, report.waits_for.as_deref());
                serde_json::json!({ "report": &*report, "text": lines::table(&report), "progress": progress,
                    "explain": explained.collect::<serde_json::Map<_, _>>() })
            }
        })
    }

    /// As texts, as which they are put together again: numbers of programs may be longer than those of this JSON.
    fn program_saw(&self) -> anyhow::Result<Value> {
        let (reply, answer) = sync_channel(1);
        self.wakes.send(Wake::AskProgram(reply))?;
        Ok(match answer.recv_timeout(self.patience.answered) {
            Err(RecvTimeoutError::Timeout) => silent(),
            Err(RecvTimeoutError::Disconnected) => ending(),
            Ok(None) => serde_json::json!({ "error": "no program was evaluated yet: the policy has none \
                (engine.mom), gives everything back, or its first cycle is under way" }),
            Ok(Some(seen)) => serde_json::json!({ "report": { "input": seen.input, "said": seen.said } }),
        })
    }
}

/// The loop does not answer.
fn silent() -> Value {
    serde_json::json!({ "error": format!("the agent's loop does not answer: it is starting, or hangs. {}", what_follows()) })
}

fn ending() -> Value {
    serde_json::json!({ "error": "the agent is ending: its log says what came of that" })
}

/// What the keeper does about a loop that hangs, for people.
fn what_follows() -> String {
    format!(
        "Its keeper ends a loop that has not turned {} s after its start, or {} s after it was to, and starts it anew; \
         guests keep what they have until then. Ask again after that; the agent's log (its pod's, or journalctl) says what \
         became of it",
        BEGINS_WITHIN.saturating_add(SLACK).as_secs(),
        SLACK.as_secs()
    )
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
    // Beside the answer, which a program may read.
    let tell = |words: String| drop(writeln!(std::io::stderr(), "{words}"));
    let answer = released(&ask.state_dir, Pace::default(), tell)?;
    show(&answer, ask.output)?;
    if is_released(&answer) {
        return Ok(());
    }
    let far = progress(&answer);
    Err(Failure::failed(anyhow!("not everything could be given back yet, and the agent goes on: {far}")))
}

fn is_released(answer: &Value) -> bool {
    answer.pointer("/report/release").is_some_and(|state| state == "Done")
}

/// How far it is, or why nothing is done.
fn progress(answer: &Value) -> &str {
    let said = |key| answer.get(key).and_then(Value::as_str);
    said("progress").or_else(|| said("error")).unwrap_or("the agent does not say how far it is")
}

/// How a release is waited for.
#[derive(Clone, Copy)]
struct Pace {
    /// It fails if nothing is done within this time.
    begun_within: Duration,
    /// How far it is, is told this often.
    told_each: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { begun_within: BEGUN_WITHIN, told_each: PROGRESS }
    }
}

/// Asks for everything back, and waits until it is given or the patience is over; tells meanwhile how far it is.
fn released(state_dir: &Path, pace: Pace, mut tell: impl FnMut(String)) -> Result<Value, Failure> {
    let began = Instant::now();
    let mut told: Option<Instant> = None;
    let mut answer = put(state_dir, "release")?;
    loop {
        let waited = began.elapsed();
        if is_released(&answer) || waited >= RELEASE_PATIENCE {
            return Ok(answer);
        }
        if waited >= pace.begun_within {
            answer = unless_error(answer)?;
        }
        if told.is_none_or(|at| at.elapsed() >= pace.told_each) {
            told = Some(Instant::now());
            let left = RELEASE_PATIENCE.saturating_sub(waited).as_secs();
            tell(format!("giving back: {}, for at most {left} s more", progress(&answer)));
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
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        let said = (&stream).write_all(format!("{question}\n").as_bytes());
        said.and_then(|()| (&stream).read_to_string(&mut text)).map_err(|error| unfinished(&error))?;
        understood(&text)
    };
    ask().map_err(Failure::failed)
}

fn unless_error(answer: Value) -> Result<Value, Failure> {
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(Failure::failed(anyhow!("{error}"))),
        None => Ok(answer),
    }
}

/// What was answered.
fn understood(text: &str) -> anyhow::Result<Value> {
    anyhow::ensure!(
        !text.is_empty(),
        "the agent ended the connection without an answer: it is ending, or is started anew. {}",
        what_follows()
    );
    serde_json::from_str(text).context("the agent's answer is cut short or of another version: ask again")
}

/// Somebody is behind the socket, and does not answer.
fn unfinished(error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => anyhow!(
            "the agent has not answered for {} s: its process is stopped, hangs, waits for the machine or may open no more \
             files. {}",
            PATIENCE.as_secs(),
            what_follows()
        ),
        _ => anyhow!(
            "the agent ended the connection ({error}): it is ending, or is started anew. {}",
            what_follows()
        ),
    }
}

/// Nobody is behind the socket, or it is not for whoever asks.
fn unanswered(path: &Path, error: std::io::Error) -> anyhow::Error {
    let why = match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("only root may ask the agent, on {}: ask with sudo", path.display())
        }
        _ => match more_files(&error) {
            Some(_) => "this shell may open no more files: raise its limit (ulimit -n)".to_owned(),
            None => format!("no agent answers on {}: is it running, with this --state-dir?", path.display()),
        },
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
mod tests;
