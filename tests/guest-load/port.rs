//! The guest's end of the command port: a virtio-serial port, one line per order, one line per answer.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use crate::load::Load;

/// Name of the port, as the host gives it in the domain's XML.
const PORT: &str = "org.overcommit.load.0";

/// A port whose other end nobody holds reads as empty at once, so it is looked at now and then.
const IDLE: Duration = Duration::from_millis(200);

/// What can be ordered. Answers go through the sender.
pub(crate) enum Order {
    /// Replace the load.
    Load(Load, Sender<String>),
    /// Say what runs.
    Status(Sender<String>),
    /// Reboot the guest.
    Reboot(Sender<String>),
    /// Load the balloon's driver, or unload it.
    Driver(bool, Sender<String>),
    /// Let nothing else run for so many seconds.
    Freeze(u64, Sender<String>),
}

/// Serves the port for ever; returns where the guest has none.
pub(crate) fn serve(orders: &Sender<Order>) {
    let Some(mut port) = open() else {
        println!("LOAD has no command port");
        return;
    };
    println!("LOAD listens");
    let mut line = Vec::new();
    let mut piece = [0; 256];
    loop {
        match port.read(&mut piece) {
            Ok(0) | Err(_) => std::thread::sleep(IDLE),
            Ok(length) => {
                for byte in piece.iter().take(length) {
                    if *byte == b'\n' {
                        let answer = answer(&String::from_utf8_lossy(&line), orders);
                        // The host may have hung up; the next order is read all the same.
                        let _ = port.write_all(format!("{answer}\n").as_bytes());
                        line.clear();
                    } else {
                        line.push(*byte);
                    }
                }
            }
        }
    }
}

fn open() -> Option<File> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    let named = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == PORT)
    };
    let device = PathBuf::from("/dev").join(ports.into_iter().find(named)?.file_name());
    OpenOptions::new().read(true).write(true).open(device).ok()
}

fn answer(line: &str, orders: &Sender<Order>) -> String {
    let (reply, answer) = channel();
    let order = match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
        ("status", "") => Order::Status(reply),
        ("reboot", "") => Order::Reboot(reply),
        ("driver", "on") => Order::Driver(true, reply),
        ("driver", "off") => Order::Driver(false, reply),
        ("freeze", seconds) => match seconds.parse() {
            Ok(seconds) => Order::Freeze(seconds, reply),
            Err(_) => return format!("error not a number of seconds: {seconds}"),
        },
        ("load", word) => match word.parse() {
            Ok(load) => Order::Load(load, reply),
            Err(error) => return format!("error {error}"),
        },
        _ => {
            return format!(
                "error unknown order: {line} (load WORD, status, reboot, driver on|off, freeze SECONDS)"
            );
        }
    };
    if orders.send(order).is_err() {
        return "error no supervisor".to_owned();
    }
    answer.recv().unwrap_or_else(|_| "error no answer".to_owned())
}
