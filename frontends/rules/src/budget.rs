//! The cost limit of expanding one template of an alert: steps and bytes, counted by the expanding
//! thread.
//!
//! `gotmpl`, the library for Go's templates, limits the iterations of `range` and the depth of
//! calls. It does not limit text that is doubled in a variable, or definitions that call each other
//! twice. So [`super::counting`] inserts calls of [`step`] into the syntax tree, and [`counted`]
//! wraps the functions. Functions that read or create texts are our own.

use super::function_error::{FunctionError, TemplateFunction};
use super::functions::fail;
use super::limits::{TEMPLATE_NESTING, TEMPLATE_STEPS, TEMPLATE_WORK_BYTES};
use gotmpl::Value;
use std::cell::Cell;
use std::sync::Arc;

/// Counts the number of steps in its argument and prints nothing; the first node of every list of
/// nodes.
pub(crate) const STEP: &str = "__step";
/// The most bytes that escaping makes of one byte: `\u003C` for `<`.
const ESCAPED: usize = 6;
/// Steps of one `query`; the query itself has limits of its own.
const QUERY_STEPS: usize = 500;
/// Steps of compiling a regular expression, in addition to one for each of its bytes.
const REGEX_STEPS: usize = 100;

/// What is left for the template that the thread expands.
#[derive(Copy, Clone)]
struct Budget {
    /// Steps.
    steps: usize,
    /// Bytes.
    bytes: usize,
}

const WHOLE: Budget = Budget { steps: TEMPLATE_STEPS, bytes: TEMPLATE_WORK_BYTES };

thread_local! {
    static LEFT: Cell<Budget> = const { Cell::new(WHOLE) };
}

/// Begins a template with the whole budget.
pub(crate) fn begin() {
    LEFT.set(WHOLE);
}

/// Counts steps. Fails if none are left.
pub(crate) fn steps(n: usize) -> Result<(), FunctionError> {
    let left = LEFT.get();
    let Some(steps) = left.steps.checked_sub(n) else {
        return Err(fail(format!("it takes more than {TEMPLATE_STEPS} steps: make it simpler")));
    };
    LEFT.set(Budget { steps, ..left });
    Ok(())
}

/// Counts bytes that are read or created. Fails if none are left.
pub(crate) fn bytes(n: usize) -> Result<(), FunctionError> {
    let left = LEFT.get();
    let Some(bytes) = left.bytes.checked_sub(n) else {
        let most = TEMPLATE_WORK_BYTES >> 20;
        return Err(fail(format!(
            "its texts and query results are larger than {most} MiB together: make them shorter"
        )));
    };
    LEFT.set(Budget { bytes, ..left });
    Ok(())
}

/// Counts the cost of compiling a pattern and searching for it in a text.
pub(crate) fn regex(pattern: &str, subject: &str) -> Result<(), FunctionError> {
    steps(REGEX_STEPS + pattern.len() + subject.len() / 64)
}

/// Wraps `function`: counts a step, the texts of its arguments, and the text or the rows of its
/// result.
pub(crate) fn counted(name: &'static str, function: TemplateFunction) -> TemplateFunction {
    let cost = if name == "query" { QUERY_STEPS } else { 1 };
    // The results of these functions may be large although their arguments are small.
    let makes_much = matches!(name, "query" | "args");
    Arc::new(move |args: &[Value]| {
        steps(cost)?;
        args.iter().try_for_each(|arg| bytes(text_bytes(arg)))?;
        let made = function(args)?;
        if makes_much {
            read(&made).map(drop)?
        } else {
            bytes(text_bytes(&made))?
        }
        Ok(made)
    })
}

fn text_bytes(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}

/// The function that the syntax tree calls.
pub(crate) fn step(args: &[Value]) -> Result<Value, FunctionError> {
    let n = args.first().and_then(Value::as_int).unwrap_or(1);
    steps(usize::try_from(n).unwrap_or(1))?;
    Ok(Value::String(Arc::from("")))
}

/// Counts a whole value that will be printed and perhaps escaped.
pub(crate) fn escaped(value: &Value) -> Result<(), FunctionError> {
    let read = read(value)?;
    bytes(read.bytes * (ESCAPED - 1))
}

/// Counts the result of a verb of `printf` for a value: `widths` (width and precision) for every
/// part of it, and its text.
pub(crate) fn formatted(value: &Value, widths: usize) -> Result<(), FunctionError> {
    steps(1)?;
    let read = read(value)?;
    bytes(widths.saturating_mul(read.parts))?;
    bytes(read.bytes.saturating_mul(ESCAPED))
}

/// The size of a value.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Size {
    /// The value and all values in it.
    parts: usize,
    /// Its text, approximately.
    bytes: usize,
}

/// Computes the size of a value and counts its bytes while doing so: a value that contains the same
/// parts many times can be larger than memory.
fn read(value: &Value) -> Result<Size, FunctionError> {
    let mut size = Size::default();
    add(value, 0, &mut size)?;
    Ok(size)
}

fn add(value: &Value, depth: usize, size: &mut Size) -> Result<(), FunctionError> {
    if depth > TEMPLATE_NESTING {
        return Err(fail(format!("its values are nested deeper than {TEMPLATE_NESTING} levels")));
    }
    let own = match value {
        Value::String(text) => text.len(),
        // The length of a number with all its digits.
        Value::Float(_) | Value::Int(_) | Value::Uint(_) => 24,
        _ => 8,
    };
    count(own, size)?;
    match value {
        Value::List(items) => items.iter().try_for_each(|item| add(item, depth + 1, size)),
        Value::Map(map) => map.iter().try_for_each(|(key, item)| {
            count(key.len(), size)?;
            add(item, depth + 1, size)
        }),
        _ => Ok(()),
    }
}

fn count(own: usize, size: &mut Size) -> Result<(), FunctionError> {
    bytes(own)?;
    size.parts += 1;
    size.bytes += own;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_twice_is_read_twice() {
        begin();
        let mut value = Value::String(Arc::from("0123456789"));
        let one = read(&value).unwrap();
        for _ in 0..10 {
            value = Value::List([value.clone(), value].into());
        }
        assert!(read(&value).unwrap().bytes > 1_000 * one.bytes);
        for _ in 0..10 {
            value = Value::List([value.clone(), value].into());
        }
        assert!(read(&value).is_err());
    }
}
