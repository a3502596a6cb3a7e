//! Shows what the agent sees, a few lines per guest: `look URI` on a host without Kubernetes, `look` on a node.
//! `look URI TARGET-MIB` also sets every guest's balloon once. Enter looks again, the end of the input ends it.

use std::time::Instant;

use overcommit_core::plan::Command;
use overcommit_core::ports::{GuestPort, HostPort};
use overcommit_core::sample::GuestSample;
use overcommit_core::units::Bytes;
use overcommit_guest::{ConnectionKey, Guests, Target};
use overcommit_host::{EvictionLine, HostReader, Launchers, ProcessFactsReader, Root};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next();
    let target: Option<u64> = arguments.next().and_then(|mib| mib.parse().ok());
    let root = Root::default();
    let mut host = HostReader::new(&root);
    let mut launchers = Launchers::new(root.clone());
    let facts = Box::new(ProcessFactsReader::new(root.clone()));
    let mut guests = match &uri {
        Some(uri) => Guests::standalone(uri, facts),
        None => Guests::in_cluster(facts),
    };
    for turn in 0.. {
        if uri.is_none() {
            adopt(&mut launchers, &mut guests);
        }
        match host.sample() {
            Ok(sample) if turn == 0 => {
                println!("{:?}\n{:?}", sample, EvictionLine::read(&root, sample.memory.total));
            }
            Ok(_) => {}
            Err(error) => println!("{error}"),
        }
        let start = Instant::now();
        let samples = guests.sample();
        println!("{} guests in {:?}; {:?}", samples.len(), start.elapsed(), guests.connections());
        samples.iter().for_each(show);
        if let (0, Some(mib)) = (turn, target) {
            set(&mut guests, &samples, Bytes::from_mib(mib));
        }
        if !matches!(std::io::stdin().read_line(&mut String::new()), Ok(1..)) {
            return;
        }
    }
}

fn adopt(launchers: &mut Launchers, guests: &mut Guests) {
    let start = Instant::now();
    match launchers.scan() {
        Ok(scan) => {
            println!("scan: {} launchers in {:?}", scan.launchers.len(), start.elapsed());
            scan.refusals.iter().for_each(|refusal| println!("{refusal}"));
            let target = |l: overcommit_host::Launcher| {
                (ConnectionKey::new(l.pod_uid), Target::Launcher { socket: l.socket, vmi_uid: l.vmi_uid })
            };
            guests.set_launchers(scan.launchers.into_iter().map(target).collect());
        }
        Err(error) => println!("{error}"),
    }
}

fn show(guest: &GuestSample) {
    println!(
        "  {} {} {:?} {:?} vmi {:?}\n    {:?}\n    {:?}\n    {:?} {}",
        guest.id,
        guest.name,
        guest.run_state,
        guest.incarnation,
        guest.vmi_uid,
        guest.config,
        guest.balloon,
        guest.facts,
        guest.trouble.as_deref().unwrap_or("")
    );
}

fn set(guests: &mut Guests, samples: &[GuestSample], to: Bytes) {
    let commands: Vec<Command> = samples
        .iter()
        .flat_map(|g| {
            let id = g.id.clone();
            let target = Command::SetTarget { id: id.clone(), from: g.config.full, to };
            [target, Command::SetPeriod { id, seconds: 1 }]
        })
        .collect();
    let start = Instant::now();
    for outcome in guests.apply(&commands) {
        println!("  {:?}: {:?}", outcome.command, outcome.result);
    }
    println!("  in {:?}", start.elapsed());
}
