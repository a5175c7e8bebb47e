//! Rewrites the syntax tree of an alert's template before it is executed: what Go rejects when
//! parsing is rejected, and calls and fields become calls of [`CALL`] and [`FIELD`], which have
//! their positions and return errors like Go's.
//!
//! `{{ humanize $labels.x | toUpper }}` becomes `{{ __call "…at <humanize…>" "humanize" (__field
//! "…" $labels "x") | __call "…" "toUpper" | __show }}`; `and` and `or` stay, because they do not
//! always evaluate all arguments.

use super::counting::count_steps;
use super::fields::FIELD;
use super::functions::METHOD;
use super::limits::TEMPLATE_CONTEXT_BYTES;
use super::printing::quoted;
use super::template::TemplateSyntaxError;
use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos, SmolStr};
use std::collections::HashMap;
use std::sync::Arc;
use storage::model::number::general;

/// The function that calls a function; its arguments are the positions of the call and its
/// arguments, the name, and the arguments.
pub(crate) const CALL: &str = "__call";
/// Separates the position of a call from those of its arguments.
pub(crate) const POSITION_SEPARATOR: &str = "\0";
/// The function that prints the value of an action.
pub(crate) const SHOW: &str = "__show";
/// Functions whose results depend on more than their arguments.
const TIME_DEPENDENT: [&str; 2] = ["query", "now"];

/// Rewrites a syntax tree.
pub(crate) struct TemplateRewriter<'a> {
    /// Length of the prelude in bytes: columns are counted from its end.
    pub prelude: usize,
    /// The template's name in errors.
    pub name: &'a str,
    /// Names of functions.
    pub functions: &'a [String],
    /// Whether it calls a function that depends on more than its arguments.
    pub is_time_dependent: bool,
    /// The error, if the template is rejected.
    pub fault: Option<TemplateSyntaxError>,
    /// Name of the definition that is being rewritten.
    executing: String,
    variables: Variables,
    ranges: usize,
    /// Offsets of the beginnings of lines.
    lines: Vec<usize>,
}

/// The variables in scope, innermost last.
#[derive(Default)]
struct Variables {
    names: Vec<SmolStr>,
    /// How often each is declared.
    declared: HashMap<SmolStr, usize>,
}

impl Variables {
    fn declare(&mut self, name: SmolStr) {
        *self.declared.entry(name.clone()).or_default() += 1;
        self.names.push(name);
    }

    fn is_function(&self, name: &SmolStr) -> bool {
        self.declared.get(name).is_some_and(|times| *times > 0)
    }

    /// Removes all but the first `length` variables.
    fn truncate(&mut self, length: usize) {
        for name in self.names.drain(length..) {
            self.declared.entry(name).and_modify(|times| *times -= 1);
        }
    }
}

impl<'a> TemplateRewriter<'a> {
    /// A rewriter for the template with this name and text, of which `prelude` bytes are ours.
    pub(crate) fn new(
        name: &'a str,
        source: &'a str,
        prelude: usize,
        known: &'a [String],
    ) -> TemplateRewriter<'a> {
        TemplateRewriter {
            prelude,
            name,
            functions: known,
            is_time_dependent: false,
            fault: None,
            executing: String::new(),
            variables: Variables::default(),
            ranges: 0,
            lines: std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect(),
        }
    }

    /// Rewrites the tree of a definition.
    pub(crate) fn tree(&mut self, executing: &str, list: &mut ListNode) {
        executing.clone_into(&mut self.executing);
        self.variables = Variables::default();
        // Every definition has its own data, and no variables of the one that calls it.
        self.variables.declare("$".into());
        self.list(list);
    }

    fn list(&mut self, list: &mut ListNode) {
        let declared = self.variables.names.len();
        for node in &mut list.nodes {
            self.node(node);
        }
        self.variables.truncate(declared);
        // Last, because it inserts calls of our own, which must not be rewritten.
        count_steps(list);
    }

    fn node(&mut self, node: &mut Node) {
        match node {
            Node::List(list) => self.list(list),
            Node::Action(action) => {
                self.pipe(&mut action.pipe);
                // An action that declares a variable prints nothing.
                if action.pipe.decl.is_empty() {
                    let args = vec![Expr::Identifier(action.pos, SHOW.into())];
                    action.pipe.commands.push(CommandNode { pos: action.pos, args });
                }
            }
            Node::If(branch) | Node::With(branch) => self.branch(branch),
            Node::Range(branch) => {
                // The condition of a `range` is outside of it, but cannot contain a `break`.
                self.ranges += 1;
                self.branch(branch);
                self.ranges -= 1;
            }
            Node::Template(call) => {
                if let Some(pipe) = &mut call.pipe {
                    self.pipe(pipe);
                }
            }
            Node::Define(define) => self.list(&mut define.body),
            Node::Break(pos) if self.ranges == 0 => self.refuse(*pos, "{{break}} outside {{range}}".into()),
            Node::Continue(pos) if self.ranges == 0 => {
                self.refuse(*pos, "{{continue}} outside {{range}}".into());
            }
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }

    fn branch(&mut self, branch: &mut BranchNode) {
        let declared = self.variables.names.len();
        self.pipe(&mut branch.pipe);
        self.list(&mut branch.body);
        if let Some(body) = &mut branch.else_body {
            self.list(body);
        }
        self.variables.truncate(declared);
    }

    fn pipe(&mut self, pipe: &mut PipeNode) {
        for command in &mut pipe.commands {
            self.command(command);
        }
        // `:=` declares after its value was evaluated; `=` needs a variable that exists.
        if !pipe.is_assign {
            for name in &pipe.decl {
                self.variables.declare(name.clone());
            }
        }
        let unknown = pipe.decl.iter().find(|name| !self.variables.is_function(name)).cloned();
        if let Some(name) = unknown {
            self.refuse(pipe.pos, format!("undefined variable {name:?}"));
        }
    }

    fn command(&mut self, command: &mut CommandNode) {
        method_call(command);
        let context = command_text(command);
        // Before the arguments are rewritten: Go shows the text as it was written.
        let position = self.position(command.pos, &context);
        if let Some(Expr::Identifier(pos, name)) = command.args.first() {
            let pos = *pos;
            let name = name.clone();
            self.function(pos, &name);
            let places: Vec<String> =
                command.args[1..].iter().map(|arg| self.position(arg.pos(), &text_of(arg))).collect();
            for arg in &mut command.args[1..] {
                self.expr(arg);
            }
            if !is_lazy(&name) {
                // The position of each argument, because an argument of the wrong type is reported
                // at its own.
                let places = [vec![position], places].concat().join(POSITION_SEPARATOR);
                command.args[0] = Expr::Identifier(pos, CALL.into());
                command.args.splice(1..1, [string(pos, &places), string(pos, &name)]);
            }
        } else {
            for arg in &mut command.args {
                self.expr(arg);
            }
        }
    }

    fn expr(&mut self, expr: &mut Expr) {
        let context = text_of(expr);
        match expr {
            Expr::Identifier(pos, name) => {
                let pos = *pos;
                let name = name.clone();
                self.function(pos, &name);
                if !is_lazy(&name) {
                    let position = self.position(pos, &context);
                    *expr = called(pos, CALL, vec![string(pos, &position), string(pos, &name)]);
                }
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(pos, inner, fields) => {
                let pos = *pos;
                let fields = std::mem::take(fields);
                // Go names the last operand of what the field is taken of.
                let (last, last_context) = last_of(inner);
                let position = self.position(last, &last_context);
                self.expr(inner);
                let inner = std::mem::replace(&mut **inner, Expr::Nil(pos));
                *expr = self.fields(pos, &position, inner, &fields);
            }
            Expr::Field(pos, fields) => {
                let pos = *pos;
                let fields = std::mem::take(fields);
                // Go names the position of the last but one field.
                let skipped = if fields.len() > 1 { fields[0].len() + 1 } else { 0 };
                let position = self.position(Pos { offset: pos.offset + skipped, ..pos }, &context);
                *expr = self.fields(pos, &position, Expr::Dot(pos), &fields);
            }
            Expr::Variable(pos, name, fields) => {
                let pos = *pos;
                let name = name.clone();
                let fields = std::mem::take(fields);
                if !self.variables.is_function(&name) {
                    self.refuse(pos, format!("undefined variable {name:?}"));
                }
                if !fields.is_empty() {
                    let position = self.position(Pos { offset: pos.offset + name.len(), ..pos }, &context);
                    let variable = Expr::Variable(pos, name, Vec::new());
                    *expr = self.fields(pos, &position, variable, &fields);
                }
            }
            _ => {}
        }
    }

    fn fields(&self, pos: Pos, position: &str, of: Expr, fields: &[SmolStr]) -> Expr {
        let names = fields.iter().map(|name| string(pos, name));
        called(pos, FIELD, [string(pos, position), of].into_iter().chain(names).collect())
    }

    fn function(&mut self, pos: Pos, name: &str) {
        // Even in a branch that never runs: the text must only be expanded again too often, never
        // too seldom.
        self.is_time_dependent |= TIME_DEPENDENT.contains(&name);
        if self.fault.is_some() || self.functions.iter().any(|k| k == name) {
            return;
        }
        // Our own functions are no suggestion.
        let offered: Vec<&String> = self.functions.iter().filter(|k| !k.starts_with("__")).collect();
        let fix = super::yaml::suggestion(name, &offered);
        self.refuse(pos, format!("function {name:?} not defined"));
        if let Some(fault) = &mut self.fault {
            fault.fix = fix;
        }
    }

    fn refuse(&mut self, pos: Pos, what: String) {
        let (line, column) = self.line_and_column(pos);
        let shift = if line == 1 { self.prelude } else { 0 };
        let column = (column.saturating_sub(shift) + usize::from(line == 1)) as u64;
        let fix = "see Go's text/template for the syntax".to_owned();
        self.fault.get_or_insert(TemplateSyntaxError { line: line as u64, column, what, fix });
    }

    /// Line, from 1, and bytes since the line break, as Go counts them: in the first line from 0.
    fn line_and_column(&self, pos: Pos) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= pos.offset);
        let start = self.lines[line - 1];
        (line, pos.offset - start + usize::from(line > 1))
    }

    /// A position, as at the beginning of Go's errors.
    fn position(&self, pos: Pos, context: &str) -> String {
        let (line, column) = self.line_and_column(pos);
        let TemplateRewriter { name, executing, .. } = self;
        format!("template: {name}:{line}:{column}: executing {executing:?} at <{context}>")
    }
}

/// Whether a function does not always evaluate all arguments.
fn is_lazy(name: &str) -> bool {
    matches!(name, "and" | "or")
}

fn string(pos: Pos, text: &str) -> Expr {
    Expr::String(pos, Arc::from(text))
}

fn called(pos: Pos, name: &str, args: Vec<Expr>) -> Expr {
    let args = [Expr::Identifier(pos, name.into())].into_iter().chain(args).collect();
    let commands = vec![CommandNode { pos, args }];
    Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands, is_assign: false })
}

/// `(…).Format "2006"` becomes a call, because fields have no arguments.
pub(crate) fn method_call(command: &mut CommandNode) {
    let [receiver, _, ..] = command.args.as_mut_slice() else { return };
    let pos = receiver.pos();
    let (Expr::Chain(_, _, fields) | Expr::Variable(_, _, fields) | Expr::Field(_, fields)) = receiver else {
        return;
    };
    let Some(method) = fields.pop_if(|name| name == "Format") else { return };
    match receiver {
        Expr::Chain(_, inner, fields) if fields.is_empty() => {
            *receiver = std::mem::replace(&mut **inner, Expr::Nil(pos))
        }
        Expr::Field(_, fields) if fields.is_empty() => *receiver = Expr::Dot(pos),
        _ => {}
    }
    let head = [Expr::Identifier(pos, METHOD.into()), string(pos, &method)];
    command.args.splice(0..0, head);
}

/// What is evaluated last in a parenthesised pipeline: position and text.
fn last_of(expr: &Expr) -> (Pos, String) {
    match expr {
        Expr::Pipe(_, pipe) => match pipe.commands.last().and_then(|command| command.args.last()) {
            Some(last) => last_of(last),
            None => (pipe.pos, pipe_text(pipe)),
        },
        other => (other.pos(), text_of(other)),
    }
}

fn command_text(command: &CommandNode) -> String {
    let mut text = BoundedPrint(String::new());
    text.command(command);
    text.0
}

fn pipe_text(pipe: &PipeNode) -> String {
    let mut text = BoundedPrint(String::new());
    text.pipe(pipe);
    text.0
}

/// An expression as Go prints it.
fn text_of(expr: &Expr) -> String {
    let mut text = BoundedPrint(String::new());
    text.expr(expr);
    text.0
}

/// A text that ends at [`TEMPLATE_CONTEXT_BYTES`]: each level of a nested expression prints
/// everything inside it.
struct BoundedPrint(String);

impl BoundedPrint {
    fn is_full(&self) -> bool {
        self.0.len() >= TEMPLATE_CONTEXT_BYTES
    }

    fn push(&mut self, text: &str) {
        if !self.is_full() {
            self.0.push_str(text);
        }
    }

    fn command(&mut self, command: &CommandNode) {
        for (at, arg) in command.args.iter().enumerate() {
            if self.is_full() {
                return;
            }
            self.push(if at > 0 { " " } else { "" });
            self.expr(arg);
        }
    }

    fn pipe(&mut self, pipe: &PipeNode) {
        if !pipe.decl.is_empty() {
            let names: Vec<&str> = pipe.decl.iter().map(SmolStr::as_str).collect();
            self.push(&names.join(", "));
            self.push(if pipe.is_assign { " = " } else { " := " });
        }
        for (at, command) in pipe.commands.iter().enumerate() {
            if self.is_full() {
                return;
            }
            self.push(if at > 0 { " | " } else { "" });
            self.command(command);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Dot(_) => self.push("."),
            Expr::Nil(_) => self.push("nil"),
            Expr::Field(_, fields) => self.fields(fields),
            Expr::Variable(_, name, fields) => {
                self.push(name);
                self.fields(fields);
            }
            Expr::Identifier(_, name) => self.push(name),
            Expr::String(_, text) => self.push(&quoted(text, '"', false)),
            Expr::Number(_, Number::Int(n)) => self.push(&n.to_string()),
            Expr::Number(_, Number::Uint(n)) => self.push(&n.to_string()),
            Expr::Number(_, Number::Float(v)) => self.push(&general(*v)),
            Expr::Bool(_, b) => self.push(if *b { "true" } else { "false" }),
            Expr::Pipe(_, pipe) => {
                self.push("(");
                self.pipe(pipe);
                self.push(")");
            }
            Expr::Chain(_, inner, fields) => {
                self.expr(inner);
                self.fields(fields);
            }
        }
    }

    fn fields(&mut self, fields: &[SmolStr]) {
        for name in fields {
            self.push(".");
            self.push(name);
        }
    }
}

/// Checks whether blocks and ends match, which `gotmpl` does not: the position and the error, if
/// they do not.
pub(crate) fn unbalanced(source: &str) -> Option<(usize, &'static str)> {
    let mut depth = 0_usize;
    let mut from = 0;
    while let Some(open) = source[from..].find("{{") {
        let start = from + open + 2;
        let inside = source[start..].trim_start_matches('-').trim_start();
        let word: &str = inside.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("");
        match word {
            "if" | "range" | "with" | "block" | "define" => depth += 1,
            "end" if depth == 0 => return Some((start, "unexpected {{end}}")),
            "end" => depth -= 1,
            "else" if depth == 0 => return Some((start, "unexpected {{else}}")),
            _ => {}
        }
        from = start + action_length(&source[start..])?;
    }
    (depth > 0).then_some((source.len(), "unexpected EOF"))
}

/// Length of an action up to its `}}` in bytes; `None`: it is not closed.
fn action_length(text: &str) -> Option<usize> {
    if text.trim_start_matches('-').trim_start().starts_with("/*") {
        return Some(text.find("*/")? + 2);
    }
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'}' if text[at..].starts_with("}}") => return Some(at + 2),
            b'"' | b'\'' | b'`' => loop {
                match bytes.next()?.1 {
                    b'\\' if byte != b'`' => drop(bytes.next()),
                    end if end == byte => break,
                    _ => {}
                }
            },
            _ => {}
        }
    }
    None
}
