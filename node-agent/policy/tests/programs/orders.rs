//! `check` knows in which order a program is evaluated: what is used before it is defined fails, and nothing else does.

use overcommit_policy::{Source, check};

use crate::support::{findings, values};

const DEFINES: &[u8] = include_bytes!("../../../../deploy/samples/mom/vdsm/00-defines.policy");
const BALLOON: &[u8] = include_bytes!("../../../../deploy/samples/mom/vdsm/02-balloon.policy");

fn findings_of(sources: &[(&str, &[u8])]) -> Vec<String> {
    let sources: Vec<_> = sources.iter().map(|(name, bytes)| Source { name, bytes }).collect();
    check(&sources).iter().map(ToString::to_string).collect()
}

#[test]
fn parameters_that_are_set_before_the_slot_that_defines_them_are_errors() {
    let parameters = ("01-parameters", b"(set balloonEnabled 1)".as_slice());
    let (defines, balloon) = (("00-defines.policy", DEFINES), ("02-balloon.policy", BALLOON));
    assert_eq!(findings_of(&[defines, parameters, balloon]), [""; 0]);
    for wrong in [vec![parameters, defines, balloon], vec![parameters, balloon, defines]] {
        let found = findings_of(&wrong);
        let expected = "01-parameters:1:6: error: undefined symbol balloonEnabled: it is defined later, at 00-defines.policy:";
        assert!(found[0].starts_with(expected), "{found:#?}");
    }
}

/// Each is an error that is found, and that an evaluation ends with.
#[test]
fn what_nothing_could_have_defined_before_is_an_error_and_fails() {
    for (text, expected) in [
        ("(set x 1) (defvar x 2)", "p:1:6: error: undefined symbol x: it is defined later, at p:1:19"),
        ("x (defvar x 2)", "p:1:1: error: undefined symbol x: it is defined later, at p:1:11"),
        ("(defvar x x)", "p:1:11: error: undefined symbol x"),
        ("(f 1) (def f (a) a)", "p:1:2: error: undefined function f: it is defined later, at p:1:12"),
        ("(f (def f (a) a))", "p:1:2: error: undefined function f"),
        ("{(+ 1 x) (defvar x 1)}", "p:1:7: error: undefined symbol x"),
        ("(if 1 x 2) (defvar x 1)", "p:1:7: error: undefined symbol x"),
        ("(let ((a b) (b 1)) a)", "p:1:10: error: undefined symbol b"),
        ("x (let ((x 1)) x)", "p:1:1: error: undefined symbol x"),
        ("(with all g g) (defvar all Guests)", "p:1:7: error: undefined symbol all"),
        ("h.mem_free (defvar h Host)", "p:1:1: error: undefined symbol h"),
        ("(h.Prop \"name\") (defvar h Host)", "p:1:2: error: undefined symbol h"),
        ("(set x 1) (def f (x) x) (f 1)", "p:1:6: error: undefined symbol x"),
        (
            "(def f () x) (f) (defvar x 1)",
            "p:1:11: error: undefined symbol x: it is defined later, at p:1:26",
        ),
        ("(def f () (g)) (f) (def g () 1)", "p:1:12: error: undefined function g"),
        ("(def f () x) (def g () (f)) (+ 1 (g)) (defvar x 1)", "p:1:11: error: undefined symbol x"),
        ("(def f () (if x 1 2)) (f) (defvar x 1)", "p:1:15: error: undefined symbol x"),
        ("(def f () x) (if (f) 1 2) (defvar x 1)", "p:1:11: error: undefined symbol x"),
    ] {
        let found = findings(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}: {found:#?}");
        assert!(values(text).contains("undefined "), "{text}: {}", values(text));
    }
}

#[test]
fn what_could_have_been_defined_before_is_no_error() {
    for text in [
        "(def f () x) (defvar x 1) (f)",
        "(def f () (set x 2)) (defvar x 1) (f)",
        "(def f () (g)) (def g () 1) (f)",
        "(def f (a) (if a x 0)) (f 0) (defvar x 1) (f 1)",
        "(def f () x) (def g () (f)) (defvar x 1) (g)",
        "(def f () x) (if (== 1 2) (f) 0) (defvar x 1) (f)",
        "(def f () x) (if (== 1 2) (+ 1 (abs (f))) (if 0 (f) 0)) (let ((x 1)) (f))",
        "(def f () x) (let ((x 1)) (f)) (defvar x 1)",
        "(def f (n) (if (> n 0) (f (- n 1)) 0)) (f 3)",
        "(def f () {(def g () 1) 0}) (f) (g)",
        "(defvar ready 0) (with Guests g {(if ready (h g) 0) (def h (x) 1) (set ready 1)})",
        "(def f (x) (def g () (set x 2))) (f 1) (let ((x 1)) (g))",
        "(if Host.mem_free (defvar x 1) (defvar y 1)) (set x 2)",
        "(def f (x) x) (f 1) (defvar x 1)",
        "(def f (a b) b) (f 1 (+ a 1))",
        "(let ((a 1) (b a)) b)",
        "(defvar x 1) (set x (+ x 1))",
        "(with Guests g {(defvar n 1) (set n 2)})",
        "(defvar p Host.Prop) (p \"name\")",
        "(abs 1) Host Guests nil",
    ] {
        assert_eq!(findings(text), [""; 0], "{text}");
        assert!(values(text).starts_with('['), "{text}: {}", values(text));
    }
}

#[test]
fn each_name_is_told_once() {
    assert_eq!(findings("x (set x 1) x (f) (f) (defvar x 1) (def f () 1)").len(), 2);
}
