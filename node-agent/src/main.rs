//! The agent of one node: samples the host and its guests, decides, guards, drives virtio-balloon, reports.
//!
//! `run --node` is the agent in a cluster, `run --policy` the same loop on a host without Kubernetes; `status`,
//! `explain` and `release` talk to a running agent through the socket in its state directory.

mod args;
mod clock;
mod cluster;
mod control;
mod http;
mod intake;
mod journal;
mod kubelet_line;
mod orders;
mod output;
mod report;
mod resident;
mod run;
mod search;
mod signals;
mod state_dir;
mod tick;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let outcome = match args.command {
        args::Command::Run(run) => run::run(&run),
        args::Command::Status(ask) => control::status(&ask),
        args::Command::Explain(ask) => control::explain(&ask),
        args::Command::Release(ask) => control::release(&ask),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("overcommit-agent: {failure:#}");
            failure.exit_code()
        }
    }
}
