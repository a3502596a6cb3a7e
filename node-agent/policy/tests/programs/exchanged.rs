//! Worlds as JSON: what is read, and what is refused by its place.

use overcommit_policy::{Limits, Program, Source, Value, evaluate, exchange};

use crate::support::{printed_in, values_in};

fn refused(text: impl AsRef<[u8]>, expected: &str) {
    let why = exchange::read(text.as_ref()).unwrap_err();
    assert!(why.contains(expected), "{why}");
}

#[test]
fn numbers_come_out_as_they_went_in() {
    let numbers = "[1,-0.0,0.1,1e16,1e300,5e-324,123456789012345678901234567890,-9223372036854775808,2.5e-7]";
    let world = format!(r#"{{"host": {{"history": [{{"a": {numbers}}}]}}}}"#);
    assert_eq!(values_in("Host.a", &world), format!("[{numbers}]"));
    let python = r#"{"host": {"history": [{"a": [NaN, Infinity, -Infinity, true, null]}]}}"#;
    assert_eq!(values_in("Host.a", python), r#"[["nan","inf","-inf",true,null]]"#);
    // More digits than a float has, and halfway between two of them.
    let world =
        r#"{"host": {"history": [{"a": 9007199254740993.0, "b": 0.1000000000000000055511151231257827}]}}"#;
    assert_eq!(values_in("Host.a Host.b (== Host.b .1)", world), "[9007199254740992.0,0.1,true]");
}

#[test]
fn texts_come_out_as_they_went_in() {
    let world = r#"{"guests": [{"name": "\u00e9\ud83d\ude00\n\"\\\/\b"}]}"#;
    let printed = printed_in("1", world);
    assert!(printed.contains(r#""guests":{"é😀\n\"\\/\u0008":{"#), "{printed}");
}

#[test]
fn what_is_left_out_is_empty() {
    let printed = printed_in("(with Guests g (g.GetVar \"x\"))", r#"{"guests": [{"name": "g"}]}"#);
    let rest =
        r#""host":{"controls":{},"variables":{}},"guests":{"g":{"controls":{},"variables":{}}},"errors":[]}"#;
    assert_eq!(printed, format!(r#"{{"values":[[null]],{rest}"#));
    assert_eq!(values_in("Guests", "{}"), "[[]]");
}

#[test]
fn disks_are_nil_whatever_is_said_of_them() {
    let world = r#"{"guests": [{"name": "g", "history": [{"io_tune": [{"name": "vda", "maximum": {"total_bytes_sec": 1}}],
        "io_tune_current": {}}]}]}"#;
    let text = "(with Guests g (valid g.io_tune)) (with Guests g (valid g.io_tune_current))";
    assert_eq!(values_in(text, world), "[[false],[false]]");
    let told = r#"{"guests": [{"name": "g", "controls": {"io_tune": 5}}]}"#;
    assert_eq!(
        values_in("(with Guests g (g.GetControl \"io_tune\"))", told),
        "[[5]]",
        "a control is none of a disk's fields"
    );
}

#[test]
fn what_was_proposed_and_remembered_before_is_there() {
    let world = r#"{"host": {"variables": {"n": 1}, "controls": {"ksm_run": 1}},
        "guests": [{"name": "g", "variables": {"v": [1, "a"]}, "controls": {"balloon_target": 5}}]}"#;
    let text = r#"(Host.GetVar "n") (Host.GetControl "ksm_run") (with Guests g (g.GetVar "v")) (with Guests g (g.GetControl "balloon_target"))"#;
    assert_eq!(values_in(text, world), r#"[1,1,[[1,"a"]],[5]]"#);
}

#[test]
fn a_world_that_is_written_down_is_read_as_it_was() {
    let world = r#"{"host":{"properties":{"interval":5},"fields":["mem_free","never"],"history":[{"mem_free":123456789012345678901234567890},{"mem_free":null}],"variables":{"n":[1,"\"é\u0001"]},"controls":{}},"guests":[{"name":"a/b","properties":{"name":"a/b"},"fields":["mem_free","rss"],"history":[{"rss":NaN},{"mem_free":-Infinity,"rss":0.1}],"variables":{},"controls":{"balloon_target":5}},{"name":"c","properties":{"name":"other"},"fields":[],"history":[{}],"variables":{},"controls":{}}]}"#;
    assert_eq!(exchange::write_world(&exchange::read(world.as_bytes()).unwrap()), world);
    assert_eq!(
        exchange::write_world(&exchange::read(b"{}").unwrap()),
        exchange::write_world(&overcommit_policy::World::default())
    );
}

#[test]
fn a_guest_has_its_name_as_a_property_too() {
    let name = r#"(with Guests g (g.Prop "name"))"#;
    assert_eq!(values_in(name, r#"{"guests": [{"name": "web"}]}"#), r#"[["web"]]"#);
    let own = r#"{"guests": [{"properties": {"name": "own"}, "name": "web"}]}"#;
    assert_eq!(values_in(name, own), r#"[["own"]]"#);
}

#[test]
fn a_name_is_no_longer_than_one_of_kubernetes_can_be() {
    let world = |bytes| format!(r#"{{"guests": [{{"name": "{}"}}]}}"#, "a".repeat(bytes));
    assert_eq!(values_in("1", &world(63 + 1 + 253)), "[1]");
    refused(world(63 + 1 + 254), "guests[0].name: it has 318 bytes, and no guest's name more than 317");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_world() {
    assert_eq!(values_in("1", "\u{feff}{}"), "[1]");
    refused("\u{feff}{\n \"host\": }", "line 2, column 10");
}

#[test]
fn what_is_no_world_is_refused_by_its_place() {
    refused("", "line 1, column 1");
    refused("{\n  \"host\": }", "line 2, column 11");
    refused("{} {}", "something follows");
    refused("[1]", "it: an object is due, and this is an array");
    refused(r#"{"hosts": {}}"#, "hosts: unknown; here are host and guests");
    refused(r#"{"host": {"history": {}}}"#, "host.history: an array is due");
    refused(r#"{"host": {"name": "x"}}"#, "host.name: unknown");
    refused(r#"{"guests": [{"name": "a"}, {}]}"#, "guests[1].name is missing");
    refused(r#"{"guests": [{"name": "a"}, {"name": "a"}]}"#, "guests[1].name: there are two guests \"a\"");
    refused(r#"{"guests": [{"name": 5}]}"#, "guests[0].name: a text is due, and this is an integer");
    refused(
        r#"{"host": {"history": [{"a": {}}]}}"#,
        "host.history[0].a: objects are no values of the language",
    );
    refused(r#"{"host": {"fields": [1]}}"#, "host.fields[0]: a text is due");
    refused(b"{\"host\": \xff}", "it is not UTF-8 from byte 9 on");
    refused(format!("{}1", "[".repeat(100_000)), "nested too deep");
    refused(format!(r#"{{"host": {{"history": [{{"a": {}}}]}}}}"#, "9".repeat(100_000)), "too many digits");
    refused(r#"{"host": {"history": [{"a": 10x}]}}"#, "a comma or a closing brace is due");
    refused(r#"{"guests": [{"name": "\ud800"}]}"#, "half of a pair");
    refused(r#"{"guests": [{"name": "\x"}]}"#, "an unknown escape");
}

#[test]
fn what_stands_there_twice_is_refused_by_its_path() {
    refused(r#"{"host": {}, "guests": [], "host": {}}"#, "host: it stands there twice");
    refused(r#"{"host": {"fields": [], "fields": []}}"#, "host.fields: it stands there twice");
    refused(r#"{"guests": [{"name": "a", "name": "b"}]}"#, "guests[0].name: it stands there twice");
    refused(
        r#"{"host": {"properties": {"a": 1, "b": 2, "a": 1}}}"#,
        "host.properties.a: it stands there twice",
    );
    refused(
        r#"{"guests": [{"name": "a", "history": [{}, {"rss": 1, "r\u0073s": 2}]}]}"#,
        "guests[0].history[1].rss: it stands there twice",
    );
}

#[test]
fn what_is_no_json_is_refused() {
    let value = |text: &str| format!(r#"{{"host": {{"properties": {{"a": {text}}}}}}}"#);
    for number in
        ["01", "-01", "1.", "-1.", "00", "01.5", "1.e5", "1e", "1e+", "1-2", "1.2.3", "1e5.0", "0x1"]
    {
        assert!(exchange::read(value(number).as_bytes()).is_err(), "{number}");
    }
    for number in ["0", "-0", "0.5", "-0.0e-0", "10", "1e5", "1E+05", "0e1", "1.50"] {
        assert!(exchange::read(value(number).as_bytes()).is_ok(), "{number}");
    }
    for number in [".5", "+1", "-"] {
        refused(value(number), "no value that JSON knows");
    }
    refused(value("01"), "line 1, column 31: no number of JSON");
    for text in ["\n", "\t", "\0", "\u{1f}"] {
        refused(value(&format!("\"x{text}y\"")), "a control character in a text");
    }
    assert!(exchange::read(value("\"\u{7f}\u{e9}\"").as_bytes()).is_ok());
    for text in [r"\ud800", r"\ud800\u0041", r"\ud800\ud800", r"\ud800\n", r"\udc00"] {
        refused(value(&format!("\"{text}\"")), "half of a pair of surrogates");
    }
}

const INPUT: &str = include_str!("../../../../deploy/samples/mom/input.json");

#[test]
fn the_input_that_is_shipped_says_what_the_documentation_says_of_it() {
    let printed = printed_in(include_str!("../../../../deploy/samples/mom/balloon.rules"), INPUT);
    let said = r#""web":{"controls":{"balloon_target":3984588.8}"#;
    assert!(include_str!("../../../../docs/mom.md").contains(said) && printed.contains(said), "{printed}");
    assert!(printed.contains(r#""db":{"controls":{}"#), "{printed}");
}

/// The program of one's own that the documentation explains.
fn documented() -> &'static str {
    let docs = include_str!("../../../../docs/mom.md");
    docs.split_once("```lisp\n").unwrap().1.split_once("```").unwrap().0
}

#[test]
fn the_program_that_the_documentation_explains_does_what_it_says() {
    let program = Program::parse(&[Source { name: "patient", bytes: documented().as_bytes() }]).unwrap();
    assert_eq!(program.check(), []);
    let mib = |n: i64| n * 1024;
    // Memory that it holds and has unused, and what is wanted of it.
    let cycles = [
        (1000, Some(700), None),
        (1000, Some(700), None),
        (1000, Some(700), Some(950.0)),
        (950, Some(650), Some(902.5)),
        // Who is not idle begins anew.
        (900, Some(400), None),
        (900, Some(600), None),
        (900, Some(600), None),
        (900, Some(600), Some(855.0)),
        (800, Some(100), Some(880.0)),
        (950, Some(100), Some(1000.0)),
        // Nothing is known of it.
        (800, None, None),
    ];
    let mut variables = "{}".to_owned();
    for (turn, (holds, unused, wanted)) in cycles.into_iter().enumerate() {
        let unused = unused.map_or_else(|| "null".to_owned(), |unused| mib(unused).to_string());
        let input = format!(
            r#"{{"guests": [{{"name": "g", "variables": {variables}, "history": [{{"balloon_cur": {}, "balloon_max": {},
            "mem_unused": {unused}}}]}}]}}"#,
            mib(holds),
            mib(1000)
        );
        let mut world = exchange::read(input.as_bytes()).unwrap();
        let evaluation = evaluate(&program, &mut world, &Limits::default()).unwrap();
        assert_eq!(evaluation.errors, [], "{turn}");
        let guest = &world.guests[0];
        let told = guest.controls.get("balloon_target").map(|told| match told {
            Value::Float(target) => target / 1024.0,
            Value::Int(target) => f64::from(i32::try_from(*target).unwrap()) / 1024.0,
            other => panic!("{other:?}"),
        });
        assert_eq!(told.map(|told| (told * 10.0).round() / 10.0), wanted, "{turn}");
        let idle = guest.variables.get("idle_cycles").map_or(0, |idle| match idle {
            Value::Int(idle) => *idle,
            other => panic!("{other:?}"),
        });
        variables = format!("{{\"idle_cycles\": {idle}}}");
    }
}

#[test]
fn every_program_that_is_shipped_finds_all_that_it_asks_for_in_it() {
    let vdsm = [
        include_str!("../../../../deploy/samples/mom/vdsm/00-defines.policy"),
        "(set balloonEnabled 1)",
        include_str!("../../../../deploy/samples/mom/vdsm/02-balloon.policy"),
        include_str!("../../../../deploy/samples/mom/vdsm/03-ksm.policy"),
        include_str!("../../../../deploy/samples/mom/vdsm/04-cputune.policy"),
    ]
    .join("\n");
    let ksm = include_str!("../../../../deploy/samples/mom/ksm.rules");
    let qos = include_str!("../../../../deploy/samples/mom/balloon-qos.rules");
    for program in [vdsm.as_str(), ksm, qos] {
        let printed = printed_in(program, INPUT);
        assert!(printed.ends_with("\"errors\":[]}"), "{printed}");
    }
    let printed = printed_in(&vdsm, INPUT);
    for said in ["\"ksm_run\":1", "\"balloon_target\":3984588.8", "\"vcpu_quota\":200000.0"] {
        assert!(printed.contains(said), "{said}: {printed}");
    }
}
