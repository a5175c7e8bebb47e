//! Rule files: Prometheus' YAML, parsed strictly, validated completely, and compiled.
//!
//! [`parse`] turns the text of one file into [`RuleGroup`]s whose expressions are plans and whose
//! templates are valid; [`load`] does so for all files. An error names file, line, column and
//! remedy.

use super::active_rules::view_of;
use super::limits::LATENESS_MS;
use super::lint;
use super::template;
use super::yaml::{self, ConfigError};
use engine::plan::physical::StoreQueries;
use engine::plan::{Dialect, Plan, Span, ValueType};
use language::{QueryLanguage, QueryTextError, ShownLabels};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use views::check_live;

/// An expression that never has a row.
const NO_ROWS: &str = "vector(0) > 0";
/// The error of Prometheus for an expression of a type that no rule can have.
const WRONG_TYPE: &str = "rule result is not a vector or scalar";

/// A compiled expression.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleExpression {
    /// The compiled plan.
    pub plan: Plan,
    /// The text, as its language prints it.
    pub text: String,
    /// Which labels of the plan's rows the alerts of the rule have.
    pub labels: ShownLabels,
    /// The expression for links to the query page: the text, or for SQL its equal in PromQL.
    pub link: String,
    /// Why every evaluation fails; the plan then has no rows. `None`: they may succeed.
    pub fault: Option<&'static str>,
}

impl RuleExpression {
    /// An expression in PromQL.
    pub fn promql(plan: Plan, text: String) -> RuleExpression {
        RuleExpression { plan, link: text.clone(), text, labels: ShownLabels::All, fault: None }
    }
}

/// What a rule does with its expression.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RuleUse {
    /// It is the condition of an alert.
    Alert,
    /// It is recorded.
    Record,
}

/// Compiles the expressions of rules.
///
/// # Contract
/// 1. It reads the text only, no data: files are checked before anything runs (`perennial check`).
/// 2. The same text gives the same expression: a reload keeps the views of rules whose expressions
///    are equal.
/// 3. The span of an error is one of bytes in `text`; it is shown as line and column of the file.
pub trait RuleCompiler {
    /// An expression in PromQL.
    fn promql(&self, text: &str) -> Result<RuleExpression, QueryTextError>;
    /// A statement in SQL. By default there is no SQL.
    fn sql(&self, text: &str, purpose: RuleUse) -> Result<RuleExpression, QueryTextError> {
        let _ = purpose;
        Err(QueryTextError::new(text, Span::default(), "rules in SQL need --rules.enable-sql".to_owned()))
    }
}

impl<F: Fn(&str) -> Result<RuleExpression, QueryTextError>> RuleCompiler for F {
    fn promql(&self, text: &str) -> Result<RuleExpression, QueryTextError> {
        self(text)
    }
}

/// When the alerts of a group are evaluated.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvaluationMode {
    /// At the tick at which the condition changes.
    #[default]
    Continuous,
    /// At the group's evaluation times, as in Prometheus.
    Interval,
}

/// What happens to recorded samples when late samples arrive.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LateSamplePolicy {
    /// Recorded samples stay, as in Prometheus.
    #[default]
    Keep,
    /// Recorded samples are computed again.
    Correct,
}

/// The compiler for [`load`], for expressions in `language`.
pub fn compiler(
    language: &dyn QueryLanguage,
) -> impl Fn(&str) -> Result<RuleExpression, QueryTextError> + '_ {
    move |text| {
        // No range: a rule is evaluated at one time, and `step()` and `range()` are 0 in it.
        let plan = language.compile(text, None)?;
        let text = language.print(text)?;
        Ok(RuleExpression::promql(plan, text))
    }
}

/// A group of rules, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleGroup {
    /// Name of its file, as given.
    pub file: String,
    /// Name of the group; unique in its file.
    pub name: String,
    /// Time between evaluations, in ms.
    pub interval: i64,
    /// How far in the past its rules are evaluated, in ms.
    pub query_offset: i64,
    /// Most series or alerts of one rule; 0: no limit.
    pub limit: usize,
    /// When its alerts are evaluated.
    pub evaluation: EvaluationMode,
    /// How late samples may be and still change what was recorded, in ms; `None`: recorded samples
    /// stay.
    pub lateness: Option<i64>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// One rule, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The name of the recorded metric or of the alert.
    pub name: String,
    /// The expression of the recording rule or the condition of the alert.
    pub expr: RuleExpression,
    /// Labels set by the rule (and by its group), sorted by name; in alerts they are templates.
    pub labels: Vec<(String, String)>,
    /// Options of an alerting rule; `None`: a recording rule.
    pub alert: Option<AlertOptions>,
    /// How much history is computed, in ms; recording rules only.
    pub backfill: i64,
}

/// Options of an alerting rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertOptions {
    /// `for`, in ms.
    pub hold: i64,
    /// `keep_firing_for`, in ms.
    pub keep_firing_for: i64,
    /// Templates, sorted by name.
    pub annotations: Vec<(String, String)>,
}

/// Defaults for groups.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct GroupDefaults {
    /// `global.evaluation_interval`, in ms.
    pub interval: i64,
    /// `global.rule_query_offset`, in ms.
    pub query_offset: i64,
}

/// Groups, and warnings about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadedRules {
    /// In the order of files and of their text.
    pub groups: Vec<RuleGroup>,
    /// Not errors, but probably not intended.
    pub warnings: Vec<ConfigError>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    #[serde(default)]
    pub(super) groups: Option<Vec<RawGroup>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGroup {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    interval: Option<Spanned<String>>,
    #[serde(default)]
    query_offset: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "::yaml::values::integer")]
    limit: i64,
    #[serde(default)]
    evaluation: EvaluationMode,
    #[serde(default)]
    backfill: Option<Spanned<String>>,
    #[serde(default)]
    late_samples: LateSamplePolicy,
    #[serde(default)]
    lateness: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "text_map")]
    labels: TextMap,
    #[serde(default)]
    pub(super) rules: Option<Vec<Spanned<RawRule>>>,
}

/// Labels or annotations.
type TextMap = BTreeMap<String, Spanned<String>>;

/// Reads labels or annotations. `null` is no entries, and as a value the empty text, as in Go.
fn text_map<'de, D: Deserializer<'de>>(d: D) -> Result<TextMap, D::Error> {
    let read: Option<BTreeMap<String, Spanned<Option<String>>>> = Option::deserialize(d)?;
    let mut entries = TextMap::new();
    for (name, text) in read.unwrap_or_default() {
        let value = text.value.unwrap_or_default();
        entries.insert(name, Spanned { value, referenced: text.referenced, defined: text.defined });
    }
    Ok(entries)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    #[serde(default)]
    pub(super) record: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) alert: Option<Spanned<String>>,
    #[serde(default)]
    expr: Option<Spanned<String>>,
    /// A statement in SQL instead of `expr`; not of Prometheus.
    #[serde(default)]
    sql: Option<Spanned<String>>,
    #[serde(default, rename = "for")]
    hold: Option<Spanned<String>>,
    #[serde(default)]
    keep_firing_for: Option<Spanned<String>>,
    #[serde(default)]
    backfill: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "text_map")]
    labels: TextMap,
    #[serde(default, deserialize_with = "text_map")]
    annotations: TextMap,
}

/// Reads all files; the first error ends it.
pub fn load<P: AsRef<Path>>(
    files: &[P],
    defaults: GroupDefaults,
    compile: &dyn RuleCompiler,
) -> Result<LoadedRules, ConfigError> {
    let mut all = LoadedRules::default();
    for path in files {
        let text = yaml::read_text(path.as_ref())?;
        let loaded = parse(&path.as_ref().display().to_string(), &text, defaults, compile)?;
        all.groups.extend(loaded.groups);
        all.warnings.extend(loaded.warnings);
    }
    Ok(all)
}

/// Parses the text of one rule file.
pub fn parse(
    file: &str,
    text: &str,
    defaults: GroupDefaults,
    compile: &dyn RuleCompiler,
) -> Result<LoadedRules, ConfigError> {
    let raw: RawFile = yaml::parse(file, text)?;
    let mut reader = RuleFileReader { file, text, defaults, compile, warnings: Vec::new() };
    let mut names = HashSet::new();
    let mut groups = Vec::new();
    for group in raw.groups.unwrap_or_default() {
        if group.name.value.is_empty() {
            return Err(reader.fault(
                group.name.referenced,
                "a group's name must not be empty",
                "give it a name",
            ));
        }
        // Per file, as in Prometheus: two files may have groups of the same name.
        if !names.insert(group.name.value.clone()) {
            let what = format!("groupname: {:?} is repeated in the same file", group.name.value);
            return Err(reader.fault(
                group.name.referenced,
                what,
                "rename one of the two groups, or join them",
            ));
        }
        groups.push(reader.group(group)?);
    }
    Ok(LoadedRules { groups, warnings: reader.warnings })
}

struct RuleFileReader<'a> {
    file: &'a str,
    text: &'a str,
    defaults: GroupDefaults,
    compile: &'a dyn RuleCompiler,
    warnings: Vec<ConfigError>,
}

impl RuleFileReader<'_> {
    fn fault(&self, place: Location, what: impl Into<String>, fix: impl Into<String>) -> ConfigError {
        ConfigError::at(self.file, place, what, fix)
    }

    fn duration(&self, text: &Option<Spanned<String>>, default: i64) -> Result<i64, ConfigError> {
        text.as_ref().map_or(Ok(default), |t| yaml::duration(self.file, t))
    }

    fn group(&mut self, raw: RawGroup) -> Result<RuleGroup, ConfigError> {
        let mut interval = self.duration(&raw.interval, self.defaults.interval)?;
        // `interval: 0s` means the default, as in Prometheus.
        if interval == 0 {
            interval = self.defaults.interval;
        }
        let query_offset = self.duration(&raw.query_offset, self.defaults.query_offset)?;
        let backfill = self.duration(&raw.backfill, 0)?;
        let lateness = self.lateness(&raw)?;
        self.check_labels(&raw.labels)?;
        let mut group = RuleGroup {
            file: self.file.to_owned(),
            name: raw.name.value,
            interval,
            query_offset,
            // A negative limit is none, as in Prometheus.
            limit: usize::try_from(raw.limit).unwrap_or(0),
            evaluation: raw.evaluation,
            lateness,
            rules: Vec::new(),
        };
        for rule in raw.rules.unwrap_or_default() {
            // The warning below belongs to the expression, not to the rule around it.
            let text = rule.value.expr.as_ref().or(rule.value.sql.as_ref());
            let place = text.map_or(rule.referenced, |text| text.referenced);
            let rule = self.rule(&raw.labels, backfill, rule)?;
            let dialect = Dialect::default();
            let queries = StoreQueries::Allowed;
            // A warning, not an error: rules of Prometheus must load. The default dialect suffices,
            // because features change results and not what can be maintained.
            if let Err(why) = check_live(&view_of(&group, &rule), dialect, queries) {
                let what = format!(
                    "the expression cannot be kept current ({why}): it is evaluated from history every second"
                );
                self.warnings.push(self.fault(
                    place,
                    what,
                    "it works, but not in the tick in which a sample comes; of subqueries only steps that are new or changed are evaluated",
                ));
            }
            group.rules.push(rule);
        }
        Ok(group)
    }

    fn lateness(&self, raw: &RawGroup) -> Result<Option<i64>, ConfigError> {
        match (raw.late_samples, &raw.lateness) {
            (LateSamplePolicy::Correct, text) => self.duration(text, LATENESS_MS).map(Some),
            (LateSamplePolicy::Keep, None) => Ok(None),
            // Refused: whoever wrote it expects corrections, and would wait for them in vain.
            (LateSamplePolicy::Keep, Some(text)) => Err(self.fault(
                text.referenced,
                "'lateness' without `late_samples: correct` means nothing",
                "add `late_samples: correct`, or remove it",
            )),
        }
    }

    fn rule(
        &mut self,
        group_labels: &TextMap,
        group_backfill: i64,
        raw: Spanned<RawRule>,
    ) -> Result<Rule, ConfigError> {
        let place = raw.referenced;
        let raw = raw.value;
        self.check_labels(&raw.labels)?;
        let labels = merged(group_labels, &raw.labels);
        match (&raw.record, &raw.alert) {
            (Some(_), Some(alert)) => Err(self.fault(
                alert.referenced,
                "only one of 'record' and 'alert' must be set",
                "remove one of them, or make two rules",
            )),
            (None, None) => Err(self.fault(
                place,
                "one of 'record' or 'alert' must be set",
                "add `alert: Name` (to be notified) or `record: level:metric:operation` (to keep a series)",
            )),
            (Some(record), None) => {
                // Only here: in a group with `backfill`, alerting rules are fine and have no
                // history to compute.
                let backfill = self.duration(&raw.backfill, group_backfill)?;
                let rule = self.recording(place, record, &raw, labels)?;
                Ok(Rule { backfill, ..rule })
            }
            (None, Some(alert)) => self.alerting(place, alert, &raw, labels),
        }
    }

    fn recording(
        &mut self,
        place: Location,
        record: &Spanned<String>,
        raw: &RawRule,
        labels: Vec<(String, String)>,
    ) -> Result<Rule, ConfigError> {
        let for_alerts = [("for", &raw.hold), ("keep_firing_for", &raw.keep_firing_for)];
        // The order of checks is that of Prometheus, so that of several mistakes the same one is
        // reported.
        for (field, value) in for_alerts {
            if let Some(value) = value {
                let what = format!("invalid field '{field}' in recording rule");
                return Err(self.fault(value.referenced, what, "only alerts have it: remove it"));
            }
        }
        if let Some(annotation) = raw.annotations.values().next() {
            let what = "invalid field 'annotations' in recording rule";
            return Err(self.fault(annotation.referenced, what, "only alerts have it: remove it"));
        }
        let name = &record.value;
        // The name of a metric may be any UTF-8, but braces are almost always a selector that
        // belongs into `expr`.
        if name.contains(['{', '}']) {
            let what = format!("braces present in the recording rule name; should it be in expr?: {name}");
            return Err(self.fault(record.referenced, what, "a name only; set labels under `labels`"));
        }
        if name.is_empty() {
            return Err(self.fault(record.referenced, "invalid recording rule name: \"\"", "give it a name"));
        }
        let expr = self.expression(place, raw, RuleUse::Record)?;
        Ok(Rule { name: name.clone(), expr, labels, alert: None, backfill: 0 })
    }

    fn alerting(
        &mut self,
        place: Location,
        alert: &Spanned<String>,
        raw: &RawRule,
        labels: Vec<(String, String)>,
    ) -> Result<Rule, ConfigError> {
        if alert.value.is_empty() {
            return Err(self.fault(alert.referenced, "an alert's name must not be empty", "give it a name"));
        }
        if let Some(backfill) = &raw.backfill {
            let what = "invalid field 'backfill' in alerting rule";
            return Err(self.fault(backfill.referenced, what, "only recording rules have a past: remove it"));
        }
        let expr = self.expression(place, raw, RuleUse::Alert)?;
        let hold = self.duration(&raw.hold, 0)?;
        let keep_firing_for = self.duration(&raw.keep_firing_for, 0)?;
        if let Some(empty) = raw.annotations.keys().find(|k| k.is_empty()) {
            return Err(self.fault(place, format!("invalid annotation name: {empty:?}"), "give it a name"));
        }
        // Labels of alerts are templates, too; those of recording rules are taken as they are.
        for text in raw.labels.values().chain(raw.annotations.values()) {
            self.template(&alert.value, &expr, text)?;
        }
        let annotations = raw.annotations.iter().map(|(k, v)| (k.clone(), v.value.clone())).collect();
        let options = AlertOptions { hold, keep_firing_for, annotations };
        Ok(Rule { name: alert.value.clone(), expr, labels, alert: Some(options), backfill: 0 })
    }

    fn expression(
        &mut self,
        place: Location,
        raw: &RawRule,
        purpose: RuleUse,
    ) -> Result<RuleExpression, ConfigError> {
        let missing = "field 'expr' must be set in rule";
        let (expr, compiled) = match (&raw.expr, &raw.sql) {
            (Some(_), Some(sql)) => {
                let what = "only one of 'expr' and 'sql' must be set";
                return Err(self.fault(sql.referenced, what, "remove one of them"));
            }
            (None, Some(sql)) => (sql, self.compile.sql(&sql.value, purpose)),
            (Some(expr), None) if expr.value.trim().is_empty() => {
                return Err(self.fault(expr.referenced, missing, "write a PromQL expression"));
            }
            (Some(expr), None) => (expr, self.compile.promql(&expr.value)),
            (None, None) => return Err(self.fault(place, missing, "add `expr: <PromQL>`")),
        };
        let compiled = compiled.map_err(|e| self.expression_fault(expr, &e))?;
        match compiled.plan.kind() {
            // A scalar records one series without labels, as in Prometheus.
            ValueType::Scalar | ValueType::Vector => Ok(compiled),
            ValueType::Matrix => {
                self.failing(expr, compiled, "a range vector", "wrap it, e.g. in rate(…) or max_over_time(…)")
            }
            ValueType::Text => self.failing(expr, compiled, "a string", "write an expression"),
        }
    }

    /// An expression of a type that no rule can have. As in Prometheus the file loads, and the
    /// evaluations of this rule fail: the other rules of the file still alert.
    fn failing(
        &mut self,
        expr: &Spanned<String>,
        compiled: RuleExpression,
        kind: &str,
        fix: &str,
    ) -> Result<RuleExpression, ConfigError> {
        let what = format!("all evaluations of this rule will fail: its expression is {kind}");
        self.warnings.push(self.fault(expr.referenced, what, fix));
        let empty = self.compile.promql(NO_ROWS).map_err(|e| self.expression_fault(expr, &e))?;
        Ok(RuleExpression { plan: empty.plan, fault: Some(WRONG_TYPE), ..compiled })
    }

    fn template(
        &mut self,
        alert: &str,
        expr: &RuleExpression,
        text: &Spanned<String>,
    ) -> Result<(), ConfigError> {
        template::check(alert, &text.value).map_err(|e| {
            let (line, column) = yaml::inside_scalar(self.text, text.referenced, e.line, e.column);
            let mut fault = self.fault(text.referenced, format!("bad template: {}", e.what), e.fix);
            fault.line = line;
            fault.column = column;
            fault
        })?;
        // A warning only: a label that is always empty is legal, and harmless until somebody reads
        // the notification.
        let missing = lint::missing_labels_of(expr, &text.value);
        for label in missing {
            let what =
                format!("alert {alert:?}: $labels.{label} is always empty: the expression drops this label");
            let fix = format!("keep it in the aggregation (e.g. `by ({label})`), or take it out of the text");
            self.warnings.push(self.fault(text.referenced, what, fix));
        }
        Ok(())
    }

    /// The error of an expression, with its line and column in the file.
    fn expression_fault(&self, scalar: &Spanned<String>, error: &QueryTextError) -> ConfigError {
        let what = format!("could not parse expression: {error}");
        let mut fault = self.fault(scalar.referenced, what, "correct the expression");
        if let Some((line, column)) = error.line_and_column() {
            (fault.line, fault.column) = yaml::inside_scalar(self.text, scalar.referenced, line, column);
        }
        fault
    }

    fn check_labels(&self, labels: &TextMap) -> Result<(), ConfigError> {
        for (name, value) in labels {
            if name.is_empty() || name == "__name__" {
                let fix = "use a non-empty name other than __name__";
                return Err(self.fault(value.referenced, format!("invalid label name: {name}"), fix));
            }
        }
        Ok(())
    }
}

fn merged(group: &TextMap, rule: &TextMap) -> Vec<(String, String)> {
    let mut labels: BTreeMap<&String, &String> = group.iter().map(|(k, v)| (k, &v.value)).collect();
    // The labels of a rule win over those of its group.
    labels.extend(rule.iter().map(|(k, v)| (k, &v.value)));
    labels.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Replaces PromQL in tests: any text is a selector of the metric with that name; a text with `!`
/// has an error at that position.
#[cfg(test)]
pub(crate) fn fake_compile(text: &str) -> Result<RuleExpression, QueryTextError> {
    use engine::plan::{PlanNode, PlanOp, Selector};
    if let Some(at) = text.find('!') {
        let start = at as u32;
        let span = Span { start, end: start + 1 };
        return Err(QueryTextError::new(text, span, "unexpected character: '!'".to_owned()));
    }
    let matchers = vec![storage::model::Matcher::equal("__name__", text.trim())];
    let op = PlanOp::Instant(Selector { matchers, offset: 0, at: None, extension: None });
    let plan = std::sync::Arc::new(PlanNode { op, span: Span::default() });
    Ok(RuleExpression::promql(plan, text.trim().to_owned()))
}
