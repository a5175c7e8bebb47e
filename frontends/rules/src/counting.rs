//! Inserts calls that count the cost of execution into the syntax tree of an alert's template; the
//! limits are in [`super::budget`].
//!
//! Every list of nodes begins with a call that counts a step for each of its nodes and arguments,
//! so definitions and loops cost what they do.

use super::budget::STEP;
use gotmpl::parse::{ActionNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos};

/// A variable that no template can name.
const COUNTED: &str = "$__steps";

/// Makes a list of nodes count its steps when it is executed. Lists inside it are not changed.
pub(crate) fn count_steps(list: &mut ListNode) {
    let Some(pos) = list.nodes.first().map(position) else { return };
    let n: usize = list.nodes.iter().map(node_steps).sum();
    let args = vec![identifier(pos, STEP), Expr::Number(pos, Number::Int(n as i64))];
    let command = CommandNode { pos, args };
    // A declaration prints nothing, so nothing is escaped in a page either.
    let decl = vec![COUNTED.into()];
    let pipe = PipeNode { pos, decl, commands: vec![command], is_assign: false };
    // One call for the whole list, not one per node: its cost is known when the template is read,
    // and the calls themselves take time.
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

fn identifier(pos: Pos, name: &str) -> Expr {
    Expr::Identifier(pos, name.into())
}
