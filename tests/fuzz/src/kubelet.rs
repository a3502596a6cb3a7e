//! What the kubelet is configured with, in its files and on its command line.

use overcommit_core::units::Bytes;
use overcommit_crds::quantity::Size;
use overcommit_host::{EvictionLine, fuzz};

use crate::lossy;

/// A node of 10 GiB.
const TOTAL: Bytes = Bytes::from_gib(10);

fn check_line(line: &EvictionLine) {
    assert!(line.line <= TOTAL.scaled(1, 2).max(EvictionLine::DEFAULT), "{line:?}");
    assert!(!line.source.is_empty());
}

/// No file names a line that would keep half of the node; a file that is not understood changes nothing and is told.
pub(crate) fn config(bytes: &[u8]) {
    let text = lossy(bytes);
    let alone = fuzz::eviction(&[&text], None, TOTAL);
    check_line(&alone);
    let weaker = "evictionHard: {memory.available: 300Mi}\n";
    let above = fuzz::eviction(&[weaker, &text], None, TOTAL);
    check_line(&above);
    // What is not understood leaves what the weaker file says.
    let known = [Bytes::from_mib(300), alone.line, EvictionLine::DEFAULT];
    assert!(known.contains(&above.line), "{above:?} {alone:?}");
    let flag = fuzz::eviction(&[&text], Some("memory.available<7Mi"), TOTAL);
    assert_eq!(flag.line, Bytes::from_mib(7), "the flag wins");
}

/// The same for the flag.
pub(crate) fn flag(bytes: &[u8]) {
    let text = lossy(bytes);
    let line = fuzz::eviction(&[], Some(&text), TOTAL);
    check_line(&line);
    if !text.contains("memory.available") {
        assert_eq!(line.line, Bytes::ZERO, "a map that is given replaces the default whole");
    }
}

/// Both readers of quantities agree: the agent rounds up, a policy down. What is written is read again.
pub(crate) fn quantity(bytes: &[u8]) {
    let text = lossy(bytes);
    let (kubelets, policys) = (fuzz::quantity(&text), Size(text.clone().into_owned()).parse());
    if let (Some(up), Ok(down)) = (kubelets, &policys) {
        assert!(up == *down || up == down.plus(Bytes::new(1)), "{text}: {up:?} {down:?}");
    }
    if let Some(amount) = kubelets {
        assert_eq!(fuzz::quantity(&amount.get().to_string()), Some(amount));
        let negative = format!("-{text}");
        assert_eq!(fuzz::quantity(&negative), None);
    }
    for whole in [Bytes::ZERO, Bytes::new(1), TOTAL, Bytes::MAX] {
        let part = fuzz::percentage(&text, whole);
        assert!(part.is_none_or(|part| part <= whole), "{text} of {whole:?}: {part:?}");
    }
    assert!(policys.as_ref().err().is_none_or(|why| why.contains("write bytes")));
}
