//! `perennial sql` at a terminal: the user types statements, and each is sent to the server when it
//! is complete.
//!
//! [`mod@line`] is the line that is edited, [`keys`] reads the keyboard, [`history`] keeps earlier
//! statements, [`completion`] completes words at the Tab key.

mod completion;
mod history;
mod keys;
mod line;

pub(super) use keys::width;

use super::client::SqlClient;
use super::shown::{Shape, table};
use super::{Failure, followed, unusable};
use completion::Completer;
use history::History;
use keys::{TerminalKeys, write_now};
use line::{Key, LineBuffer};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Write};
use std::time::Instant;

const HELP: &str = "\
A statement ends with ; and may have several lines. Tab completes words, relations, labels and their values.
  \\watch          at the end of a statement, in the place of ;: follow it until Ctrl-C
  \\d [RELATION]   relations, or the columns of one
  \\x              a line for each column, or a table again
  \\f FORMAT       table, csv, json or ndjson
  \\o [FILE]       answers go to a file; without it, to the terminal again
  \\i FILE         run the statements of a file
  \\timing         say how long each statement takes, or no longer
  \\q              end, as Ctrl-D does
Keys: up and down: history, Ctrl-R: search in it, Ctrl-C: give up the line, or the statement that runs.
";
/// Candidates of a completion that are listed.
const LISTED: usize = 100;

/// How the user ended a line.
enum Typed {
    Line(String),
    /// Ctrl-C
    GivenUp,
    /// Ctrl-D
    End,
}

/// The terminal with its settings.
struct Terminal {
    client: SqlClient,
    keys: TerminalKeys,
    history: History,
    completer: Completer,
    /// The lines of the statement that is being typed.
    statement: String,
    format: String,
    is_expanded: bool,
    has_timing: bool,
    /// Where answers go; `None`: to the terminal.
    out: Option<File>,
}

/// Answers what is typed until the end of the input.
pub(super) async fn run(client: SqlClient, format: &str) -> Result<(), Failure> {
    let broken = |e: io::Error| unusable(format!("the terminal: {e}"));
    let banner = format!("SQL of {}. \\? shows help, \\q ends.\n", client.server());
    write_now(&banner).map_err(broken)?;
    let mut terminal = Terminal {
        client,
        keys: TerminalKeys::default(),
        history: History::of_user(),
        completer: Completer::default(),
        statement: String::new(),
        format: format.to_owned(),
        is_expanded: false,
        has_timing: false,
        out: None,
    };
    loop {
        match terminal.line().await.map_err(broken)? {
            Typed::End if terminal.statement.is_empty() => return Ok(()),
            Typed::End | Typed::GivenUp => terminal.statement.clear(),
            Typed::Line(line) => {
                if terminal.statement.is_empty() && line.trim_start().starts_with('\\') {
                    terminal.history.add(line.trim());
                    if matches!(line.trim(), "\\q" | "\\quit") {
                        return Ok(());
                    }
                    terminal.command(line.trim()).await;
                    continue;
                }
                if terminal.statement.is_empty() && matches!(line.trim(), "exit" | "quit") {
                    return Ok(());
                }
                terminal.add(&line).await;
            }
        }
    }
}

impl Terminal {
    /// One more line of the statement, which may be its last one.
    async fn add(&mut self, line: &str) {
        if !self.statement.is_empty() {
            self.statement.push('\n');
        }
        self.statement.push_str(line);
        let Some(statement) = complete_statement(&self.statement) else {
            if self.statement.trim().is_empty() {
                self.statement.clear();
            }
            return;
        };
        let statement = statement.to_owned();
        self.history.add(self.statement.trim());
        self.statement.clear();
        self.answer(&statement).await;
    }

    /// Reads a line.
    async fn line(&mut self) -> io::Result<Typed> {
        self.keys.begin()?;
        let typed = self.edit().await;
        self.keys.end();
        write_now("\n")?;
        typed
    }

    async fn edit(&mut self) -> io::Result<Typed> {
        let mut line = LineBuffer::default();
        // What was typed before the history was looked at.
        let mut typed = String::new();
        let mut back = 0_usize;
        loop {
            self.draw(&line)?;
            match self.keys.next()? {
                Key::Enter => return Ok(Typed::Line(line.text())),
                Key::Interrupt => return Ok(Typed::GivenUp),
                Key::EndOfInput if line.is_empty() => return Ok(Typed::End),
                Key::Clear => write_now("\x1b[H\x1b[2J")?,
                Key::Tab => self.complete(&mut line).await?,
                Key::Search => {
                    if let Some(found) = self.search()? {
                        line.set(&found);
                    }
                }
                key @ (Key::Up | Key::Down) => {
                    if back == 0 {
                        typed = line.text();
                    }
                    let wanted = if key == Key::Up { back + 1 } else { back.saturating_sub(1) };
                    match self.history.back(wanted) {
                        Some(statement) => line.set(statement),
                        None if wanted == 0 => line.set(&typed),
                        None => continue,
                    }
                    back = wanted;
                }
                key => line.apply(key),
            }
        }
    }

    fn prompt(&self) -> &'static str {
        if self.statement.is_empty() { "sql> " } else { "...> " }
    }

    /// Redraws the line.
    fn draw(&self, line: &LineBuffer) -> io::Result<()> {
        draw(self.prompt(), line)
    }

    /// Completes the word before the cursor, or lists what it may be.
    async fn complete(&mut self, line: &mut LineBuffer) -> io::Result<()> {
        let before = format!("{}\n{}", self.statement, line.before());
        let found = self.completer.at(&self.client, &before, &line.after()).await;
        let common = found.common();
        if found.candidates.is_empty() {
            return write_now("\x07");
        }
        let is_more = common.chars().count() > found.replaced || found.candidates.len() == 1;
        if is_more {
            let is_whole = found.candidates.len() == 1 && !common.ends_with('(');
            line.complete(found.replaced, &if is_whole { format!("{common} ") } else { common });
            return Ok(());
        }
        let mut shown: Vec<&str> = found.candidates.iter().take(LISTED).map(String::as_str).collect();
        let more = format!("and {} more", found.candidates.len().saturating_sub(LISTED));
        if found.candidates.len() > LISTED {
            shown.push(&more);
        }
        write_now(&format!("\r\n{}", columns(&shown, keys::width())))
    }

    /// Ctrl-R: the statement of the history that has what is typed; `None`: given up.
    fn search(&mut self) -> io::Result<Option<String>> {
        let mut part = LineBuffer::default();
        let mut back = 0_usize;
        loop {
            let text = part.text();
            let found = self.history.search(&text, back).filter(|_| !text.is_empty());
            let shown = found.and_then(|back| self.history.back(back)).unwrap_or_default().to_owned();
            let mut line = LineBuffer::default();
            line.set(&shown);
            draw(&format!("search {text:?}: "), &line)?;
            match self.keys.next()? {
                Key::Enter | Key::Tab | Key::Right | Key::End => return Ok(Some(shown)),
                Key::Interrupt | Key::EndOfInput | Key::Unknown => return Ok(None),
                // Again: an older one.
                Key::Search => back = found.map_or(back, |found| found + 1),
                key => {
                    part.apply(key);
                    back = 0;
                }
            }
        }
    }

    /// A line that begins with a backslash.
    async fn command(&mut self, line: &str) {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim().trim_end_matches(';');
        let done = match name {
            "\\?" | "\\h" | "\\help" => self.print(HELP),
            "\\x" => {
                self.is_expanded = !self.is_expanded;
                self.print(if self.is_expanded { "A line for each column.\n" } else { "A table again.\n" })
            }
            "\\timing" => {
                self.has_timing = !self.has_timing;
                self.print(if self.has_timing { "Times are shown.\n" } else { "Times are not shown.\n" })
            }
            "\\f" if ["table", "csv", "json", "ndjson"].contains(&rest) => {
                rest.clone_into(&mut self.format);
                Ok(())
            }
            "\\f" => Err(unusable(format!("the format is {}; \\f table, csv, json or ndjson", self.format))),
            "\\o" => self.open(rest),
            "\\i" => return self.file(rest).await,
            "\\d" | "\\dt" | "\\d+" => return self.describe(rest).await,
            _ => Err(unusable(format!("there is no command {name}: \\? shows those that there are"))),
        };
        self.report(done);
    }

    fn open(&mut self, path: &str) -> Result<(), Failure> {
        self.out = None;
        if !path.is_empty() {
            self.out = Some(File::create(path).map_err(|e| unusable(format!("{path}: {e}")))?);
        }
        Ok(())
    }

    async fn file(&mut self, path: &str) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => return self.report(Err(unusable(format!("{path}: {e}")))),
        };
        for line in text.lines() {
            self.add(line).await;
        }
        let rest = std::mem::take(&mut self.statement);
        if !rest.trim().is_empty() {
            self.answer(&rest).await;
        }
    }

    /// Lists relations, or the columns of one.
    async fn describe(&mut self, relation: &str) {
        if relation.is_empty() {
            let statement = "SELECT metric AS relation, type, help FROM metadata ORDER BY 1";
            let tables = self.client.list("/api/v1/tables", &[]).await;
            let tables =
                if tables.is_empty() { String::new() } else { format!("Tables: {}\n", tables.join(", ")) };
            let printed = self.print(&format!(
                "{tables}Lists: series, label_pairs, targets, alerts, alert_history, rules, metadata, uses, views, queries, flags\nMetrics:\n"
            ));
            self.report(printed);
            return self.answer(statement).await;
        }
        let answer = self.client.json(&format!("SELECT * FROM {relation} LIMIT 0")).await;
        let shown = answer.map(|answer| columns_of(&answer));
        let shape = self.shape();
        let printed = shown.and_then(|shown| self.print(&table(&shown, shape)));
        self.report(printed);
    }

    fn shape(&self) -> Shape {
        let width = if self.out.is_none() { Some(keys::width()) } else { None };
        Shape { width, is_expanded: self.is_expanded }
    }

    /// Runs a statement until it is answered, or until Ctrl-C.
    async fn answer(&mut self, statement: &str) {
        let began = Instant::now();
        let interrupted = tokio::signal::ctrl_c();
        let answered = tokio::select! {
            answered = self.answered(statement) => answered,
            _ = interrupted => Err(unusable("given up".to_owned())),
        };
        let is_answered = answered.is_ok();
        self.report(answered);
        if self.has_timing && is_answered {
            let time = format!("Time: {:.3} ms\n", began.elapsed().as_secs_f64() * 1e3);
            let printed = self.print(&time);
            self.report(printed);
        }
    }

    async fn answered(&mut self, statement: &str) -> Result<(), Failure> {
        let is_table = self.format == "table";
        let shape = self.shape();
        if let Some(statement) = followed(statement) {
            return self.client.follow(statement, is_table.then_some(shape)).await;
        }
        if is_table {
            let answer = self.client.json(statement).await?;
            return self.print(&table(&answer, shape));
        }
        let mut response = self.client.ask(statement, &self.format).await?;
        while let Some(piece) = response.chunk().await.map_err(|e| self.client.broken(e))? {
            self.write(&piece)?;
        }
        self.write(if self.format == "json" { b"\n" } else { b"" })
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.out {
            Some(file) => file.write_all(bytes),
            None => {
                let mut out = io::stdout();
                out.write_all(bytes).and_then(|()| out.flush())
            }
        };
        written.map_err(|e| unusable(format!("the answer cannot be written: {e}")))
    }

    /// Says on the terminal why something was not done.
    fn report(&self, done: Result<(), Failure>) {
        if let Err(Failure { text, .. }) = done {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// Redraws a line after its prompt.
fn draw(prompt: &str, line: &LineBuffer) -> io::Result<()> {
    let taken = prompt.chars().count();
    // The last place of a line stays free: a cursor there would move the terminal on.
    let visible = line.visible(keys::width().saturating_sub(taken + 1));
    write_now(&format!("\r\x1b[K{prompt}{}\r\x1b[{}C", visible.text, taken + visible.cursor))
}

/// The statement that a text is, once its end is typed: `;`, or `\watch`.
fn complete_statement(text: &str) -> Option<&str> {
    if followed(text).is_some() {
        return Some(text);
    }
    let statement = text.trim_end().strip_suffix(';')?;
    // A semicolon in quotes ends nothing.
    let is_open = statement.matches('\'').count() % 2 == 1 || statement.matches('"').count() % 2 == 1;
    // `lines()` would leave out an empty last line, before which a comment has ended.
    let is_comment = statement.rsplit('\n').next().is_some_and(|line| line.contains("--"));
    (!is_open && !is_comment).then_some(statement)
}

/// Words in columns, as many as fit.
fn columns(words: &[&str], width: usize) -> String {
    let longest = words.iter().map(|word| word.chars().count()).max().unwrap_or(0) + 2;
    let in_line = (width / longest).max(1);
    let line = |words: &[&str]| {
        let padded: String = words.iter().map(|word| format!("{word:<longest$}")).collect();
        padded.trim_end().to_owned() + "\r\n"
    };
    words.chunks(in_line).map(line).collect()
}

/// The columns of an answer, as an answer.
fn columns_of(answer: &Value) -> Value {
    let columns = answer["data"]["columns"].as_array().into_iter().flatten();
    let rows: Vec<Value> =
        columns.map(|column| serde_json::json!([column["name"], column["type"]])).collect();
    let names = serde_json::json!([{ "name": "column", "type": "text" }, { "name": "type", "type": "text" }]);
    serde_json::json!({ "data": { "columns": names, "rows": rows }, "warnings": answer["warnings"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_statement_is_seen() {
        for (text, want) in [
            ("SELECT 1;", Some("SELECT 1")),
            ("SELECT\n1 ; ", Some("SELECT\n1 ")),
            ("SELECT 1", None),
            ("SELECT ';", None),
            ("SELECT 1 -- x;", None),
            ("SELECT 1 -- x\n;", Some("SELECT 1 -- x\n")),
            ("SELECT 1 \\watch", Some("SELECT 1 \\watch")),
        ] {
            assert_eq!(complete_statement(text), want, "{text}");
        }
    }

    #[test]
    fn words_stand_in_columns() {
        assert_eq!(columns(&["a", "bb", "ccc"], 10), "a    bb\r\nccc\r\n");
        assert_eq!(columns(&["a long word"], 3), "a long word\r\n");
    }

    #[test]
    fn columns_are_listed() {
        let answer =
            serde_json::json!({ "data": { "columns": [{ "name": "job", "type": "text" }], "rows": [] } });
        let shown = table(&columns_of(&answer), Shape::default());
        assert_eq!(shown, "column | type\n-------+-----\njob    | text\n(1 row)\n");
    }
}
