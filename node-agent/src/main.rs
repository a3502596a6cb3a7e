//! The agent of one node: samples the host and its guests, decides, guards, drives virtio-balloon, reports.
//!
//! `run --node` is the agent in a cluster, `run --policy` the same loop on a host without Kubernetes, each looked after
//! by a second small process (`keeper`); `status`,
//! `explain` and `release` talk to a running agent through the socket in its state directory; `policy` needs none.

mod args;
mod clock;
mod cluster;
mod contact;
mod control;
mod envelope;
mod failpoint;
mod http;
mod intake;
mod journal;
mod keeper;
mod kept;
mod knobs;
mod kubelet_line;
mod learned;
#[cfg(debug_assertions)]
mod liar;
mod orders;
mod output;
mod policy_file;
mod programs;
mod recording;
mod report;
mod resident;
mod run;
mod scribe;
mod search;
mod signals;
mod state_dir;
mod tick;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let outcome = match args.command {
        args::Command::Run(run) => start(&run),
        args::Command::Status(ask) => control::status(&ask),
        args::Command::Explain(ask) => control::explain(&ask),
        args::Command::Release(ask) => control::release(&ask),
        args::Command::Policy(args::Policy::Check(programs)) => programs::check(&programs),
        args::Command::Policy(args::Policy::Eval(eval)) => programs::eval(&eval),
        args::Command::Policy(args::Policy::Input(ask)) => control::program(&ask),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(words) = failure.words() {
                // Where nobody can read it, the exit code says it.
                drop(writeln!(std::io::stderr(), "overcommit-agent: {words}"));
            }
            failure.exit_code()
        }
    }
}

/// The loop, or who looks after one.
fn start(run: &args::Run) -> Result<(), run::Failure> {
    // Whoever starts it sees that. A loop that is started anew works with what there is.
    if run.is_first() {
        resident::room_for_files().map_err(run::Failure::bad_input)?;
    }
    if run.kept || run.unattended { run::run(run) } else { keeper::run(run) }
}
