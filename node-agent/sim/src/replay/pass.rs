//! One pass over a recording: its lines played, and the time of each decision since the first.

use std::time::Duration;

use overcommit_core::units::Monotonic;
use overcommit_record::{Before, Line, Made, NotPlayed, Played, Player};

/// What is seen on the way.
pub(super) enum Seen<'a> {
    /// A decision.
    Decided {
        /// Made again.
        made: &'a Made,
        /// Since the first one.
        now: Duration,
        /// Who made it.
        player: &'a Player,
    },
    /// A stretch without a gap begins.
    Began,
    /// The state is not what was recorded, though every line before was played.
    Strayed,
    /// Something that people should know.
    Remark(String),
}

/// One pass.
pub(super) struct Pass {
    player: Player,
    clock: Clock,
    version: Option<String>,
    /// Why lines cannot be played, and how many: the reason of the first, for others may follow from that.
    broken: Option<(NotPlayed, u64)>,
}

impl Pass {
    pub(super) fn of(player: Player) -> Self {
        Self { player, clock: Clock::default(), version: None, broken: None }
    }

    pub(super) fn run(
        mut self,
        lines: &mut impl FnMut(&mut dyn FnMut(Line<'static>)),
        mut see: impl FnMut(Seen<'_>),
    ) {
        lines(&mut |line| match self.player.play(line) {
            Ok(Played::Decided(made)) => {
                let now = self.clock.at(made.sample.at, made.sample.wall);
                see(Seen::Decided { made: &made, now, player: &self.player });
            }
            Ok(Played::Began { version, before, agrees }) => {
                self.clock.last = None;
                let at = self.clock.now.as_secs_f64();
                match before {
                    Before::Start => {}
                    Before::Loss => see(Seen::Remark(format!("at {at:.1} s lines are missing"))),
                    Before::Line if agrees => {}
                    Before::Line => see(Seen::Strayed),
                }
                if self.version.as_ref() != Some(&version) {
                    see(Seen::Remark(format!("recorded by version {version}")));
                    self.version = Some(version);
                }
                see(Seen::Began);
            }
            Ok(Played::Changed) => {}
            Err(why) => {
                let (first, count) = self.broken.take().unwrap_or((why, 0));
                self.broken = Some((first, count.saturating_add(1)));
            }
        });
        if let Some((why, count)) = self.broken {
            see(Seen::Remark(format!("{count} lines cannot be played: {why}")));
        }
    }
}

/// Time since the first decision. Within a stretch the loop's own clock counts, which begins anew with each boot.
#[derive(Debug, Default)]
struct Clock {
    now: Duration,
    last: Option<Monotonic>,
    wall: Option<Duration>,
}

impl Clock {
    fn at(&mut self, at: Monotonic, wall: Duration) -> Duration {
        let before = self.wall.replace(wall);
        let passed = match self.last.replace(at) {
            Some(last) => at.since(last),
            None => before.map_or(Duration::ZERO, |before| wall.saturating_sub(before)),
        };
        self.now = self.now.saturating_add(passed);
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_stretches_the_wall_clock_counts_and_within_one_the_loops_own() {
        let at = |seconds| Monotonic::new(Duration::from_secs(seconds));
        let wall = Duration::from_secs;
        let mut clock = Clock::default();
        assert_eq!(clock.at(at(100), wall(1000)).as_secs(), 0);
        // Somebody sets the wall clock.
        assert_eq!(clock.at(at(110), wall(5000)).as_secs(), 10);
        clock.last = None;
        assert_eq!(clock.at(at(3), wall(5060)).as_secs(), 70);
        assert_eq!(clock.at(at(4), wall(5061)).as_secs(), 71);
    }
}
