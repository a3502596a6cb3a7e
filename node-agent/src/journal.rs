//! What must outlive the agent: what each guest had before it was touched, and the targets in force.
//!
//! Written before a take, never needed for a give. Keyed by boot and by process: a pid of another boot or another
//! start is another guest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use overcommit_core::dealings::{Dealing, Force};
use overcommit_core::ksm::Held;
use overcommit_core::model::Track;
use overcommit_core::sample::{GuestId, GuestName, GuestSample, Incarnation};
use overcommit_core::step::State;
use overcommit_core::units::{Bytes, Monotonic};

use crate::clock;
use crate::envelope;
use crate::learned;
use crate::state_dir::{StateDir, refusal};

mod ended;
mod format;

use ended::may_be_restored;
pub(crate) use format::{Content, Entry};

/// Its name in the state directory.
pub(crate) const FILE: &str = "journal";
/// What becomes of guests whose journal is lost, for people.
const OWED: &str = "what guests had is not known, so that each of them that is squeezed is owed its full size, and gets it as it \
                    needs it, or all of it by a release";
/// That one could not be read is told for so long at least: longer than a status takes to be written and looked at.
const TOLD_FOR: Duration = Duration::from_mins(5);

/// It says that an agent has written a journal here.
const BEGUN: &str = "begun";

/// The journal of one state directory.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Where it is, for people.
    shown: String,
    written: Content,
    /// What was found at the start, of guests that were not seen since.
    found: BTreeMap<GuestId, Entry>,
    /// The same of the kernel's knobs for merging.
    found_knobs: Option<Held>,
    /// Guests that ended while they lacked something.
    ended: Vec<(GuestId, Entry)>,
    /// Processes of guests of which it is known whether they are restored.
    judged: BTreeMap<GuestId, Incarnation>,
    /// When one was lost, to this agent or one before it: what guests had that ran then is not known.
    lost_at: Option<Monotonic>,
    /// All of them were seen since, and what they are owed is in what is written next.
    saw_all: bool,
    /// That one was lost, for people, and when this agent found it.
    unread: Option<(Instant, String)>,
    /// Why the last write failed.
    unwritten: Option<String>,
}

impl Journal {
    /// Opens the journal. One that cannot be understood is set aside, and the new one says so before anything else is done:
    /// whoever dies now must not be followed by one that takes what squeezed guests hold for all they had. The same holds of one
    /// that is gone, although an agent learned here, for each agent begins by writing one.
    pub(crate) fn open(dir: &StateDir, boot_id: &str) -> Self {
        let empty = Content { boot_id: boot_id.to_owned(), ..Content::default() };
        let read = dir.read(FILE).map_err(|e| e.to_string());
        let parsed =
            read.and_then(|content| content.map_or(Ok(None), |c| envelope::open::<Content>(&c).map(Some)));
        match parsed {
            Ok(Some(content)) if content.is_of(boot_id) => {
                let boot_id = if boot_id.is_empty() { content.boot_id } else { empty.boot_id };
                Self::of(dir, Content { boot_id, ..content })
            }
            // Balloons do not outlive a boot of the host, but in guests that were saved to files.
            Ok(Some(content)) => {
                let ended = content.guests.into_iter().filter(|(id, entry)| may_be_restored(id, entry));
                let ended = content.ended.into_iter().chain(ended).collect();
                Self::of(dir, Content { ended, ..empty })
            }
            Ok(None) if dir.has(BEGUN) || dir.has(learned::FILE) => {
                let what = "the journal is missing, although an agent has worked here";
                Self::lost(dir, empty, format!("{what}: {OWED}"))
            }
            Ok(None) => Self::begun(dir, empty),
            Err(why) => {
                let aside = dir.set_aside_when_replaced(FILE);
                Self::lost(dir, empty, format!("the journal was unreadable ({why}): {OWED}; see {aside}"))
            }
        }
    }

    fn of(dir: &StateDir, written: Content) -> Self {
        let lost_at = written.lost_at;
        let told = || {
            let what = format!(
                "an earlier journal was lost: {OWED}; {}.corrupt is one that was unreadable",
                dir.shown(FILE)
            );
            tracing::warn!("{what}");
            (Instant::now(), what)
        };
        Self {
            shown: dir.shown(FILE),
            found: written.guests.clone(),
            found_knobs: written.ksm.clone(),
            ended: written.ended.clone(),
            judged: BTreeMap::new(),
            written,
            lost_at,
            saw_all: false,
            unread: lost_at.map(|_| told()),
            unwritten: None,
        }
    }

    /// The first one.
    fn begun(dir: &StateDir, empty: Content) -> Self {
        let mut journal = Self::of(dir, empty);
        journal.write_first(dir, journal.written.clone());
        // Not before: a start that came to nothing is no journal that is lost.
        if journal.unwritten.is_none() {
            drop(dir.replace(BEGUN, &[]));
        }
        journal
    }

    /// In the place of one that is lost. Where this cannot be written the old one stands, and is found again.
    fn lost(dir: &StateDir, empty: Content, what: String) -> Self {
        tracing::error!("{what}");
        let mut journal = Self::of(dir, empty);
        journal.lost_at = Some(clock::now());
        journal.unread = Some((Instant::now(), what));
        journal.write_first(dir, Content { lost_at: journal.lost_at, ..journal.written.clone() });
        journal
    }

    fn write_first(&mut self, dir: &StateDir, content: Content) {
        let result = dir.replace(FILE, &envelope::seal(&content));
        self.wrote(content, result);
    }

    /// What is wrong with it, for people.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = String> {
        let is_told = |found: &Instant| self.is_lost() || found.elapsed() < TOLD_FOR;
        let unread = self.unread.iter().filter(move |(found, _)| is_told(found)).map(|(_, what)| what);
        unread.chain(&self.unwritten).cloned()
    }

    /// True if one was lost, and not everybody was seen who ran then: what guests had before is not known.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost_at().is_some()
    }

    /// Since when; absent if it is not so.
    pub(crate) fn lost_at(&self) -> Option<Monotonic> {
        self.lost_at.filter(|_| !self.saw_all)
    }

    /// Everybody was seen who ran when the journal was lost, and what they lack is in the state. On disk this stands with
    /// their entries, in one write.
    pub(crate) fn saw_all(&mut self) {
        self.saw_all = self.lost_at.is_some();
    }

    /// True if that is not on disk yet.
    pub(crate) fn is_found_again(&self) -> bool {
        self.saw_all
    }

    /// True if the last write failed.
    pub(crate) fn is_behind(&self) -> bool {
        self.unwritten.is_some()
    }

    /// Entries of guests that are seen for the first time and run as the same process, also of those that `state` has forgotten,
    /// for they were not in a sample for a moment. An entry of a guest that is not seen yet is kept for as long as its process
    /// `runs`: what cannot be reached now must not lose its original.
    pub(crate) fn adopt<'a>(
        &mut self,
        guests: &'a [GuestSample],
        state: &State,
        runs: impl Fn(Incarnation) -> bool,
    ) -> Vec<(&'a GuestSample, Entry)> {
        let mut adopted = Vec::new();
        for guest in guests {
            let forgotten = guest.incarnation.filter(|_| state.dealings().of(&guest.id).is_none());
            let of_it = |entry: &&Entry| entry.incarnation == forgotten;
            if let Some(entry) = forgotten.and_then(|_| self.written.guests.get(&guest.id).filter(of_it)) {
                self.found.entry(guest.id.clone()).or_insert_with(|| entry.clone());
            }
            // Of whom no process was known when it was written: what he had is worth more than to know that he is the same.
            let fits = |entry: &Entry| entry.incarnation.is_none() || entry.incarnation == guest.incarnation;
            if guest.incarnation.is_some() || self.found.get(&guest.id).is_some_and(fits) {
                match self.found.remove(&guest.id) {
                    Some(entry) if fits(&entry) => adopted.push((guest, entry)),
                    Some(entry) => self.end(&guest.id, entry),
                    None => {}
                }
            }
        }
        let over = |entry: &Entry| entry.incarnation.is_some_and(|process| !runs(process));
        let over: Vec<_> =
            self.found.iter().filter(|(_, entry)| over(entry)).map(|(id, _)| id.clone()).collect();
        for id in over {
            if let Some(entry) = self.found.remove(&id) {
                self.end(&id, entry);
            }
        }
        adopted
    }

    /// What is held of the kernel's knobs for merging, once.
    pub(crate) fn adopt_knobs(&mut self) -> Option<Held> {
        self.found_knobs.take()
    }

    /// The same, as far as it is on disk.
    pub(crate) fn knobs(&self) -> Option<&Held> {
        self.written.ksm.as_ref()
    }

    /// Calls guests of whom nobody told the name since the start, for they are listed no more, what they were called when
    /// something was taken from them.
    pub(crate) fn name(&self, guests: &mut [GuestSample]) {
        for guest in guests {
            let unnamed = guest.id.pod().is_some_and(|pod| guest.name == GuestName::unnamed(pod));
            let written = self.written.guests.get(&guest.id).filter(|_| unnamed);
            if let Some(name) = written.and_then(|entry| entry.name.clone()) {
                guest.name = name;
            }
        }
    }

    /// What has to be on disk before `about_to` is done; absent when that is there already.
    pub(crate) fn next(
        &self,
        state: &State,
        incarnations: &BTreeMap<GuestId, Option<Incarnation>>,
        about_to: &BTreeMap<GuestId, Bytes>,
    ) -> Option<Content> {
        let entry = |(id, dealing): (&GuestId, &Dealing)| {
            let (original, current) = (dealing.original?, dealing.target);
            let known = self.written.guests.get(id);
            // Of whom nothing was taken, but for whom statistics come more often.
            let hurried = || state.model().track(id).filter(|_| dealing.hurried).map(|track| track.actual);
            let target = about_to.get(id).copied().or(current).or_else(hurried)?;
            // A loop that has just begun anew has seen nobody yet.
            let incarnation = incarnations.get(id).copied().flatten().or_else(|| known?.incarnation);
            let met = state.model().track(id).map(|track| &track.sample.name);
            let name = met.or_else(|| known?.name.as_ref()).cloned();
            let was_whole = known
                .is_some_and(|known| known.whole && (known.original, known.target) == (original, target));
            let stands = dealing.force == Force::Known && dealing.asked.is_none();
            let whole = !about_to.contains_key(id) && (has_all(state, id) || (was_whole && stands));
            Some((id.clone(), Entry { incarnation, original, target, whole, name }))
        };
        // Last, so that it stays: what is known of those by their balloon alone may be what they were left with.
        let unseen = self.found.iter().map(|(id, entry)| (id.clone(), entry.clone()));
        let guests: BTreeMap<_, _> = state.dealings().iter().filter_map(entry).chain(unseen).collect();
        let ksm = state.merging().held().or(self.found_knobs.as_ref()).cloned();
        let (boot_id, ended) = (self.written.boot_id.clone(), self.ended_by(state, &guests));
        let content = Content { boot_id, guests, ksm, lost_at: self.lost_at(), ended };
        (content != self.written || self.is_behind()).then_some(content)
    }

    /// `content` was written, or not; true if it was. Without it nothing may be taken.
    pub(crate) fn wrote(&mut self, content: Content, result: std::io::Result<()>) -> bool {
        match result {
            Ok(()) => {
                if self.saw_all && content.lost_at.is_none() {
                    tracing::info!("everybody was seen who ran when the journal was lost: it is whole again");
                    (self.lost_at, self.saw_all) = (None, false);
                }
                self.ended.clone_from(&content.ended);
                self.written = content;
                if self.unwritten.take().is_some() {
                    tracing::info!("the journal can be written again");
                }
                true
            }
            Err(error) => {
                let (what, remedy) = refusal(&error);
                let why =
                    format!("nothing is taken while {} cannot be written ({what}): {remedy}", self.shown);
                if self.unwritten.as_ref() != Some(&why) {
                    tracing::error!(%error, "{why}");
                }
                self.unwritten = Some(why);
                false
            }
        }
    }

    /// All entries are to be adopted anew: what was adopted is not known any more.
    pub(crate) fn forget_adoptions(&mut self) {
        self.found = self.written.guests.clone();
        self.found_knobs = self.written.ksm.clone();
        self.ended.clone_from(&self.written.ended);
        self.judged.clear();
        self.saw_all = false;
    }

    /// What was taken, as far as it is on disk.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&GuestId, &Entry)> {
        self.written.guests.iter()
    }

    /// The same of guests whose process `runs`.
    pub(crate) fn alive(
        &self,
        runs: impl Fn(Incarnation) -> bool,
    ) -> impl Iterator<Item = (&GuestId, &Entry)> {
        self.entries().filter(move |(_, entry)| entry.incarnation.is_none_or(&runs))
    }

    /// Guests that hold less than they had, as far as is on disk, and whose process `runs`.
    pub(crate) fn squeezed(&self, runs: impl Fn(Incarnation) -> bool) -> impl Iterator<Item = &GuestId> {
        self.alive(runs).filter(|(_, entry)| entry.lacks()).map(|(id, _)| id)
    }

    /// True if it says of a guest that something is owed to it, or may be, and that was given back and is there.
    pub(crate) fn is_outdated(&self, state: &State) -> bool {
        let given_back = |id: &GuestId| {
            let (dealing, track) = (state.dealings().of(id), state.model().track(id));
            let is_owed_nothing = dealing.is_some_and(|d| d.original.is_some() && !d.holds_anything());
            is_owed_nothing && track.is_some_and(Track::has_arrived)
        };
        let mut seen = self.entries().filter(|(id, _)| !self.found.contains_key(*id));
        seen.any(
            |(id, entry)| {
                if entry.lacks() { given_back(id) } else { !entry.whole && has_all(state, id) }
            },
        )
    }

    /// True while there are entries of guests that run and were not seen since the start.
    pub(crate) fn misses_guests(&self) -> bool {
        !self.found.is_empty()
    }
}

/// It was seen to have all that it had.
fn has_all(state: &State, id: &GuestId) -> bool {
    let guest = state.model().track(id).map(|track| &track.sample);
    let seen = guest.and_then(|guest| Some((guest, guest.balloon.as_ref()?)));
    let dealing = state.dealings().of(id);
    dealing.zip(seen).is_some_and(|(dealing, (guest, balloon))| dealing.is_undone(guest, balloon))
}

#[cfg(test)]
mod tests;
