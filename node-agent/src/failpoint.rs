//! Named points of the cycle at which a debug build can be told to die, to stop or to panic, so that tests see what is
//! left. A release build has neither the points nor the argument that names them.
//!
//! Thirty lines of our own rather than the `fail` crate: that one keeps its points behind a feature, which one build of
//! the workspace has for all or for none, and knows no SIGKILL and no SIGSTOP.

#[cfg(debug_assertions)]
pub(crate) use armed::{Order, arm, reach};

/// A point of the cycle; nothing in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn reach(_: &str) {}

#[cfg(debug_assertions)]
mod armed {
    use std::str::FromStr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static ORDERS: OnceLock<Vec<(Order, AtomicU64)>> = OnceLock::new();

    /// What to do where.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Order {
        point: String,
        action: Action,
        /// The first time at which it is done, from 1 on.
        first: u64,
        /// The last one.
        last: u64,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Kill,
        Stop,
        Panic,
    }

    impl FromStr for Order {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, String> {
            let (point, rest) = text
                .split_once('=')
                .ok_or("POINT=kill|stop|panic, with *N for the Nth time, *N+ from then on")?;
            let (action, times) = rest.split_once('*').unwrap_or((rest, "1+"));
            let first = times.trim_end_matches('+').parse().map_err(|e| format!("{times}: {e}"))?;
            let last = if times.ends_with('+') { u64::MAX } else { first };
            let action = match action {
                "kill" => Action::Kill,
                "stop" => Action::Stop,
                "panic" => Action::Panic,
                other => return Err(format!("{other}: kill, stop or panic")),
            };
            Ok(Self { point: point.to_owned(), action, first, last })
        }
    }

    /// Takes orders; once.
    pub(crate) fn arm(orders: &[Order]) {
        let orders = orders.iter().cloned().map(|order| (order, AtomicU64::new(0))).collect();
        drop(ORDERS.set(orders));
    }

    /// A point of the cycle.
    #[allow(clippy::panic, reason = "a panic that was ordered")]
    pub(crate) fn reach(point: &str) {
        for (order, times) in ORDERS.get().into_iter().flatten().filter(|(order, _)| order.point == point) {
            let time = times.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            if !(order.first..=order.last).contains(&time) {
                continue;
            }
            match order.action {
                Action::Kill => drop(kill_process(getpid(), Signal::KILL)),
                Action::Stop => drop(kill_process(getpid(), Signal::STOP)),
                Action::Panic => panic!("ordered at {point}"),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn orders_are_understood_or_refused() {
            for (text, action, first, last) in [
                ("x=kill*3", Action::Kill, 3, 3),
                ("x=stop*3+", Action::Stop, 3, u64::MAX),
                ("x=panic", Action::Panic, 1, u64::MAX),
            ] {
                assert_eq!(
                    text.parse::<Order>().unwrap(),
                    Order { point: "x".to_owned(), action, first, last }
                );
            }
            for wrong in ["x", "x=die", "x=kill*", "x=kill*-1"] {
                assert!(wrong.parse::<Order>().is_err(), "{wrong}");
            }
        }
    }
}
