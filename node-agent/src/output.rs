//! Standard output and standard error, each behind a thread of its own: a stopped terminal, a frozen session or a log
//! shim that hangs fills the pipe, and then whoever writes waits. The loop must not.

use std::io::Write;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines of the log that wait; a turn writes about one for each guest that it changes.
const LOG_LINES: usize = 4096;
/// Reports that wait. As JSON one may take 100 KiB on a node with a hundred guests.
const REPORTS: usize = 64;

/// One of the two, as long as its guard lives; what does not fit is dropped and counted.
pub(crate) struct Behind {
    /// Where to write; a whole line at once, for half of it may be dropped.
    pub(crate) writer: NonBlocking,
    /// Writes what waits when it is dropped, for at most a second.
    pub(crate) guard: WorkerGuard,
}

impl Behind {
    /// The log.
    pub(crate) fn log() -> Self {
        Self::thread("log", LOG_LINES, std::io::stderr())
    }

    /// The reports.
    pub(crate) fn reports() -> Self {
        Self::thread("reports", REPORTS, std::io::stdout())
    }

    fn thread(name: &str, lines: usize, writer: impl Write + Send + 'static) -> Self {
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(lines).thread_name(name);
        let (writer, guard) = builder.finish(writer);
        Self { writer, guard }
    }

    /// Lines lost so far.
    pub(crate) fn lost(&self) -> ErrorCounter {
        self.writer.error_counter()
    }
}
