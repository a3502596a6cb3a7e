//! `overcommit-agent policy check` and `policy eval`: programs in MOM's language, from files. What they print is a contract.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use overcommit_tests::agent::Agent;
use serde_json::{Value, json};

/// A folder with programs.
struct Folder(tempfile::TempDir);

/// How a command ended and what it said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Folder {
    fn with(files: &[(&str, &str)]) -> Result<Self> {
        let folder = Self(tempfile::tempdir()?);
        for (name, text) in files {
            std::fs::write(folder.0.path().join(name), text)?;
        }
        Ok(folder)
    }

    /// `policy` with these words, in the folder.
    fn policy(&self, words: &[&str]) -> Result<Said> {
        let mut command = Command::new(Agent::program()?);
        let output = command.arg("policy").args(words).current_dir(self.0.path()).output()?;
        let text = |bytes| String::from_utf8(bytes);
        Ok(Said { code: output.status.code(), out: text(output.stdout)?, err: text(output.stderr)? })
    }

    /// What `policy eval` with these words prints.
    fn evaluated(&self, words: &[&str]) -> Result<Value> {
        let said = self.policy(&[&["eval"], words].concat())?;
        anyhow::ensure!(said.code == Some(0), "{:?} {}", said.code, said.err);
        serde_json::from_str(&said.out).with_context(|| said.out)
    }
}

fn sample(name: &str) -> String {
    let samples = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/samples/mom"));
    samples.join(name).display().to_string()
}

const WORLD: &str = r#"{
  "host": {"properties": {"interval": 10}, "history": [{"mem_available": 16000000, "mem_free": 1600000}]},
  "guests": [
    {"name": "idle", "properties": {"uuid": "1"}, "history": [
      {"balloon_cur": 4000000, "balloon_max": 4000000, "balloon_min": 1000000, "mem_unused": 3000000}]},
    {"name": "silent", "fields": ["balloon_cur", "balloon_max", "balloon_min", "mem_unused"]}
  ]
}"#;

#[test]
fn a_stock_policy_says_what_it_would_do_and_whose_turn_failed() -> Result<()> {
    let folder = Folder::with(&[("in.json", WORLD)])?;
    let balloon = sample("balloon.rules");
    let found = folder.evaluated(&["--input", "in.json", "--output", "json", &balloon])?;
    assert_eq!(
        found["guests"]["idle"],
        json!({"controls": {"balloon_target": 3_800_000.0}, "variables": {}})
    );
    assert_eq!(found["guests"]["silent"], json!({"controls": {}, "variables": {}}));
    let errors = found["errors"].as_array().context("errors")?;
    assert_eq!(errors.len(), 1);
    assert_eq!((&errors[0]["guest"], &errors[0]["file"]), (&json!("silent"), &json!(balloon)));
    assert!(errors[0]["line"].as_u64() > Some(1) && errors[0]["column"].as_u64() > Some(1));
    assert_eq!(found["host"], json!({"controls": {}, "variables": {}}));
    Ok(())
}

#[test]
fn files_are_one_program_in_the_given_order() -> Result<()> {
    let folder = Folder::with(&[("in.json", WORLD), ("01", "(set balloonEnabled 1)")])?;
    let (defines, rules) = (sample("vdsm/00-defines.policy"), sample("vdsm/02-balloon.policy"));
    let with = folder.evaluated(&["--input", "in.json", &defines, "01", &rules])?;
    let without = folder.evaluated(&["--input", "in.json", &defines, &rules])?;
    assert_eq!(with["guests"]["idle"]["controls"]["balloon_target"], json!(3_800_000.0));
    assert_eq!(without["guests"]["idle"]["controls"], json!({}));
    // The silent guest is left alone, not failed.
    assert_eq!(with["errors"], json!([]));
    let turned = folder.policy(&["eval", "01", &defines])?;
    assert_eq!((turned.code, turned.err.as_str()), (Some(1), "01:1:6: undefined symbol balloonEnabled\n"));
    Ok(())
}

#[test]
fn values_are_printed_exactly() -> Result<()> {
    let text = "(<< 1 100) (/ 10 2) (== 1 1) nil \"a\\b\" 1e400 -1e400 (- 1e400 1e400) .1 (with Guests g 1)";
    let folder = Folder::with(&[("p", text)])?;
    let said = folder.policy(&["eval", "p"])?;
    let values = r#"[1267650600228229401496703205376,5.0,true,null,"a\\b","inf","-inf","nan",0.1,[]]"#;
    let rest = r#""host":{"controls":{},"variables":{}},"guests":{},"errors":[]"#;
    assert_eq!(said.out, format!("{{\"values\":{values},{rest}}}\n"));
    Ok(())
}

#[test]
fn what_fails_outside_of_a_guests_turn_is_told_by_its_place_alone() -> Result<()> {
    let folder = Folder::with(&[
        ("p", "1\n  (/ 1 0)\n"),
        ("q", "1 @"),
        ("r", "(debug \"seen\" 1)"),
        ("s", "(debug 7)\n(/ 1 0)"),
    ])?;
    let said = folder.policy(&["eval", "p"])?;
    assert_eq!((said.code, said.err.as_str(), said.out.as_str()), (Some(1), "p:2:4: division by zero\n", ""));
    let said = folder.policy(&["eval", "q"])?;
    assert_eq!((said.code, said.err.as_str()), (Some(1), "q:1:3: '@' means nothing here\n"));
    let said = folder.policy(&["eval", "r"])?;
    assert_eq!((said.code, said.err.as_str()), (Some(0), "r:1:2: debug: seen 1\n"));
    let said = folder.policy(&["eval", "s"])?;
    assert_eq!((said.code, said.err.as_str()), (Some(1), "s:1:2: debug: 7\ns:2:2: division by zero\n"));
    Ok(())
}

#[test]
fn check_prints_findings_and_fails_for_errors_alone() -> Result<()> {
    let files = [
        ("bad", "(with Guests g\n  (g.Control \"baloon_target\" (shrnk g)))\n(def shrink (g) 1)"),
        ("odd", "(with Guests g (g.Control \"vcpu_quota\" 1))"),
        ("good", "(with Guests g (g.Control \"balloon_target\" g.balloon_max))"),
        ("first", "(defvar x 1)"),
        ("second", "x"),
    ];
    let folder = Folder::with(&files)?;
    let said = folder.policy(&["check", "bad"])?;
    let expected = "bad:2:14: warning: unknown control baloon_target: nobody acts on it; did you mean balloon_target?\n\
                    bad:2:31: error: undefined function shrnk; did you mean shrink?\n";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(1), expected, ""));
    let said = folder.policy(&["check", "odd"])?;
    assert_eq!(said.code, Some(0));
    assert!(
        said.out.starts_with("odd:1:27: warning: vcpu_quota is not supported under KubeVirt"),
        "{}",
        said.out
    );
    let said = folder.policy(&["check", "good"])?;
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""));
    assert_eq!(folder.policy(&["check", "first", "second"])?.code, Some(0));
    assert_eq!(folder.policy(&["check", "second"])?.code, Some(1));
    Ok(())
}

#[test]
fn bad_usage_and_bad_input_end_with_2() -> Result<()> {
    let folder =
        Folder::with(&[("p", "1"), ("in.json", "{\"guests\": [{}]}"), ("broken", "{\n \"host\": ")])?;
    for (words, told) in [
        (&["check"][..], "FILE"),
        (&["eval"], "FILE"),
        (&["eval", "--output", "yaml", "p"], "json"),
        (&["check", "none"], "none"),
        (&["eval", "--input", "none", "p"], "none"),
        (&["eval", "--input", "in.json", "p"], "guests[0].name"),
        (&["eval", "--input", "broken", "p"], "line 2, column 10"),
        (&["what"], "what"),
    ] {
        let said = folder.policy(words)?;
        assert_eq!(said.code, Some(2), "{words:?}: {}", said.err);
        assert!(said.err.contains(told) && said.out.is_empty(), "{words:?}: {}", said.err);
    }
    Ok(())
}

#[test]
fn programs_that_mean_harm_end_soon_with_a_place() -> Result<()> {
    let doubled = format!("(defvar s \"ab\") {}", "(set s (+ s s)) ".repeat(100));
    let long = "(+ 1 2)\n".repeat(10 << 17);
    let digits = "9".repeat(10 << 20);
    for text in [
        "(".repeat(1 << 20).as_str(),
        "(def f () (f)) (f)",
        "(<< 1 1000000000)",
        &doubled,
        &long,
        &digits,
        "\0",
    ] {
        let folder = Folder::with(&[("p", text)])?;
        let begun = Instant::now();
        for command in ["eval", "check"] {
            let said = folder.policy(&[command, "p"])?;
            let told = if command == "eval" { &said.err } else { &said.out };
            let runs = command == "check" && said.code == Some(0) && told.is_empty();
            assert!(
                runs || (said.code == Some(1) && told.starts_with("p:")),
                "{command} {:?} {told}",
                said.code
            );
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    Ok(())
}

#[test]
fn a_file_may_be_a_pipe() -> Result<()> {
    let mut command = Command::new(Agent::program()?);
    let command = command.args(["policy", "eval", "/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("a pipe")?.write_all(b"(+ 1 2)")?;
    let output = child.wait_with_output()?;
    assert!(String::from_utf8(output.stdout)?.starts_with("{\"values\":[3],"));
    Ok(())
}
