//! The guard: checks a statement before the parser or the planner sees it.
//!
//! [`check_text`] looks at the tokens in one loop, and takes less than a millisecond. It limits
//! length, nesting and chains of operators: the parser's trees are cloned and dropped recursively,
//! so that a flat chain of some thousand operators would overflow the stack, which no limit of the
//! parser prevents. [`check_plan`] is the second half, after planning: only listed plan nodes are
//! allowed.

use super::error::SqlError;
use super::limits;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// A statement that passed: its tokens, without `EXPLAIN` and without a final semicolon.
#[derive(Debug)]
pub struct GuardedText {
    /// The tokens of the query, with their places.
    pub(crate) tokens: Vec<TokenWithSpan>,
    /// What is asked instead of its rows; `None`: its rows.
    pub explain: Option<Explain>,
}

/// What is asked of a statement instead of its rows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Explain {
    /// `EXPLAIN`: how it would run.
    Plan,
    /// `EXPLAIN ANALYZE`: it runs; what each part took.
    Analyze,
}

/// Words that join two operands, or follow one, like an operator.
const OPERATOR_WORDS: &[&str] = &[
    "AND", "OR", "NOT", "IS", "ISNULL", "NOTNULL", "IN", "LIKE", "ILIKE", "SIMILAR", "RLIKE", "REGEXP",
    "BETWEEN", "OVERLAPS", "COLLATE", "AT", "DIV", "XOR", "ESCAPE", "OPERATOR",
];
/// The first words of statements that read.
const READS: &[&str] = &["SELECT", "WITH", "VALUES", "TABLE"];

/// Checks the text of a statement.
pub fn check_text(text: &str) -> Result<GuardedText, SqlError> {
    check_joins(text, limits::JOINS)
}

/// Checks the text of a statement that may be a query of PostgreSQL's catalogs: the small tables
/// there may have more joins.
pub fn check_catalog_text(text: &str) -> Result<GuardedText, SqlError> {
    check_joins(text, limits::CATALOG_JOINS)
}

fn check_joins(text: &str, joins: usize) -> Result<GuardedText, SqlError> {
    if text.len() > limits::TEXT_BYTES {
        return Err(SqlError::bad(format!(
            "the statement has {} bytes, the limit is {}",
            text.len(),
            limits::TEXT_BYTES
        ))
        .hint("put long lists into several statements"));
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location();
    let tokens = tokens.map_err(|e| SqlError::bad(e.message.clone()).at(text, e.location))?;
    let mut tokens: Vec<TokenWithSpan> =
        tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF)).collect();
    if tokens.len() > limits::TOKENS {
        let error = format!("the statement has {} tokens, the limit is {}", tokens.len(), limits::TOKENS);
        return Err(SqlError::bad(error).hint("put long lists into several statements"));
    }
    // Also several: clients add one to what a person has ended already.
    while tokens.last().is_some_and(|t| t.token == Token::SemiColon) {
        tokens.pop();
    }
    let explain = explained(&mut tokens);
    check_form(text, &tokens)?;
    check_chains(text, &tokens, joins)?;
    Ok(GuardedText { tokens, explain })
}

/// Takes `EXPLAIN` and `ANALYZE` away from the begin.
fn explained(tokens: &mut Vec<TokenWithSpan>) -> Option<Explain> {
    if !tokens.first().is_some_and(|t| is_word(&t.token, "EXPLAIN")) {
        return None;
    }
    tokens.remove(0);
    if !tokens.first().is_some_and(|t| is_word(&t.token, "ANALYZE")) {
        return Some(Explain::Plan);
    }
    tokens.remove(0);
    Some(Explain::Analyze)
}

/// Whether a token is this word, unquoted.
pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// One statement, and one that reads.
fn check_form(text: &str, tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    // Not split here: each statement has an answer of its own, which this request has no place for.
    if let Some(more) = tokens.iter().find(|t| t.token == Token::SemiColon) {
        let error = SqlError::bad("a request has one statement").at(text, more.span.start);
        return Err(error.hint("send each statement by itself"));
    }
    // `(SELECT …) UNION …` begins with a parenthesis.
    let Some(first) = tokens.iter().find(|t| t.token != Token::LParen) else {
        return Err(SqlError::bad("the statement is empty").hint("try: SELECT * FROM up"));
    };
    if !READS.iter().any(|word| is_word(&first.token, word)) {
        let error = SqlError::bad(format!("{} is not a statement that is answered here", first.token));
        return Err(error.at(text, first.span.start).hint(
            "only SELECT, WITH, VALUES and EXPLAIN read; docs/sql.md has what CREATE, DROP and SHOW can do",
        ));
    }
    let writes = |pair: &&[TokenWithSpan]| {
        let inserts = is_word(&pair[0].token, "INTO") && !matches!(pair[1].token, Token::LParen);
        inserts && matches!(pair[1].token, Token::Word(_))
    };
    match tokens.windows(2).find(writes) {
        Some(pair) => Err(SqlError::bad("SELECT … INTO would make a table")
            .at(text, pair[0].span.start)
            .hint("nothing can be changed by SQL: leave INTO out")),
        None => Ok(()),
    }
}

/// Counts operators in a row, nesting, and what else makes trees deep. `joins` is the most joins.
fn check_chains(text: &str, tokens: &[TokenWithSpan], joins: usize) -> Result<(), SqlError> {
    // The operators since the last comma, for each level of parentheses that is open.
    let mut operators = vec![0_usize];
    let mut counts = Counts::default();
    for (at, token) in tokens.iter().enumerate() {
        let place = token.span.start;
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                // A subscript follows its operand like an operator.
                if token.token == Token::LBracket
                    && let Some(count) = operators.last_mut()
                {
                    *count += 1;
                }
                operators.push(0);
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                // One that closes nothing is the parser's to refuse, with its place.
                if operators.len() > 1 {
                    operators.pop();
                }
            }
            // The items of a list are beside each other in the tree and not below each other.
            Token::Comma => {
                if let Some(count) = operators.last_mut() {
                    *count = 0;
                }
            }
            other => {
                counts.add(other, tokens.get(at + 1).map(|t| &t.token));
                if is_operator(other)
                    && let Some(count) = operators.last_mut()
                {
                    *count += 1;
                }
            }
        }
        let chain = operators.last().copied().unwrap_or(0);
        counts.check(chain, operators.len() - 1, joins).map_err(|e| e.at(text, place))?;
    }
    Ok(())
}

/// Counts of the whole statement.
#[derive(Default)]
struct Counts {
    /// `UNION`, `INTERSECT`, `EXCEPT`.
    sets: usize,
    joins: usize,
    /// Queries of `WITH`.
    named: usize,
    casts: usize,
}

impl Counts {
    /// Counts a token, which `next` follows.
    fn add(&mut self, token: &Token, next: Option<&Token>) {
        let is = |word| is_word(token, word);
        self.sets += usize::from(is("UNION") || is("INTERSECT") || is("EXCEPT"));
        self.joins += usize::from(is("JOIN"));
        self.named += usize::from(is("AS") && matches!(next, Some(Token::LParen)));
        self.casts += usize::from(*token == Token::DoubleColon || is("CAST") || is("TRY_CAST"));
    }

    fn check(&self, chain: usize, nesting: usize, joins: usize) -> Result<(), SqlError> {
        let over = |what: &str, limit: usize, hint: &str| {
            Err(SqlError::bad(format!("more than {limit} {what}")).hint(hint))
        };
        if chain > limits::CHAIN {
            return over(
                "operators in a row",
                limits::CHAIN,
                "use IN (…) for a list of values, or put parts into parentheses",
            );
        }
        if nesting > limits::NESTING {
            return over("levels of parentheses", limits::NESTING, "name parts of the query with WITH");
        }
        if self.sets > limits::SET_OPERATIONS {
            return over("set operations", limits::SET_OPERATIONS, "use IN (…), or several statements");
        }
        if self.joins > joins {
            return over("joins", joins, "group before joining, or use several statements");
        }
        if self.named > limits::NAMED_QUERIES {
            return over("named queries", limits::NAMED_QUERIES, "use several statements");
        }
        if self.casts > limits::CASTS {
            return over("casts", limits::CASTS, "cast once, in a named query");
        }
        Ok(())
    }
}

/// Everything that is no operand, no list and no parenthesis counts as an operator.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            word.quote_style.is_none() && OPERATOR_WORDS.iter().any(|w| word.value.eq_ignore_ascii_case(w))
        }
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::DollarQuotedString(_)
        | Token::Placeholder(_)
        | Token::Period => false,
        _ => true,
    }
}

/// The nodes that a plan may have; everything else is refused, also what a later DataFusion adds.
pub(crate) fn check_plan(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut relations = 0;
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| {
        // A list of what is allowed: a node that a later version of DataFusion adds is then refused
        // and not run unseen.
        let known = matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Window(_)
                | LogicalPlan::Aggregate(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Join(_)
                | LogicalPlan::Union(_)
                | LogicalPlan::TableScan(_)
                | LogicalPlan::EmptyRelation(_)
                | LogicalPlan::Subquery(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Limit(_)
                | LogicalPlan::Values(_)
                | LogicalPlan::Distinct(_)
                | LogicalPlan::Unnest(_)
        );
        if !known {
            let name = node.display().to_string();
            let name = name.split([':', ' ']).next().unwrap_or_default().to_owned();
            refused = Some(SqlError::bad(format!("{name} is not available here")));
            return Ok(TreeNodeRecursion::Stop);
        }
        // With those of subqueries: each scan reads the store.
        relations += usize::from(matches!(node, LogicalPlan::TableScan(_)));
        for expr in node.expressions() {
            if depth(&expr) > limits::EXPRESSION_DEPTH {
                let error = format!("an expression has more than {} levels", limits::EXPRESSION_DEPTH);
                refused = Some(SqlError::bad(error).hint("name parts of the query with WITH"));
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|e| SqlError::from_datafusion(e, ""))?;
    if relations > limits::RELATIONS {
        let error = format!("the statement reads {relations} relations, the limit is {}", limits::RELATIONS);
        refused = Some(SqlError::bad(error).hint("use several statements"));
    }
    refused.map_or(Ok(()), Err)
}

/// Levels of an expression.
fn depth(expr: &datafusion::logical_expr::Expr) -> usize {
    let mut deepest = 0;
    // Fails only if the closure does.
    let _ = expr.apply_children(|child| {
        deepest = deepest.max(depth(child));
        Ok(TreeNodeRecursion::Continue)
    });
    deepest + 1
}

/// Where a word stands for the first time.
pub(crate) fn place_of_word(tokens: &[TokenWithSpan], word: &str) -> Option<Location> {
    let is = |t: &&TokenWithSpan| matches!(&t.token, Token::Word(w) if w.value.eq_ignore_ascii_case(word));
    tokens.iter().find(is).map(|t| t.span.start)
}
