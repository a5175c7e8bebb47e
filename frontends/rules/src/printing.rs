//! Go's `fmt`: `print`, `println` and `printf` of the values of a template.
//!
//! [`text`] is `%v`. [`printf`] parses a format like Go, including its errors
//! (`%!d(float64=1e+06)`, `%!(EXTRA …)`); every verb is counted in the template's budget before it
//! is written.

use super::budget;
use super::fields::is_root;
use super::function_error::FunctionError;
use super::functions::general;
use super::times;
use engine::types::go_text::push_quoted;
use gotmpl::Value;
use std::fmt::Write;
use storage::model::number;

/// The largest width of a number or text; Go rejects a million and more.
const WIDTH: usize = 1_000_000;

/// How a value is written: the flags, width and precision of a verb.
#[derive(Copy, Clone, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// A value as `%v` writes it.
pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    Spec::default().value(&mut out, 'v', value);
    out
}

/// `print`: a space between two values if neither is a text.
pub(crate) fn print(args: &[Value]) -> String {
    let mut out = String::new();
    let is_text = |value: &Value| matches!(value, Value::String(_));
    for (at, arg) in args.iter().enumerate() {
        // The rule of Go's `Sprint`, which differs from that of `Sprintln`.
        if at > 0 && !is_text(arg) && !is_text(&args[at - 1]) {
            out.push(' ');
        }
        Spec::default().value(&mut out, 'v', arg);
    }
    out
}

/// `println`: a space between any two values.
pub(crate) fn println(args: &[Value]) -> String {
    let texts: Vec<String> = args.iter().map(text).collect();
    texts.join(" ") + "\n"
}

/// The name of a value's type in Go.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "template.queryResult",
        // Label sets; the engine has one kind of map, and Go's types are told by what is in it.
        Value::Map(map) if map.values().all(|v| matches!(v, Value::String(_))) => "map[string]string",
        Value::Map(_) => "map[string]interface {}",
        Value::Function(_) => "func()",
        // Only pages of consoles have such.
        Value::Safe { .. } => "template.HTML",
    }
}

impl Spec {
    fn value(self, out: &mut String, verb: char, value: &Value) {
        if verb == 'T' {
            return self.pad(out, type_name(value));
        }
        // A time or a duration is a map here, and has a text of its own in Go.
        if let Some(shown) = times::shown(value).filter(|_| "vsxXq".contains(verb)) {
            return self.value(out, verb, shown);
        }
        match value {
            Value::Nil if verb == 'v' => self.pad(out, "<nil>"),
            Value::Bool(b) if matches!(verb, 't' | 'v') => self.pad(out, if *b { "true" } else { "false" }),
            Value::Int(n) if "vdbooOxXcqU".contains(verb) => {
                self.integer(out, verb, n.unsigned_abs(), *n < 0)
            }
            Value::Uint(n) if "vdbooOxXcqU".contains(verb) => self.integer(out, verb, *n, false),
            Value::Float(v) if "veEfFgG".contains(verb) => self.float(out, verb, *v),
            Value::String(s) if "vsxXq".contains(verb) => self.string(out, verb, s),
            Value::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { " " } else { "" });
                    self.value(out, verb, item);
                }
                out.push(']');
            }
            // The data of a template is a struct in Go, which prints its fields in the order of
            // their declaration.
            Value::Map(map) if is_root(map) => {
                out.push('{');
                for (at, name) in ["Labels", "ExternalLabels", "ExternalURL", "Value"].iter().enumerate() {
                    out.push_str(if at > 0 { " " } else { "" });
                    self.value(out, verb, map.get(*name).unwrap_or(&Value::Nil));
                }
                out.push('}');
            }
            Value::Map(map) => {
                out.push_str("map[");
                for (at, (key, item)) in map.iter().enumerate() {
                    out.push_str(if at > 0 { " " } else { "" });
                    self.value(out, verb, &Value::String(key.clone()));
                    out.push(':');
                    self.value(out, verb, item);
                }
                out.push(']');
            }
            // Go reports a verb that does not fit its value in the text, and goes on.
            Value::Nil => drop(write!(out, "%!{verb}(<nil>)")),
            other => drop(write!(out, "%!{verb}({}={})", type_name(other), text(other))),
        }
    }

    fn pad(self, out: &mut String, text: &str) {
        // The width counts characters, not bytes, in Go, too.
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        let padding = |c: &str| c.repeat(missing);
        if self.minus {
            out.push_str(text);
            out.push_str(&padding(" "));
        } else {
            out.push_str(&padding(if self.zero { "0" } else { " " }));
            out.push_str(text);
        }
    }

    fn string(self, out: &mut String, verb: char, text: &str) {
        // A precision cuts a text to that many characters.
        let end = self.precision.and_then(|most| text.char_indices().nth(most)).map_or(text.len(), |c| c.0);
        let cut = &text[..end];
        match verb {
            'q' if self.sharp && !cut.contains(|c: char| c == '`' || (c.is_control() && c != '\t')) => {
                self.pad(out, &format!("`{cut}`"));
            }
            'q' => self.pad(out, &quoted(cut, '"', self.plus)),
            'x' | 'X' => {
                let most = self.precision.unwrap_or(usize::MAX);
                let bytes = text.bytes().take(most);
                let pairs = bytes.map(|b| if verb == 'x' { format!("{b:02x}") } else { format!("{b:02X}") });
                let before = if self.sharp { format!("0{verb}") } else { String::new() };
                let pairs: Vec<String> = pairs.collect();
                let joined = match (self.space, pairs.is_empty()) {
                    (_, true) => String::new(),
                    (true, _) => format!("{before}{}", pairs.join(&format!(" {before}"))),
                    (false, _) => format!("{before}{}", pairs.concat()),
                };
                self.pad(out, &joined);
            }
            _ => self.pad(out, cut),
        }
    }

    fn integer(self, out: &mut String, verb: char, n: u64, negative: bool) {
        let rune = u32::try_from(n).ok().filter(|_| !negative).and_then(char::from_u32).unwrap_or('\u{fffd}');
        match verb {
            'c' => return self.pad(out, &rune.to_string()),
            'q' => return self.pad(out, &quoted(&rune.to_string(), '\'', self.plus)),
            'U' => return Spec { zero: false, ..self }.pad(out, &format!("U+{n:04X}")),
            _ => {}
        }
        let digits = match verb {
            'b' => format!("{n:b}"),
            'o' | 'O' => format!("{n:o}"),
            'x' => format!("{n:x}"),
            'X' => format!("{n:X}"),
            _ => n.to_string(),
        };
        let signed = negative || self.plus || self.space;
        let least = match (self.precision, self.width) {
            (Some(0), _) if n == 0 => return Spec { zero: false, ..self }.pad(out, ""),
            (Some(precision), _) => precision,
            // Zeros fill the width behind the sign, so the sign takes one place of it.
            (None, Some(width)) if self.zero && !self.minus => width - usize::from(signed && width > 0),
            _ => 0,
        };
        let zeros = "0".repeat(least.saturating_sub(digits.len()));
        let prefix = match verb {
            'O' => "0o",
            'b' if self.sharp => "0b",
            'o' if self.sharp && zeros.is_empty() && n != 0 => "0",
            'x' if self.sharp => "0x",
            'X' if self.sharp => "0X",
            _ => "",
        };
        Spec { zero: false, ..self }.pad(out, &format!("{}{prefix}{zeros}{digits}", self.sign(negative)))
    }

    fn sign(self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        }
    }

    fn float(self, out: &mut String, verb: char, v: f64) {
        let unpadded = Spec { zero: false, ..self };
        if v.is_nan() {
            return unpadded.pad(out, &format!("{}NaN", self.sign(false)));
        }
        let negative = v.is_sign_negative();
        if v.is_infinite() {
            let sign = if !negative && self.space && !self.plus { " " } else { "+" };
            return unpadded.pad(out, &format!("{}Inf", if negative { "-" } else { sign }));
        }
        let size = v.abs();
        let digits = match (verb.to_ascii_lowercase(), self.precision) {
            ('e', precision) => number::go_exponent(&format!("{size:.*e}", precision.unwrap_or(6))),
            ('f', precision) => format!("{size:.*}", precision.unwrap_or(6)),
            (_, Some(precision)) => general(size, precision.max(1)),
            (_, None) => number::general(size),
        };
        let digits = if verb.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
        let digits = if self.sharp && !digits.contains('.') { pointed(&digits) } else { digits };
        let sign = self.sign(negative);
        let width = self.width.unwrap_or(0);
        if self.zero && !self.minus && !sign.is_empty() {
            let zeros = width.saturating_sub(digits.len() + sign.len());
            let _ = write!(out, "{sign}{}{digits}", "0".repeat(zeros));
        } else {
            self.pad(out, &format!("{sign}{digits}"));
        }
    }
}

/// The number with a decimal point.
fn pointed(digits: &str) -> String {
    match digits.find(['e', 'E']) {
        Some(at) => format!("{}.{}", &digits[..at], &digits[at..]),
        None => format!("{digits}."),
    }
}

/// A text quoted as in Go sources.
pub(crate) fn quoted(text: &str, quote: char, ascii: bool) -> String {
    let shown = |c: char| !c.is_control() && (c.is_ascii() || !ascii);
    let mut out = String::from(quote);
    for c in text.chars() {
        push_quoted(&mut out, c, quote, shown);
    }
    out.push(quote);
    out
}

/// `printf`.
pub(crate) fn printf(format: &str, args: &[Value]) -> Result<String, FunctionError> {
    let mut read = Reading { rest: format, args, next: 0, reordered: false, good_index: true };
    let mut out = String::new();
    while let Some(at) = read.rest.find('%') {
        out.push_str(&read.rest[..at]);
        read.rest = &read.rest[at + 1..];
        read.verb(&mut out)?;
    }
    out.push_str(read.rest);
    // With explicit indexes Go does not complain of arguments that are left over.
    if !read.reordered && read.next < args.len() {
        let extra = args[read.next..].iter().map(|arg| match arg {
            Value::Nil => "<nil>".to_owned(),
            other => format!("{}={}", type_name(other), text(other)),
        });
        let _ = write!(out, "%!(EXTRA {})", extra.collect::<Vec<_>>().join(", "));
    }
    Ok(out)
}

/// The state of parsing a format.
struct Reading<'a> {
    /// The rest of the format.
    rest: &'a str,
    args: &'a [Value],
    /// Index of the argument of the next verb.
    next: usize,
    /// An index like `[1]` was read.
    reordered: bool,
    /// The latest index is valid.
    good_index: bool,
}

impl Reading<'_> {
    /// Parses what follows a `%` and writes it.
    fn verb(&mut self, out: &mut String) -> Result<(), FunctionError> {
        self.good_index = true;
        let mut spec = self.flags();
        let mut behind_index = self.index();
        if self.skip('*') {
            let width = self.number_argument();
            // A negative width means to the left, as in C.
            spec.minus |= width.is_some_and(|n| n < 0);
            spec.zero &= width.is_none_or(|n| n >= 0);
            spec.width = width.map(|n| n.unsigned_abs() as usize);
            out.push_str(if width.is_none() { "%!(BADWIDTH)" } else { "" });
            behind_index = false;
        } else {
            spec.width = self.number();
            // `%[1]5d` is wrong: the index belongs before the verb or a `*`.
            self.good_index &= !(behind_index && spec.width.is_some());
        }
        if self.rest.len() > 1 && self.skip('.') {
            self.good_index &= !behind_index;
            behind_index = self.index();
            if self.skip('*') {
                let precision = self.number_argument();
                spec.precision = precision.and_then(|n| usize::try_from(n).ok());
                out.push_str(if spec.precision.is_none() { "%!(BADPREC)" } else { "" });
                behind_index = false;
            } else {
                spec.precision = Some(self.number().unwrap_or(0));
            }
        }
        if !behind_index {
            self.index();
        }
        let Some(verb) = self.rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            return Ok(());
        };
        self.rest = &self.rest[verb.len_utf8()..];
        match self.args.get(self.next) {
            _ if verb == '%' => out.push('%'),
            _ if !self.good_index => drop(write!(out, "%!{verb}(BADINDEX)")),
            None => drop(write!(out, "%!{verb}(MISSING)")),
            Some(arg) => {
                // In `%+v` and `%#v` the flags matter for structs only.
                spec.plus &= verb != 'v';
                spec.sharp &= verb != 'v';
                budget::formatted(arg, spec.width.unwrap_or(0) + spec.precision.unwrap_or(0))?;
                spec.value(out, verb, arg);
                self.next += 1;
            }
        }
        Ok(())
    }

    fn skip(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn flags(&mut self) -> Spec {
        let mut spec = Spec::default();
        while let Some(c) = self.rest.chars().next() {
            match c {
                '#' => spec.sharp = true,
                '0' => spec.zero = true,
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                ' ' => spec.space = true,
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        spec
    }

    /// Parses `[n]`. Returns whether it was there.
    fn index(&mut self) -> bool {
        let Some(behind) = self.rest.strip_prefix('[') else { return false };
        self.reordered = true;
        let Some((number, rest)) = behind.split_once(']') else {
            self.good_index = false;
            self.rest = behind;
            return false;
        };
        self.rest = rest;
        let named = number.parse::<usize>().ok();
        match named.filter(|n| (1..=self.args.len()).contains(n)) {
            Some(n) => self.next = n - 1,
            None => self.good_index = false,
        }
        named.is_some()
    }

    fn number(&mut self) -> Option<usize> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        let number = digits.parse::<usize>().ok().filter(|n| *n <= WIDTH);
        // After a number that is too large, Go looks for a verb.
        if !digits.is_empty() {
            self.rest = rest;
        }
        number
    }

    /// The argument for a `*`.
    fn number_argument(&mut self) -> Option<i64> {
        let number = match self.args.get(self.next)? {
            Value::Int(n) => Some(*n),
            Value::Uint(n) => i64::try_from(*n).ok(),
            _ => None,
        };
        self.next += 1;
        number.filter(|n| n.unsigned_abs() as usize <= WIDTH)
    }
}
