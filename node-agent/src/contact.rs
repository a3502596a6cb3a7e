//! How the API server treats the agent: what it refuses, and since when it is silent. Whoever calls it says here what came
//! of it; status, metrics, readiness and the socket tell people. The loop needs nothing of it and goes on.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use overcommit_crds::condition::rfc3339;

/// Told once it has lasted for so long: a restart of the API server is none, nor that one which has just started refuses
/// everything until it has read its roles.
const HELD: Duration = Duration::from_secs(30);
/// Over once it was not seen for so long. A watch that is well again says nothing as long as nothing changes, and one that
/// is not fails again within 70 s (kube-runtime, `DefaultBackoff`: 30 s and as much jitter; then the connection).
const FORGOTTEN: Duration = Duration::from_secs(100);

/// What is asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The node's object, and to watch it.
    Orders,
    /// To write its status.
    Status,
}

/// Why the API server does not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not answer.
    Silent,
    /// It does not believe who the agent is (401).
    Unknown,
    /// A right is missing (403).
    Forbidden {
        /// To do what.
        verb: String,
        /// With what.
        resource: String,
        /// Who lacks it.
        account: String,
    },
    /// There is no such kind (404).
    Absent,
    /// Anything else, in its own words.
    Refuses(String),
}

impl Fault {
    /// What an error means.
    pub(crate) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status.code, &status.message),
            _ => Self::Silent,
        }
    }

    /// What a refusal means.
    pub(crate) fn of_status(code: u16, message: &str) -> Self {
        match code {
            401 => Self::Unknown,
            403 => missing_right(message).unwrap_or_else(|| Self::Refuses(denial(message).to_owned())),
            404 => Self::Absent,
            _ => Self::Refuses(format!("{} ({code})", message.trim())),
        }
    }
}

/// What RBAC says: `User "NAME" cannot VERB resource "RESOURCE" …` (k8s.io/apiserver,
/// pkg/endpoints/handlers/responsewriters/errors.go, `forbiddenMessage`).
fn missing_right(message: &str) -> Option<Fault> {
    let (_, rest) = message.split_once("User \"")?;
    let (user, rest) = rest.split_once("\" cannot ")?;
    let (verb, rest) = rest.split_once(" resource \"")?;
    let (resource, _) = rest.split_once('"')?;
    let account = user.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':'));
    let account = account
        .map_or_else(|| format!("user {user}"), |(space, name)| format!("ServiceAccount {space}/{name}"));
    Some(Fault::Forbidden { verb: verb.to_owned(), resource: resource.to_owned(), account })
}

/// The end of what admission says; its beginning names the object once more and the policy's binding.
fn denial(message: &str) -> &str {
    message.rsplit_once("denied request: ").map_or(message, |(_, why)| why).trim()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("the API server does not answer"),
            Self::Unknown => f.write_str(
                "the API server does not believe who the agent is (401): check its ServiceAccount, restart its pod",
            ),
            Self::Forbidden { verb, resource, account } => {
                write!(f, "may not {verb} {resource}: grant it to {account}")
            }
            Self::Absent => f.write_str("the API server knows no nodeovercommits (404): install the CRDs"),
            Self::Refuses(words) => write!(f, "the API server refuses: {words}"),
        }
    }
}

/// What the API server said of this node's orders last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// These are they.
    Orders,
    /// There are none.
    None,
    /// They cannot work, and there are none from before.
    Unusable(String),
}

/// One agent's contact with the API server.
#[derive(Debug)]
pub(crate) struct Contact {
    node: String,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    answer: Option<Answer>,
    orders: Line,
    status: Line,
}

impl Contact {
    /// Of this node's agent, before its first call.
    pub(crate) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), book: Mutex::default() }
    }

    /// A call failed.
    pub(crate) fn failed(&self, ask: Ask, fault: Fault, error: &dyn fmt::Display) {
        let words = fault.to_string();
        if self.book().line(ask).failed(fault, Timestamp::now(), Instant::now()) {
            tracing::warn!(%error, about = ?ask, "{words}; the loop goes on");
        } else {
            tracing::debug!(%error, about = ?ask, "{words}, still");
        }
    }

    /// A call went well.
    pub(crate) fn well(&self, ask: Ask) {
        if self.book().line(ask).0.take().is_some() {
            tracing::info!(about = ?ask, "the API server answers again");
        }
    }

    /// The API server said what orders there are.
    pub(crate) fn answered(&self, answer: Answer) {
        self.well(Ask::Orders);
        self.book().answer = Some(answer);
    }

    /// What does not work, for people; `ordered` unless there are no orders at all.
    pub(crate) fn troubles(&self, ordered: bool) -> Vec<String> {
        let unordered = (!ordered).then(|| self.without_orders());
        let (book, now) = (self.book(), Instant::now());
        let tell = |line: &Line, but: &str| {
            let failing = line.told(now)?;
            Some(format!("{} (since {}); {but}", failing.fault, rfc3339(failing.since)))
        };
        let but = if ordered { "the last orders hold" } else { "no orders can come" };
        // Where the first answer is still waited for, the words about that name the fault.
        let named = !ordered && book.answer.is_none();
        let orders = tell(&book.orders, but).filter(|_| !named);
        // One silence is enough.
        let told_silent = book.orders.is(&Fault::Silent) && (named || orders.is_some());
        let silent = told_silent && book.status.is(&Fault::Silent);
        let status = tell(&book.status, "no status is written").filter(|_| !silent);
        unordered.into_iter().chain(orders).chain(status).collect()
    }

    /// Since when something of that is so.
    pub(crate) fn failing_since(&self) -> Option<Timestamp> {
        let (book, now) = (self.book(), Instant::now());
        [&book.orders, &book.status].into_iter().filter_map(|line| Some(line.told(now)?.since)).min()
    }

    /// Why there was no turn yet; an error if there should have been one.
    pub(crate) fn without_turn(&self) -> Result<String, String> {
        let book = self.book();
        match &book.answer {
            None => {
                let why = book.orders.0.as_ref().map(|failing| format!(": {}", failing.fault));
                Err(format!("waiting for the API server's first answer{}", why.unwrap_or_default()))
            }
            Some(Answer::None) => {
                Ok(format!("no policy selects this node: there is no NodeOvercommit {:?}", self.node))
            }
            Some(Answer::Unusable(why)) => Err(format!("the orders of this node cannot work: {why}")),
            Some(Answer::Orders) => Err("the first turn is under way".to_owned()),
        }
    }

    /// Why there are no orders.
    pub(crate) fn without_orders(&self) -> String {
        self.without_turn().unwrap_or_else(|why| why)
    }

    /// The API server said that there are none.
    pub(crate) fn knows_of_none(&self) -> bool {
        self.book().answer == Some(Answer::None)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn line(&mut self, ask: Ask) -> &mut Line {
        match ask {
            Ask::Orders => &mut self.orders,
            Ask::Status => &mut self.status,
        }
    }
}

/// Whether one sort of call fails.
#[derive(Debug, Default)]
struct Line(Option<Failing>);

#[derive(Debug)]
struct Failing {
    fault: Fault,
    since: Timestamp,
    first: Instant,
    last: Instant,
}

impl Line {
    /// It failed; true if that is news.
    fn failed(&mut self, fault: Fault, at: Timestamp, now: Instant) -> bool {
        let before = self.0.take().filter(|failing| failing.is_current(now));
        let news = before.as_ref().is_none_or(|failing| failing.fault != fault);
        let (since, first) = before.map_or((at, now), |failing| (failing.since, failing.first));
        self.0 = Some(Failing { fault, since, first, last: now });
        news
    }

    /// What people are told. That it failed once and not again says nothing, however long ago that is.
    fn told(&self, now: Instant) -> Option<&Failing> {
        let lasts = |failing: &&Failing| failing.last.saturating_duration_since(failing.first) >= HELD;
        self.0.as_ref().filter(|failing| failing.is_current(now)).filter(lasts)
    }

    fn is(&self, fault: &Fault) -> bool {
        self.0.as_ref().is_some_and(|failing| failing.fault == *fault)
    }
}

impl Failing {
    fn is_current(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < FORGOTTEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named_with_the_account_and_other_refusals_in_their_own_words() {
        let said = |code, message| Fault::of_status(code, message).to_string();
        let rbac = "nodeovercommits.overcommit.dev \"a\" is forbidden: User \"system:serviceaccount:sys:agent\" cannot \
                    patch resource \"nodeovercommits/status\" in API group \"overcommit.dev\" at the cluster scope";
        assert_eq!(
            said(403, rbac),
            "may not patch nodeovercommits/status: grant it to ServiceAccount sys/agent"
        );
        let user = rbac.replace("system:serviceaccount:sys:agent", "root");
        assert!(said(403, &user).ends_with("grant it to user root"));
        let policy = "x is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: an agent writes its own";
        assert_eq!(said(403, policy), "the API server refuses: an agent writes its own");
        assert!(said(401, "Unauthorized").contains("check its ServiceAccount"));
        assert!(said(404, "page not found").contains("install the CRDs"));
        assert_eq!(said(429, "Too many requests"), "the API server refuses: Too many requests (429)");
    }

    #[test]
    fn a_failure_is_told_once_it_lasts_and_until_it_is_over() {
        let (start, at) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut line = Line::default();
        assert!(line.failed(Fault::Silent, at, start));
        assert!(line.told(after(60)).is_none(), "once, and perhaps well since");
        assert!(!line.failed(Fault::Silent, at, after(20)));
        assert!(line.told(after(20)).is_none());
        assert!(!line.failed(Fault::Silent, Timestamp::MAX, after(30)));
        assert_eq!(line.told(after(30)).unwrap().since, at);
        assert!(line.failed(Fault::Unknown, Timestamp::MAX, after(90)), "another fault is news");
        assert_eq!(line.told(after(90)).unwrap().since, at, "one failure all the same");
        assert!(line.told(after(189)).is_some() && line.told(after(190)).is_none());
        assert!(line.failed(Fault::Silent, at, after(200)), "begins anew");
        assert!(line.told(after(200)).is_none());
    }

    #[test]
    fn a_silence_is_told_once_whatever_was_said_before_it() {
        let began = Instant::now().checked_sub(HELD).unwrap();
        let contact = |answer: Option<Answer>, faults: [(Ask, Fault); 2]| {
            let contact = Contact::new("a");
            contact.book().answer = answer;
            for (ask, fault) in faults {
                contact.book().line(ask).failed(fault.clone(), Timestamp::UNIX_EPOCH, began);
                contact.failed(ask, fault, &"");
            }
            contact
        };
        let silent = [(Ask::Orders, Fault::Silent), (Ask::Status, Fault::Silent)];
        let told = |answer: Option<Answer>, ordered: bool| contact(answer, silent.clone()).troubles(ordered);
        let silence =
            |but: &str| format!("the API server does not answer (since 1970-01-01T00:00:00Z); {but}");
        for (answer, why) in [(Answer::None, "no policy"), (Answer::Unusable("odd".to_owned()), "odd")] {
            let told = told(Some(answer), false);
            assert!(told[0].contains(why), "{told:?}");
            assert_eq!(told[1..], [silence("no orders can come")]);
        }
        assert_eq!(
            told(None, false),
            ["waiting for the API server's first answer: the API server does not answer"]
        );
        assert_eq!(told(Some(Answer::Orders), true), [silence("the last orders hold")]);
        // Not one and the same.
        let two =
            contact(Some(Answer::Orders), [(Ask::Orders, Fault::Unknown), (Ask::Status, Fault::Silent)]);
        assert_eq!(two.troubles(true)[1..], [silence("no status is written")]);
    }

    #[test]
    fn a_node_without_orders_is_as_it_should_be_only_if_the_api_server_said_so() {
        let contact = Contact::new("a");
        assert!(contact.without_turn().unwrap_err().contains("first answer"));
        contact.failed(Ask::Orders, Fault::Absent, &"");
        assert!(contact.without_turn().unwrap_err().contains("install the CRDs"), "at once");
        assert!(contact.troubles(true).is_empty() && contact.failing_since().is_none());
        assert!(contact.troubles(false)[0].contains("install the CRDs"), "why there are none, at once");
        contact.answered(Answer::None);
        assert!(contact.knows_of_none() && contact.troubles(true).is_empty());
        assert!(contact.without_turn().unwrap().contains("no NodeOvercommit \"a\""));
        contact.answered(Answer::Unusable("odd".to_owned()));
        assert!(contact.without_turn().unwrap_err().contains("odd"));
        contact.answered(Answer::Orders);
        assert!(contact.without_turn().is_err(), "no turn has shown anything yet");
    }
}
