//! Waiting on conditions: never for a fixed time, always with a deadline, and an error that says what was awaited and what was seen last.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks at a condition that came soon. Short against everything that the test bed awaits.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause once it has lasted: most looks start a program, which keeps a tenth of a processor busy or more if they never pause
/// for longer. What is told for less than that may pass unseen: an agent turns with each statistics and each 200 ms, so a test
/// that must miss no turn reads them where they are printed (`agent::Turns`).
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Pause after so long: nobody who has waited for seconds minds a twentieth of that.
fn pause(waited: Duration) -> Duration {
    (waited / 20).clamp(PAUSE, LONGEST_PAUSE)
}

/// What a look at a condition can answer: the awaited value, or what was seen instead of it.
pub trait Look {
    /// The awaited value.
    type Ready;
    /// The value, or the state that was seen instead.
    fn seen(self) -> Result<Self::Ready, String>;
}

impl<T> Look for Option<T> {
    type Ready = T;
    fn seen(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing yet".to_owned())
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Ready = T;
    fn seen(self) -> Result<T, String> {
        self.map_err(|e| format!("{e:#}"))
    }
}

impl Look for bool {
    type Ready = ();
    fn seen(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("not true yet".to_owned()) }
    }
}

/// Looks until the condition answers with its value, for at most `limit`.
pub fn until<L: Look>(limit: Duration, what: impl Display, look: impl FnMut() -> L) -> Result<L::Ready> {
    look_until(limit, pause, what, look)
}

/// As [`until`], with a pause between two looks that fits their cost.
pub fn until_paced<L: Look>(
    limit: Duration,
    pause: Duration,
    what: impl Display,
    look: impl FnMut() -> L,
) -> Result<L::Ready> {
    look_until(limit, |_| pause, what, look)
}

fn look_until<L: Look>(
    limit: Duration,
    pause: impl Fn(Duration) -> Duration,
    what: impl Display,
    mut look: impl FnMut() -> L,
) -> Result<L::Ready> {
    let start = Instant::now();
    loop {
        let seen = match look().seen() {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        let waited = start.elapsed();
        if waited >= limit {
            bail!("waited {limit:?} for {what}; last seen: {seen}");
        }
        std::thread::sleep(pause(waited));
    }
}

/// As [`until`], for conditions that are looked at asynchronously. A look that does not return counts against the limit too.
pub async fn until_async<L, F>(
    limit: Duration,
    what: impl Display,
    mut look: impl FnMut() -> F,
) -> Result<L::Ready>
where
    L: Look,
    F: Future<Output = L>,
{
    let start = tokio::time::Instant::now();
    let end = start + limit;
    let mut last = "the first look has not returned".to_owned();
    loop {
        match tokio::time::timeout_at(end, look()).await.map(Look::seen) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = seen,
            Err(_) => bail!("waited {limit:?} for {what}; last seen: {last}"),
        }
        if tokio::time::Instant::now() >= end {
            bail!("waited {limit:?} for {what}; last seen: {last}");
        }
        tokio::time::sleep(pause(start.elapsed())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_awaited_value() {
        let mut looks = 0;
        let value = until(Duration::from_secs(5), "the third look", || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn says_what_was_awaited_and_last_seen() {
        let answer: Result<()> = until(Duration::ZERO, "a ready node", || Err("NotReady: no CNI"));
        let message = answer.unwrap_err().to_string();
        assert!(message.contains("a ready node") && message.contains("NotReady: no CNI"), "{message}");
    }

    #[test]
    fn what_lasts_is_looked_at_less_often_and_at_least_twice_a_second() {
        assert_eq!(pause(Duration::from_secs(1)), PAUSE);
        assert_eq!(pause(Duration::from_secs(6)), Duration::from_millis(300));
        assert_eq!(pause(Duration::from_mins(6)), LONGEST_PAUSE);
    }

    #[tokio::test]
    async fn a_look_that_hangs_ends_at_the_limit() {
        let answer =
            until_async(Duration::from_millis(10), "an answer", std::future::pending::<Option<()>>).await;
        assert!(answer.unwrap_err().to_string().contains("has not returned"));
    }
}
