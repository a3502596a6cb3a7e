//! The load program of the test guests: `load supervise` is process 1 of the guest, `load work WORD` its child that uses memory.
//!
//! The kernel command line names the guest (`seed=…`, by which its pages are no other guest's) and the first load (`load=…`) and, with
//! `reboot_after=SECONDS`, has the guest reboot itself so long after each start. Lines on the command port replace the load
//! (`load WORD`), ask for it (`status`), reboot (`reboot`), take the balloon's driver away and bring it back (`driver off|on`), or keep
//! the processor from everything else (`freeze SECONDS`); each is answered by one line that begins with `ok` or `error`. Standard library only: it is compiled alone, statically, for the guest.

mod fault;
#[allow(unreachable_pub, dead_code, reason = "public for the test bed, whose module this is too")]
mod load;
mod port;
mod serve;
#[allow(unreachable_pub, dead_code, reason = "public for the test bed, whose module this is too")]
mod waits;
mod work;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use load::Load;
use port::Order;

/// How often the supervisor looks after its child.
const LOOK: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["supervise"] => supervise(),
        ["work", word] => match word.parse() {
            Ok(load) => work::work(&load, &ordered("seed").unwrap_or_default()),
            Err(error) => fail(&error),
        },
        ["hog", seconds] => match seconds.parse() {
            Ok(seconds) => fault::hog(seconds),
            Err(_) => fail("not a number of seconds"),
        },
        _ => fail("usage: load supervise | load work WORD | load hog SECONDS"),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("LOAD {message}");
    ExitCode::from(2)
}

/// Value of `key=` on the kernel command line.
fn ordered(key: &str) -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}

/// The load that runs, and its process.
struct Running {
    load: Load,
    child: Option<Child>,
}

fn supervise() -> ! {
    // A guest without memory loses its load, not its supervisor: that is what tells of it.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    println!(
        "LOAD up kernel={}",
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim()
    );
    let first = ordered("load").map_or(Ok(Load::IDLE), |word| word.parse());
    let first = first.unwrap_or_else(|error| {
        println!("LOAD {error}");
        Load::IDLE
    });
    let reboot_at =
        ordered("reboot_after").and_then(|s| s.parse().ok()).map(|s| Instant::now() + Duration::from_secs(s));
    let (orders, inbox) = channel();
    std::thread::spawn(move || port::serve(&orders));
    let mut running = start(first);
    loop {
        match inbox.recv_timeout(LOOK) {
            Ok(order) => running = obey(order, running),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
        }
        look_after(&mut running);
        if reboot_at.is_some_and(|at| Instant::now() >= at) {
            reboot();
        }
    }
}

fn start(load: Load) -> Running {
    println!("LOAD begins {load}");
    // A fixed threshold gives each freed piece of the buffer back to the kernel at once.
    let child = Command::new("/proc/self/exe")
        .args(["work", &load.to_string()])
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .spawn();
    let child = child.inspect_err(|error| println!("LOAD cannot begin: {error}")).ok();
    Running { load, child }
}

fn obey(order: Order, mut running: Running) -> Running {
    match order {
        Order::Load(load, reply) => {
            if let Some(mut child) = running.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            let next = start(load);
            let _ = reply.send(format!("ok {}", next.load));
            next
        }
        Order::Status(reply) => {
            let alive = if running.child.is_some() { "runs" } else { "ended" };
            let progress = fs::read_to_string(work::PROGRESS).unwrap_or_default();
            let _ = reply.send(format!("ok {} {alive} {}", running.load, progress.trim()));
            running
        }
        Order::Driver(present, reply) => {
            let _ = reply.send(fault::driver(present));
            running
        }
        Order::Freeze(seconds, reply) => {
            let _ = reply.send("ok".to_owned());
            let_it_leave();
            fault::freeze(seconds);
            running
        }
        Order::Reboot(reply) => {
            let _ = reply.send("ok".to_owned());
            let_it_leave();
            reboot()
        }
    }
}

/// Long enough for an answer to leave.
fn let_it_leave() {
    std::thread::sleep(LOOK);
}

/// Says how the load ended, if it has. It is not begun again: whoever watches shall see that the guest lost it.
fn look_after(running: &mut Running) {
    let Some(Ok(Some(status))) = running.child.as_mut().map(Child::try_wait) else { return };
    running.child = None;
    match status.signal() {
        Some(signal) => println!("LOAD killed signal={signal} load={}", running.load),
        None => println!("LOAD ended status={status} load={}", running.load),
    }
}

fn reboot() -> ! {
    println!("LOAD reboots");
    let _ = Command::new("/bin/busybox").args(["reboot", "-f"]).status();
    loop {
        std::thread::sleep(LOOK);
    }
}
