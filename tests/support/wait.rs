//! Waiting on conditions: never for a fixed time, always with a deadline, and an error that says what was awaited and what was seen last.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks at a condition. Short against everything that the test bed awaits, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(100);

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
    until_paced(limit, PAUSE, what, look)
}

/// As [`until`], with a pause between two looks that fits their cost.
pub fn until_paced<L: Look>(
    limit: Duration,
    pause: Duration,
    what: impl Display,
    mut look: impl FnMut() -> L,
) -> Result<L::Ready> {
    let start = Instant::now();
    loop {
        match look().seen() {
            Ok(value) => return Ok(value),
            Err(seen) if start.elapsed() >= limit => bail!("waited {limit:?} for {what}; last seen: {seen}"),
            Err(_) => std::thread::sleep(pause),
        }
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
    let end = tokio::time::Instant::now() + limit;
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
        tokio::time::sleep(PAUSE).await;
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

    #[tokio::test]
    async fn a_look_that_hangs_ends_at_the_limit() {
        let answer =
            until_async(Duration::from_millis(10), "an answer", std::future::pending::<Option<()>>).await;
        assert!(answer.unwrap_err().to_string().contains("has not returned"));
    }
}
