//! The types of flags' values: how each is read from the command line, and shown.

use connectors::config::units::{ConfigDuration, ConfigSize};
use connectors::remote::MessageVersion;
use std::fmt;
use std::ops::Deref;
use storage::model::time::parse_duration;

/// What a value looks like on the command line.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ValueForm {
    /// The flag needs a value; the name of the value in `--help`.
    Required(&'static str),
    /// The value may be left out: it is `true` then.
    Switch,
    /// The flag may be repeated; the name of one value in `--help`.
    Repeated(&'static str),
}

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidValue(String);

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The type of a flag's value.
///
/// # Contract
///
/// `show` prints no secret: everybody who may see the status page sees the value.
pub trait FlagValue: Sized {
    /// How the value is written.
    const FORM: ValueForm;

    /// Reads the value. `values` are those on the command line, or the default.
    fn read(values: &[String]) -> Result<Self, InvalidValue>;

    /// The value as `/api/v1/status/flags` shows it.
    fn show(&self) -> String;
}

/// A flag with its value.
#[derive(Clone, Debug)]
pub struct Flag<T> {
    /// The value on the command line, or the default.
    pub value: T,
    /// Whether the flag is on the command line.
    pub is_given: bool,
}

impl<T> Deref for Flag<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Copy> Flag<T> {
    /// The value, if the flag is on the command line.
    pub fn given(&self) -> Option<T> {
        self.is_given.then_some(self.value)
    }
}

/// The last of several values: a repeated flag replaces the value before.
fn last(values: &[String]) -> &str {
    values.last().map_or("", String::as_str)
}

impl FlagValue for String {
    const FORM: ValueForm = ValueForm::Required("TEXT");

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        Ok(last(values).to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl FlagValue for Vec<String> {
    const FORM: ValueForm = ValueForm::Repeated("TEXT");

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        // Not divided at commas here: whether a value may have a comma is known by the flag.
        Ok(values.to_vec())
    }

    fn show(&self) -> String {
        self.join(",")
    }
}

impl FlagValue for bool {
    const FORM: ValueForm = ValueForm::Switch;

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        let value = last(values);
        value.parse().map_err(|_| InvalidValue("write true or false, or leave the value out".to_owned()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FlagValue for usize {
    const FORM: ValueForm = ValueForm::Required("N");

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        last(values).parse().map_err(|_| InvalidValue("not a whole number".to_owned()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FlagValue for f64 {
    const FORM: ValueForm = ValueForm::Required("RATIO");

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        last(values).parse().map_err(|_| InvalidValue("not a number".to_owned()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FlagValue for ConfigDuration {
    const FORM: ValueForm = ValueForm::Required("DURATION");

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        let invalid = |e| InvalidValue(format!("{e}; write a number and a unit: 30s, 5m, 15d"));
        // PromQL's notation without a sign, as in Prometheus: `1h30m`, no fractions.
        parse_duration(last(values)).map(ConfigDuration).map_err(invalid)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FlagValue for ConfigSize {
    const FORM: ValueForm = ValueForm::Required("SIZE");

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        ConfigSize::parse(last(values)).map_err(|e| InvalidValue(e.to_string()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A flag without a default.
impl<T: FlagValue> FlagValue for Option<T> {
    const FORM: ValueForm = T::FORM;

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        // An empty default is no value at all, so `T` need not read an empty text.
        if values.is_empty() { Ok(None) } else { T::read(values).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

/// The interval between fdatasyncs of the WAL; zero is written `batch`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SyncInterval(pub ConfigDuration);

impl FlagValue for SyncInterval {
    const FORM: ValueForm = ValueForm::Required("DURATION|batch");

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        let value = last(values);
        if value == "batch" {
            return Ok(SyncInterval(ConfigDuration(0)));
        }
        let invalid = |e| InvalidValue(format!("{e}; write e.g. 100ms, or batch"));
        parse_duration(value).map(ConfigDuration).map(SyncInterval).map_err(invalid)
    }

    fn show(&self) -> String {
        if self.0.0 > 0 { self.0.to_string() } else { "batch".to_owned() }
    }
}

/// The messages of remote write that are received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedMessages(pub Vec<MessageVersion>);

impl FlagValue for AcceptedMessages {
    const FORM: ValueForm = ValueForm::Repeated("MESSAGE");

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        let mut accepted = Vec::new();
        for value in values {
            let known = MessageVersion::ALL.into_iter().find(|version| version.name() == value);
            let Some(version) = known else {
                return Err(InvalidValue(format!(
                    "unknown type for remote write protobuf message {value}, supported: {}",
                    MessageVersion::ALL.map(MessageVersion::name).join(", ")
                )));
            };
            if accepted.contains(&version) {
                return Err(InvalidValue(format!("duplicated {value} flag value")));
            }
            accepted.push(version);
        }
        if accepted.is_empty() {
            accepted = MessageVersion::ALL.to_vec();
        }
        Ok(AcceptedMessages(accepted))
    }

    fn show(&self) -> String {
        self.0.iter().map(|version| version.name()).collect::<Vec<_>>().join(",")
    }
}

/// The URL that links begin with: an http URL, or one without scheme (`host:port/path`), or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalUrl(pub String);

impl FlagValue for ExternalUrl {
    const FORM: ValueForm = ValueForm::Required("URL");

    fn read(values: &[String]) -> Result<Self, InvalidValue> {
        let value = last(values);
        let url = ExternalUrl(value.to_owned());
        if value.is_empty() {
            return Ok(url);
        }
        // Checked with a scheme, kept as given: the page that shows the flags must show what was
        // written.
        let full = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        match reqwest::Url::parse(&full) {
            // Links in alerts begin with it; with another scheme nobody could follow them.
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                Err(InvalidValue(format!("the scheme {:?} is neither http nor https", url.scheme())))
            }
            Ok(_) => Ok(url),
            Err(e) => {
                Err(InvalidValue(format!("not a valid URL: {e}; write e.g. https://example.com/prometheus")))
            }
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// Defines a type whose values are a few words.
macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($(#[$word_meta:meta])* $variant:ident = $word:literal),* $(,)? })*) => { $(
        $(#[$meta])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$word_meta])* $variant,)*
        }

        impl FlagValue for $name {
            const FORM: ValueForm = ValueForm::Required("WORD");

            fn read(values: &[String]) -> Result<Self, InvalidValue> {
                match last(values) {
                    $($word => Ok($name::$variant),)*
                    _ => Err(InvalidValue(format!("possible here: {}", [$($word),*].join(", ")))),
                }
            }

            fn show(&self) -> String {
                match self {
                    $($name::$variant => $word.to_owned(),)*
                }
            }
        }
    )* };
}

words! {
    /// The least level of a line in the log.
    LogLevel {
        /// Decisions that matter only to who looks for a fault.
        Debug = "debug",
        /// What happened.
        Info = "info",
        /// Something is not as intended, but the server goes on.
        Warn = "warn",
        /// Somebody must act.
        Error = "error",
    }
    /// The format of the log.
    LogFormat {
        /// `key=value`.
        Logfmt = "logfmt",
        /// A JSON object per line.
        Json = "json",
    }
}
