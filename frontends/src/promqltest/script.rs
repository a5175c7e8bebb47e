//! A test file into commands.
//!
//! A command begins at a line; the lines behind it, up to an empty one or a comment, belong to it:
//!
//! ```text
//! load 1m
//!   up{job="a"} 1x5 _ 0
//!
//! eval range from 0 to 3m step 1m sum(up)
//!   expect no_warn
//!   {} 1 1 1 1
//!
//! clear
//! ```

use storage::model::TimeMs;
use storage::model::time::parse_duration;

/// A command and the line it begins at, from 1.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Forget all samples.
    Clear,
    /// Series descriptions; `buckets`: classic buckets are kept as native histograms too.
    Load {
        step: i64,
        buckets: bool,
        series: Vec<String>,
    },
    Eval(Box<Eval>),
    /// Cannot be read: the text, and why.
    Bad(String, String),
}

/// A query and what must come of it.
#[derive(Clone, Debug)]
pub(super) struct Eval {
    pub expr: String,
    pub start: TimeMs,
    pub end: TimeMs,
    /// `None`: an instant query at `start`.
    pub step: Option<i64>,
    pub wanted: Wanted,
}

/// What must come of a query.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// It must fail, with this text.
    pub fail: Option<Text>,
    /// It must carry a warning; an info.
    pub warn: bool,
    pub info: bool,
    /// The lines' order is the answer's.
    pub ordered: bool,
    pub string: Option<String>,
    /// Start and step of the expected range vector.
    pub matrix: Option<(TimeMs, i64)>,
    /// Series descriptions, or one number.
    pub lines: Vec<String>,
}

/// What an error must say.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Any,
    Exactly(String),
    Matching(regex::Regex),
}

/// The commands of `text`.
pub(super) fn read(text: &str) -> Vec<Command> {
    let lines: Vec<&str> = text.lines().map(|l| l.trim()).collect();
    let (mut commands, mut at) = (Vec::new(), 0);
    let silent = |line: &str| line.is_empty() || line.starts_with('#');
    while at < lines.len() {
        if silent(lines[at]) {
            at += 1;
            continue;
        }
        let end = at + 1 + lines[at + 1..].iter().take_while(|line| !silent(line)).count();
        let alone = lines[at] == "clear";
        let body = if alone { &[] } else { &lines[at + 1..end] };
        let kind = command(lines[at], body).unwrap_or_else(|why| Kind::Bad(lines[at].to_owned(), why));
        commands.push(Command { line: at + 1, kind });
        at += 1 + body.len();
    }
    commands
}

fn command(head: &str, body: &[&str]) -> Result<Kind, String> {
    let (word, rest) = head.split_once(char::is_whitespace).unwrap_or((head, ""));
    match word {
        "clear" => Ok(Kind::Clear),
        "load" | "load_with_nhcb" => Ok(Kind::Load {
            step: duration(rest.trim())?,
            buckets: word != "load",
            series: body.iter().map(|line| (*line).to_owned()).collect(),
        }),
        _ if word == "eval" || word.starts_with("eval_") => {
            let mut eval = query(rest.trim())?;
            match word.strip_prefix("eval_") {
                None => {}
                Some("fail") => eval.wanted.fail = Some(Text::Any),
                Some("warn") => eval.wanted.warn = true,
                Some("info") => eval.wanted.info = true,
                Some("ordered") => eval.wanted.ordered = true,
                Some(_) => return Err(format!("unknown command {word:?}")),
            }
            body.iter().try_for_each(|line| expectation(line, &mut eval.wanted))?;
            Ok(Kind::Eval(Box::new(eval)))
        }
        _ => Err(format!("unknown command {word:?}")),
    }
}

/// `instant at T EXPR` or `range from T to T step D EXPR`.
fn query(text: &str) -> Result<Eval, String> {
    let mut rest = text;
    let mut word = || {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        word
    };
    let (start, end, step) = match word() {
        "instant" => {
            keyword("at", word())?;
            let t = duration(word())?;
            (t, t, None)
        }
        "range" => {
            keyword("from", word())?;
            let start = duration(word())?;
            keyword("to", word())?;
            let end = duration(word())?;
            keyword("step", word())?;
            (start, end, Some(duration(word())?))
        }
        other => return Err(format!("expected \"instant\" or \"range\", got {other:?}")),
    };
    Ok(Eval { expr: rest.to_owned(), start, end, step, wanted: Wanted::default() })
}

fn keyword(wanted: &str, word: &str) -> Result<(), String> {
    if word == wanted { Ok(()) } else { Err(format!("expected {wanted:?}, got {word:?}")) }
}

/// A time or a length, ms: `1h30m`, `-5s`, `0`.
fn duration(text: &str) -> Result<i64, String> {
    let (sign, positive) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    parse_duration(positive).map(|ms| sign * ms).map_err(|e| format!("{text:?}: {e}"))
}

/// One line behind an `eval`.
fn expectation(line: &str, wanted: &mut Wanted) -> Result<(), String> {
    if let Some(text) = line.strip_prefix("expected_fail_message ") {
        wanted.fail = Some(Text::Exactly(text.trim().to_owned()));
        return Ok(());
    }
    if let Some(text) = line.strip_prefix("expected_fail_regexp ") {
        wanted.fail = Some(pattern(text)?);
        return Ok(());
    }
    let Some(rest) = line.strip_prefix("expect").filter(|rest| rest.starts_with(char::is_whitespace)) else {
        wanted.lines.push(line.to_owned());
        return Ok(());
    };
    let rest = rest.trim();
    let (word, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match word {
        "fail" => wanted.fail = Some(said(text.trim())?),
        "warn" => wanted.warn = true,
        "info" => wanted.info = true,
        // This build gives no annotations; were there some, the runner would look.
        "no_warn" | "no_info" => {}
        "ordered" => wanted.ordered = true,
        "string" => wanted.string = Some(string(text.trim())?),
        "range" => {
            let text = text.trim().strip_prefix("vector").ok_or("expected \"range vector\"")?;
            let times = query(&format!("range {}", text.trim()))?;
            wanted.matrix = Some((times.start, times.step.unwrap_or(1)));
        }
        _ => return Err(format!("unknown expectation {rest:?}")),
    }
    Ok(())
}

/// `msg: …`, `regex: …` or nothing.
fn said(text: &str) -> Result<Text, String> {
    match (text.strip_prefix("msg:"), text.strip_prefix("regex:")) {
        (Some(message), _) => Ok(Text::Exactly(message.trim().to_owned())),
        (_, Some(regex)) => pattern(regex),
        _ if text.is_empty() => Ok(Text::Any),
        _ => Err(format!("expected \"msg:\" or \"regex:\", got {text:?}")),
    }
}

fn pattern(text: &str) -> Result<Text, String> {
    regex::Regex::new(text.trim()).map(Text::Matching).map_err(|e| e.to_string())
}

/// A string literal, read as PromQL reads it.
fn string(text: &str) -> Result<String, String> {
    let plan = crate::promql::compile(text, &crate::promql::Options::default()).map_err(|e| e.message())?;
    match &plan.op {
        engine::plan::Op::Text(text) => Ok(text.clone()),
        _ => Err(format!("expected a string, got {text}")),
    }
}
