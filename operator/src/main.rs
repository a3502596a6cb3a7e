//! The operator: policies × nodes × guests → one `NodeOvercommit` per node.
//!
//! `watch` → `index` (`verdict`, `maps`: pure) → `plan` (`select`, `build`, `release`, `status`: pure) → `queue` → `apply` → `index`.
//! *Architecture invariants:* all state is in the API; the pure steps have no client and no clock; nothing is concluded
//! from the absence of what was not listed yet, and the way out waits for no watch that it does not need; secrets and
//! specs of guests are never read.

mod apply;
mod args;
mod build;
mod dirty;
mod events;
#[cfg(test)]
mod fixture;
mod health;
mod index;
mod keys;
mod maps;
mod metrics;
mod object;
mod plan;
mod queue;
mod release;
mod run;
mod select;
mod shared;
mod status;
mod telemetry;
mod uninstall;
mod verdict;
mod watch;
mod words;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use args::{Cli, Command};
use clap::Parser;

/// Exit code of bad usage or bad input.
const USAGE: u8 = 2;
/// Time that threads which still resolve names or write get at the end.
const LAST_CALLS: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(message) = telemetry::start(&cli.log, cli.log_format) {
        words::complain(&message);
        return ExitCode::from(USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            words::complain(&format!("cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(execute(cli.command));
    runtime.shutdown_timeout(LAST_CALLS);
    code
}

async fn execute(command: Command) -> ExitCode {
    match command {
        Command::Crds => crds(),
        Command::Run(args) => ended(run::run(args).await, USAGE),
        Command::Release(args) => match run::client().await {
            Ok(client) => ended(uninstall::release(client, args.timeout).await.map_err(Into::into), 1),
            Err(error) => ended(Err(error), USAGE),
        },
    }
}

fn ended(result: anyhow::Result<()>, code: u8) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            words::complain(&format!("{error:#}"));
            ExitCode::from(code)
        }
    }
}

fn crds() -> ExitCode {
    let text = overcommit_crds::crd::yaml().context("cannot render the CRDs");
    ended(text.and_then(|text| words::print(&text).context("the CRDs cannot be written")), 1)
}
