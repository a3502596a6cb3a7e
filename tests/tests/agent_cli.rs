//! The agent's command line: what it says to bad input (exit 2 before anything was touched, the place and the remedy),
//! and that nobody who does not listen can stop it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use overcommit_tests::agent::{Agent, OpenFiles, nobodys_kubeconfig, seal};
use overcommit_tests::api::free_port;
use overcommit_tests::http;
use overcommit_tests::process::{Launch, Process};
use overcommit_tests::session::Session;
use overcommit_tests::wait::until;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const SOON: Duration = Duration::from_mins(2);
/// A release has a minute, and its keeper some patience beyond that.
const RELEASED_BY: Duration = Duration::from_secs(150);
const HEAD: &str = "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {name: p}\n";

/// A folder for one agent: its policy, which may be changed, and its state.
struct Place(tempfile::TempDir);

impl Place {
    fn with(policy: impl AsRef<[u8]>) -> Result<Self> {
        let place = Self(tempfile::tempdir()?);
        place.write(policy)?;
        Ok(place)
    }

    /// One whose agent turns each second.
    fn prompt() -> Result<Self> {
        Self::with(format!("{HEAD}spec: {{interval: 1s}}\n"))
    }

    fn write(&self, policy: impl AsRef<[u8]>) -> Result<()> {
        Ok(std::fs::write(self.policy(), policy)?)
    }

    fn policy(&self) -> PathBuf {
        self.0.path().join("policy.yaml")
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// `run` of an agent without guests.
    fn run(&self) -> Vec<OsString> {
        run("test:///default", &self.policy(), &self.state())
    }

    /// That agent, once it has reported.
    fn start(&self) -> Result<Process> {
        self.start_by(&[Agent::program()?.as_os_str()])
    }

    /// As [`Place::start`], by a program that becomes the agent's.
    fn start_by(&self, program: &[&OsStr]) -> Result<Process> {
        let [first, rest @ ..] = program else { bail!("no program") };
        let agent = spawn(Launch::new("agent", first).args(rest).args(self.run()))?;
        agent.ready(SOON, "its first report", || self.told())?;
        Ok(agent)
    }

    /// What its agent tells.
    fn told(&self) -> Result<Value> {
        let (code, out, said) = self.asked(&["status", "--output", "json"], Stdio::piped())?;
        ensure!(code == Some(0), "{said}");
        Ok(serde_json::from_str(&out)?)
    }

    /// The exit code of a client whose standard output is `out`, what it says there if that is a pipe to us, and on standard
    /// error.
    fn asked(&self, words: &[&str], out: impl Into<Stdio>) -> Result<(Option<i32>, String, String)> {
        let mut ask = Command::new(Agent::program()?);
        let ask = ask.args(words).arg("--state-dir").arg(self.state());
        let output = ask.stdout(out).stderr(Stdio::piped()).output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    }
}

/// The words of `run`.
fn run(uri: &str, policy: &Path, state: &Path) -> Vec<OsString> {
    let words = ["run", "--connect", uri, "--policy"].map(OsString::from);
    let rest = [policy.into(), "--state-dir".into(), state.into()];
    words.into_iter().chain(rest).collect()
}

fn spawn(launch: Launch) -> Result<Process> {
    Session::shared()?.spawn(launch)
}

/// How an agent with these words ends, and what it says on standard error.
fn ended(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<(Option<i32>, String)> {
    let output = Command::new(Agent::program()?).args(words).env_remove("NODE_NAME").output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn refused(policy: &str, expected: &str) -> Result<()> {
    let (code, told) = ended(Place::with(policy)?.run())?;
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains(expected), "{expected:?} is not in {told:?}");
    assert!(told.contains("policy.yaml"), "the file is not named in {told:?}");
    Ok(())
}

/// The loop of an agent: the younger of its two processes.
fn the_loop(agent: &Process) -> Result<Pid> {
    let child = agent.members().into_iter().find(|pid| *pid != agent.pid()).context("no loop")?;
    Pid::from_raw(child.try_into()?).context("no process id")
}

#[test]
fn policies_that_cannot_work_are_refused_by_place() -> Result<()> {
    let spec = |s: &str| format!("{HEAD}spec: {s}\n");
    refused(&spec("{mod: Enforce}"), "spec.mod")?;
    refused(&spec("{mode: Force}"), "spec.mode")?;
    refused(&spec("{interval: 0s}"), "spec.interval")?;
    refused(&spec("{interval: 9h}"), "spec.interval")?;
    refused(&spec("{reserve: {minimum: 101%}}"), "spec.reserve.minimum")?;
    refused(&spec("{limits: {deadBand: 5Q}}"), "spec.limits.deadBand")?;
    refused(&spec("{engine: {adaptive: {}, mom: {}}}"), "spec.engine.mom")?;
    refused(&spec("{engine: {}}"), "spec.engine")?;
    refused(&spec("{classes: [{name: a, floor: {percent: 120}}]}"), "spec.classes[0].floor.percent")?;
    refused(
        &spec("{classes: [{name: a, selector: {matchExpressions: [{key: k, operator: In}]}}]}"),
        "spec.classes[0].selector",
    )
}

#[test]
fn what_a_policy_says_in_vain_without_kubernetes_is_told_at_the_start() -> Result<()> {
    let vain = "{nodeSelector: {}, classes: [{name: all}, {name: late}]}";
    let place = Place::with(format!("{HEAD}spec: {vain}\n"))?;
    let agent = spawn(Launch::new("agent", Agent::program()?).args(place.run()))?;
    agent.ready(SOON, "its warnings", || {
        let told = agent.output();
        ensure!(told.contains("spec.nodeSelector") && told.contains("spec.classes[1] (late)"), "{told}");
        Ok(())
    })?;
    assert_eq!(agent.terminate(SOON)?.code(), Some(0));
    Ok(())
}

#[test]
fn files_that_are_no_policy_are_refused_with_the_remedy() -> Result<()> {
    refused("", "is empty")?;
    refused("a: [", "no YAML")?;
    refused("apiVersion: v1\nkind: Pod\n", "has kind Pod of v1")?;
    refused(&format!("{HEAD}spec: {{}}\n---\n{HEAD}spec: {{}}\n"), "several YAML documents")?;
    let (code, told) = ended(Place::with(b"\xff\xfe\x00")?.run())?;
    assert_eq!(code, Some(2));
    assert!(told.contains("UTF-8"));
    Ok(())
}

#[test]
fn wrong_usage_is_refused_with_exit_2() -> Result<()> {
    assert_eq!(ended(["run"])?.0, Some(2));
    assert_eq!(ended(["run", "--policy", "/nowhere.yaml"])?.0, Some(2));
    assert_eq!(ended(["run", "--policy", "/nowhere.yaml", "--connect", "test:///default"])?.0, Some(2));
    assert_eq!(ended(["dance"])?.0, Some(2));
    let (code, told) = ended(["policy", "check", "/proc"])?;
    ensure!(code == Some(2) && told.contains("name its files, in the order in which they run"), "{told}");
    Ok(())
}

#[test]
fn a_uri_that_names_no_qemu_is_refused_with_one_that_does() -> Result<()> {
    for uri in [
        "",
        "qemu",
        "not a uri",
        "xen:///system",
        "quemu+ssh://host/system",
        "qemu://",
        "qemu:///",
        "qemu:///sytem",
        "qemu+ssh://host/systems?socket=/system",
    ] {
        let (code, told) = ended(["run", "--policy", "/nowhere.yaml", "--connect", uri])?;
        assert_eq!(code, Some(2), "{uri}: {told}");
        assert!(told.contains("--connect") && told.contains("qemu:///system"), "{uri}: {told}");
    }
    Ok(())
}

#[test]
fn a_hypervisor_that_is_away_is_named_with_the_remedy_in_status_and_by_explain() -> Result<()> {
    let place = Place::prompt()?;
    let uri = "qemu+unix:///system?socket=/nowhere/libvirt-sock";
    let words = run(uri, &place.policy(), &place.state());
    let agent = spawn(Launch::new("agent", Agent::program()?).args(words))?;
    for words in [&["status"][..], &["explain", "guest"]] {
        until(SOON, "the trouble", || {
            let (_, out, said) = place.asked(words, Stdio::piped())?;
            let told = out + &said;
            let good = told.contains("/nowhere/libvirt-sock") && told.contains("name another with --connect");
            ensure!(good, "{told}");
            Ok(())
        })?;
    }
    // Guests that others run on this machine are told of as well.
    let warns = |line: &&str| line.contains("WARN") && line.contains("the hypervisor: ");
    // It is in the log a moment after it is told.
    until(SOON, "a warning", || agent.output().lines().any(|line| warns(&line)))?;
    let logged = agent.output();
    let warnings = logged.lines().filter(warns).count();
    ensure!(warnings == 1, "once when it begins, not {warnings} times:\n{logged}");
    assert_eq!(agent.terminate(SOON)?.code(), Some(0));
    Ok(())
}

#[test]
fn a_policy_that_is_no_file_is_refused_with_the_remedy() -> Result<()> {
    let place = Place(tempfile::tempdir()?);
    let pipe = place.0.path().join("pipe");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    for policy in [Path::new("-"), Path::new("/dev/stdin"), &pipe, place.0.path()] {
        let mut agent = Command::new(Agent::program()?)
            .args(run("test:///default", policy, &place.state()))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let ended = until(SOON, format!("a refusal of {}", policy.display()), || {
            agent.try_wait()?.context("it waits")
        });
        agent.kill()?;
        let said = String::from_utf8(agent.wait_with_output()?.stderr)?;
        ensure!(ended?.code() == Some(2), "{said}");
        ensure!(said.contains("write the policy to") && said.contains("--policy"), "{said}");
    }
    Ok(())
}

#[test]
fn a_refused_start_says_the_reason_and_nothing_else() -> Result<()> {
    let place = Place::prompt()?;
    let agent = place.start()?;
    let (code, said) = ended(place.run())?;
    ensure!(code == Some(2) && said.contains("another agent works"), "{said}");
    ensure!(said.lines().count() == 1, "{said}");
    ensure!(agent.terminate(SOON)?.success());
    Ok(())
}

#[test]
fn a_loop_that_is_started_anew_follows_the_policy_that_people_started_it_with() -> Result<()> {
    let place = Place::prompt()?;
    let agent = place.start()?;
    let first = place.told()?["revision"].clone();
    let other = format!("{HEAD}spec: {{interval: 9s}}\n");
    for edit in [other.as_str(), "half: ["] {
        place.write(edit)?;
        let before = the_loop(&agent)?;
        kill_process(before, Signal::KILL)?;
        until(SOON, "the report of another loop", || {
            ensure!(the_loop(&agent)? != before);
            let report = place.told()?;
            ensure!(report["revision"] == first && !first.is_null(), "{report}");
            Ok(())
        })
        .with_context(|| agent.log_tail())?;
    }
    // The third death: a hand-over, told as what it was, and a rest that a release ends.
    std::fs::remove_file(place.policy())?;
    kill_process(the_loop(&agent)?, Signal::KILL)?;
    until(SOON, "the hand-over", || agent.output().contains("it handed over and rests"))
        .with_context(|| agent.log_tail())?;
    agent.signal(Signal::INT)?;
    ensure!(agent.wait(RELEASED_BY)?.success(), "{}", agent.log_tail());
    ensure!(agent.output().contains("everything was given back"), "{}", agent.log_tail());
    Ok(())
}

#[test]
fn a_closed_session_and_a_quit_hand_over_as_a_termination_does() -> Result<()> {
    for signal in [Signal::HUP, Signal::QUIT, Signal::TERM] {
        let place = Place::prompt()?;
        // A shell has what it starts in the background ignore a quit, and these tests may be that.
        let heard = ["env", "--default-signal=HUP,QUIT"].map(OsStr::new);
        let agent = place.start_by(&[heard[0], heard[1], Agent::program()?.as_os_str()])?;
        // A terminal signals both.
        kill_process(the_loop(&agent)?, signal)?;
        agent.signal(signal)?;
        let ended = agent.wait(SOON)?;
        ensure!(ended.code() == Some(0), "{signal:?}: {:?}, {}", ended.signal(), agent.log_tail());
        ensure!(agent.output().contains("handed over"), "{signal:?}: {}", agent.log_tail());
    }
    Ok(())
}

/// An agent of a cluster's node whose API server nobody answers for, once it runs without orders.
fn without_orders(place: &Place) -> Result<Process> {
    let access = nobodys_kubeconfig(place.0.path())?;
    let launch = Launch::new("agent", Agent::program()?).args(["run", "--node", "a", "--state-dir"]);
    let agent = spawn(launch.arg(place.state()).env("KUBECONFIG", access))?;
    agent.ready(Duration::from_secs(30), "an answer", || {
        let (_, _, said) = place.asked(&["status"], Stdio::piped())?;
        ensure!(said.contains("nothing is done yet: waiting for the API server's first answer"), "{said}");
        Ok(())
    })?;
    Ok(agent)
}

#[test]
fn an_agent_without_orders_hands_over_by_its_journal_and_says_what_came_of_it() -> Result<()> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let guest = |target: u64| {
        // A process that nobody knows is not known to have ended.
        serde_json::json!({ "incarnation": null, "original": { "target": 512, "period": null }, "target": target })
    };
    let none = "there are no orders: waiting for the API server";
    for (target, torn, code, words) in [
        (512, false, 0, format!("nothing to hand over ({none}")),
        (300, false, 0, "handed over: what was spare is spread".to_owned()),
        (300, true, 1, format!("nothing was handed over ({none}")),
    ] {
        let place = Place(tempfile::tempdir()?);
        std::fs::create_dir(place.state())?;
        std::fs::set_permissions(place.state(), std::fs::Permissions::from_mode(0o700))?;
        std::fs::write(place.state().join("orders.json"), "torn")?;
        let guests = serde_json::json!({ "pod/uuid": guest(target) });
        seal(&place.state(), "journal", &serde_json::json!({ "boot_id": boot.trim(), "guests": guests }))?;
        if torn {
            std::fs::write(place.state().join("journal"), "torn")?;
        }
        let before = std::fs::read(place.state().join("journal"))?;
        let agent = without_orders(&place)?;
        ensure!(agent.output().contains("the cached orders cannot be used"), "{}", agent.log_tail());
        let ended = agent.terminate(Duration::from_secs(30))?;
        let said = agent.output();
        ensure!(ended.code() == Some(code) && said.contains(&words), "{:?}: {said}", ended.code());
        ensure!(!torn || said.contains("nobody knows which guests hold less"), "{said}");
        let file = if torn { "journal.corrupt" } else { "journal" };
        ensure!(std::fs::read(place.state().join(file))? == before, "the next agent finds what it did");
    }
    Ok(())
}

#[test]
fn who_starts_it_to_outlive_the_session_is_obeyed() -> Result<()> {
    let place = Place::prompt()?;
    let program = Agent::program()?;
    let words = ["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""].map(OsStr::new);
    let agent = place.start_by(&[&words[..], &[program.as_os_str()]].concat())?;
    let before = place.told()?["at"].clone();
    kill_process(the_loop(&agent)?, Signal::HUP)?;
    agent.signal(Signal::HUP)?;
    until(SOON, "a later report", || {
        let later = place.told()?["at"].clone();
        ensure!(later != before, "{later}");
        Ok(())
    })?;
    ensure!(!agent.output().contains("ending"), "{}", agent.log_tail());
    ensure!(agent.terminate(SOON)?.success());
    Ok(())
}

#[test]
fn a_state_directory_that_cannot_hold_the_socket_or_a_file_is_refused_with_the_remedy() -> Result<()> {
    let place = Place::with(format!("{HEAD}spec: {{}}\n"))?;
    let long = place.0.path().join("n".repeat(120));
    let bytes = long.as_os_str().len() + "/agent.sock".len();
    // The kernel takes no files there.
    for (state, why) in [
        (long.as_path(), format!("{bytes} bytes")),
        (Path::new("/sys/kernel"), "cannot be written".to_owned()),
    ] {
        let (code, said) = ended(run("test:///default", &place.policy(), state))?;
        ensure!(code == Some(2) && said.contains(&why), "{said}");
        ensure!(said.contains("with --state-dir"), "{said}");
    }
    Ok(())
}

#[test]
fn a_state_directory_that_cannot_be_written_is_refused() -> Result<()> {
    let place = Place::with(format!("{HEAD}spec: {{}}\n"))?;
    let (code, told) = ended(run("test:///default", &place.policy(), Path::new("/proc/overcommit")))?;
    assert_eq!(code, Some(2));
    assert!(told.contains("/proc/overcommit") && told.contains("--state-dir"), "{told}");
    Ok(())
}

#[test]
fn asking_without_an_agent_names_the_socket() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let output = Command::new(Agent::program()?).args(["status", "--state-dir"]).arg(dir.path()).output()?;
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(&*dir.path().join("agent.sock").to_string_lossy()), "{told}");
    assert!(Path::new(dir.path()).exists());
    Ok(())
}

#[test]
fn whoever_stops_reading_an_answer_is_no_error_and_a_full_disk_is_one() -> Result<()> {
    let place = Place::prompt()?;
    let agent = place.start()?;
    for words in [&["status"][..], &["status", "--output", "json"], &["explain", "test"]] {
        let (unread, closed) = std::io::pipe()?;
        drop(unread);
        let (code, _, said) = place.asked(words, closed)?;
        assert_eq!((code, said), (Some(0), String::new()), "{words:?}");
        let (code, _, told) = place.asked(words, File::options().write(true).open("/dev/full")?)?;
        assert_eq!(code, Some(1), "{words:?}: {told}");
        assert!(told.contains("the answer cannot be written") && told.lines().count() == 1, "{told}");
    }
    assert_eq!(agent.terminate(SOON)?.code(), Some(0));
    Ok(())
}

#[test]
fn who_asks_is_answered_by_an_agent_that_may_open_no_more_files_which_it_tells_once() -> Result<()> {
    let place = Place::prompt()?;
    let agent = place.start()?;
    let files = OpenFiles::of(u32::try_from(the_loop(&agent)?.as_raw_nonzero().get())?)?;
    until(SOON, "no room for a file", || {
        // It may have closed one since.
        ensure!(files.allow_no_more()?, "there was room");
        Ok::<_, anyhow::Error>(())
    })?;
    for _ in 0..3 {
        files.allow_no_more()?;
        place.told().with_context(|| agent.log_tail())?;
    }
    let told = || agent.output().matches("questions on the socket cannot be taken").count();
    until(SOON, "what is wrong to be told", || {
        ensure!(told() == 1 && agent.output().contains("LimitNOFILE"), "{}", agent.log_tail());
        Ok::<_, anyhow::Error>(())
    })?;
    files.allow_as_before()?;
    place.told()?;
    until(SOON, "its end to be told", || {
        ensure!(told() == 2 && agent.output().contains("no longer: questions"), "{}", agent.log_tail());
        Ok::<_, anyhow::Error>(())
    })?;
    ensure!(agent.terminate(SOON)?.success());
    Ok(())
}

#[test]
fn a_probe_finds_an_agent_again_that_might_open_no_more_files_which_it_told_once() -> Result<()> {
    let (place, port) = (Place::prompt()?, free_port()?);
    let launch = Launch::new("agent", Agent::program()?).args(place.run());
    let agent = spawn(launch.args(["--http", &format!("127.0.0.1:{port}")]))?;
    agent.ready(SOON, "its first report", || place.told())?;
    ensure!(http::get(port, "/healthz")?.0 == 200);
    let files = OpenFiles::of(u32::try_from(the_loop(&agent)?.as_raw_nonzero().get())?)?;
    until(SOON, "no room for a file", || {
        ensure!(files.allow_no_more()?, "there was room");
        Ok::<_, anyhow::Error>(())
    })?;
    let mut waiting = Vec::new();
    let told = || agent.output().matches("connections cannot be accepted").count();
    until(SOON, "what is wrong to be told", || {
        files.allow_no_more()?;
        // One may be let in by a file that was closed just then.
        waiting.push(TcpStream::connect(("127.0.0.1", port))?);
        ensure!(told() == 1, "{}", agent.log_tail());
        Ok::<_, anyhow::Error>(())
    })?;
    // It is tried several times between two turns.
    let first = place.told()?;
    until(SOON, "a later report", || {
        files.allow_no_more()?;
        ensure!(place.told()?["at"] != first["at"]);
        Ok::<_, anyhow::Error>(())
    })?;
    ensure!(told() == 1, "{}", agent.log_tail());
    files.allow_as_before()?;
    ensure!(http::get(port, "/healthz")?.0 == 200, "{}", agent.log_tail());
    // It may answer before it has told.
    until(SOON, "its end to be told", || {
        ensure!(told() == 2 && agent.output().contains("no longer: connections"), "{}", agent.log_tail());
        Ok::<_, anyhow::Error>(())
    })?;
    ensure!(agent.terminate(SOON)?.success());
    Ok(())
}

#[test]
fn a_start_without_room_for_files_is_refused_with_the_remedy() -> Result<()> {
    let place = Place::with(format!("{HEAD}spec: {{}}\n"))?;
    for limit in [8, 16, 40] {
        let words = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", &words]).arg(Agent::program()?).args(place.run());
        let output = shell.env_remove("NODE_NAME").output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{limit}: {:?} {told}", output.status);
        ensure!(told.contains("ulimit -n") && told.lines().count() == 1, "{limit}: {told}");
    }
    Ok(())
}

#[test]
fn a_demonstration_that_is_asked_for_help_starts_no_guest() -> Result<()> {
    for (word, code, told) in [("--help", 0, "three real guests"), ("--hepl", 2, "--help")] {
        let output = Command::new(env!("CARGO_BIN_EXE_demo-host")).arg(word).output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.status.code() == Some(code) && said.contains(told), "{word}: {said}");
    }
    Ok(())
}

#[test]
fn an_address_without_a_host_is_refused_with_an_example() -> Result<()> {
    for address in ["9000", "localhost:9000"] {
        let words = ["run", "--policy", "/nowhere.yaml", "--connect", "test:///default", "--http", address];
        let (code, told) = ended(words)?;
        assert_eq!(code, Some(2), "{address}: {told}");
        assert!(told.contains("0.0.0.0:9000"), "{address}: {told}");
    }
    Ok(())
}

/// A pipe that takes not one byte more, and the end that nobody reads.
fn full_pipe() -> Result<(PipeReader, PipeWriter)> {
    let (unread, mut full) = std::io::pipe()?;
    fcntl_setfl(&full, OFlags::NONBLOCK)?;
    while full.write(b".").is_ok() {}
    fcntl_setfl(&full, OFlags::empty())?;
    Ok((unread, full))
}

#[test]
fn the_loop_turns_on_while_nobody_takes_what_it_prints() -> Result<()> {
    let place = Place::prompt()?;
    let (_unread, full) = full_pipe()?;
    let mut agent = Command::new(Agent::program()?)
        .args(place.run())
        .args(["--output", "json", "--log", "debug"])
        .stdout(full.try_clone()?)
        .stderr(full)
        .spawn()?;
    let turned = (|| -> Result<()> {
        let first = until(SOON, "a report", || place.told())?;
        until(SOON, "a later report", || {
            let later = place.told()?;
            ensure!(later["at"] != first["at"], "{}", later["at"]);
            Ok(())
        })
    })();
    agent.kill()?;
    agent.wait()?;
    turned
}
