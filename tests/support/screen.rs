//! What somebody who watches a demonstration sees: lines that stay and, below them, a block that is redrawn in place
//! while something is awaited. Two control sequences (ECMA-48 `CPL` and `ED`) do all of it, so there is no crate for it.

use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where the output is no terminal, changed lines of a block are printed this often at most.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Width of a terminal that does not say its own.
const COLUMNS: usize = 100;

/// Standard output.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    block: Mutex<Block>,
}

/// What is drawn below the lines that stay.
#[derive(Debug, Default)]
struct Block {
    /// Lines on the terminal, to be drawn over.
    drawn: usize,
    /// Lines last given.
    lines: Vec<String>,
    /// Lines printed where there is no terminal.
    printed: Vec<String>,
    printed_at: Option<Instant>,
}

impl Screen {
    /// Redraws in place if standard output is a terminal.
    pub fn stdout() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), block: Mutex::default() }
    }

    /// Prints lines only, for logs and tests.
    pub fn plain() -> Self {
        Self { terminal: false, block: Mutex::default() }
    }

    /// Prints text that stays.
    pub fn say(&self, text: &str) {
        let mut block = self.block();
        print!("{}", block.erase());
        println!("{}", text.trim_end());
    }

    /// Prints a heading that stays.
    pub fn heading(&self, text: &str) {
        let (bold, normal) = if self.terminal { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.say(&format!("\n{bold}▶ {text}{normal}"));
    }

    /// Draws the block anew; `ticking` is a last line that changes all the time, for terminals only.
    pub fn show(&self, lines: Vec<String>, ticking: &str) {
        let mut block = self.block();
        if self.terminal {
            let erase = block.erase();
            let width = width();
            let drawn: Vec<String> =
                lines.iter().map(String::as_str).chain([ticking]).map(|line| cut(line, width)).collect();
            block.drawn = drawn.len();
            println!("{erase}{}", drawn.join("\n"));
        } else if block.printed_at.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) {
            block.print_changed(&lines);
        }
        block.lines = lines;
    }

    /// Lets the block stand as it was last given, without the ticking line.
    pub fn settle(&self) {
        let mut block = self.block();
        let lines = std::mem::take(&mut block.lines);
        if self.terminal {
            print!("{}", block.erase());
            let width = width();
            for line in &lines {
                println!("{}", cut(line, width));
            }
        } else {
            block.print_changed(&lines);
        }
        *block = Block::default();
    }

    fn block(&self) -> MutexGuard<'_, Block> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Block {
    /// What takes it off the terminal.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}F\x1b[J"),
        }
    }

    fn print_changed(&mut self, lines: &[String]) {
        for line in lines.iter().filter(|line| !self.printed.contains(line)) {
            println!("{line}");
        }
        self.printed = lines.to_vec();
        self.printed_at = Some(Instant::now());
    }
}

/// Columns of the terminal.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).map(|size| usize::from(size.ws_col));
    size.ok().filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

/// A line that wraps would take two lines and be erased by half.
fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_never_wraps() {
        assert_eq!(cut("█▓░ four", 8), "█▓░ four");
        assert_eq!(cut("█▓░ four", 6), "█▓░ f…");
    }

    #[test]
    fn a_redrawn_block_takes_its_own_lines_away_and_no_more() {
        let screen = Screen { terminal: true, block: Mutex::default() };
        assert_eq!(screen.block().erase(), "");
        screen.show(vec!["one".into(), "two".into()], "waiting");
        assert_eq!(screen.block().erase(), "\x1b[3F\x1b[J");
        assert_eq!(screen.block().erase(), "");
    }
}
