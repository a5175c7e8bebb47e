//! Tests of regexes: what matches, what is refused with which message, what templates give.

use super::*;
use proptest::prelude::*;
use testing::assert_proportional;

#[test]
fn matches_as_in_go() {
    let table: &[(&str, &[&str], &[&str])] = &[
        ("foo", &["foo"], &["foo2", "xfoo", ""]),
        ("", &[""], &["a"]),
        (".*", &["", "a\nb"], &[]),
        (".+", &["\n", "ab"], &[""]),
        ("foo.*", &["foo", "foo\nbar"], &["fo", "xfoo"]),
        ("foo.+", &["foox"], &["foo"]),
        (".*foo", &["foo", "xfoo"], &["foox"]),
        (".*foo.*", &["foo", "xfooy"], &["fo", "fxoo"]),
        (".+a.+b", &["xaxb", "aaxb", "aaab"], &["axb", "xab", "aab"]),
        ("ab.*ba", &["abba", "abxba"], &["aba", "ab"]),
        ("(a|b)c", &["ac", "bc"], &["c", "abc"]),
        ("a|b|", &["a", "b", ""], &["ab"]),
        ("foo|foobar|.*baz", &["foo", "foobar", "xbaz"], &["fooba"]),
        (r"\d+", &["12"], &["\u{661}", ""]),
        (r"\w+", &["a_1"], &["é"]),
        (r"\W", &["é", "-"], &["a"]),
        (r"\s", &[" ", "\u{c}"], &["\u{a0}", "\u{b}"]),
        (r"a\bé", &["aé"], &[]),
        (r"é\Bü", &["éü"], &[]),
        (r"\bé", &[], &["é"]),
        ("[a&&b]+", &["a&b"], &["c"]),
        ("[!--b]+", &["!-b", "+"], &["a"]),
        ("[a~~b]+", &["a~b"], &["c"]),
        ("[[a]", &["[", "a"], &["]"]),
        ("[]a]+", &["]a"], &[]),
        ("[^]a]", &["b", "\n"], &["]", "a"]),
        ("[a-]+", &["a-"], &["b"]),
        ("[-a]+", &["a-"], &["b"]),
        (r"[\d\-x]+", &["1-x"], &["\u{661}"]),
        (r"[^\D]", &["1"], &["a"]),
        ("[[:alpha:]_]+", &["a_"], &["é", "1"]),
        ("[[:^digit:]]", &["a"], &["1"]),
        ("[[:x]", &["[", ":", "x"], &["]"]),
        (r"\Qa.b\E", &["a.b"], &["axb"]),
        (r"\Qa.b", &["a.b"], &["axb"]),
        (r"\Qab\E*", &["a", "abb"], &["abab"]),
        (r"a\Q\E+", &["aa"], &[""]),
        ("x{,5}", &["x{,5}"], &["xx", "x"]),
        ("x{2}", &["xx"], &["x"]),
        ("x{2,}", &["xxxx"], &["x"]),
        ("x{01}", &["x{01}"], &["x"]),
        ("{", &["{"], &[]),
        ("a{b}c]", &["a{b}c]"], &[]),
        (r"\101\x42\x{43}", &["ABC"], &[]),
        (r"\0", &["\0"], &[]),
        (r"\pL\p{Greek}\P{^Greek}", &["aαβ"], &["1αβ", "aaβ"]),
        ("(?i)Foo", &["fOO"], &["fo"]),
        ("(?i:a)b", &["Ab"], &["AB"]),
        ("a(?i)*", &["aaa"], &["A"]),
        ("a(?i)b|c", &["aB", "C"], &["AB"]),
        ("(?-s).", &["a"], &["\n"]),
        ("(?m)a$\n^b", &["a\nb"], &[]),
        ("(?)a", &["a"], &[]),
        ("(?ii)a", &["A"], &[]),
        ("(?U)a+?", &["aa"], &[]),
        ("(?P<n>a)(?<n>b)(?P<1x>c)", &["abc"], &[]),
        ("^*a", &["a"], &[]),
        ("^foo$", &["foo"], &["foo\n"]),
        ("^a|b$", &["a", "b"], &["ab"]),
        (r"[\x{d800}]", &[], &["a"]),
        (r"[^\x{d800}]", &["a"], &[]),
        (r"\x{d800}|b", &["b"], &[]),
        (r"[\x{d7ff}-\x{e000}]", &["\u{d7ff}", "\u{e000}"], &["a"]),
        (r"a\_\-\ \~", &["a_- ~"], &[]),
        ("a#b c", &["a#b c"], &[]),
    ];
    for (pattern, yes, no) in table {
        let regex = AnchoredRegex::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        for t in yes.iter() {
            assert!(regex.is_match(t), "{pattern} should match {t:?}");
        }
        for t in no.iter() {
            assert!(!regex.is_match(t), "{pattern} should not match {t:?}");
        }
    }
}

#[test]
fn refuses_with_gos_words() {
    let table = [
        ("x**", "invalid nested repetition operator: `**`"),
        ("x*+", "invalid nested repetition operator: `*+`"),
        ("x{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("x*??", "invalid nested repetition operator: `*??`"),
        ("x{1001}", "invalid repeat count: `{1001}`"),
        ("x{2,1}", "invalid repeat count: `{2,1}`"),
        ("x{99999999999999999999}", "invalid repeat count: `{99999999999999999999}`"),
        ("(x{100}){11}", "invalid repeat count: `{11}`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("(?i)+?", "missing argument to repetition operator: `+?`"),
        ("({2})", "missing argument to repetition operator: `{2}`"),
        ("[a", "missing closing ]: `[a`"),
        ("x[", "missing closing ]: `[`"),
        ("[]", "missing closing ]: `[]`"),
        ("[a--b]", "invalid character class range: `a--`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
        (r"\p{Alphabetic}", r"invalid character class range: `\p{Alphabetic}`"),
        (r"\p{L", r"invalid character class range: `\p{L`"),
        ("a(b", "missing closing ): `a(b`"),
        ("a)b", "unexpected ): `a)b`"),
        (r"\y", r"invalid escape sequence: `\y`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\E", r"invalid escape sequence: `\E`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\xg", r"invalid escape sequence: `\xg`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"[\b]", r"invalid escape sequence: `\b`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
        ("(?P<a", "invalid named capture: `(?P<a`"),
    ];
    for (pattern, reason) in table {
        let error = AnchoredRegex::new(pattern).err().unwrap_or_else(|| panic!("{pattern} was accepted"));
        assert_eq!(error.to_string(), format!("error parsing regexp: {reason}"), "{pattern}");
    }
    let deep = format!("{}{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(AnchoredRegex::new(&deep).is_err_and(|e| e.0.starts_with("expression nests too deeply")));
    let huge = r"(?:[\pL]{100}){10}".repeat(50);
    assert!(AnchoredRegex::new(&huge).is_err_and(|e| e.0.starts_with("expression too large")));
}

#[test]
fn knows_sets_and_prefixes() {
    let table: &[(&str, Option<&[&str]>, &str)] = &[
        ("foo", Some(&["foo"]), "foo"),
        ("b|a|b", Some(&["a", "b"]), ""),
        ("api|web-(1|2)", Some(&["api", "web-1", "web-2"]), ""),
        ("x[0-2]?", Some(&["x", "x0", "x1", "x2"]), ""),
        (r"a\.b", Some(&["a.b"]), "a.b"),
        ("(?i)a", Some(&["A", "a"]), ""),
        ("foo|foobar", Some(&["foo", "foobar"]), ""),
        ("foo.*", None, "foo"),
        ("fo(o[0-9]+)", None, "foo"),
        ("[a-z]{4}", None, ""),
        ("a*", None, ""),
    ];
    for (pattern, literals, prefix) in table {
        let regex = AnchoredRegex::new(pattern).unwrap();
        let want = literals.map(|l| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(regex.literals(), want.as_deref(), "{pattern}");
        assert_eq!(regex.prefix(), *prefix, "{pattern}");
    }
}

#[test]
fn expands_as_in_go() {
    let regex = AnchoredRegex::new("(?P<first>[a-z]+)-([0-9]+)(?P<1x>z)?(?P<d>q)?(?P<d>r)?").unwrap();
    let captures = regex.inner().captures("ab-12zr").unwrap();
    let table = [
        ("$1", "ab"),
        ("${1}0", "ab0"),
        ("$10", ""),
        ("$1x", "z"),
        ("${first}_$2", "ab_12"),
        ("$first_", ""),
        ("$$1", "$1"),
        ("$d", "r"),
        ("a$", "a$"),
        ("$-${", "$-${"),
        ("${1", "${1"),
        ("$0", "ab-12zr"),
        ("$01", ""),
        ("", ""),
    ];
    for (template, want) in table {
        assert_eq!(expand(template, &captures), want, "{template}");
        let compiled = Template::new(template, &regex);
        assert_eq!(compiled.fill(&captures, want.len()).as_deref(), Ok(want), "{template}");
        assert!(want.is_empty() || compiled.fill(&captures, want.len() - 1).is_err(), "{template}");
    }
}

proptest! {
    #[test]
    fn never_panics_and_short_cuts_agree(pattern in "[ab.*+?|()\\[\\]{}0-9,\\\\^$QEdwpi:-]{0,12}", text in "[ab1\n-]{0,6}") {
        if let Ok(regex) = AnchoredRegex::new(&pattern) {
            prop_assert_eq!(regex.is_match(&text), regex.inner().is_match(&text), "{} {:?}", pattern, text);
        }
    }

    #[test]
    fn globs_agree(pattern in "(a|b|ab|\\.\\*|\\.\\+){0,6}", text in "[ab\n]{0,7}") {
        let regex = AnchoredRegex::new(&pattern).unwrap();
        prop_assert_eq!(regex.is_match(&text), regex.inner().is_match(&text));
    }

    #[test]
    fn any_text_is_refused_or_compiled(pattern in ".{0,20}") {
        if let Err(e) = AnchoredRegex::new(&pattern) {
            prop_assert!(!e.0.contains("regex parse error"), "{} {}", pattern, e);
        }
    }
}

/// Makes a text of a given size.
type Text = fn(usize) -> String;

fn list(n: usize, between: &str, item: impl Fn(usize) -> String) -> String {
    (0..n).map(item).collect::<Vec<String>>().join(between)
}

#[test]
fn twice_the_pattern_or_the_text_costs_at_most_a_little_more_than_twice() {
    let patterns: [(&str, usize, Text); 8] = [
        ("a literal", 5_000, |n| "x".repeat(n)),
        ("literals", 100, |n| list(n, "|", |i| format!("value{i}"))),
        ("many literals", 2_000, |n| list(n, "|", |i| format!("value{i}"))),
        ("beginnings", 500, |n| list(n, "|", |i| format!("value{i}.*"))),
        ("anything between", 500, |n| list(n, ".*", |i| format!("value{i}"))),
        ("groups", 500, |n| "(a|b)".repeat(n)),
        ("classes", 500, |n| "[a-z0-9_é]".repeat(n)),
        ("escapes", 500, |n| r"\d\w\s\.".repeat(n)),
    ];
    for (what, n, pattern) in patterns {
        assert_proportional(what, n, pattern, |pattern| AnchoredRegex::new(pattern).expect("a pattern"));
    }
    let matching = [".*a.*b.*c", "(a|b|c)*d", "x.*|.*y.*", "(.*)-(.*)", "(a*)*b", "(a?){50}a{50}.*z"];
    for pattern in matching {
        let regex = AnchoredRegex::new(pattern).expect("a pattern");
        let text = |n: usize| "abca-".repeat(n / 5);
        assert_proportional(&format!("{pattern} of a text"), 20_000, text, |text| regex.is_match(text));
        let letters = |n: usize| "a".repeat(n);
        assert_proportional(&format!("{pattern} of a letter"), 20_000, letters, |text| regex.is_match(text));
    }
}

#[test]
fn twice_the_template_costs_at_most_a_little_more_than_twice() {
    let regex = AnchoredRegex::new("(?P<name>.*)-(.*)").expect("a pattern");
    let captures = regex.inner().captures("left-right").expect("a match");
    let templates: [(&str, usize, Text); 6] = [
        ("text", 50_000, |n| "x".repeat(n)),
        ("numbers", 10_000, |n| "$1-".repeat(n)),
        ("names", 10_000, |n| "${name}".repeat(n)),
        ("different names", 5_000, |n| list(n, "", |i| format!("${{name{i}}}"))),
        ("dollars", 50_000, |n| "$".repeat(n)),
        ("open references", 20_000, |n| "${".repeat(n)),
    ];
    for (what, n, template) in templates {
        assert_proportional(what, n, template, |template| expand(template, &captures));
        assert_proportional(&format!("{what} that are filled again"), n, template, |template| {
            Template::new(template, &regex).fill(&captures, usize::MAX)
        });
    }
}
