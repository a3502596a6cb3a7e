//! Nothing that a program says does harm: each ends within its budget, with an error at its place or a result, on a small
//! stack, and what it makes is bounded.

use std::time::{Duration, Instant};

use overcommit_policy::{Limits, MAX_BYTES, Source, check, evaluate, exchange};
use proptest::prelude::*;

use crate::support::{WORLD, program, run_in};

/// Half of what threads have by default.
const STACK: usize = 1 << 20;
/// Whatever it is, it ends by then, also on a busy machine and without optimisation.
const SOON: Duration = Duration::from_mins(2);

/// All that is done with programs, on a small stack; the error, if there is one.
fn error_of(text: impl AsRef<[u8]> + Send + 'static) -> Option<String> {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let begun = Instant::now();
        let sources = [Source { name: "p", bytes: text.as_ref() }];
        drop(check(&sources));
        let mut world = exchange::read(WORLD.as_bytes()).unwrap();
        let outcome = overcommit_policy::Program::parse(&sources)
            .and_then(|program| evaluate(&program, &mut world, &Limits::default()));
        let error = match outcome {
            Ok(evaluation) => {
                assert!(exchange::write(&evaluation, &world).len() < 256 << 20);
                evaluation.errors.first().map(|error| error.trouble.to_string())
            }
            Err(trouble) => Some(trouble.to_string()),
        };
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        error
    });
    thread.unwrap().join().unwrap()
}

fn fails(text: impl AsRef<[u8]> + Send + 'static, beginning: &str, end: &str) {
    let error = error_of(text).unwrap();
    assert!(error.starts_with(beginning) && error.ends_with(end), "{error}");
}

#[test]
fn deep_nesting_is_refused_at_its_place() {
    let deepest = 900;
    fails("(".repeat(1000), &format!("p:1:{}: ", deepest + 1), "brackets are nested deeper than 900");
    fails("{".repeat(MAX_BYTES), &format!("p:1:{}: ", deepest + 1), "brackets are nested deeper than 900");
    for (open, close) in
        [("{", "}"), ("(not ", ")"), ("(if 1 ", " 2)"), ("(let ((a 1)) ", ")"), ("(debug ", ")")]
    {
        let levels = deepest / open.matches('(').count().max(1);
        let text = format!("{}1{}", open.repeat(levels), close.repeat(levels));
        assert_eq!(error_of(text), None, "{open}");
    }
}

#[test]
fn endless_recursion_is_an_error_at_its_place() {
    fails("(def f () (f)) (f)", "p:1:11: ", "nested deeper than 1000");
    fails("(def f () {(g)}) (def g () [f]) (g)", "p:1:", "nested deeper than 1000");
    fails("(def f (a) (f (f a))) (f 1)", "p:1:", "nested deeper than 1000");
    fails("(def f (a) (f (+ a a))) (let ((a 1)) (f 1))", "p:1:", "nested deeper than 1000");
    // Each way down: the deepest stack that evaluation can need.
    fails("(defvar one \"x\") (def f () (with one g (f))) (f)", "p:1:", "nested deeper than 1000");
    // Each guest's turn in each guest's turn: all of them fail, until that has cost too much.
    fails("(def f () (with Guests g (f))) (f)", "p:1:", "is spent");
    fails("(def f (x) (let ((y (max 1 (f (debug (abs x)))))) y)) (f 1)", "p:1:", "nested deeper than 1000");
    fails("(def f () (Host.SetVar \"a\" (f))) (f)", "p:1:", "nested deeper than 1000");
}

#[test]
fn what_takes_too_many_steps_ends_with_its_budget() {
    let twice = "(def f (n) (if n (+ (f (- n 1)) (f (- n 1))) 0)) (f 200)";
    fails(twice, "p:1:", "the budget of 5000000 steps is spent");
    let long = format!("(defvar s (* \"a\" 1000000)) (def f (c) 0) {}", "(with s c (f c)) ".repeat(100));
    fails(long, "p:1:", "is spent");
}

#[test]
fn looking_behind_many_bindings_costs_steps() {
    // Each dotted name is looked for behind a hundred thousand bindings that hide others.
    let pairs = |n: usize| (0..n).map(|n| format!("(v{n} 1)")).collect::<Vec<_>>().concat();
    let body = "(with s c (x.y)) ".repeat(20);
    let text = format!("(defvar s (* \"a\" 100000)) (let ((x 1) {}) {body})", pairs(50_000));
    fails(text, "p:1:", "undefined function x.y");
    let defined =
        format!("(def x.y () 1) (defvar s (* \"a\" 100000)) (let ((x 1) {}) {body})", pairs(50_000));
    fails(defined, "p:1:", "the budget of 5000000 steps is spent");
}

#[test]
fn undoing_what_a_guest_remembers_costs_steps() {
    let remembers = (0..20_000).map(|n| format!("(g.SetVar \"{n}\" 1)")).collect::<Vec<_>>().concat();
    let fails_each_time = "(with Guests g {(g.SetVar \"x\" 1) (nope)}) ".repeat(5000);
    fails(format!("(with Guests g {{{remembers}}}) {fails_each_time}"), "p:1:", "is spent");
}

/// The fewest steps with which a program is not at the end of its budget.
fn steps_of(text: &str) -> u64 {
    let spent = |steps: u64| {
        let limits = Limits { steps, ..Limits::default() };
        run_in(text, WORLD, &limits).is_err_and(|trouble| trouble.message.contains("is spent"))
    };
    let (mut few, mut enough) = (0, 5_000_000);
    while few + 1 < enough {
        let middle = u64::midpoint(few, enough);
        if spent(middle) { few = middle } else { enough = middle }
    }
    enough
}

#[test]
fn looking_for_a_long_name_costs_steps() {
    let world = |call: &str, length: usize| {
        let name = format!("(defvar n (* \"a\" {length}))");
        let there = "(Host.SetVar (+ n \"b\") 1) (Host.Control (+ n \"b\") 1)";
        format!("{name} {there} {}", call.repeat(10))
    };
    for call in ["GetVar n", "GetControl n", "SetVar n 1", "Control n 1", "Prop n", "Stat n", "StatAvg n"] {
        // What is not there ends a guest's turn, and the next one begins.
        let call = if matches!(call, "Prop n" | "Stat n" | "StatAvg n") {
            format!("(with Guests g (g.{call}))")
        } else {
            format!("(Host.{call})")
        };
        let (short, long) = (steps_of(&world(&call, 30)), steps_of(&world(&call, 60_000)));
        assert!(short < 300 && long > short + 10 * 60_000 / 256, "{call}: {short} and {long}");
    }
}

#[test]
fn numbers_have_no_more_bits_than_they_may() {
    fails("(<< 1 1000000000)", "p:1:2: ", "more than 65536 bits");
    fails("(<< 1 (<< 1 1000))", "p:1:2: ", "more than 65536 bits");
    fails("9".repeat(1_000_000), "p:1:1: ", "no more than 20000 are taken");
    fails(format!("0x{}", "f".repeat(19_000)), "p:1:1: ", "more than 65536 bits");
    let squared = format!("(defvar n 3) {}", "(set n (* n n)) ".repeat(100));
    fails(squared, "p:1:", "more than 65536 bits");
    let summed = format!("(defvar n (<< 1 65535)) {}", "(set n (+ n n)) ".repeat(2));
    fails(summed, "p:1:", "more than 65536 bits");
    assert_eq!(error_of("(<< 1 65535) (- 0 (<< 1 65535)) (>> (<< 1 65535) 65535)"), None);
    assert_eq!(error_of(format!("0.{}1 {}.5", "0".repeat(100_000), "9".repeat(100_000))), None);
}

#[test]
fn work_with_long_numbers_costs_steps() {
    let products = "(* n n) ".repeat(100_000);
    fails(format!("(defvar n (<< 1 32000)) {products}"), "p:1:", "is spent");
    let quotients = "(/ m n) ".repeat(100_000);
    fails(format!("(defvar n (<< 1 32000)) (defvar m (<< 3 32500)) {quotients}"), "p:1:", "is spent");
}

#[test]
fn texts_and_lists_are_no_longer_than_they_may_be() {
    let doubled = format!("(defvar s \"ab\") {}", "(set s (+ s s)) ".repeat(100));
    fails(doubled, "p:1:", "the result is longer than 1048576");
    fails("(* \"ab\" 1000000000)", "p:1:2: ", "the result is longer than 1048576");
    let doubled = format!("(defvar s (with Guests g 1)) {}", "(set s (+ s s)) ".repeat(100));
    fails(doubled, "p:1:", "is spent");
    // Each list twice as long when it is written out, though it holds two elements alone.
    let nested =
        format!("(defvar s 1) (defvar two (with Guests g 1)) {}", "(set s (with two x s)) ".repeat(100));
    fails(nested, "p:1:", "is spent");
    let chain = format!("(defvar one \"x\") (defvar s 1) {}", "(set s (with one x s)) ".repeat(100));
    fails(chain, "p:1:", "lists in lists, deeper than 50");
}

#[test]
fn what_is_printed_over_and_over_is_bounded() {
    let text = format!("(defvar s (* \"ab\" 100000)) {}", "s ".repeat(400_000));
    fails(text, "p:1:", "the budget of 67108864 bytes of memory is spent");
    let errors = format!("{}{}", "\n".repeat(10), "(with Guests g (nope)) ".repeat(40_000));
    fails(errors, "p:11:", "is spent");
}

/// Each is written as the longest name of a guest, whatever it is called here.
#[test]
fn guests_in_lists_weigh_what_their_names_do() {
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let many = |what: &str| format!("(defvar l (with Guests g {what})) (* l 2000)");
    assert!(run_in(&many("1"), WORLD, &limits).is_ok());
    for what in ["g", "g.Prop"] {
        let error = run_in(&many(what), WORLD, &limits).unwrap_err().to_string();
        assert!(error.ends_with("the budget of 1048576 bytes of memory is spent"), "{error}");
    }
}

/// What is written for people is work too, and what nobody reads is not written.
#[test]
fn what_debug_writes_counts_and_what_nobody_reads_is_free() {
    let text = r#"(defvar one "x") (defvar l (* (with one c "") 1024)) (debug l) (debug l)"#;
    let steps = |steps, log| run_in(text, WORLD, &Limits { steps, log, ..Limits::default() });
    let error = steps(300, 64 << 10).unwrap_err().to_string();
    assert!(error.ends_with("the budget of 300 steps is spent"), "{error}");
    assert_eq!(steps(5_000, 64 << 10).unwrap().1.log.len(), 2);
    assert_eq!(steps(300, 0).unwrap().1.log.len(), 0);
}

#[test]
fn any_single_byte_between_values_is_taken_or_refused_at_its_place() {
    for byte in 0..=255_u8 {
        let error = error_of([b"1 ", [byte].as_slice(), b" 2"].concat());
        let taken = matches!(byte, b'\t'..=b'\r' | 0x1c..=b' ' | b'#' | b'0'..=b'9');
        match error {
            None => assert!(taken, "{byte}"),
            Some(error) => assert!(!taken && error.starts_with("p:1:3: "), "{byte}: {error}"),
        }
    }
}

/// Words of which programs are made, and some that are none.
const WORDS: &[&str] = &[
    "def",
    "defvar",
    "set",
    "let",
    "if",
    "with",
    "and",
    "or",
    "not",
    "+",
    "-",
    "*",
    "/",
    "<",
    ">",
    "<=",
    ">=",
    "<<",
    ">>",
    "==",
    "!=",
    "min",
    "max",
    "null",
    "valid",
    "abs",
    "debug",
    "eval",
    "nil",
    "Host",
    "Guests",
    "Host.mem_free",
    "Host.Stat",
    "Host.StatAvg",
    "Host.Prop",
    "Host.Control",
    "g.SetVar",
    "g.GetVar",
    "g.Control",
    "g.GetControl",
    "g.balloon_cur",
    "f",
    "g",
    "x",
    "y",
    "a.b",
    "a-b",
    "0",
    "1",
    "-1",
    "2.5",
    "1e308",
    "64",
    "9999999999999999999",
    "0x7fffffffffffffff",
    "\"\"",
    "\"a\"",
    "'mem_free'",
    "\"balloon_target\"",
    "@",
    "010",
    "\u{e9}",
];

fn word() -> impl Strategy<Value = String> {
    (0..WORDS.len()).prop_map(|n| WORDS[n].to_owned())
}

/// Values in values, which mean something more often than words in a row do.
fn value() -> impl Strategy<Value = String> {
    word().prop_recursive(6, 64, 5, |inner| {
        let many = prop::collection::vec(inner.clone(), 0..5).prop_map(|parts| parts.join(" "));
        let form = |text: &'static str| {
            (inner.clone(), inner.clone()).prop_map(move |(a, b)| text.replace('A', &a).replace('B', &b))
        };
        prop_oneof![
            3 => (word(), many.clone()).prop_map(|(head, rest)| format!("({head} {rest})")),
            1 => many.prop_map(|parts| format!("{{{parts}}}")),
            1 => form("(let ((x A) (y B)) (+ x y))"),
            1 => form("(def f (x) A) (f B)"),
            1 => form("(defvar x A) (set x B) x"),
            1 => form("(with Guests g {A B})"),
            1 => form("(defvar y (with Guests g A)) (with y x B)"),
            1 => form("(<< A B) (* A B) (/ A B) (max A B)"),
        ]
    })
}

fn takes(text: &[u8]) {
    let sources = [Source { name: "p", bytes: text }];
    let findings = check(&sources);
    let limits = Limits { steps: 100_000, memory: 1 << 20, ..Limits::default() };
    let mut world = exchange::read(WORLD.as_bytes()).unwrap();
    match overcommit_policy::Program::parse(&sources) {
        Err(trouble) => assert_eq!(findings[0].place, trouble.place),
        Ok(program) => {
            let outcome = evaluate(&program, &mut world, &limits);
            // What is certain to fail was found, unless it is never come by.
            if let Ok(evaluation) = outcome {
                let printed = exchange::write(&evaluation, &world);
                assert!(printed.len() < 8 << 20, "{}", printed.len());
            }
        }
    }
}

/// More of them with `PROPTEST_CASES`.
fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        takes(&bytes);
    }

    #[test]
    fn any_words_in_a_row_are_taken_or_refused(
        words in prop::collection::vec(prop_oneof![word(), "[(){}\\[\\] \n]".prop_map(|c| c)], 0..60)
    ) {
        takes(words.join(" ").as_bytes());
        takes(words.concat().as_bytes());
    }

    #[test]
    fn any_program_ends(values in prop::collection::vec(value(), 1..6)) {
        takes(values.join("\n").as_bytes());
    }

    #[test]
    fn the_same_program_over_the_same_world_comes_to_the_same(values in prop::collection::vec(value(), 1..4)) {
        let text = values.join("\n");
        let limits = Limits { steps: 100_000, ..Limits::default() };
        let outcome = || run_in(&text, WORLD, &limits).map(|(evaluation, world)| exchange::write(&evaluation, &world));
        prop_assert_eq!(outcome(), outcome());
    }
}

#[test]
fn a_program_is_parsed_once_and_evaluated_as_often_as_wished() {
    let program = program("(defvar x 1) (set x (+ x 1)) (Host.SetVar \"n\" (+ 1 (if (Host.GetVar \"n\") (Host.GetVar \"n\") 0)))").unwrap();
    let mut world = exchange::read(WORLD.as_bytes()).unwrap();
    for expected in ["{\"n\":1}", "{\"n\":2}"] {
        let evaluation = evaluate(&program, &mut world, &Limits::default()).unwrap();
        let printed = exchange::write(&evaluation, &world);
        assert!(printed.starts_with("{\"values\":[1,2,null]") && printed.contains(expected), "{printed}");
    }
}

/// Shapes that took a minute each: many names that are nearly those of many others, one loop's name used again and again, and many guests.
#[test]
fn shapes_that_took_minutes_end() {
    let name = |n: usize| format!("{}{n:06}", "a".repeat(20));
    let pairs: Vec<String> = (0..5000).map(|n| format!("({} 1)", name(n))).collect();
    let unknown: Vec<String> = (0..5000).map(|n| format!("{}b", name(n))).collect();
    let near = format!("(let ({}) 1) {}", pairs.join(" "), unknown.join(" "));
    let loops = "(with Guests g g.rss) ".repeat(20_000);
    for text in [near, loops] {
        let source = overcommit_policy::Source { name: "p", bytes: text.as_bytes() };
        assert!(!overcommit_policy::check(&[source]).is_empty());
    }
    let guests: Vec<String> = (0..100_000).map(|n| format!(r#"{{"name":"g{n}"}}"#)).collect();
    let world = format!(r#"{{"guests":[{}]}}"#, guests.join(","));
    assert!(overcommit_policy::exchange::read(world.as_bytes()).is_ok());
}
