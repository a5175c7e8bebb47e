//! Exposition formats: text 0.0.4 and 1.0.0, and OpenMetrics 1.0, parsed without an allocation per
//! sample.
//!
//! An [`ExpositionParser`] iterates over the body and returns [`ExpositionEntry`]s. A sample is
//! identified by the bytes of its series as written; only if these are not known does
//! [`series::parse`] make labels of them. The caller can *guess* the next series: a right guess
//! costs one comparison instead of a scan. Other forms are read into [`points`]: protobuf
//! ([`protobuf`]), and classic histograms that are converted to native ones ([`nhcb`]). A body
//! comes in pieces ([`ExpositionParser::piece`]); what is incomplete in one piece is read with the
//! next.

mod error;
pub mod exemplar;
pub mod nhcb;
pub mod points;
pub mod protobuf;
pub mod series;

pub use error::{ExpositionError, LineError};

use crate::number;
use memchr::{memchr, memchr2, memchr3};

/// The context of a line, which determines how it is read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// The format of the body.
    pub format: TextFormat,
    /// The type from the last TYPE line.
    pub kind: MetricType,
    /// The unit from the last UNIT line; "" if there was none.
    pub unit: &'a str,
}

impl Context<'_> {
    /// The context of lines of the text format in a family of this type.
    pub fn text(kind: MetricType) -> Self {
        Context { format: TextFormat::Text, kind, unit: "" }
    }
}

/// The text format of a body.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus' text format.
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

/// The format of a body.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// Lines, for an [`ExpositionParser`].
    Text(TextFormat),
    /// Messages, for [`mod@protobuf`].
    Protobuf,
}

/// The type of a metric family.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets by `le`.
    Histogram,
    /// Buckets that go up and down.
    GaugeHistogram,
    /// Quantiles.
    Summary,
    /// Constant 1 with labels.
    Info,
    /// One of several states.
    StateSet,
    /// Not known.
    #[default]
    Unknown,
}

impl MetricType {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::GaugeHistogram => "gaugehistogram",
            MetricType::Summary => "summary",
            MetricType::Info => "info",
            MetricType::StateSet => "stateset",
            MetricType::Unknown => "unknown",
        }
    }

    fn parse(text: &[u8], format: TextFormat) -> Option<MetricType> {
        Some(match (text, format) {
            (b"counter", _) => MetricType::Counter,
            (b"gauge", _) => MetricType::Gauge,
            (b"histogram", _) => MetricType::Histogram,
            (b"summary", _) => MetricType::Summary,
            (b"unknown", TextFormat::OpenMetrics) | (b"untyped", TextFormat::Text) => MetricType::Unknown,
            (b"gaugehistogram", TextFormat::OpenMetrics) => MetricType::GaugeHistogram,
            (b"info", TextFormat::OpenMetrics) => MetricType::Info,
            (b"stateset", TextFormat::OpenMetrics) => MetricType::StateSet,
            _ => return None,
        })
    }
}

/// An entry of a body.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum ExpositionEntry<'a> {
    /// A sample.
    Sample(ExposedSample<'a>),
    /// Metadata of a metric family.
    Meta(MetadataLine<'a>),
}

/// A sample with its series as written.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct ExposedSample<'a> {
    /// The bytes of the series, without surrounding blanks.
    pub series: &'a [u8],
    /// Whether `series` is the guess of the caller.
    pub guessed: bool,
    /// The value; every NaN is the ordinary one or the stale marker.
    pub value: f64,
    /// The timestamp, ms, if one was exposed.
    pub t: Option<i64>,
}

/// A HELP, TYPE or UNIT line.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MetadataLine<'a> {
    /// The name of the family as written (possibly quoted).
    pub name: &'a [u8],
    /// The content.
    pub what: MetadataValue<'a>,
}

/// The content of a metadata line; escapes are not resolved.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MetadataValue<'a> {
    /// Free text.
    Help(&'a [u8]),
    /// The type.
    Type(MetricType),
    /// The unit.
    Unit(&'a [u8]),
}

/// Parses one body.
pub struct ExpositionParser<'a> {
    body: &'a [u8],
    at: usize,
    /// The offset of the last entry.
    start: usize,
    format: TextFormat,
    kind: MetricType,
    ended: bool,
    /// The range of the last sample's exemplar.
    exemplar: Option<(usize, usize)>,
    /// Whether more of the body follows this piece.
    more: bool,
    /// Number of lines in the pieces before.
    lines: usize,
    unit: String,
    /// An error after the last sample, reported with the next call.
    broken: Option<LineError>,
}

/// The state that the parser of a piece passes to that of the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    kind: MetricType,
    ended: bool,
    lines: usize,
    unit: String,
    broken: Option<LineError>,
}

impl Resume {
    /// The unit from the last UNIT line; "" if there was none.
    pub fn unit(&self) -> &str {
        &self.unit
    }
}

type Fallible<T> = Result<T, LineError>;

impl<'a> ExpositionParser<'a> {
    /// A parser at the start of `body`.
    pub fn new(body: &'a [u8], format: TextFormat) -> ExpositionParser<'a> {
        ExpositionParser {
            body,
            at: 0,
            start: 0,
            format,
            kind: MetricType::Unknown,
            ended: false,
            exemplar: None,
            more: false,
            lines: 0,
            unit: String::new(),
            broken: None,
        }
    }

    /// A parser for a piece of a body: complete lines; `last` if it is the end of the body.
    pub fn piece(piece: &'a [u8], last: bool, format: TextFormat, before: Resume) -> ExpositionParser<'a> {
        let Resume { kind, ended, lines, unit, broken } = before;
        ExpositionParser {
            kind,
            ended,
            lines,
            unit,
            broken,
            more: !last,
            ..ExpositionParser::new(piece, format)
        }
    }

    /// The number of bytes read, and the state for the parser of the rest.
    pub fn pause(self) -> (usize, Resume) {
        let rest = !self.more && self.at >= self.body.len();
        let lines = if rest { 0 } else { memchr::memchr_iter(b'\n', &self.body[..self.at]).count() };
        let lines = self.lines + lines;
        (self.at, Resume { kind: self.kind, ended: self.ended, lines, unit: self.unit, broken: self.broken })
    }

    /// A parser for another piece of a body, which begins at a line; `kind` is that of the parser
    /// before.
    pub fn resume(piece: &'a [u8], format: TextFormat, kind: MetricType) -> ExpositionParser<'a> {
        ExpositionParser { kind, ..ExpositionParser::new(piece, format) }
    }

    /// Whether the whole piece was read.
    pub fn is_through(&self) -> bool {
        self.at >= self.body.len()
    }

    /// The type from the last TYPE line, which following samples have.
    pub fn kind(&self) -> MetricType {
        self.kind
    }

    /// The context of the following lines.
    pub fn context(&self) -> Context<'_> {
        Context { format: self.format, kind: self.kind, unit: &self.unit }
    }

    /// The bytes of the last sample's exemplar, for [`exemplar::parse`].
    pub fn exemplar(&self) -> Option<&'a [u8]> {
        self.exemplar.map(|(start, end)| &self.body[start..end])
    }

    /// The next entry; `None` at the end. `guess` are the bytes of the series that the caller
    /// expects; may be empty.
    #[inline]
    pub fn next(&mut self, guess: &[u8]) -> Result<Option<ExpositionEntry<'a>>, ExpositionError> {
        let result = match self.format {
            TextFormat::Text => self.next_text(guess),
            TextFormat::OpenMetrics => self.next_open_metrics(guess),
        };
        match result {
            // A value with a line break looks like an open string when the piece ends inside it.
            // The whole line is read again with the next piece; were it an error, a valid body
            // would fail by where the network happened to cut it.
            Err(_) if self.more && self.is_cut() => {
                self.at = self.start;
                Ok(None)
            }
            // Only a real error costs the line number, which is counted from the start of the
            // piece: counting lines as they are read would cost every scrape for the few that fail.
            result => result.map_err(|reason| self.error(reason)),
        }
    }

    /// Whether the piece ends within a string: in the text format, values may contain line breaks.
    #[cold]
    fn is_cut(&self) -> bool {
        // OpenMetrics escapes line breaks, so a piece of whole lines is never cut inside a string.
        if self.format != TextFormat::Text {
            return false;
        }
        let mut rest = &self.body[self.start..];
        loop {
            match memchr2(b'"', b'\n', rest) {
                Some(open) if rest[open] == b'"' => match string_end(rest, open, TextFormat::Text) {
                    Ok(end) => rest = &rest[end..],
                    Err(_) => return true,
                },
                _ => return false,
            }
        }
    }

    /// An error in the line of the last entry.
    #[cold]
    pub fn error(&self, reason: LineError) -> ExpositionError {
        let before = &self.body[..self.start];
        ExpositionError { line: 1 + self.lines + memchr::memchr_iter(b'\n', before).count(), reason }
    }

    fn next_text(&mut self, guess: &[u8]) -> Fallible<Option<ExpositionEntry<'a>>> {
        while let Some(byte) = self.peek() {
            self.start = self.at;
            match byte {
                _ if self.ended => self.at = self.body.len(),
                // Empty lines and blanks before a line are allowed in the text format; OpenMetrics
                // refuses them.
                b'\n' | b' ' | b'\t' => self.at += 1,
                // As in Prometheus, nothing after it is read.
                0 => self.ended = true,
                b'#' => {
                    if let Some(meta) = self.text_comment()? {
                        return Ok(Some(ExpositionEntry::Meta(meta)));
                    }
                }
                _ => return self.text_sample(guess).map(|s| Some(ExpositionEntry::Sample(s))),
            }
        }
        Ok(None)
    }

    #[inline]
    fn text_sample(&mut self, guess: &[u8]) -> Fallible<ExposedSample<'a>> {
        let (series, guessed) = self.series(guess)?;
        // Any number of blanks and tabs, as in Prometheus' lexer; OpenMetrics has exactly one
        // blank.
        self.skip_blanks();
        let value = self.number()?;
        self.skip_blanks();
        let t = match self.peek() {
            None | Some(b'\n') => None,
            Some(_) => Some(self.text_timestamp()?),
        };
        self.end_line()?;
        Ok(ExposedSample { series, guessed, value, t })
    }

    fn text_timestamp(&mut self) -> Fallible<i64> {
        let token = self.token();
        // Digits only: Prometheus' lexer has no sign here, so a negative timestamp is an error and
        // not a time before 1970.
        let digits = Some(token).filter(|token| token.iter().all(u8::is_ascii_digit));
        let t = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        self.skip_blanks();
        t.ok_or_else(|| LineError::expected("a timestamp in milliseconds", token))
    }

    /// Parses a comment, which is ignored unless it is a HELP or TYPE line. `#TYPE` without a blank
    /// is neither.
    fn text_comment(&mut self) -> Fallible<Option<MetadataLine<'a>>> {
        let line = self.take_line();
        let rest = trim_start(&line[1..]);
        // `#TYPE` is a comment for Prometheus, however much it looks like metadata. A NUL in it
        // still ends the body, because its lexer stops at the first NUL that it does not expect.
        if rest.len() + 1 == line.len() {
            self.ended = memchr(0, line).is_some();
            return Ok(None);
        }
        let (keyword, after) = split_blank(rest);
        // A keyword without anything behind it is a comment as well: `# HELP` alone must not fail a
        // body.
        if keyword.len() == rest.len() || !matches!(keyword, b"HELP" | b"TYPE") {
            return Ok(None);
        }
        let (name, text) = split_name(trim_start(after))?;
        // The character after the name is skipped, whatever it is; blanks alone are an empty text.
        let text = if trim_start(text).is_empty() { b"" } else { &text[1..] };
        let what = match keyword {
            b"HELP" => MetadataValue::Help(utf8(text)?),
            _ => MetadataValue::Type(self.set_kind(text)?),
        };
        Ok(Some(MetadataLine { name, what }))
    }

    fn next_open_metrics(&mut self, guess: &[u8]) -> Fallible<Option<ExpositionEntry<'a>>> {
        if let Some(reason) = self.broken.take() {
            return Err(reason);
        }
        self.start = self.at;
        // After the last line nothing may follow, not even an empty line: who appends to a body
        // after `# EOF` has joined two bodies, and one of them would be lost without a word.
        if self.ended {
            return if self.at < self.body.len() { Err(LineError::AfterEof) } else { Ok(None) };
        }
        match self.peek() {
            // The end of a piece and not of the body: whether the last line comes is known only at
            // the end.
            None if self.more => Ok(None),
            // As in Prometheus, an empty body has no samples and is not an error.
            None if self.lines == 0 && self.body.is_empty() => Ok(None),
            None => Err(LineError::NoEof),
            Some(b'#') => match self.open_metrics_comment()? {
                Some(meta) => Ok(Some(ExpositionEntry::Meta(meta))),
                None => {
                    self.ended = true;
                    self.next_open_metrics(guess)
                }
            },
            Some(_) => self.open_metrics_sample(guess).map(|s| Some(ExpositionEntry::Sample(s))),
        }
    }

    #[inline]
    fn open_metrics_sample(&mut self, guess: &[u8]) -> Fallible<ExposedSample<'a>> {
        let (series, guessed) = self.series(guess)?;
        self.one_blank("a space after the series")?;
        let value = self.number()?;
        let t = if self.peek() == Some(b' ') { self.open_metrics_time()? } else { None };
        // Before the next exemplar is looked for: a sample without one must not get that of the
        // line before.
        self.exemplar = None;
        if self.peek() == Some(b' ') {
            self.take_exemplar()?;
        }
        // A last line without a line break was cut off, so its number may be a part of one: `12` of
        // `123`. That is why OpenMetrics has a last line at all.
        if self.peek().is_none() {
            return Err(LineError::NoEof);
        }
        self.end_line()?;
        Ok(ExposedSample { series, guessed, value, t })
    }

    /// Parses the timestamp of a sample whose line continues after its value. A blank followed by
    /// nothing, or by a malformed exemplar, is an error in the body, but not in this sample:
    /// Prometheus counts it.
    fn open_metrics_time(&mut self) -> Fallible<Option<i64>> {
        match self.body.get(self.at + 1) {
            Some(b'#') if !self.body[self.at..].starts_with(b" # ") => Ok(None),
            Some(b'#') if self.body[self.at..].starts_with(b" # {") => Ok(None),
            Some(b' ' | b'\n' | b'#') => {
                let rest = &self.body[self.at..];
                self.broken = Some(LineError::expected("a timestamp or an exemplar", rest));
                self.take_line();
                self.at -= 1;
                Ok(None)
            }
            _ => {
                self.at += 1;
                self.open_metrics_timestamp().map(Some)
            }
        }
    }

    fn open_metrics_timestamp(&mut self) -> Fallible<i64> {
        let start = self.at;
        // Seconds as a float, where the text format has milliseconds as an integer. A time that is
        // not finite is no time, whatever it is spelled like.
        let seconds = self.number().unwrap_or(f64::NAN);
        if !seconds.is_finite() {
            self.at = start;
            return Err(LineError::expected("a timestamp in seconds", self.token()));
        }
        Ok((seconds * 1000.0) as i64)
    }

    /// Checks ` # {labels} value [timestamp]` and stores its range.
    fn take_exemplar(&mut self) -> Fallible<()> {
        if !self.body[self.at..].starts_with(b" # {") {
            return Err(LineError::expected("an exemplar", self.token()));
        }
        self.at += 3;
        let start = self.at;
        self.at += braces(&self.body[self.at..], self.format)?;
        // Checked although the exemplar may not be kept: a malformed one makes the body malformed,
        // and whether exemplars are stored must not decide which scrapes succeed.
        exemplar::check(&self.body[start..self.at])?;
        self.one_blank("a space after the exemplar's labels")?;
        self.number()?;
        if self.peek() == Some(b' ') {
            self.at += 1;
            self.open_metrics_timestamp()?;
        }
        self.exemplar = Some((start, self.at));
        Ok(())
    }

    /// A metadata line; `None` for `# EOF`.
    fn open_metrics_comment(&mut self) -> Fallible<Option<MetadataLine<'a>>> {
        let line = self.take_line();
        // Exactly this: `#EOF` and `# EOF ` are errors, so that a truncated or altered last line is
        // noticed.
        if line == b"# EOF" {
            return Ok(None);
        }
        let Some(rest) = line.strip_prefix(b"# ") else {
            return Err(LineError::expected("a metadata line", line));
        };
        let (keyword, rest) = rest.split_at(memchr(b' ', rest).unwrap_or(rest.len()));
        let rest = rest.get(1..).unwrap_or_default();
        if !matches!(keyword, b"HELP" | b"TYPE" | b"UNIT") {
            return Err(LineError::expected("HELP, TYPE, UNIT or EOF", keyword));
        }
        let (name, text) = split_name(rest)?;
        // A metadata line at the very end without a line break was cut off, like a sample there.
        let is_whole = self.body.get(self.at.wrapping_sub(1)) == Some(&b'\n');
        let Some(text) = text.strip_prefix(b" ").filter(|_| is_whole) else {
            return Err(LineError::NoText(String::from_utf8_lossy(keyword).into_owned()));
        };
        let what = match keyword {
            b"HELP" => MetadataValue::Help(utf8(text)?),
            b"UNIT" => MetadataValue::Unit(self.set_unit(name, text)?),
            _ => MetadataValue::Type(self.set_kind(text)?),
        };
        Ok(Some(MetadataLine { name, what }))
    }

    /// Sets the unit, which must be the last part of the family's name.
    fn set_unit(&mut self, name: &[u8], unit: &'a [u8]) -> Fallible<&'a [u8]> {
        let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name);
        let before = name.strip_suffix(unit).and_then(|before| before.last());
        // OpenMetrics requires it. A unit that the name does not have would make `__unit__` lie.
        if !unit.is_empty() && before != Some(&b'_') {
            let metric = quote(name).into();
            return Err(LineError::Unit { unit: quote(unit).into(), metric });
        }
        self.unit.clear();
        self.unit.push_str(&String::from_utf8_lossy(unit));
        Ok(unit)
    }

    fn set_kind(&mut self, text: &[u8]) -> Fallible<MetricType> {
        self.kind = MetricType::parse(text, self.format).ok_or_else(|| LineError::MetricType(quote(text)))?;
        Ok(self.kind)
    }

    /// The series at the current position: the guess if it matches, otherwise by scanning.
    #[inline]
    fn series(&mut self, guess: &[u8]) -> Fallible<(&'a [u8], bool)> {
        let rest = &self.body[self.at..];
        // The fast path: one comparison of bytes that are in the cache. Nearly every line of nearly
        // every scrape has the series that its line had a scrape ago.
        if !guess.is_empty() && rest.starts_with(guess) && ends_series(&rest[guess.len()..], guess) {
            self.at += guess.len();
            return Ok((&rest[..guess.len()], true));
        }
        let len = series_len(rest, self.format)?;
        self.at += len;
        Ok((&rest[..len], false))
    }

    /// The number at the current position, which must end at a blank or at the end of the line.
    #[inline]
    fn number(&mut self) -> Fallible<f64> {
        let rest = &self.body[self.at..];
        // The parser takes the longest prefix that is a number. What follows it must end the token,
        // or `1.5x` would be 1.5 and an error in the rest of the line.
        if let Ok((value, len)) = fast_float2::parse_partial::<f64, _>(rest)
            && matches!(rest.get(len), None | Some(b' ' | b'\t' | b'\n'))
        {
            self.at += len;
            // `1e400` is parsed as infinity. Go refuses it, and an infinity that nobody wrote would
            // spoil every sum over the series.
            if !value.is_finite() && !number::is_spelled(value, &rest[..len]) {
                return Err(LineError::OutOfRange(quote(&rest[..len])));
            }
            return Ok(number::normalize_nan(value));
        }
        Err(LineError::expected("a value", self.token()))
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Takes exactly one blank; `what` says which, for the error.
    fn one_blank(&mut self, what: &'static str) -> Fallible<()> {
        match self.peek() {
            Some(b' ') => self.at += 1,
            _ => return Err(LineError::expected(what, self.token())),
        }
        Ok(())
    }

    /// Takes the bytes up to the next blank or end of line.
    fn token(&mut self) -> &'a [u8] {
        let rest = &self.body[self.at..];
        let len = memchr3(b' ', b'\t', b'\n', rest).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Takes the rest of the line, including its end.
    fn take_line(&mut self) -> &'a [u8] {
        let rest = &self.body[self.at..];
        let len = memchr(b'\n', rest).unwrap_or(rest.len());
        self.at = (self.at + len + 1).min(self.body.len());
        &rest[..len]
    }

    fn end_line(&mut self) -> Fallible<()> {
        match self.peek() {
            Some(b'\n') => self.at += 1,
            None => {}
            Some(_) => return Err(LineError::expected("the end of the line", self.token())),
        }
        Ok(())
    }
}

/// Whether `series` ends where `rest` begins: `a` must not be the beginning of `a {b="c"}`.
fn ends_series(rest: &[u8], series: &[u8]) -> bool {
    match rest.first() {
        // After a bare name blanks and then labels may follow, which makes another series of it.
        Some(b' ' | b'\t') => series.last() == Some(&b'}') || trim_start(rest).first() != Some(&b'{'),
        _ => false,
    }
}

/// Length of the series at the start of `rest`: name, labels or both.
fn series_len(rest: &[u8], format: TextFormat) -> Fallible<usize> {
    let name = rest.iter().take_while(|b| series::is_name_byte(**b)).count();
    // A digit may be inside a name and not at its start. Without any name, braces must come, which
    // then have a quoted one.
    if rest[..name].first().is_some_and(u8::is_ascii_digit) || (name == 0 && rest.first() != Some(&b'{')) {
        let end = memchr2(b' ', b'\n', rest).unwrap_or(rest.len());
        return Err(LineError::expected("a metric name", &rest[..end]));
    }
    // The text format allows `a {b="c"}`; OpenMetrics does not, and there the blank ends the
    // series.
    let blanks = match format {
        TextFormat::Text => rest[name..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count(),
        TextFormat::OpenMetrics => 0,
    };
    if rest.get(name + blanks) != Some(&b'{') {
        return Ok(name);
    }
    braces(&rest[name + blanks..], format).map(|len| name + blanks + len)
}

/// Length of `{…}` at the start of `rest`; quoted braces do not count.
fn braces(rest: &[u8], format: TextFormat) -> Fallible<usize> {
    let mut at = 1;
    loop {
        match memchr3(b'"', b'}', b'\n', &rest[at..]).map(|found| at + found) {
            Some(found) if rest[found] == b'}' => return Ok(found + 1),
            Some(found) if rest[found] == b'"' => at = string_end(rest, found, format)?,
            _ => return Err(LineError::OpenLabels(quote(rest))),
        }
    }
}

/// The index after the string whose opening quote is at `open`.
fn string_end(rest: &[u8], open: usize, format: TextFormat) -> Fallible<usize> {
    let mut at = open + 1;
    while let Some(found) = memchr2(b'"', b'\\', &rest[at..]).map(|found| at + found) {
        // A raw line break in a string is allowed only in the text format. Without this check an
        // unclosed string of OpenMetrics would swallow the lines up to the next quote.
        if format == TextFormat::OpenMetrics && memchr(b'\n', &rest[at..found]).is_some() {
            break;
        }
        if rest[found] == b'"' {
            return Ok(found + 1);
        }
        // Whatever the backslash escapes is passed over, a quote as well as another backslash.
        at = found + 2;
        if at > rest.len() {
            break;
        }
    }
    Err(LineError::OpenString(quote(&rest[open..])))
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|b| matches!(b, b' ' | b'\t')).count()..]
}

/// Splits at the first blank.
fn split_blank(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr2(b' ', b'\t', bytes) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

/// Splits off the (possibly quoted) name at the start of a metadata line.
fn split_name(bytes: &[u8]) -> Fallible<(&[u8], &[u8])> {
    let len = match bytes.first() {
        Some(b'"') => string_end(bytes, 0, TextFormat::OpenMetrics)?,
        // Not a name, so the line is refused below with what it has.
        Some(b'0'..=b'9') => 0,
        _ => bytes.iter().take_while(|b| series::is_name_byte(**b)).count(),
    };
    if len == 0 {
        return Err(LineError::expected("a metric name", bytes));
    }
    Ok(bytes.split_at(len))
}

/// Checks that a help text is UTF-8.
fn utf8(text: &[u8]) -> Fallible<&[u8]> {
    match std::str::from_utf8(text) {
        Ok(_) => Ok(text),
        Err(_) => Err(LineError::HelpUtf8(quote(text))),
    }
}

/// Bytes from outside, for an error message: quoted, escaped, cut.
pub fn quote(bytes: &[u8]) -> String {
    let line = &bytes[..memchr(b'\n', bytes).unwrap_or(bytes.len())];
    let cut = &line[..line.len().min(crate::limits::QUOTE_BYTES)];
    let dots = if cut.len() < line.len() { "…" } else { "" };
    format!("{:?}{dots}", String::from_utf8_lossy(cut))
}

#[cfg(test)]
mod tests;
