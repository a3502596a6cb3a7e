//! A guest whose driver or whose statistics lie, which no real one can be brought to: around the port to real guests, a
//! port that says something else in the name of some of them. A release build has neither this nor the argument.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use overcommit_core::conduct::FOLLOW_TOLERANCE;
use overcommit_core::plan::{Command, Outcome};
use overcommit_core::ports::{Admission, GuestPort, Heard, Reading};
use overcommit_core::sample::{Balloon, GuestId, GuestSample};
use overcommit_core::stranger::Stranger;
use overcommit_core::troubles::Troubles;
use overcommit_core::units::Bytes;

/// Less than any guest can do without.
const HARDLY_ANY: Bytes = Bytes::from_mib(1);

/// Who lies, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lie {
    guest: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its driver says that it gave what it was asked for, with statistics to match, and keeps every page.
    Gives,
    /// Its statistics say that it hurts whenever it has less than its full size.
    Hurts,
    /// Its statistics contradict themselves whenever it has less than its full size.
    Contradicts,
}

impl FromStr for Lie {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (guest, kind) = text.split_once('=').ok_or("GUEST=gives|hurts|contradicts")?;
        let kind = match kind {
            "gives" => Kind::Gives,
            "hurts" => Kind::Hurts,
            "contradicts" => Kind::Contradicts,
            other => return Err(format!("{other}: gives, hurts or contradicts")),
        };
        Ok(Self { guest: guest.to_owned(), kind })
    }
}

/// The guests, some of whom lie.
pub(crate) struct Liar {
    port: Box<dyn GuestPort + Send>,
    lies: Vec<Lie>,
    /// Whose lie is which, as of the last sample.
    liars: BTreeMap<GuestId, Kind>,
    /// What drivers that keep every page were asked to leave their guests.
    asked: BTreeMap<GuestId, Bytes>,
    /// What became of what they were asked.
    obeyed: Vec<Outcome>,
}

/// The port itself where nobody lies.
pub(crate) fn among(port: Box<dyn GuestPort + Send>, lies: &[Lie]) -> Box<dyn GuestPort + Send> {
    if lies.is_empty() {
        return port;
    }
    let (lies, liars, asked, obeyed) = (lies.to_vec(), BTreeMap::new(), BTreeMap::new(), Vec::new());
    Box::new(Liar { port, lies, liars, asked, obeyed })
}

impl Liar {
    fn told(&self, kind: Kind, guest: &GuestSample, truth: Balloon) -> Balloon {
        let full = guest.config.full;
        let squeezed = truth.actual.plus(FOLLOW_TOLERANCE) < full;
        match kind {
            Kind::Gives => {
                let gone = full.minus(self.asked.get(&guest.id).copied().unwrap_or(full));
                let less = |size: Bytes| size.minus(gone);
                Balloon {
                    actual: truth.actual.minus(gone),
                    available: truth.available.map(less),
                    unused: truth.unused.map(less),
                    usable: truth.usable.map(less),
                    ..truth
                }
            }
            Kind::Hurts if squeezed => {
                Balloon { unused: Some(HARDLY_ANY), usable: Some(HARDLY_ANY), ..truth }
            }
            Kind::Contradicts if squeezed => {
                Balloon { usable: truth.available.map(|total| total.plus(HARDLY_ANY)), ..truth }
            }
            Kind::Hurts | Kind::Contradicts => truth,
        }
    }
}

impl GuestPort for Liar {
    fn ask(&mut self) {
        self.port.ask();
    }

    fn ask_host(&mut self) {
        self.port.ask_host();
    }

    fn ask_statistics(&mut self, id: &GuestId) {
        self.port.ask_statistics(id);
    }

    fn hear(&mut self) -> Heard {
        let mut heard = self.port.hear();
        heard.outcomes.append(&mut self.obeyed);
        heard
    }

    fn is_waiting(&self) -> bool {
        self.port.is_waiting()
    }

    fn admit(&mut self, admission: Arc<Admission>) {
        self.port.admit(admission);
    }

    fn sample(&mut self, facts: Reading) -> Vec<GuestSample> {
        let mut guests = self.port.sample(facts);
        self.liars.clear();
        for guest in &mut guests {
            let lie = self.lies.iter().find(|lie| *lie.guest == *guest.name.name);
            if let Some(kind) = lie.map(|lie| lie.kind) {
                self.liars.insert(guest.id.clone(), kind);
                guest.balloon = guest.balloon.map(|truth| self.told(kind, guest, truth));
            }
        }
        guests
    }

    fn strangers(&self) -> Vec<Stranger> {
        self.port.strangers()
    }

    fn send(&mut self, commands: &[Command]) {
        let mut rest = Vec::new();
        for command in commands {
            match command {
                Command::SetTarget { id, to, .. } if self.liars.get(id) == Some(&Kind::Gives) => {
                    self.asked.insert(id.clone(), *to);
                    self.obeyed.push(Outcome { command: command.clone(), result: Ok(()) });
                }
                _ => rest.push(command.clone()),
            }
        }
        self.port.send(&rest);
    }

    fn is_carrying(&self) -> bool {
        !self.obeyed.is_empty() || self.port.is_carrying()
    }

    fn unseen(&self) -> usize {
        self.port.unseen()
    }

    fn troubles(&self) -> Troubles {
        self.port.troubles()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_are_understood_or_refused() {
        let lie = |kind| Lie { guest: "a".to_owned(), kind };
        for (text, kind) in
            [("a=gives", Kind::Gives), ("a=hurts", Kind::Hurts), ("a=contradicts", Kind::Contradicts)]
        {
            assert_eq!(text.parse::<Lie>(), Ok(lie(kind)));
        }
        for wrong in ["a", "a=", "a=flies"] {
            assert!(wrong.parse::<Lie>().is_err(), "{wrong}");
        }
    }
}
