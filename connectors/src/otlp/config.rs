//! The configuration block `otlp`: which attributes become labels, and how names are translated.
//! [`super::receiver`] uses it.

use crate::config::error::BlockError;
use crate::config_block;
use crate::names::NameScheme;
use std::collections::HashSet;

config_block! {
    /// `otlp`.
    pub struct OtlpConfig as "config.OTLPConfig" {
        /// Whether every resource attribute becomes a label of the series of its resource.
        promote_all_resource_attributes: bool = false,
        /// The resource attributes that become labels.
        promote_resource_attributes: Vec<String> = Vec::new(),
        /// Exceptions to promote_all_resource_attributes.
        ignore_resource_attributes: Vec<String> = Vec::new(),
        /// How names are translated: UnderscoreEscapingWithSuffixes,
        /// UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation.
        translation_strategy: String = TranslationStrategy::default().as_str().to_owned(),
        /// Whether target_info keeps service.name, service.namespace and service.instance.id.
        keep_identifying_resource_attributes: bool = false,
        /// Whether histograms with explicit bounds become native ones with custom buckets.
        convert_histograms_to_nhcb: bool = false,
        /// Whether name, version, schema URL and attributes of the scope become labels.
        promote_scope_metadata: bool = false,
        /// Whether an escaped label that begins with one underscore gets `key` before it.
        label_name_underscore_sanitization: bool = true => printed,
        /// Whether an escaped label keeps several underscores in a row.
        label_name_preserve_multiple_underscores: bool = true => printed,
    }
}

/// `translation_strategy`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum TranslationStrategy {
    /// Other characters than letters, digits and `_` become `_`; units and types become suffixes.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// As before, without suffixes.
    UnderscoreEscapingWithoutSuffixes,
    /// Names stay, with suffixes.
    NoUtf8EscapingWithSuffixes,
    /// Names stay.
    NoTranslation,
}

impl TranslationStrategy {
    /// All strategies.
    pub const ALL: [TranslationStrategy; 4] = [
        TranslationStrategy::UnderscoreEscapingWithSuffixes,
        TranslationStrategy::UnderscoreEscapingWithoutSuffixes,
        TranslationStrategy::NoUtf8EscapingWithSuffixes,
        TranslationStrategy::NoTranslation,
    ];

    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            TranslationStrategy::UnderscoreEscapingWithSuffixes => "UnderscoreEscapingWithSuffixes",
            TranslationStrategy::UnderscoreEscapingWithoutSuffixes => "UnderscoreEscapingWithoutSuffixes",
            TranslationStrategy::NoUtf8EscapingWithSuffixes => "NoUTF8EscapingWithSuffixes",
            TranslationStrategy::NoTranslation => "NoTranslation",
        }
    }

    /// Whether names are escaped.
    pub fn escapes(self) -> bool {
        matches!(
            self,
            TranslationStrategy::UnderscoreEscapingWithSuffixes
                | TranslationStrategy::UnderscoreEscapingWithoutSuffixes
        )
    }

    /// Whether metric names get units and types as suffixes.
    pub fn has_suffixes(self) -> bool {
        matches!(
            self,
            TranslationStrategy::UnderscoreEscapingWithSuffixes
                | TranslationStrategy::NoUtf8EscapingWithSuffixes
        )
    }
}

impl OtlpConfig {
    /// The strategy of a valid block.
    pub fn strategy(&self) -> TranslationStrategy {
        let named = TranslationStrategy::ALL.into_iter().find(|s| s.as_str() == self.translation_strategy);
        // Written empty it means this in Prometheus, too. Other texts do not pass the validation.
        named.unwrap_or(TranslationStrategy::NoTranslation)
    }

    /// Checks the block, and takes spaces off the names of attributes. The error is the first
    /// problem.
    pub fn validate(&mut self, names: NameScheme) -> Result<(), BlockError> {
        let written = &self.translation_strategy;
        let strategy = self.strategy();
        if !written.is_empty() && written != strategy.as_str() {
            return Err(BlockError::new(format!("unsupported OTLP translation strategy {written:?}")));
        }
        if !written.is_empty() && !strategy.escapes() && names == NameScheme::Legacy {
            let what = format!("OTLP translation strategy {written:?} is not allowed when UTF8 is disabled");
            return Err(BlockError::new(what));
        }
        if self.promote_all_resource_attributes {
            if !self.promote_resource_attributes.is_empty() {
                return Err("'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be \
                            configured simultaneously"
                    .into());
            }
            return check_attributes(&mut self.ignore_resource_attributes, "ignored")
                .map_err(|e| e.within("invalid 'ignore_resource_attributes'"));
        }
        if !self.ignore_resource_attributes.is_empty() {
            return Err("'ignore_resource_attributes' cannot be configured unless \
                        'promote_all_resource_attributes' is true"
                .into());
        }
        check_attributes(&mut self.promote_resource_attributes, "promoted")
            .map_err(|e| e.within("invalid 'promote_resource_attributes'"))
    }
}

/// Trims names, and refuses empty and repeated ones, all in one error.
fn check_attributes(names: &mut [String], what: &str) -> Result<(), BlockError> {
    let mut seen = HashSet::new();
    let mut faults = Vec::new();
    for name in names {
        *name = name.trim().to_owned();
        if name.is_empty() {
            faults.push(format!("empty {what} OTel resource attribute"));
        } else if !seen.insert(name.clone()) {
            faults.push(format!("duplicated {what} OTel resource attribute {name:?}"));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(BlockError::new(faults.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_block_is_refused_with_the_texts_of_prometheus() {
        let simultaneously = "'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured simultaneously";
        let unless = "'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true";
        let cases = [
            ("{}", "", ""),
            (
                "translation_strategy: NoTranslation",
                "",
                "OTLP translation strategy \"NoTranslation\" is not allowed when UTF8 is disabled",
            ),
            (
                "translation_strategy: Other",
                "unsupported OTLP translation strategy \"Other\"",
                "unsupported OTLP translation strategy \"Other\"",
            ),
            (
                "{promote_all_resource_attributes: true, promote_resource_attributes: [a]}",
                simultaneously,
                simultaneously,
            ),
            ("ignore_resource_attributes: [a]", unless, unless),
            (
                "promote_resource_attributes: [a, ' a', '']",
                "invalid 'promote_resource_attributes': duplicated promoted OTel resource attribute \"a\"\nempty promoted OTel resource attribute",
                "invalid 'promote_resource_attributes': duplicated promoted OTel resource attribute \"a\"\nempty promoted OTel resource attribute",
            ),
            (
                "{promote_all_resource_attributes: true, ignore_resource_attributes: ['']}",
                "invalid 'ignore_resource_attributes': empty ignored OTel resource attribute",
                "invalid 'ignore_resource_attributes': empty ignored OTel resource attribute",
            ),
        ];
        for (text, utf8, legacy) in cases {
            for (names, want) in [(NameScheme::Utf8, utf8), (NameScheme::Legacy, legacy)] {
                let mut config: OtlpConfig = serde_saphyr::from_str(text).unwrap();
                let got = config.validate(names).err().map_or(String::new(), |error| error.to_string());
                assert_eq!(got, want, "{text} {names:?}");
            }
        }
        let empty: OtlpConfig = serde_saphyr::from_str("translation_strategy: ''").unwrap();
        assert_eq!(empty.strategy(), TranslationStrategy::NoTranslation);
    }
}
