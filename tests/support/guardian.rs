//! A small second process that takes back what the test bed did when the first process is gone, however it went.
//!
//! It holds the read end of a pipe. What is about to be done is told to it *before* it is done; at the pipe's end (orderly exit, panic,
//! Ctrl-C, SIGKILL) it undoes what is left, the latest first. It is in a process group of its own, so a Ctrl-C does not reach it.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::undo::Undo;

/// Name of the guardian's program, next to the tests' own.
const PROGRAM: &str = "testbed-guardian";

/// A line on the pipe.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// Keep in mind to undo this.
    Register { id: u64, undo: Undo },
    /// It has been undone.
    Done { id: u64 },
}

/// The first process's end of the pipe.
#[derive(Debug, Clone)]
pub struct Guardian {
    pipe: Arc<Mutex<ChildStdin>>,
    next: Arc<AtomicU64>,
    pid: u32,
}

impl Guardian {
    /// Starts the second process.
    pub fn start() -> Result<Self> {
        let program = machine::sibling(PROGRAM)?;
        let mut child: Child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .current_dir("/")
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let pipe = child.stdin.take().context("the guardian has no pipe")?;
        Ok(Self { pipe: Arc::new(Mutex::new(pipe)), next: Arc::new(AtomicU64::new(1)), pid: child.id() })
    }

    /// Process id of the guardian.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Has something undone when the returned value is dropped, or when this process ends. To be called before the thing is done.
    pub fn undo_later(&self, undo: Undo) -> Result<Pending> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.send(&Message::Register { id, undo: undo.clone() })?;
        Ok(Pending { id, undo: Some(undo), guardian: self.clone() })
    }

    fn send(&self, message: &Message) -> Result<()> {
        let mut line = serde_json::to_string(message)?;
        line.push('\n');
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        pipe.write_all(line.as_bytes()).context("telling the guardian (is it gone?)")
    }
}

/// Something to undo: on drop, by [`Pending::undo`], or by the guardian.
#[derive(Debug)]
#[must_use = "it is undone when this is dropped"]
pub struct Pending {
    id: u64,
    undo: Option<Undo>,
    guardian: Guardian,
}

impl Pending {
    /// Undoes it now and says how that went.
    pub fn undo(mut self) -> Result<()> {
        self.perform()
    }

    fn perform(&mut self) -> Result<()> {
        let Some(undo) = self.undo.take() else { return Ok(()) };
        // On failure the guardian keeps it in mind and tries once more at the end.
        undo.perform()?;
        self.guardian.send(&Message::Done { id: self.id })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Err(error) = self.perform() {
            eprintln!("test bed: {error:#}");
        }
    }
}

/// The guardian's side: reads to the end, then undoes what is left, the latest first. Returns what failed.
pub fn watch(pipe: impl BufRead) -> Vec<anyhow::Error> {
    let mut pending = BTreeMap::new();
    // An unreadable line can only be the last one, torn by the sender's death: that thing had not been begun.
    for message in pipe.lines().map_while(Result::ok).map_while(|line| serde_json::from_str(&line).ok()) {
        match message {
            Message::Register { id, undo } => drop(pending.insert(id, undo)),
            Message::Done { id } => drop(pending.remove(&id)),
        }
    }
    pending.into_values().rev().filter_map(|undo: Undo| undo.perform().err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_undone_and_what_was_done_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (left, kept) = (dir.path().join("left"), dir.path().join("kept"));
        let mut text = String::new();
        for (id, path) in [(1, &left), (2, &kept)] {
            std::fs::write(path, "").unwrap();
            text +=
                &serde_json::to_string(&Message::Register { id, undo: Undo::Remove(path.clone()) }).unwrap();
            text.push('\n');
        }
        text += &serde_json::to_string(&Message::Done { id: 2 }).unwrap();
        text += "\n{\"Regis";
        assert!(watch(text.as_bytes()).is_empty());
        assert!(!left.exists() && kept.exists());
    }
}
