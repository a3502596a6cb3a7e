//! What `check` finds, where, and what it leaves alone.

use crate::support::findings;

/// Each program of a table has the findings that stand beside it: these beginnings, and no other.
fn table(rows: &[(&str, &[&str])]) {
    for (text, expected) in rows {
        let found = findings(text);
        let fits = found.len() == expected.len()
            && found.iter().zip(*expected).all(|(found, part)| found.contains(part));
        assert!(fits, "{text}\n has {found:#?}\n not {expected:#?}");
    }
}

#[test]
fn text_that_is_no_program_is_an_error() {
    table(&[
        ("1 @ 2", &["p:1:3: error: '@' means nothing here"]),
        ("(+ 1 2", &["p:1:1: error: this bracket is never closed"]),
        ("", &["p:1:1: error: there is no program"]),
    ]);
}

#[test]
fn names_that_nothing_defines_are_errors_with_the_nearest_that_exists() {
    table(&[
        ("(defvar pressure 1) presure", &["p:1:21: error: undefined symbol presure; did you mean pressure?"]),
        ("(set balloonEnabled 1)", &["p:1:6: error: undefined symbol balloonEnabled"]),
        ("(def shrink (g) 1) (shrnk 1)", &["p:1:21: error: undefined function shrnk; did you mean shrink?"]),
        ("(dfvar x 1)", &["undefined function dfvar; did you mean defvar?", "undefined symbol x"]),
        ("(with Gests g 1)", &["p:1:7: error: undefined symbol Gests; did you mean Guests?"]),
        ("(defvar x 3) (+ x-1 1)", &["undefined symbol x-1: this is one name, write (- x 1)"]),
        ("(def f () 1) f", &["undefined symbol f: a function is no value, call it"]),
        ("hosts.mem_free", &["undefined symbol hosts.mem_free"]),
        ("host.mem_free", &["undefined symbol host.mem_free; did you mean Host?"]),
        ("zzzzzzzz", &["undefined symbol zzzzzzzz"]),
    ]);
}

#[test]
fn what_is_defined_somewhere_may_be_defined_anywhere() {
    table(&[
        ("(def f () x) (let ((x 1)) (f))", &[]),
        ("(def f (guest) (g quest)) (def g (x) x) (with Guests quest (f quest))", &[]),
        ("(def f () (h)) (def h () 1) (f)", &[]),
        ("(defvar p Host.Prop) (p \"name\")", &[]),
        ("(def f (x) (x 1)) (f abs)", &[]),
    ]);
}

#[test]
fn wrong_numbers_of_arguments_are_errors() {
    table(&[
        ("(+ 1)", &["p:1:2: error: + takes 2 arguments, and here are 1"]),
        ("(if 1 2)", &["if takes 3 arguments, and here are 2"]),
        ("(and)", &["and takes 1 argument or more, and here are 0"]),
        ("(def f (a b) a) (f 1)", &["p:1:18: error: f takes 2 arguments, and here are 1"]),
        ("(def f (a) a) (def f (a b) a) (f 1 2)", &["f is defined once more"]),
        ("(Host.Prop)", &["Prop takes 1 argument, and here are 0"]),
        ("(Host.Control \"ksm_run\")", &["Control takes 2 arguments, and here are 1"]),
        ("(abs 1 2)", &["abs takes 1 argument, and here are 2"]),
        ("{}", &["eval takes 1 argument or more, and here are 0 (curly brackets are a call of eval)"]),
        ("()", &["p:1:1: error: an empty list cannot be evaluated"]),
    ]);
}

#[test]
fn words_that_are_hidden_and_functions_that_are_never_called_are_warned_of() {
    table(&[
        (
            "(def min (x) 1)",
            &["p:1:6: warning: min is a word of the language: this function is never called"],
        ),
        ("(def abs (x) 1)", &["abs is a word of the language: this function is never called"]),
        (
            "(let ((max 1)) max)",
            &["p:1:8: warning: max is a word of the language: while this variable has a value"],
        ),
        ("(defvar Host 1)", &["Host is there from the beginning"]),
        ("(defvar nil 1)", &["nil is nil whatever it is bound to"]),
        ("(defvar a.b 1)", &["a.b has a dot"]),
        ("(let ((a 1) (a 2)) a)", &["p:1:14: warning: a is bound twice: the first one counts"]),
        (
            "(let ((a 1)\n(b 2)\n(a 3)\n(a 4)) a)",
            &["p:3:2: warning: a is bound twice", "p:4:2: warning: a is bound twice"],
        ),
        ("(def f (a a) a)", &["a is a parameter twice"]),
    ]);
}

#[test]
fn forms_that_are_none_are_errors() {
    table(&[
        (
            "(let (a 1) 2)",
            &["let takes a list of (NAME VALUE) first", "let takes a list of (NAME VALUE) first"],
        ),
        ("(let a 2)", &["let takes a list of (NAME VALUE) first"]),
        ("(def f x 1)", &["the parameters are no list"]),
        ("(def f (1) 1)", &["a parameter is no name"]),
        ("(defvar 1 1)", &["a name is due here"]),
        ("(with (foo) g 1)", &["with takes the name of a list first"]),
        ("(with Host g 1)", &["with takes a list, and this is the host; did you mean Guests?"]),
        ("(1 2)", &["a list begins with what it calls, and this is an integer"]),
        ("((not 1))", &["a list begins with what it calls, and this is another list"]),
        ("(* + 1)", &["the sign + stands where a value is due"]),
        ("(set Host.mem_free 1)", &["Host.mem_free cannot be assigned: attributes are read only"]),
        ("(/ 1 0)", &["division by zero"]),
        ("(/ 1 0.0)", &["division by zero"]),
        (
            "(with Guests g (g.Control balloon_target 1))",
            &[
                "p:1:27: error: undefined symbol balloon_target: what methods take is a text, write \"balloon_target\"",
            ],
        ),
        ("(with Guests g (g.Stat baloon_cur))", &["what methods take is a text, write \"balloon_cur\""]),
    ]);
}

#[test]
fn fields_are_those_of_moms_collectors() {
    table(&[
        ("Host.mem_fre", &["p:1:1: error: unknown field mem_fre; did you mean mem_free?"]),
        (
            "(with Guests g g.baloon_cur)",
            &["p:1:16: error: unknown field baloon_cur; did you mean balloon_cur?"],
        ),
        ("(Host.StatAvg \"memfree\")", &["p:1:15: error: unknown field memfree; did you mean mem_free?"]),
        ("Host.balloon_cur", &["the host has no field balloon_cur: guests have it"]),
        ("(with Guests g g.ksm_run)", &["a guest has no field ksm_run: the host has it"]),
        // Whose it is, nobody can know before.
        ("(def f (e) e.ksm_run) (f Host)", &[]),
        ("(with Guests g {(set g Host) g.ksm_run})", &[]),
        (
            "(with Guests g {(set Host g) Host.balloon_cur})",
            &["warning: Host is something else from here on: nothing says what it was"],
        ),
        ("(Host.mem_free)", &["mem_free is a field and cannot be called"]),
        ("(Host.StatAvrg \"mem_free\")", &["undefined method StatAvrg; did you mean StatAvg?"]),
        ("(Host.Prop \"intervall\")", &["warning: unknown property intervall; did you mean interval?"]),
        ("Host.mem_free.x", &["what follows the second dot of Host.mem_free.x is ignored"]),
    ]);
}

#[test]
fn controls_that_nobody_acts_on_are_warned_of_and_never_fail() {
    table(&[
        (
            "(with Guests g (g.Control \"baloon_target\" 1))",
            &[
                "p:1:27: warning: unknown control baloon_target: nobody acts on it; did you mean balloon_target?",
            ],
        ),
        (
            "(Host.Control \"balloon_target\" 1)",
            &["warning: nobody acts on balloon_target here: guests have it"],
        ),
        (
            "(with Guests g (g.Control \"vcpu_quota\" 1))",
            &["warning: vcpu_quota is not supported under KubeVirt"],
        ),
        ("(with Guests g (g.Control \"io_tune\" 1))", &["warning: io_tune is not supported under KubeVirt"]),
        (
            "(Host.Control \"ksm_merge_across_nodes\" 0)",
            &[
                "p:1:15: warning: ksm_merge_across_nodes is not applied: everything would have to be unmerged first, which may be \
                 more than the node has; set it where the node boots, in /sys/kernel/mm/ksm/merge_across_nodes",
            ],
        ),
        (
            "(Host.Control \"ksm_run\" 2)",
            &[
                "p:1:25: warning: ksm_run 2 is taken as 0: what is unmerged at once may be more than the node has; write 0",
            ],
        ),
        ("(Host.Control \"ksm_run\" 1)(Host.Control \"ksm_sleep_millisecs\" 2)", &[]),
    ]);
}

#[test]
fn constants_that_no_node_takes_for_a_control_are_warned_of_with_what_it_takes() {
    let balloon = |value: &str| findings(&format!("(with Guests g (g.Control \"balloon_target\" {value}))"));
    let takes = "p:1:44: warning: balloon_target takes a number of KiB from 0 up, and this is";
    for (value, is) in [
        ("'4G'", "a text"),
        ("-1", "less than 0"),
        ("-1.5", "less than 0"),
        ("1e300", "a number that 64 bits do not hold"),
        ("99999999999999999999", "a number that 64 bits do not hold"),
        ("4398046511105", "more than any machine has"),
    ] {
        assert_eq!(balloon(value), [format!("{takes} {is}: no node acts on it")]);
    }
    for value in ["0", "-0.5", "4194304", "4194304.5", "4398046511104", "nil", "(+ 1 2)"] {
        assert_eq!(balloon(value), [""; 0], "{value}");
    }
    table(&[
        ("(Host.Control 'ksm_run' 'yes')", &["ksm_run takes a number from 0 up, and this is a text"]),
        (
            "(Host.Control 'ksm_pages_to_scan' -1)",
            &["takes a number of pages from 0 up, and this is less than 0"],
        ),
        ("(Host.Control 'ksm_sleep_millisecs' 4398046511105)", &[]),
        ("(with Guests g (g.Control 'vcpu_quota' -1))", &["vcpu_quota is not supported under KubeVirt"]),
    ]);
}

#[test]
fn truth_is_a_number_and_what_is_given_is_not_assigned() {
    table(&[
        ("(defvar on 1) (set on true)", &["p:1:23: error: undefined symbol true: write 1"]),
        ("(if False 1 2)", &["p:1:5: error: undefined symbol False: write 0"]),
        ("(defvar True 1) True", &[]),
        ("(set Host 1)", &["p:1:6: warning: Host is something else from here on"]),
        ("(setq Guests 1)", &["p:1:7: warning: Guests is something else from here on"]),
        ("(set abs 1)", &["p:1:6: warning: abs is something else"]),
    ]);
}

#[test]
fn what_disks_have_in_io_tune_is_warned_of_once_and_never_fails() {
    table(&[
        (
            "(with Guests g (with g.io_tune disk {(defvar most disk.maximum) (disk.setReadIopsSec most.read_iops_sec)}))",
            &["p:1:51: warning: maximum is of a disk in io_tune, which is nil under KubeVirt"],
        ),
        (
            "(with Guests g (with g.io_tune disk (disk.setReadIopsSec 0)))",
            &["p:1:38: warning: setReadIopsSec is of a disk"],
        ),
        // Guests and the host have none of it.
        ("(with Guests g g.maximum)", &["p:1:16: error: unknown field maximum"]),
        ("(Host.setReadIopsSec 0)", &["p:1:2: error: undefined method setReadIopsSec"]),
        ("(with Guests g (with g.io_tune disk disk.maximun))", &["p:1:37: error: unknown field maximun"]),
    ]);
}

#[test]
fn units_that_do_not_fit_are_warned_of() {
    table(&[
        ("(with Guests g (> g.rss 1000))", &["p:1:19: warning: rss is in pages of the node's kernel"]),
        ("(with Guests g (+ g.rss g.rss))", &["p:1:19: warning: rss is in pages"]),
        ("(with Guests g (g.Stat \"rss\" 0))", &["rss is in pages"]),
        ("(with Guests g (if (valid g.rss) (> (* 4 g.rss) g.balloon_cur) 0))", &[]),
        ("(with Guests g (* 4 (max 0 g.rss)))", &[]),
        ("(with Guests g (let ((r g.rss)) (> (* r 4) g.balloon_cur)))", &[]),
        ("(with Guests g (> g.rss (* 2 (g.StatAvg \"rss\"))))", &[]),
        ("(with Guests g (> (* 4 g.rss) g.balloon_cur))", &[]),
        ("(with Guests g (* 4 (g.Stat \"rss\" 0)))", &[]),
        (
            "(with Guests g (- g.balloon_cur g.rss))",
            &["this takes KiB and pages together", "rss is in pages"],
        ),
        ("(< Host.ksm_pages_shared Host.mem_free)", &["this takes pages and KiB together"]),
        ("(with Guests g (> g.swap_in 5)) Host.swap_in", &["swap_in is a sum: of the host pages"]),
        ("(with Guests g (> g.major_fault 5))", &["major_fault counts events"]),
        // A guest's are KiB, the host's are pages, and whose they are is known or not.
        ("(with Guests g (- g.balloon_cur g.swap_out))", &["swap_out is a sum"]),
        ("(- Host.mem_free Host.swap_out)", &["this takes KiB and pages together", "swap_out is a sum"]),
        (
            "(with Guests g (- g.swap_in Host.swap_in))",
            &["this takes KiB and pages together", "swap_in is a sum"],
        ),
        ("(def f (e) (- Host.mem_free e.swap_in)) (f Host)", &["swap_in is a sum"]),
        ("(Host.Control \"ksm_pages_to_scan\" (Host.StatAvg \"swap_in\"))", &["swap_in is a sum"]),
        (
            "(with Guests g (let ((x Host.ksm_pages_sharing)) (g.Control \"balloon_target\" x)))",
            &["balloon_target is in KiB, and this is in pages"],
        ),
        ("(Host.Control \"ksm_pages_to_scan\" (+ 300 Host.ksm_pages_to_scan))", &[]),
    ]);
}

#[test]
fn findings_come_in_the_order_of_their_places_and_each_place_is_told() {
    let found = findings("(with Guests g\n  (g.Control \"nope\" (foo)))\nbar");
    let places: Vec<_> = found.iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(places, ["p:2:14", "p:2:22", "p:3:1"]);
}

#[test]
fn thousands_of_errors_are_told_in_part() {
    let found = findings(&"nope ".repeat(100_000));
    assert_eq!(found.len(), 201);
    assert!(found.last().is_some_and(|last| last.contains("and 99800 more")), "{:?}", found.last());
}
