//! Every construct of the language: what it comes to, what is an error, and where.

use crate::support::{WORLD, printed_in, run_in, table, values, values_in};
use overcommit_policy::Limits;

#[test]
fn numbers_are_read_as_mom_reads_them() {
    table(&[
        ("1 -1 0 -0", "[1,-1,0,0]"),
        (
            "1.5 .5 -.5 00.5 1.5e3 1e3 1E+3 1e-3 -1e3 0e5",
            "[1.5,0.5,-0.5,0.5,1500.0,1000.0,1000.0,0.001,-1000.0,0.0]",
        ),
        ("0x1F 0XfF 0o17", "[31,255,15]"),
        ("1e400 -1e400 (- 1e400 1e400)", r#"["inf","-inf","nan"]"#),
        ("123456789012345678901234567890", "[123456789012345678901234567890]"),
        ("-9223372036854775808 9223372036854775807", "[-9223372036854775808,9223372036854775807]"),
        // Two tokens that touch are two.
        ("1.2.3", "[1.2,0.3]"),
        ("(- 3 -1)", "[4]"),
        ("(-3 1)", "p:1:2: a list begins with"),
        ("(+-1 2)", "[1]"),
        ("(<=1 2)", "[true]"),
        ("010", "p:1:1: an integer does not begin with 0"),
        ("1.", "p:1:2: '.' means nothing here"),
        ("5e", "p:1:1: this number has an exponent without digits"),
        ("0xg", "p:1:1: this number has no digits"),
        ("0o8", "p:1:1: 8 and 9 are no octal digits"),
        ("-0x1", "p:1:1: the sign - stands where a value is due"),
    ]);
}

#[test]
fn texts_names_and_comments_are_read_as_mom_reads_them() {
    table(&[
        (r#""a" 'b' "it's" 'say "x"' "" "#, r#"["a","b","it's","say \"x\"",""]"#),
        ("\"two\nlines\"", r#"["two\nlines"]"#),
        (r#""back\slash""#, r#"["back\\slash"]"#),
        (r#""a \" b" 'it\'s'"#, r#"["a \\\" b","it\\'s"]"#),
        ("(defvar a-b 1) a-b (defvar _x.y 2)", "[1,1,2]"),
        ("1 # a comment \" ' (\n2 # the last one", "[1,2]"),
        ("(+ 1 2) [+ 1 2] {1 2}", "[3,3,2]"),
        ("1 \"open", "p:1:3: this text has no closing \""),
    ]);
}

#[test]
fn text_that_is_no_token_is_an_error_at_its_place_and_drops_nothing() {
    for (text, place) in
        [("@", "1:3"), ("%", "1:3"), (",", "1:3"), (";", "1:3"), ("= 2", "1:3"), ("! 2", "1:3")]
    {
        let found = values(&format!("1 {text}\n2"));
        assert!(found.starts_with(&format!("p:{place}: ")), "{text}: {found}");
    }
    assert!(values("1\né").starts_with("p:2:1: 'é' means nothing here"));
    assert!(values("\"é\" \u{8}").starts_with("p:1:5: "), "columns count characters");
}

#[test]
fn brackets_that_do_not_match_are_an_error_at_their_place() {
    table(&[
        ("(+ 1 2", "p:1:1: this bracket is never closed"),
        ("1\n (+ 1 2", "p:2:2: this bracket is never closed"),
        ("1 2)", "p:1:4: ')' closes no bracket"),
        ("(+ 1 2]", "p:1:7: ']' stands where ')' is due"),
        ("", "p:1:1: there is no program"),
        (" # nothing\n", "p:2:1: there is no program"),
        ("()", "p:1:1: an empty list cannot be evaluated"),
        ("{}", "p:1:1: eval takes 1 argument or more"),
        ("(if 0 () 1)", "[1]"),
    ]);
}

#[test]
fn arithmetic_is_pythons() {
    table(&[
        ("(+ 1 2) (- 1 2) (* 3 4) (+ 1 .5)", "[3,-1,12,1.5]"),
        ("(/ 11 2) (/ 10 2) (/ 1 3) (/ 0 -5)", "[5.5,5.0,0.3333333333333333,-0.0]"),
        ("(add 1 2) (sub 1 2) (mul 2 3) (div 1 2) (shl 1 3) (shr 8 1)", "[3,-1,6,0.5,8,4]"),
        ("(lt 1 2) (gt 1 2) (lte 1 1) (gte 1 2) (eq 1 1) (neq 1 1)", "[true,false,true,false,true,false]"),
        (
            "(+ 9223372036854775807 1) (- (+ 9223372036854775807 1) 1)",
            "[9223372036854775808,9223372036854775807]",
        ),
        ("(* 4294967296 4294967296)", "[18446744073709551616]"),
        (
            "(<< 1 100) (>> -5 1) (<< -1 3) (>> 5 100) (>> -5 100)",
            "[1267650600228229401496703205376,-3,-8,0,-1]",
        ),
        ("(<< 0 1000000000) (>> 5 (<< 1 70))", "[0,0]"),
        ("(* 1e200 1e200) (* -1 0.0)", r#"["inf",-0.0]"#),
        ("(+ (== 1 1) (== 1 1)) (abs (== 1 1)) (/ (== 1 1) 2)", "[2,1,0.5]"),
        (
            "(abs -5) (abs -.5) (abs (- 0 (<< 1 63))) (abs (- 0 (<< 1 70)))",
            "[5,0.5,9223372036854775808,1180591620717411303424]",
        ),
        ("(/ 1 0)", "p:1:2: division by zero"),
        ("(/ 1.0 0.0)", "p:1:2: division by zero"),
        ("(<< 1 -1)", "p:1:2: a shift by less than 0"),
        ("(<< 1.0 1)", "p:1:2: only integers can be shifted"),
        ("(+ nil 1)", "p:1:2: nil cannot be added to an integer"),
        ("(- \"a\" 1)", "p:1:2: a text cannot be diminished by an integer"),
        ("(abs nil)", "p:1:2: nil has no amount"),
    ]);
}

#[test]
fn division_of_long_integers_is_rounded_once() {
    table(&[
        ("(/ (<< 1 2000) (<< 1 1999)) (/ (+ (<< 1 53) 1) 1)", "[2.0,9007199254740992.0]"),
        // Halfway, and a little beyond it.
        (
            "(/ (+ (<< 1 54) 2) 1) (/ (+ (<< 1 120) (<< 1 67)) 1)",
            "[1.8014398509481984e16,1.329227995784916e36]",
        ),
        ("(/ (+ (+ (<< 1 120) (<< 1 67)) 1) 1)", "[1.3292279957849162e36]"),
        // The smallest floats, and less than half of them.
        (
            "(/ 1 (<< 1 1074)) (/ 1 (<< 1 1075)) (/ 3 (<< 1 1075)) (/ -1 (<< 1 1074))",
            "[5e-324,0.0,1e-323,-5e-324]",
        ),
        ("(/ 1 (<< 1 60000))", "[0.0]"),
        ("(/ (<< 1 2000) 1)", "p:1:2: the quotient is too large for a float"),
        ("(+ (<< 1 2000) 1.0)", "p:1:2: the integer is too large to become a float"),
        ("(/ (- (<< 1 1024) (<< 1 970)) 1)", "p:1:2: the quotient is too large for a float"),
        ("(/ (- (<< 1 1024) (<< 1 971)) 1)", "[1.7976931348623157e308]"),
    ]);
}

#[test]
fn texts_and_lists_add_and_repeat() {
    table(&[
        (
            r#"(+ "a" "b") (* 3 "ab") (* "ab" 2) (* "ab" -1) (* "ab" (== 1 1))"#,
            r#"["ab","ababab","abab","","ab"]"#,
        ),
        ("(let ((l (with Guests g 1))) (+ l (* 2 l)))", "[[1,1,1,1,1,1]]"),
        (r#"(* "a" 1.0)"#, "p:1:2: a text cannot be multiplied with a float"),
        (r#"(* "a" (<< 1 70))"#, "p:1:2: an integer of more than 64 bits"),
        (r#"(+ "a" 1)"#, "p:1:2: a text cannot be added to an integer"),
    ]);
}

#[test]
fn comparison_is_exact_and_equality_never_fails() {
    table(&[
        ("(< 1 2) (> 1 2) (<= 1 1.0) (>= 1 1.5)", "[true,false,true,false]"),
        (r#"(< "a" "b") (< "ab" "a") (< (== 1 2) (== 1 1))"#, "[true,false,true]"),
        (
            "(== nil nil) (== 1 1.0) (== \"1\" 1) (!= nil 0) (== (== 1 1) 1) (== Host Host)",
            "[true,true,false,true,true,true]",
        ),
        // 2^53 + 1 is no float.
        ("(== (+ (<< 1 53) 1) 9007199254740992.0) (> (+ (<< 1 53) 1) 9007199254740992.0)", "[false,true]"),
        ("(< (<< 1 2000) 1e308) (< (<< 1 2000) 1e400) (> (- 0 (<< 1 2000)) -1e400)", "[false,true,true]"),
        ("(let ((n (- 1e400 1e400))) (or (== n n) (< n 1)))", "[false]"),
        ("(== (with Guests g 1) (with Guests g 1.0)) (< (with Guests g 1) (with Guests g 2))", "[true,true]"),
        ("(< nil 1)", "p:1:2: nil and an integer have no order"),
        (r#"(< "a" 1)"#, "p:1:2: a text and an integer have no order"),
        ("(< Host Host)", "p:1:2: the host and the host have no order"),
    ]);
}

#[test]
fn min_and_max_take_the_first_of_equals_and_need_an_order() {
    table(&[
        ("(min 1 2.0 .5) (max 1 3 2) (min 1 1.0) (max 1.0 1) (max (== 1 1) 1)", "[0.5,3,1,1.0,true]"),
        (r#"(max "a" "b") (min nil) (max Host)"#, r#"["b",null,"<Host>"]"#),
        ("(max 1 (- 1e400 1e400)) (max (- 1e400 1e400) 1)", r#"[1,"nan"]"#),
        ("(max 1 nil)", "p:1:2: nil and an integer have no order"),
        ("(min '' 1 ())", "p:1:11: an empty list cannot be evaluated"),
        ("(min)", "p:1:2: min takes 1 argument or more, and here are 0"),
    ]);
}

#[test]
fn and_and_or_return_an_operand_and_evaluate_all() {
    table(&[
        ("(and 1 2 0 3) (and 1 2 3) (or 0 nil \"\") (or 0 5 6)", "[0,3,\"\",5]"),
        ("(defvar x 0) (or 1 (set x 7)) x (and 0 (set x 8)) x", "[0,1,7,0,8]"),
        ("(or 1 (foo))", "p:1:8: undefined function foo"),
        ("(and)", "p:1:2: and takes 1 argument or more"),
    ]);
}

#[test]
fn truth_is_pythons() {
    for (value, truth) in [
        ("0", false),
        ("0.0", false),
        ("-0.0", false),
        ("\"\"", false),
        ("nil", false),
        ("(== 1 2)", false),
        ("(* 0 (with Guests g 1))", false),
        ("1", true),
        ("(- 1e400 1e400)", true),
        ("\"0\"", true),
        ("(with Guests g 0)", true),
        ("Host", true),
        ("abs", true),
        ("(<< 1 100)", true),
    ] {
        let expected = format!("[{},{}]", !truth, if truth { 1 } else { 2 });
        assert_eq!(values(&format!("(not {value}) (if {value} 1 2)")), expected, "{value}");
    }
    table(&[
        (
            "(null) (null nil) (null \"\") (null nil \"\") (null 0) (null nil 1) (null Guests)",
            "[true,true,true,true,false,false,false]",
        ),
        ("(valid) (valid nil) (valid 0 \"\") (valid 1 nil)", "[true,false,true,false]"),
        ("(not 1 2)", "p:1:2: not takes 1 argument, and here are 2"),
        ("(if 1 2)", "p:1:2: if takes 3 arguments, and here are 2"),
    ]);
}

#[test]
fn defvar_sets_if_absent_in_the_innermost_scope() {
    table(&[
        ("(defvar a 1) (defvar a 2) a", "[1,1,1]"),
        ("(let ((a 1)) (defvar a 2) a)", "[1]"),
        ("(defvar a 1) (let ((b 2)) (defvar a 3)) a", "[1,3,1]"),
        ("(defvar a nil) (defvar a 3) a", "[null,null,null]"),
        ("{(defvar k 1)} k", "[1,1]"),
        ("(let ((x 1)) (defvar b 3)) b", "p:1:28: undefined symbol b"),
        ("(defvar nil 1) nil", "[1,null]"),
        ("(defvar \"a\" 1)", "p:1:9: a name is due here"),
        ("(defvar a)", "p:1:2: defvar takes 2 arguments"),
    ]);
}

#[test]
fn set_changes_the_nearest_scope_that_has_the_name() {
    table(&[
        ("(defvar a 1) (set a 2) a (setq a 3) a", "[1,2,2,3,3]"),
        ("(defvar a 1) (let ((a 2)) (set a 3)) a", "[1,3,1]"),
        ("(defvar a 1) (let ((b 2)) (set a 3)) a", "[1,3,3]"),
        ("(set a 1)", "p:1:6: undefined symbol a"),
        ("(set Host.mem_free 1)", "p:1:6: undefined symbol Host.mem_free"),
    ]);
}

#[test]
fn let_binds_one_after_the_other_in_a_scope_of_its_own() {
    table(&[
        ("(let ((a 1) (b (+ a 1))) (+ a b))", "[3]"),
        ("(let ((a 1)) 2 3 a)", "[1]"),
        ("(let () 1)", "[1]"),
        ("(let ((a 1) (a 2)) a)", "[1]"),
        ("(let ((a (defvar a 5))) a)", "[5]"),
        ("(let ((a 1)) a) a", "p:1:17: undefined symbol a"),
        ("(let (a 1) a)", "p:1:7: let takes a list of (NAME VALUE) first"),
        ("(let ((a)) a)", "p:1:7: let takes a list of (NAME VALUE) first"),
        ("(let a 1)", "p:1:6: let takes a list of (NAME VALUE) first"),
        ("(let {} 1)", "p:1:6: let takes a list of (NAME VALUE) first"),
        ("(let ((a 1)))", "p:1:2: let takes 2 arguments or more"),
    ]);
}

#[test]
fn functions_are_global_and_their_scope_is_dynamic() {
    table(&[
        ("(def f (x) (+ x 1)) (f 2)", r#"["f",3]"#),
        ("(defun f () 5) (f)", r#"["f",5]"#),
        ("(let ((x 1)) (def f () 3)) (f)", r#"["f",3]"#),
        ("(def f () 1) (def f () 2) (f)", r#"["f","f",2]"#),
        ("(def h () (k)) (def k () 4) (h)", r#"["h","k",4]"#),
        ("(def g (x) (+ x y)) (def f (y) (g 1)) (f 5)", r#"["g","f",6]"#),
        ("(def f (x) (set x 9)) (defvar x 1) (f 2) x", r#"["f",1,9,1]"#),
        ("(def Host.f (x) 5) (Host.f 1)", r#"["Host.f",5]"#),
        ("(def f (x x) x) (f 1 2)", r#"["f",1]"#),
        ("(def f {x} (+ x 1)) (f 3 4)", r#"["f",5]"#),
        ("(f) (def f () 2)", "p:1:2: undefined function f"),
        ("(def f (a) a) (f)", "p:1:16: f takes 1 argument, and here are 0"),
        ("(def f x 5) (f)", "p:1:14: the parameters of f are no list"),
        ("(def f (1) 5) (f 2)", "p:1:9: a parameter of f is no name"),
        ("(def f (x))", "p:1:2: def takes 3 arguments"),
        ("(def f () 3) f", "p:1:14: undefined symbol f"),
        ("((f))", "p:1:2: a list begins with what it calls"),
        ("(\"f\" 1)", "p:1:2: a list begins with what it calls, and this is a text"),
    ]);
}

#[test]
fn an_argument_sees_the_parameters_that_were_bound_before_it() {
    table(&[("(def f (a b) (- a b)) (let ((a 1) (b 10)) (f b a))", r#"["f",0]"#)]);
}

#[test]
fn a_variable_is_looked_up_before_a_word_and_a_word_before_a_function() {
    table(&[
        ("(let ((min 3)) (min 1 2))", "p:1:17: min is an integer and cannot be called"),
        ("(let ((add 3)) (+ 1 2))", "p:1:17: + is an integer and cannot be called"),
        ("(def min (x y) 5) (min 1 2)", r#"["min",1]"#),
        ("(def abs (x) 7) (abs -1)", r#"["abs",1]"#),
        ("(defvar f abs) (f -3) (debug 1 2)", r#"["<abs>",3,2]"#),
        // One that is nil is looked over.
        ("(def f () 3) (let ((f nil)) (f))", r#"["f",3]"#),
        ("(defvar f 3) (def f () 5) (f)", "p:1:28: f is an integer and cannot be called"),
        ("(defvar eval 3) {1 2}", "p:1:17: eval is an integer and cannot be called"),
    ]);
}

#[test]
fn with_takes_each_element_in_a_scope_of_its_own() {
    table(&[
        (r#"(with Guests g (g.Prop "name"))"#, r#"[["one","two"]]"#),
        ("(defvar n \"aé\") (with n c (+ c c))", r#"["aé",["aa","éé"]]"#),
        ("(defvar l (with Guests g 2)) (with l x (+ x 1))", "[[2,2],[3,3]]"),
        ("(with Guests g (defvar k 1)) k", "p:1:30: undefined symbol k"),
        ("(with Guests g (set g 1))", "[[1,1]]"),
        ("(with Guests 5 1)", "p:1:14: with takes a name for the element"),
        ("(with (foo) g 1)", "p:1:7: with takes the name of a list"),
        ("(with Host g 1)", "p:1:7: with takes a list, and this is the host"),
        ("(with Foo g 1)", "p:1:7: undefined symbol Foo"),
        ("(with Guests g 1 2)", "p:1:2: with takes 3 arguments"),
    ]);
}

#[test]
fn fields_are_the_last_sample_and_nil_where_declared_and_absent() {
    table(&[
        ("Host.mem_free Host.swap_usage Host.swap_total", "[201,null,null]"),
        ("Host.mem_free.foo.bar", "[201]"),
        ("(let ((Host 5)) Host.mem_free)", "[201]"),
        ("(with Guests g g.balloon_cur)", "[[1001,null]]"),
        ("Host.nothing", "p:1:1: undefined symbol Host.nothing"),
        ("Host.controls", "p:1:1: undefined symbol Host.controls"),
        ("(defvar x 5) x.real", "p:1:14: undefined symbol x.real"),
        ("nil.x", "p:1:1: undefined symbol nil.x"),
        ("(Host.mem_free)", "p:1:2: Host.mem_free is an integer and cannot be called"),
        ("(Host.nothing)", "p:1:2: undefined function Host.nothing"),
    ]);
}

#[test]
fn methods_of_entities_answer_as_moms_do() {
    table(&[
        (r#"(Host.Prop "interval") (Host.Prop.foo "name")"#, r#"[10,"node"]"#),
        (
            r#"(Host.Stat "mem_free" 1) (Host.Stat "swap_usage" 1) (Host.Stat "swap_total" 1)"#,
            "[201,null,null]",
        ),
        (
            r#"(Host.StatAvg "mem_free") (Host.StatAvg "swap_usage") (Host.StatAvg "swap_total")"#,
            "[150.5,0.0,0.0]",
        ),
        (r#"(Host.GetVar "a") (Host.SetVar "a" 1) (Host.GetVar "a")"#, "[null,null,1]"),
        (r#"(Host.GetControl "a") (Host.Control "a" 1) (Host.GetControl "a")"#, "[null,null,1]"),
        (r#"(let ((p Host.Prop)) (p "name"))"#, r#"["node"]"#),
        (r#"(def f (h) (h.Prop "name")) (f Host)"#, r#"["f","node"]"#),
        (r#"(Host.Prop "nope")"#, "p:1:2: there is no property nope"),
        (r#"(Host.Stat "nope" 1)"#, "p:1:2: no collector has the field nope"),
        (r#"(Host.StatAvg "nope")"#, "p:1:2: no collector has the field nope"),
        (r#"(Host.StatStdDev "mem_free")"#, "p:1:2: undefined function Host.StatStdDev"),
        ("(Host.Prop)", "p:1:2: Prop takes 1 argument, and here are 0"),
        (r#"(Host.Stat "a" 1 2)"#, "p:1:2: Stat takes 1 or 2 arguments"),
        ("(Host.Control 5 1)", "p:1:2: Control takes a name as a text"),
    ]);
    let no_samples = r#"{"host": {"fields": ["a"]}}"#;
    assert_eq!(values_in(r#"(Host.Stat "a" 3)"#, no_samples), "[null]");
    assert_eq!(values_in(r#"(Host.StatAvg "a")"#, no_samples), "p:1:2: there is no sample of a yet");
}

#[test]
fn only_the_last_ten_samples_count() {
    let samples: Vec<String> = (1..=12).map(|n| format!(r#"{{"a": {n}}}"#)).collect();
    let world = format!(r#"{{"host": {{"history": [{}]}}}}"#, samples.join(","));
    assert_eq!(values_in(r#"(Host.StatAvg "a") Host.a"#, &world), "[7.5,12]");
}

#[test]
fn what_fails_in_a_guests_turn_concerns_that_guest_alone() {
    let text = r#"(Host.Control "ksm_run" 1)
(with Guests g
  {
    (g.SetVar "seen" 6)
    (g.Control "balloon_target" 5)
    (/ 10 (- (g.Prop "pid") 1))
  })
(with Guests g (g.Control "balloon_target" 7))"#;
    assert_eq!(
        printed_in(text, WORLD),
        r#"{"values":[null,[null,10.0],[null,null]],"host":{"controls":{"ksm_run":1},"variables":{}},"guests":{"one":{"controls":{"balloon_target":900},"variables":{"seen":5}},"two":{"controls":{"balloon_target":7},"variables":{"seen":6}}},"errors":[{"guest":"one","message":"division by zero","file":"p","line":6,"column":6}]}"#,
    );
    // Scopes are left, however deep in them it failed; what lists hold other than guests is nobody's turn.
    table(&[
        ("(def f (x) (let ((y x)) (foo))) (with Guests g (f 1)) (defvar y 3) y", r#"["f",[null,null],3,3]"#),
        ("(defvar n \"ab\") (with n c (foo))", "p:1:28: undefined function foo"),
    ]);
}

#[test]
fn a_guest_whose_recursion_has_no_end_is_left_out_alone() {
    table(&[(r#"(def f () (f)) (with Guests g (if (== (g.Prop "pid") 1) (f) 2))"#, r#"["f",[null,2]]"#)]);
}

#[test]
fn a_spent_budget_ends_the_whole_evaluation() {
    let limits = Limits { steps: 2000, ..Limits::default() };
    let text = "(def f (n) (if n (+ (f (- n 1)) (f (- n 1))) 0)) (with Guests g (f 20))";
    let trouble = run_in(text, WORLD, &limits).unwrap_err();
    assert!(trouble.message.contains("2000 steps"), "{}", trouble.message);
}

#[test]
fn debug_logs_its_arguments_and_returns_the_last() {
    let (_, world) = run_in("\n (debug \"a\" 1.5 nil Host Guests)", WORLD, &Limits::default()).unwrap();
    let (place, line) = &world.log[0];
    assert_eq!(format!("{place} {line}"), "p:2:3 a 1.5 nil Host (one two)");
    assert!(values("(debug)").starts_with("p:1:2: debug takes 1 argument or more"));
}

#[test]
fn recursion_goes_as_deep_as_moms_at_least() {
    table(&[("(def f (x) (if (< x 1) 0 (+ 1 (f (- x 1))))) (f 240)", r#"["f",240]"#)]);
    let nested = format!("{}1{}", "(+ 0 ".repeat(400), ")".repeat(400));
    assert_eq!(values(&nested), "[1]");
}

#[test]
fn a_comment_ends_with_its_line_whatever_ends_lines() {
    table(&[
        ("# a comment\r1", "[1]"),
        ("# a comment\r(defvar x 2) # another\rx\r", "[2,2]"),
        ("1 # a comment\r\n2", "[1,2]"),
        ("1 # a comment\n\r2", "[1,2]"),
    ]);
}
