//! Puts calls that count into a template's syntax tree; what they count against is [`super::budget`].
//!
//! Every list of nodes begins with a step for each of its nodes and arguments, so that definitions and loops cost what they
//! do. What goes into a function of `gotmpl` that reads all of a value goes through [`READ`] or [`FORMATTED`]:
//! `print $x $x` becomes `print (__read $x) (__read $x)`, `$x | printf "%5d"` becomes
//! `$x | __formatted ($__format0 := "%5d") | printf $__format0`.

use super::budget::{FORMATTED, READ, STEP};
use gotmpl::parse::{ActionNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos};

/// Functions of `gotmpl` whose work grows with all of what goes in.
const READERS: [&str; 12] =
    ["print", "println", "html", "js", "urlquery", "eq", "ne", "lt", "le", "gt", "ge", "slice"];
const PRINTF: &str = "printf";

/// Makes a list of nodes count its steps when it is walked over. Lists inside it are not looked at.
pub fn count_steps(list: &mut ListNode) {
    let Some(pos) = list.nodes.first().map(position) else { return };
    let n: usize = list.nodes.iter().map(node_steps).sum();
    let args = vec![identifier(pos, STEP), Expr::Number(pos, Number::Int(n as i64))];
    let command = CommandNode { pos, args };
    let pipe = PipeNode { pos, decl: Vec::new(), commands: vec![command], is_assign: false };
    list.nodes.insert(0, Node::Action(ActionNode { pos, pipe }));
}

fn position(node: &Node) -> Pos {
    match node {
        Node::Text(node) => node.pos,
        Node::Action(node) => node.pos,
        Node::If(node) | Node::Range(node) | Node::With(node) => node.pos,
        Node::Template(node) => node.pos,
        Node::Define(node) => node.pos,
        Node::List(node) => node.pos,
        Node::Break(pos) | Node::Continue(pos) => *pos,
    }
}

fn node_steps(node: &Node) -> usize {
    1 + match node {
        Node::Action(action) => pipe_steps(&action.pipe),
        Node::If(branch) | Node::Range(branch) | Node::With(branch) => pipe_steps(&branch.pipe),
        Node::Template(call) => call.pipe.as_ref().map_or(0, pipe_steps),
        _ => 0,
    }
}

fn pipe_steps(pipe: &PipeNode) -> usize {
    pipe.commands.iter().flat_map(|command| &command.args).map(expr_steps).sum()
}

fn expr_steps(expr: &Expr) -> usize {
    match expr {
        Expr::Pipe(_, pipe) => 1 + pipe_steps(pipe),
        Expr::Chain(_, inner, fields) => expr_steps(inner) + fields.len(),
        Expr::Field(_, fields) | Expr::Variable(_, _, fields) => 1 + fields.len(),
        _ => 1,
    }
}

/// Makes the commands of a pipeline count what goes into them; `formats` numbers the variables that hold formats.
pub fn count_arguments(pipe: &mut PipeNode, formats: &mut usize) {
    let mut counted = Vec::with_capacity(pipe.commands.len());
    for (at, mut command) in std::mem::take(&mut pipe.commands).into_iter().enumerate() {
        // The first command gets nothing from one before.
        let is_piped = at > 0;
        let before = match called(&command) {
            Some(PRINTF) => count_format(&mut command, is_piped, formats),
            Some(name) if READERS.contains(&name) => {
                for arg in &mut command.args[1..] {
                    wrap(arg, &[identifier(command.pos, READ)]);
                }
                is_piped.then(|| call(command.pos, READ))
            }
            _ => None,
        };
        counted.extend(before);
        counted.push(command);
    }
    pipe.commands = counted;
}

/// The function that a command calls.
fn called(command: &CommandNode) -> Option<&str> {
    match command.args.first()? {
        Expr::Identifier(_, name) => Some(name.as_str()),
        Expr::Chain(_, inner, _) => match &**inner {
            Expr::Identifier(_, name) => Some(name.as_str()),
            _ => None,
        },
        _ => None,
    }
}

/// Counts the arguments of a `printf`, and gives what has to come before it for the one that is piped in. The format is
/// put into a variable where it is used first: it must not be computed twice.
fn count_format(command: &mut CommandNode, is_piped: bool, formats: &mut usize) -> Option<CommandNode> {
    let pos = command.pos;
    // Without a format of its own it is the format that is piped in.
    let Some(format) = command.args.get_mut(1) else { return is_piped.then(|| call(pos, READ)) };
    let name = format!("$__format{formats}");
    *formats += 1;
    let variable = Expr::Variable(pos, name.as_str().into(), Vec::new());
    let computed = std::mem::replace(format, variable.clone());
    let read = CommandNode { pos, args: vec![identifier(pos, READ), computed] };
    let decl = vec![name.as_str().into()];
    let first_use = Expr::Pipe(pos, PipeNode { pos, decl, commands: vec![read], is_assign: false });
    for arg in &mut command.args[2..] {
        wrap(arg, &[identifier(pos, FORMATTED), variable.clone()]);
    }
    if is_piped {
        return Some(CommandNode { pos, args: vec![identifier(pos, FORMATTED), first_use] });
    }
    command.args[1] = first_use;
    None
}

fn call(pos: Pos, name: &str) -> CommandNode {
    CommandNode { pos, args: vec![identifier(pos, name)] }
}

fn identifier(pos: Pos, name: &str) -> Expr {
    Expr::Identifier(pos, name.into())
}

/// Puts a call around an argument, which becomes its last.
fn wrap(arg: &mut Expr, before: &[Expr]) {
    let pos = arg.pos();
    let inner = std::mem::replace(arg, Expr::Nil(pos));
    let args = before.iter().cloned().chain([inner]).collect();
    let commands = vec![CommandNode { pos, args }];
    *arg = Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands, is_assign: false });
}
