//! Guests to try things on by hand: `testbed-guests SIZE_MIB[,LOAD]…` starts them, prints how to reach them, and keeps them until
//! its end, however that comes. LOAD is as in `guest-load/load.rs`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use overcommit_tests::guests::{GuestSpec, Hypervisor};
use overcommit_tests::session::Session;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed-guests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let specs =
        std::env::args().skip(1).enumerate().map(|(n, word)| spec(n, &word)).collect::<Result<Vec<_>>>()?;
    let hypervisor = Hypervisor::shared()?;
    println!("folder {}", Session::shared()?.dir().display());
    println!("guardian {}", Session::shared()?.guardian_pid());
    println!("uri {}", hypervisor.uri());
    println!("libvirtd {}", hypervisor.daemon_pid());
    let guests = specs.iter().map(|spec| hypervisor.define_and_start(spec)).collect::<Result<Vec<_>>>()?;
    for guest in &guests {
        guest.wait_booted()?;
        println!("guest {} qemu {}", guest.name(), guest.qemu_pid()?);
    }
    println!("ready; Ctrl-C ends all");
    loop {
        std::thread::park();
    }
}

fn spec(number: usize, word: &str) -> Result<GuestSpec> {
    let (size, load) = word.split_once(',').unwrap_or((word, "idle"));
    let mib =
        size.parse().with_context(|| format!("{size}: a size in MiB, then optionally a comma and a load"))?;
    let load = load.parse().map_err(anyhow::Error::msg)?;
    Ok(GuestSpec::new(format!("guest-{number}"), mib).load(load))
}
