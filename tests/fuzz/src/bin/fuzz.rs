//! `make fuzz`: every target, or those that are named, under libFuzzer for a fixed time, as many at once as there are
//! processors; then a table. What fails is kept in the corpus, where `cargo test` finds it from then on.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Parser;
use overcommit_fuzz::{LONGEST, TARGETS, Target};

/// An input that takes longer is a failure: all targets are linear, and the slowest machine does 64 KiB in much less.
const TOO_LONG: Duration = Duration::from_secs(10);
/// Memory beyond which an input is a failure.
const TOO_MUCH_MIB: u32 = 1024;

/// Searches for inputs that a parser does not take.
#[derive(Debug, Parser)]
struct Args {
    /// The engine, as `make fuzz` builds it.
    #[arg(long)]
    engine: PathBuf,
    /// Time for all targets together, in seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// What was found interesting so far; kept from run to run.
    #[arg(long, default_value = "target/fuzz-corpus")]
    found: PathBuf,
    /// Names of targets; all if none is named.
    targets: Vec<String>,
}

/// What became of one target.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    executions: String,
    units: String,
    slowest: String,
    /// What failed, and where the input is now.
    failure: Option<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// True if nothing failed.
fn run(args: &Args) -> Result<bool> {
    let targets = targets(&args.targets)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(targets.len());
    let rounds = targets.len().div_ceil(workers);
    let each = Duration::from_secs((args.seconds / u64::try_from(rounds)?).max(1));
    println!("{} targets, {workers} at once, {} s each", targets.len(), each.as_secs());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            outcomes.push(search(args, target, each));
        }
        outcomes
    };
    let outcomes: Vec<Result<Outcome>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a worker panicked")));
        joined.flat_map(|outcomes| outcomes.unwrap_or_else(|error| vec![Err(error)])).collect()
    });
    let mut outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    outcomes.sort_by_key(|outcome| outcome.name);
    println!("{:<16} {:>12} {:>10} {:>9}", "target", "executions", "new units", "slowest s");
    for o in &outcomes {
        println!("{:<16} {:>12} {:>10} {:>9}", o.name, o.executions, o.units, o.slowest);
    }
    let failures: Vec<&Outcome> = outcomes.iter().filter(|o| o.failure.is_some()).collect();
    for outcome in &failures {
        println!("\n{} FAILED: {}", outcome.name, outcome.failure.as_deref().unwrap_or_default());
    }
    Ok(failures.is_empty())
}

fn targets(names: &[String]) -> Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    names.iter().map(|n| overcommit_fuzz::target(n).with_context(|| format!("no target {n:?}"))).collect()
}

/// One target for that long.
fn search(args: &Args, target: &Target, time: Duration) -> Result<Outcome> {
    let place = args.found.join(target.name);
    let (units, failed) = (place.join("units"), place.join("failed"));
    for dir in [&units, &failed] {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let log = place.join("log");
    let output = File::create(&log).with_context(|| log.display().to_string())?;
    let status = Command::new(&args.engine)
        .env("FUZZ_TARGET", target.name)
        .args([&units, &seeds(target)])
        .arg(format!("-artifact_prefix={}/", failed.display()))
        .arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-timeout={}", TOO_LONG.as_secs()))
        .arg(format!("-rss_limit_mb={TOO_MUCH_MIB}"))
        .arg("-print_final_stats=1")
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("{} cannot be run: build it by make fuzz", args.engine.display()))?;
    let told = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let stat = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(&format!("stat::{name}:")));
        line.map_or_else(|| "?".to_owned(), |value| value.trim().to_owned())
    };
    let failure = if status.success() { None } else { Some(kept(&failed, target, &told)?) };
    Ok(Outcome {
        name: target.name,
        executions: stat("number_of_executed_units"),
        units: stat("new_units_added"),
        slowest: stat("slowest_unit_time_sec"),
        failure,
    })
}

/// The target's folder in the corpus.
fn seeds(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// Moves inputs that failed into the corpus; says which, and what the engine said.
fn kept(failed: &Path, target: &Target, told: &str) -> Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(failed)? {
        let path = entry?.path();
        let content = fs::read(&path)?;
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let name = seeds(target).join(format!("found-{:016x}", hasher.finish()));
        fs::write(&name, content)?;
        fs::remove_file(&path)?;
        names.push(name.display().to_string());
    }
    let why: Vec<&str> =
        told.lines().skip_while(|l| !l.contains("panicked at") && !l.contains("ERROR")).take(4).collect();
    if names.is_empty() && why.is_empty() {
        bail!("{}: the engine ended without a word", target.name);
    }
    Ok(format!("{}\n  kept in {}", why.join("\n  "), names.join(", ")))
}
