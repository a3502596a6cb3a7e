//! Places: several files are one program, and each error is told where it stands.

use overcommit_policy::{Limits, MAX_BYTES, Program, Source, World, evaluate};

fn of(files: &[(&str, &[u8])]) -> String {
    let sources: Vec<_> = files.iter().map(|(name, bytes)| Source { name, bytes }).collect();
    let mut world = World::default();
    let outcome =
        Program::parse(&sources).and_then(|program| evaluate(&program, &mut world, &Limits::default()));
    match outcome {
        Ok(evaluation) => format!("{} values", evaluation.values.len()),
        Err(trouble) => trouble.to_string(),
    }
}

#[test]
fn files_are_joined_by_newlines_in_their_order() {
    assert_eq!(of(&[("a", b"(defvar x 1) # no newline"), ("b", b"x")]), "2 values");
    assert_eq!(of(&[("b", b"x"), ("a", b"(defvar x 1)")]), "b:1:1: undefined symbol x");
    // What begins in one file may end in the next, as with MOM.
    assert_eq!(of(&[("a", b"(+ 1"), ("b", b"2)")]), "1 values");
    assert_eq!(of(&[("a", b""), ("b", b"1"), ("c", b"")]), "1 values");
}

#[test]
fn errors_are_told_by_file_line_and_column() {
    let first: &[u8] = b"# one\n\n(defvar x 1)";
    assert_eq!(of(&[("a", first), ("b", b"1\n\n  (foo)\n")]), "b:3:4: undefined function foo");
    assert_eq!(of(&[("a", b"1\n  (foo)"), ("b", first)]), "a:2:4: undefined function foo");
    assert_eq!(of(&[("a", "\"x\ny\" # c\n 'é' (foo)".as_bytes())]), "a:3:7: undefined function foo");
    assert_eq!(of(&[("a", b"1"), ("b", b"2 @")]), "b:1:3: '@' means nothing here");
    assert_eq!(of(&[("a", b"("), ("b", b"2")]), "a:1:1: this bracket is never closed by ')'");
}

#[test]
fn files_of_windows_work() {
    assert_eq!(
        of(&[("a", b"\xef\xbb\xbf(defvar x 1)\r\n# c\r\nx\r\n"), ("b", b"\xef\xbb\xbfx\r\n(foo)")]),
        "b:2:2: undefined function foo"
    );
    assert_eq!(of(&[("a", b"\xef\xbb\xbf(foo)")]), "a:1:2: undefined function foo");
    assert!(of(&[("a", b"1 \xef\xbb\xbf2")]).starts_with("a:1:3: "), "in the middle it is nothing");
}

#[test]
fn bytes_that_are_no_text_are_an_error_at_their_place() {
    assert_eq!(of(&[("a", b"1\n2 \xff 3")]), "a:2:3: this is not UTF-8");
    assert_eq!(of(&[("a", b"1"), ("b", b"\"\xc3")]), "b:1:2: this is not UTF-8");
    assert!(of(&[("a", b"1\n\0")]).starts_with("a:2:1: '\\0' means nothing here"));
    assert_eq!(of(&[("a", b"\"a\0b\" # \0\n")]), "1 values");
}

#[test]
fn a_program_that_is_too_long_is_refused_at_the_first_byte_too_much() {
    let fits = vec![b'\n'; MAX_BYTES - 1];
    assert_eq!(of(&[("a", &[fits.as_slice(), b"1"].concat())]), "1 values");
    let too_long = of(&[("a", &[fits.as_slice(), b"1 "].concat())]);
    assert_eq!(too_long, format!("a:{MAX_BYTES}:2: the program has more than {MAX_BYTES} bytes"));
    let cut_in_two = [fits.as_slice(), "é".as_bytes()].concat();
    assert!(of(&[("a", &cut_in_two)]).ends_with("bytes"), "a character that the limit cuts is no broken one");
    assert!(of(&[("a", b"1"), ("b", &[fits.as_slice(), b"1"].concat())]).starts_with("b:"));
}
