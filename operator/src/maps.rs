//! ConfigMaps of the operator's own namespace that policies name: of each what the keys say that a policy names, of others nothing.
//! Pure. *Architecture invariant:* what is kept is bounded by what policies name, whatever else a ConfigMap holds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use overcommit_crds::policy::{BLANK_HELP, ConfigMapKeyRef, PROGRAM_MAX};
use overcommit_crds::program;

/// How many keys of a ConfigMap a message names at most.
const TOLD: usize = 5;
/// How many bytes they have together at most: one of the longest (253; apimachinery/pkg/util/validation, `DNS1123SubdomainMaxLength`)
/// fits, and a sentence with the longest names leaves room for what status.rs adds to it.
const TOLD_BYTES: usize = 256;

/// Names of ConfigMaps, and which of their keys policies name.
pub(crate) type Wanted = BTreeMap<String, BTreeSet<String>>;

/// What those keys of a ConfigMap say that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Texts(BTreeMap<String, Text>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    Plain(Arc<str>),
    /// More bytes than a program may have; so many.
    TooLong(usize),
    /// No text: kubectl puts under `binaryData` what is not UTF-8.
    Binary,
    /// There is no such key; those that there are, for people.
    Absent(String),
}

impl Texts {
    /// What these keys say, and no others: a ConfigMap may have 1 MiB.
    pub(crate) fn of(map: &ConfigMap, keys: &BTreeSet<String>) -> Self {
        let text = |key: &String| {
            if let Some(text) = map.data.as_ref().and_then(|data| data.get(key)) {
                return match text.len() {
                    0..=PROGRAM_MAX => Text::Plain(text.as_str().into()),
                    long => Text::TooLong(long),
                };
            }
            match &map.binary_data {
                Some(data) if data.contains_key(key) => Text::Binary,
                _ => Text::Absent(told(map, key)),
            }
        };
        Self(keys.iter().map(|key| (key.clone(), text(key))).collect())
    }
}

/// All that are known.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    namespace: String,
    /// By name; `None` is known not to exist.
    known: BTreeMap<String, Option<Texts>>,
}

/// Why a reference has no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoText {
    /// Its ConfigMap was not read yet, or not since somebody names this key.
    Unread,
    /// For this reason, with the remedy.
    Because(String),
}

impl Maps {
    /// Those of this namespace.
    pub(crate) fn of(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), known: BTreeMap::new() }
    }

    /// Takes in what a ConfigMap says, or that there is none; true if that is new.
    pub(crate) fn take(&mut self, name: &str, texts: Option<Texts>) -> bool {
        self.known.insert(name.to_owned(), texts.clone()) != Some(texts)
    }

    /// True if nothing else is known of it.
    pub(crate) fn says(&self, name: &str, texts: Option<&Texts>) -> bool {
        self.known.get(name).map(Option::as_ref) == Some(texts)
    }

    /// Forgets all but these.
    pub(crate) fn keep(&mut self, wanted: &Wanted) {
        self.known.retain(|name, texts| {
            let keys = wanted.get(name);
            if let (Some(texts), Some(keys)) = (texts, keys) {
                texts.0.retain(|key, _| keys.contains(key));
            }
            keys.is_some()
        });
    }

    /// True if it was read, or its ConfigMap is known not to exist.
    pub(crate) fn knows(&self, reference: &ConfigMapKeyRef) -> bool {
        let texts = self.known.get(&reference.name);
        texts.is_some_and(|texts| texts.as_ref().is_none_or(|texts| texts.0.contains_key(&reference.key)))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.known.values().flatten().count()
    }

    /// The text that a reference means.
    pub(crate) fn text(&self, reference: &ConfigMapKeyRef) -> Result<Arc<str>, NoText> {
        let ConfigMapKeyRef { name, key } = reference;
        let space = &self.namespace;
        let because = |why: String| Err(NoText::Because(why));
        let texts = match self.known.get(name) {
            None => return Err(NoText::Unread),
            Some(None) => {
                return because(format!(
                    "there is no ConfigMap {name} in the operator's namespace {space}: make it there, \
                     kubectl -n {space} create configmap {name} --from-file={key}"
                ));
            }
            Some(Some(texts)) => &texts.0,
        };
        match texts.get(key) {
            Some(Text::Plain(text)) if program::is_blank(text) => {
                because(format!("key {key} of ConfigMap {name} in namespace {space} {BLANK_HELP}"))
            }
            Some(Text::Plain(text)) => Ok(Arc::clone(text)),
            Some(Text::TooLong(bytes)) => because(format!(
                "key {key} of ConfigMap {name} in namespace {space} has {bytes} bytes, {} too many: at most {PROGRAM_MAX} fit \
                 into a node's object",
                bytes.saturating_sub(PROGRAM_MAX)
            )),
            Some(Text::Binary) => because(format!(
                "key {key} of ConfigMap {name} in namespace {space} is no UTF-8 (it stands under binaryData): save the file as \
                 UTF-8 and make the ConfigMap anew"
            )),
            Some(Text::Absent(has)) => because(format!(
                "ConfigMap {name} in namespace {space} has no key {key}, it has {has}: correct the key, or add it"
            )),
            None => Err(NoText::Unread),
        }
    }
}

/// The keys that there are, those that are spelled most like `wanted` first, and how many more.
fn told(map: &ConfigMap, wanted: &str) -> String {
    let texts = map.data.iter().flat_map(BTreeMap::keys);
    let all: BTreeSet<&String> = texts.chain(map.binary_data.iter().flat_map(BTreeMap::keys)).collect();
    let mut keys: Vec<&str> = all.into_iter().map(String::as_str).collect();
    keys.sort_by_cached_key(|key| Reverse(likeness(key, wanted)));
    let mut told = String::new();
    let mut listed = 0_usize;
    for key in keys.iter().take(TOLD) {
        let comma = if told.is_empty() { "" } else { ", " };
        if told.len() + comma.len() + key.len() > TOLD_BYTES {
            break;
        }
        told.push_str(comma);
        told.push_str(key);
        listed += 1;
    }
    match keys.len().saturating_sub(listed) {
        0 if keys.is_empty() => "no key".to_owned(),
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// How many bytes two names have in common at their beginnings and, of what is left, at their ends; no matter the case.
fn likeness(a: &str, b: &str) -> usize {
    let same = |(a, b): &(u8, u8)| a.eq_ignore_ascii_case(b);
    let begin = a.bytes().zip(b.bytes()).take_while(same).count();
    let end = a.bytes().skip(begin).rev().zip(b.bytes().skip(begin).rev()).take_while(same).count();
    begin + end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::map_for;
    use crate::status::MESSAGE_MAX;
    use k8s_openapi::ByteString;

    fn reference(key: &str) -> ConfigMapKeyRef {
        ConfigMapKeyRef { name: "rules".into(), key: key.into() }
    }

    fn because(maps: &Maps, key: &str) -> String {
        match maps.text(&reference(key)) {
            Err(NoText::Because(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let mut maps = Maps::of("system");
        assert_eq!(maps.text(&reference("a")), Err(NoText::Unread));
        assert!(maps.take("rules", None) && !maps.take("rules", None));
        assert_eq!(
            because(&maps, "a"),
            "there is no ConfigMap rules in the operator's namespace system: make it there, kubectl -n system create configmap \
             rules --from-file=a"
        );
        let map = ConfigMap {
            data: Some(
                [
                    ("a".to_owned(), "1".to_owned()),
                    ("b".to_owned(), "x".repeat(PROGRAM_MAX + 9)),
                    ("e".into(), "\n".into()),
                ]
                .into(),
            ),
            binary_data: Some([("c".to_owned(), ByteString(vec![0xff]))].into()),
            ..ConfigMap::default()
        };
        let keys = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
        assert!(maps.take("rules", Some(Texts::of(&map, &keys))));
        assert_eq!(maps.text(&reference("a")).as_deref(), Ok("1"));
        assert!(because(&maps, "b").contains("has 32777 bytes, 9 too many: at most 32768"));
        assert!(because(&maps, "c").contains("is no UTF-8") && because(&maps, "e").contains("is empty or"));
        assert!(because(&maps, "d").contains("has no key d, it has a, b, c, e: correct the key"));
    }

    #[test]
    fn however_many_keys_there_are_what_to_do_is_told() {
        let long = |n: usize| format!("{n:04}-{}", "k".repeat(248));
        let keys: Vec<String> = (0..1000).map(long).collect();
        let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "1")).collect();
        // The longest names that there may be.
        let (space, name, key) = ("s".repeat(63), "m".repeat(253), "d".repeat(253));
        let mut maps = Maps::of(&space);
        maps.take(&name, Some(map_for(&[&key], &pairs)));
        let Err(NoText::Because(told)) = maps.text(&ConfigMapKeyRef { name, key }) else {
            panic!("it is there")
        };
        assert!(told.ends_with(" and 999 more: correct the key, or add it"), "{told}");
        // A sentence of status.rs follows it.
        let stays = ". What was given before stays on 5000 nodes, in the mode that it had: mode: Observe ends all takes";
        assert!(told.len() + stays.len() <= MESSAGE_MAX, "{} bytes: {told}", told.len());
    }

    #[test]
    fn keys_that_are_spelled_nearly_the_same_are_told_first() {
        let mut maps = Maps::of("system");
        let keys = ["00-defines", "01-a", "02-b", "03-c", "04-d", "05-e", "06-balloon.policy", "07-ksm"];
        let wanted = ["06-baloon.policy", "07-KSM", "06-balloon", "x"];
        maps.take("rules", Some(map_for(&wanted, &keys.map(|key| (key, "1")))));
        assert!(because(&maps, "06-baloon.policy").contains("it has 06-balloon.policy, "));
        assert!(because(&maps, "07-KSM").contains("it has 07-ksm, "));
        assert!(because(&maps, "06-balloon").contains("it has 06-balloon.policy, "));
        assert!(
            because(&maps, "x").contains("it has 00-defines, 01-a, 02-b, 03-c, 04-d and 3 more: correct")
        );
    }

    #[test]
    fn what_nobody_names_is_forgotten() {
        let mut maps = Maps::of("system");
        maps.take("rules", Some(Texts::default()));
        maps.keep(&Wanted::from([("other".to_owned(), BTreeSet::new())]));
        assert_eq!(maps.count(), 0);
    }

    #[test]
    fn of_a_config_map_only_what_a_policy_names_is_kept_however_much_it_holds() {
        let text = "x".repeat(PROGRAM_MAX);
        let names: Vec<String> = (0..31).map(|n| format!("{n:02}-{}", "k".repeat(250))).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
        let texts = map_for(&["absent", &names[0]], &pairs);
        assert!(format!("{texts:?}").len() < PROGRAM_MAX + 1024);
        let mut maps = Maps::of("system");
        maps.take("rules", Some(texts));
        assert!(maps.knows(&reference(&names[0])) && maps.text(&reference(&names[0])).is_ok());
        // Whoever names another key waits until it was read, and is not told that it is missing.
        assert!(!maps.knows(&reference(&names[1])));
        assert_eq!(maps.text(&reference(&names[1])), Err(NoText::Unread));
        maps.keep(&Wanted::from([("rules".to_owned(), BTreeSet::from(["absent".to_owned()]))]));
        assert!(!maps.knows(&reference(&names[0])) && maps.knows(&reference("absent")));
    }
}
