//! What the subcommands share that talk to a running server (`perennial sql`, `check views`, `test
//! history`): their help, and the words of their command line.
//!
//! Each has few flags and goes through them by hand. [`read_arguments`] runs that, and
//! [`Arguments`] gives it the words; [`UsageError`] is what can be wrong. [`crate::server_client`]
//! sends the requests.

use crate::usage_error::UsageError;
use crate::{UNUSABLE, say};
use std::process::ExitCode;

/// What `--help` prints, and what a wrong command line refers to.
pub(crate) struct Help {
    /// The words that run the subcommand, such as `perennial sql`.
    pub(crate) command: &'static str,
    /// The usage, one line with its end.
    pub(crate) usage: &'static str,
    /// The rest of the help.
    pub(crate) text: &'static str,
}

/// Parses `args` by `parse`; for `--help` and for a wrong command line prints a text instead.
///
/// # Errors
/// The exit code with which the program has to end: 0 after `--help`, 2 after a mistake.
pub(crate) fn read_arguments<T>(
    args: &[String],
    help: &Help,
    parse: impl FnOnce(&[String]) -> Result<T, UsageError>,
) -> Result<T, ExitCode> {
    let Help { command, usage, text } = help;
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Err(say(&mut std::io::stdout(), &format!("{usage}{text}"), 0));
    }
    parse(args).map_err(|error| {
        let text = format!("{error}\n{usage}See `{command} --help`.\n");
        say(&mut std::io::stderr(), &text, UNUSABLE)
    })
}

/// A word of the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Argument<'a> {
    /// `--name=value` or `--name value`.
    Flag {
        /// The name, without dashes.
        name: &'a str,
        /// The value.
        value: String,
    },
    /// A word that is no flag.
    Word(&'a String),
}

/// The words of a command line, from left to right.
pub(crate) struct Arguments<'a>(std::slice::Iter<'a, String>);

impl<'a> Arguments<'a> {
    /// Those of `args`.
    pub(crate) fn new(args: &'a [String]) -> Arguments<'a> {
        Arguments(args.iter())
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = Result<Argument<'a>, UsageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let arg = self.0.next()?;
        let Some(flag) = arg.strip_prefix("--") else { return Some(Ok(Argument::Word(arg))) };
        if let Some((name, value)) = flag.split_once('=') {
            return Some(Ok(Argument::Flag { name, value: value.to_owned() }));
        }
        let value = self.0.next().ok_or_else(|| UsageError::NoValue(arg.clone()));
        Some(value.map(|value| Argument::Flag { name: flag, value: value.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_has_its_value_after_an_equals_sign_or_in_the_next_word() {
        let args = ["--a=1", "--b", "2", "word", "--c"].map(str::to_owned);
        let read: Vec<Result<Argument<'_>, UsageError>> = Arguments::new(&args).collect();
        let flag = |name, value: &str| Ok(Argument::Flag { name, value: value.to_owned() });
        let no_value = Err(UsageError::NoValue("--c".to_owned()));
        assert_eq!(read, [flag("a", "1"), flag("b", "2"), Ok(Argument::Word(&args[3])), no_value]);
    }
}
