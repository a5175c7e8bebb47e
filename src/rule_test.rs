//! Evaluates an alerting rule over history, for `/api/v1/rules/test`.
//!
//! It parses the rule, evaluates its condition in range queries of some thousand steps, and feeds
//! the results to the alert state machine ([`rules::trial`]). So it needs the memory of one query,
//! however long the time.

use crate::server::Server;
use crate::statements::RuleLanguages;
use api::json_model::AlertStateJson;
use api::limits::{RULE_TEST_PIECE_STEPS, RULE_TEST_STEPS};
use api::response::{ApiError, ErrorType};
use api::rule_test::{
    RuleTestJson, RuleTestProgress, RuleTestRequest, RuleText, TestedAlertJson, TestedIntervalJson,
    too_many_steps,
};
use engine::plan::Plan;
use engine::query::{QueryEngine, QueryError, QueryOptions, QueryValue, depends_on_query_times};
use rules::alert::AlertState;
use rules::file::{self, Rule, RuleGroup};
use rules::trial::{self, RuleTrial, TrialAlert, TrialInterval};
use rules::yaml::ConfigError;
use std::time::Instant;
use storage::model::{Labels, TimeMs};

/// What the file is called in errors.
const FILE: &str = "rule";
/// The name of the group of a rule that has none.
const GROUP: &str = "test";

/// The rows of a condition at one time.
type Rows = Vec<(Labels, f64)>;

/// Tries the rule of `request` on the history of `server`.
pub(crate) fn test(
    server: &Server,
    request: &RuleTestRequest,
    options: &QueryOptions,
    tell: &dyn Fn(RuleTestProgress),
) -> Result<RuleTestJson, ApiError> {
    let (group, rule) = find(server, request)?;
    let step = request.step.unwrap_or_else(|| trial::default_step(&group));
    if !trial::is_possible_step(&group, step) {
        let reason = "with evaluation: interval it must be a multiple of the group's interval";
        return Err(ApiError::parameter("step", reason));
    }
    let start = trial::first_time(request.start, step);
    let steps = (request.end - start).div_euclid(step) + 1;
    if steps > RULE_TEST_STEPS {
        return Err(too_many_steps());
    }
    let end = start + (steps - 1).max(0) * step;
    let queries = server.rules.template_queries.clone();
    let trial = RuleTrial::new(&group, &rule, &server.rules.trial_options(), queries, start)
        .map_err(|e| ApiError::parameter("rule", e))?;
    let mut run = TrialRun {
        engine: &*server.queries.querier,
        plan: &rule.expr.plan,
        options,
        began: Instant::now(),
        query_offset: group.query_offset,
        start,
        end,
        step,
        trial,
    };
    if steps > 0 {
        run.run(tell)?;
    }
    let report = run.trial.finish(end);
    Ok(RuleTestJson {
        alert: rule.name.clone(),
        query: rule.expr.text.clone(),
        start,
        end,
        step: step as f64 / 1000.0,
        alerts: report.alerts.iter().map(alert).collect(),
        fired: report.fired,
        firing_seconds: report.firing_ms as f64 / 1000.0,
        longest_seconds: report.longest_ms as f64 / 1000.0,
        notifications: report.notifications,
        sent: report.sent,
        evaluations: report.evaluations,
        failures: report.failures,
        first_error: report.first_failure.map(|(_, error)| error).unwrap_or_default(),
        truncated: report.truncated,
    })
}

fn alert(alert: &TrialAlert) -> TestedAlertJson {
    let shown = |interval: &TrialInterval| TestedIntervalJson {
        from: interval.from,
        to: interval.to,
        state: match interval.state {
            AlertState::Inactive => AlertStateJson::Inactive,
            AlertState::Pending => AlertStateJson::Pending,
            AlertState::Firing => AlertStateJson::Firing,
        },
        open: interval.is_open,
    };
    TestedAlertJson { labels: alert.labels.clone(), intervals: alert.intervals.iter().map(shown).collect() }
}

/// A trial that runs.
struct TrialRun<'a> {
    engine: &'a dyn QueryEngine,
    plan: &'a Plan,
    options: &'a QueryOptions,
    began: Instant,
    query_offset: i64,
    start: TimeMs,
    end: TimeMs,
    step: i64,
    trial: RuleTrial,
}

impl TrialRun<'_> {
    fn run(&mut self, tell: &dyn Fn(RuleTestProgress)) -> Result<(), ApiError> {
        // `start()` and `end()` of a rule are its evaluation time, which only a query at that time
        // has.
        let most = if depends_on_query_times(self.plan) { 1 } else { RULE_TEST_PIECE_STEPS };
        let mut piece = most;
        let mut t = self.start;
        while t <= self.end {
            let last = self.end.min(t + (piece - 1) * self.step);
            match self.evaluate(t, last) {
                Ok(answers) => {
                    for (at, rows) in (t..=last).step_by(self.step as usize).zip(answers) {
                        self.trial.answer(at, rows);
                    }
                    t = last + self.step;
                    piece = (piece * 2).min(most);
                    self.tell(tell, last);
                }
                // Too much for one query, or an error at one of the times: which one, shorter
                // pieces show.
                Err(QueryError::LimitReached(_) | QueryError::Execution(_)) if piece > 1 => {
                    piece = (piece / 8).max(1);
                }
                Err(QueryError::Execution(error)) => {
                    self.trial.failed(t, error);
                    t += self.step;
                    self.tell(tell, t);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn tell(&self, tell: &dyn Fn(RuleTestProgress), at: TimeMs) {
        let whole = (self.end - self.start).max(1);
        let done = ((at - self.start) as f64 / whole as f64).min(1.0);
        tell(RuleTestProgress { done, at, fired: self.trial.fired() });
    }

    /// The rows at `from, from + step, … ≤ to`.
    fn evaluate(&self, from: TimeMs, to: TimeMs) -> Result<Vec<Rows>, QueryError> {
        let timeout = self.options.timeout.saturating_sub(self.began.elapsed());
        if timeout.is_zero() {
            return Err(QueryError::Timeout(
                "the test of the rule timed out; try a shorter time or a longer step".to_owned(),
            ));
        }
        let options = QueryOptions { timeout, ..self.options.clone() };
        let mut answers = vec![Rows::new(); ((to - from) / self.step) as usize + 1];
        let shift = self.query_offset;
        let value = if from == to {
            self.engine.instant(self.plan, from - shift, &options)?.value
        } else {
            self.engine.range(self.plan, from - shift, to - shift, self.step, &options)?.value
        };
        match value {
            QueryValue::Vector(rows) => {
                answers[0] =
                    rows.into_iter().map(|row| (row.labels, number(row.v, row.h.is_some()))).collect()
            }
            QueryValue::Scalar(_, v) => answers[0] = vec![(Labels::default(), v)],
            QueryValue::Matrix(series) => {
                let place = |t: TimeMs| ((t + shift - from) / self.step) as usize;
                for one in series {
                    for (t, v) in one.points {
                        answers[place(t)].push((one.labels.clone(), v));
                    }
                    for (t, _) in one.histograms {
                        answers[place(t)].push((one.labels.clone(), number(0.0, true)));
                    }
                }
            }
            QueryValue::Text(..) => {}
        }
        Ok(answers)
    }
}

/// The value of a row for an alert: a histogram counts as 0, as in Prometheus.
fn number(value: f64, is_histogram: bool) -> f64 {
    if is_histogram { 0.0 } else { value }
}

/// The rule that is meant, with its group.
fn find(server: &Server, request: &RuleTestRequest) -> Result<(RuleGroup, Rule), ApiError> {
    let groups = read(server, request)?;
    let mut found: Vec<(&RuleGroup, &Rule)> = Vec::new();
    for group in groups.iter().filter(|g| request.group.is_empty() || g.name == request.group) {
        let rules = group.rules.iter().enumerate().filter(|(at, rule)| {
            rule.alert.is_some()
                && (request.alert.is_empty() || rule.name == request.alert)
                && request.index.is_none_or(|index| index == *at)
        });
        found.extend(rules.map(|(_, rule)| (group, rule)));
    }
    match found[..] {
        [(group, rule)] => Ok((group.clone(), rule.clone())),
        [] => Err(ApiError::parameter("rule", "there is no such alert in it")),
        _ => {
            let names: Vec<&str> = found.iter().map(|(_, rule)| rule.name.as_str()).collect();
            let reason = format!(
                "it has {} alerts ({}): name one with alert, group and index",
                names.len(),
                names.join(", ")
            );
            Err(ApiError::parameter("rule", reason))
        }
    }
}

fn read(server: &Server, request: &RuleTestRequest) -> Result<Vec<RuleGroup>, ApiError> {
    let queries = &server.queries;
    let languages = RuleLanguages::with_tables(queries.language, true, &queries.statements);
    let wrapped = match &request.text {
        RuleText::Yaml(text) => wrap(text, request.interval),
        RuleText::Fields(fields) => {
            let mut group = serde_json::json!({ "name": GROUP, "rules": [fields] });
            if let Some(interval) = request.interval {
                group["interval"] = format!("{interval}ms").into();
            }
            // JSON is YAML.
            WrappedRule { text: serde_json::json!({ "groups": [group] }).to_string(), lines: 0, columns: 0 }
        }
    };
    let read = file::parse(FILE, &wrapped.text, server.rules.trial_defaults(), &languages);
    let loaded = read.map_err(|error| ApiError::new(ErrorType::BadData, wrapped.place(error).to_string()))?;
    Ok(loaded.groups)
}

/// A rule as the only one of a file, and by how much its text has moved.
struct WrappedRule {
    text: String,
    lines: u64,
    columns: u64,
}

impl WrappedRule {
    /// The error at its place in the text as it was given.
    fn place(&self, error: ConfigError) -> ConfigError {
        ConfigError {
            line: error.line.saturating_sub(self.lines),
            column: error.column.saturating_sub(self.columns).max(1),
            ..error
        }
    }
}

/// Makes a file of a rule, of a list of rules, or of a file.
fn wrap(text: &str, interval: Option<i64>) -> WrappedRule {
    if text.lines().any(|line| line.starts_with("groups:")) {
        return WrappedRule { text: text.to_owned(), lines: 0, columns: 0 };
    }
    let mut wrapped = format!("groups:\n- name: {GROUP}\n");
    if let Some(interval) = interval {
        wrapped.push_str(&format!("  interval: {interval}ms\n"));
    }
    wrapped.push_str("  rules:\n");
    let lines = wrapped.lines().count() as u64;
    let content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let is_list = text.lines().find(content).is_some_and(|line| line.starts_with('-'));
    let mut is_first = true;
    for line in text.lines() {
        let prefix = if is_list {
            "  "
        } else if is_first && content(&line) {
            is_first = false;
            "  - "
        } else {
            "    "
        };
        wrapped.push_str(prefix);
        wrapped.push_str(line);
        wrapped.push('\n');
    }
    WrappedRule { text: wrapped, lines, columns: if is_list { 2 } else { 4 } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::file::GroupDefaults;

    fn parsed(text: &str) -> Result<Vec<String>, ConfigError> {
        let wrapped = wrap(text, Some(5_000));
        let languages = RuleLanguages::new(promql::PromqlOptions::default(), false);
        let defaults = GroupDefaults { interval: 60_000, query_offset: 0 };
        let read = file::parse(FILE, &wrapped.text, defaults, &languages).map_err(|e| wrapped.place(e))?;
        let rules = read.groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        Ok(rules.map(|(group, rule)| format!("{} {} {}", group.name, group.interval, rule.name)).collect())
    }

    #[test]
    fn a_rule_a_list_and_a_file_are_read() {
        assert_eq!(parsed("alert: A\nexpr: |\n  up\n  == 0\nfor: 5m").unwrap(), ["test 5000 A"]);
        assert_eq!(parsed("# why\n\nalert: A\nexpr: up == 0").unwrap(), ["test 5000 A"]);
        let list = "- alert: A\n  expr: up\n- alert: B\n  expr: up\n";
        assert_eq!(parsed(list).unwrap(), ["test 5000 A", "test 5000 B"]);
        let file = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up}\n";
        assert_eq!(parsed(file).unwrap(), ["g 60000 A"]);
    }

    #[test]
    fn an_error_has_its_place_in_the_text_as_given() {
        for (text, line, column) in [
            ("alert: A\nexpr: up ==", 2, 12),
            ("alert: A\nexpr: up\nfro: 5m", 3, 1),
            ("- alert: A\n  expr: up\n  fro: 5m", 3, 3),
        ] {
            let error = parsed(text).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{error}");
        }
    }
}
