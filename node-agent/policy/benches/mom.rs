//! The stock balloon policy over 110 guests on our evaluator and on MOM's own, by turns: `make bench-mom` says where MOM is.
//! Ratios alone mean something: whatever else the machine does, it does to both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use overcommit_policy::{Limits, Program, Source, evaluate, exchange};

/// Pods of a node unless it is told otherwise.
const GUESTS: u32 = 110;
/// Evaluations of a round, and rounds.
const MOMS: u32 = 5;
const OURS: u32 = 2_000;
const ROUNDS: usize = 5;
const BALLOON: &[u8] = include_bytes!("../../../deploy/samples/mom/balloon.rules");
const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/testbed/mom/oracle.py");

/// A tenth of the host is free; guests of 4 GiB, ten samples each.
fn input() -> String {
    let total: u64 = 110 * 4_194_304;
    let row = |text: String| vec![text; 10].join(",");
    let host = row(format!("{{\"mem_available\":{total},\"mem_free\":{}}}", total / 10));
    let mut guests = String::new();
    for n in 0..GUESTS {
        let unused = n * 37_000;
        let sample = format!(
            "{{\"balloon_cur\":3900000,\"balloon_max\":4194304,\"balloon_min\":1048576,\"mem_unused\":{unused}}}"
        );
        let comma = if n > 0 { "," } else { "" };
        write!(guests, "{comma}{{\"name\":\"g{n}\",\"history\":[{}]}}", row(sample)).unwrap();
    }
    format!("{{\"host\":{{\"history\":[{host}]}},\"guests\":[{guests}]}}")
}

/// Evaluations per second, of MOM.
struct Mom {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    question: String,
}

impl Mom {
    fn start(modules: &str, input: &str) -> Self {
        let mut python = Command::new("/usr/bin/python3");
        let mut child = python
            .args(["-I", "-B", ORACLE, modules])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 (Debian package python3)");
        let hex = BALLOON.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let question = format!("{{\"bench\":{MOMS},\"files\":[{{\"hex\":\"{hex}\"}}],\"input\":{input}}}");
        let questions = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, questions, answers, question }
    }

    fn round(&mut self) -> f64 {
        writeln!(self.questions, "{}", self.question).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let seconds = line
            .split("\"seconds\": ")
            .nth(1)
            .and_then(|rest| rest.trim_end().trim_end_matches('}').parse().ok());
        let seconds: f64 = seconds.unwrap_or_else(|| panic!("MOM says {line}"));
        f64::from(MOMS) / seconds
    }
}

impl Drop for Mom {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Evaluations per second, of ours. Each has the world that the former left, as MOM's have here.
fn round(input: &str) -> f64 {
    let program = Program::parse(&[Source { name: "balloon.rules", bytes: BALLOON }]).unwrap();
    let mut world = exchange::read(input.as_bytes()).unwrap();
    let begun = Instant::now();
    for _ in 0..OURS {
        std::hint::black_box(evaluate(&program, &mut world, &Limits::default()).unwrap());
    }
    f64::from(OURS) / begun.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let modules = std::env::var("MOM").expect("MOM says where its modules are: run `make bench-mom`");
    let input = input();
    let mut mom = Mom::start(&modules, &input);
    let (mut theirs, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (one, other) = (mom.round(), round(&input));
        theirs.push(one);
        ours.push(other);
        ratios.push(other / one);
    }
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "balloon.rules over {GUESTS} guests, evaluations per second: MOM {:.1}, ours {:.0}; {:.0} times ({least:.0} to {most:.0})",
        median(theirs),
        median(ours),
        median(ratios),
    );
}
