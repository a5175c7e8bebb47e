//! Users who see only the series with certain labels (`basic_auth_user_labels` of the web
//! configuration file).
//!
//! The handlers of such a user's request get services that are wrapped ([`sources`]). The wrappers
//! add the user's matchers to every selector of every plan and list, so a handler cannot forget
//! them. Data that matchers cannot narrow are refused: each entry of [`super::endpoints`] says what
//! such a user may have of it, and an entry that says nothing is refused. See `docs/security.md`.

mod sources;

#[cfg(feature = "sql")]
pub(crate) use sources::ConfinedLists;

use super::response::text_error;
use super::{ApiServices, AppState};
use axum::http::StatusCode;
use axum::response::Response;
use engine::functions::{Kernel, OperatorFunction};
use engine::plan::{Plan, PlanNode, PlanOp, Selector};
use engine::query::QueryError;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use storage::model::{Labels, Matcher};

/// What a user who is confined to labels gets of an endpoint.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConfinedAccess {
    /// The answer is the same for everybody, as it has nothing of any series.
    Same,
    /// The answer is made of the user's own series only.
    Own,
    /// 403.
    Refused,
}

/// The labels that a user is confined to: all of them, each with its value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Confinement(Vec<(String, String)>);

/// Why a text is no confinement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfinementError {
    /// There is no label: the user would see everything.
    #[error("there is no label that confines the user")]
    Empty,
    /// A label has no name, or no value.
    #[error("label {0:?} needs a name and a value: series without the label belong to nobody")]
    Label(String),
}

impl fmt::Debug for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.matchers().iter().map(ToString::to_string).collect();
        write!(f, "{{{}}}", all.join(","))
    }
}

impl Confinement {
    /// The confinement to these labels.
    ///
    /// # Errors
    /// There is none, or one is empty.
    pub fn new(labels: &BTreeMap<String, String>) -> Result<Confinement, ConfinementError> {
        if labels.is_empty() {
            return Err(ConfinementError::Empty);
        }
        if let Some((name, _)) = labels.iter().find(|(name, value)| name.is_empty() || value.is_empty()) {
            return Err(ConfinementError::Label(name.clone()));
        }
        Ok(Confinement(labels.clone().into_iter().collect()))
    }

    /// The matchers that every selector gets.
    pub fn matchers(&self) -> Vec<Matcher> {
        self.0.iter().map(|(name, value)| Matcher::equal(name.as_str(), value.as_str())).collect()
    }

    /// Whether something with these labels is the user's.
    pub fn has(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(name, value)| labels.get(name) == Some(value.as_str()))
    }

    /// The same of labels in a map.
    fn has_map(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(name, value)| labels.get(name) == Some(value))
    }

    /// The matchers with those of the confinement. Both must hold: a selector of another's series
    /// selects nothing.
    fn added(&self, matchers: &[Matcher]) -> Vec<Matcher> {
        let mut all = matchers.to_vec();
        all.extend(self.matchers().into_iter().filter(|own| !matchers.contains(own)));
        all
    }

    /// The sets with the matchers of the confinement in each.
    fn added_to_each(&self, sets: &[Vec<Matcher>]) -> Vec<Vec<Matcher>> {
        sets.iter().map(|set| self.added(set)).collect()
    }

    /// The same where no set means every series.
    fn added_to_all(&self, sets: &[Vec<Matcher>]) -> Vec<Vec<Matcher>> {
        if sets.is_empty() { vec![self.matchers()] } else { self.added_to_each(sets) }
    }

    /// The plan with the matchers of the confinement in every selector.
    ///
    /// # Errors
    /// A part reads series that no selector of the plan names.
    pub fn plan(&self, plan: &Plan) -> Result<Plan, QueryError> {
        if let PlanOp::Call { function, .. } = &plan.op {
            match function.0.kernel {
                // It reads info metrics by itself, of whichever owner.
                Kernel::Operator(OperatorFunction::Info) => {
                    return Err(refused("info() cannot be asked by a user who is confined to labels"));
                }
                Kernel::Operator(OperatorFunction::Statement) => {
                    return Err(refused(
                        "a user who is confined to labels can only subscribe to statements that are a plan \
                         (EXPLAIN says which are)",
                    ));
                }
                _ => {}
            }
        }
        let select =
            |selector: &Selector| Selector { matchers: self.added(&selector.matchers), ..selector.clone() };
        let op = match &plan.op {
            PlanOp::Instant(selector) => PlanOp::Instant(select(selector)),
            PlanOp::Range { selector, range } => PlanOp::Range { selector: select(selector), range: *range },
            op => {
                let mut fault = None;
                let mapped = op.map_inputs(&mut |input| match self.plan(input) {
                    Ok(confined) => confined,
                    Err(e) => {
                        fault = Some(e);
                        input.clone()
                    }
                });
                if let Some(fault) = fault {
                    return Err(fault);
                }
                mapped
            }
        };
        Ok(Arc::new(PlanNode { op, span: plan.span }))
    }
}

fn refused(why: &str) -> QueryError {
    QueryError::BadData(why.to_owned())
}

/// What the requests of users with one confinement share.
pub(crate) struct ConfinedScope {
    pub(crate) confinement: Arc<Confinement>,
    pub(crate) sources: Arc<ApiServices>,
    /// The engine of SQL over these sources, made by the first statement.
    #[cfg(feature = "sql")]
    pub(crate) sql: std::sync::OnceLock<Arc<::sql::SqlEngine>>,
}

impl ConfinedScope {
    pub(crate) fn new(confinement: Arc<Confinement>, all: &ApiServices) -> Arc<ConfinedScope> {
        Arc::new(ConfinedScope {
            sources: Arc::new(sources::confined(all, &confinement)),
            confinement,
            #[cfg(feature = "sql")]
            sql: std::sync::OnceLock::new(),
        })
    }
}

/// The answer to a request for what a confined user may not ask.
pub(crate) fn forbidden(path: &str) -> Response {
    let why = format!(
        "{path} is not for users who are confined to labels (basic_auth_user_labels of --web.config.file)"
    );
    text_error(StatusCode::FORBIDDEN, &why)
}

impl AppState {
    /// The plan as the user of this request may ask it.
    pub(crate) fn own_plan(&self, plan: Plan) -> Result<Plan, QueryError> {
        match &self.scope {
            Some(scope) => scope.confinement.plan(&plan),
            None => Ok(plan),
        }
    }

    /// Refuses what a confined user may not do.
    pub(crate) fn for_everybody(&self, what: &str) -> Result<(), QueryError> {
        match &self.scope {
            Some(_) => Err(refused(&format!("{what}: not for users who are confined to labels"))),
            None => Ok(()),
        }
    }

    /// The matchers that the user of this request is confined to.
    pub(crate) fn own_matchers(&self) -> Vec<Matcher> {
        self.scope.as_ref().map(|scope| scope.confinement.matchers()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::plan::Span;

    fn team(value: &str) -> Confinement {
        Confinement::new(&BTreeMap::from([("team".to_owned(), value.to_owned())])).unwrap()
    }

    #[test]
    fn a_confinement_has_labels_with_values() {
        assert_eq!(Confinement::new(&BTreeMap::new()), Err(ConfinementError::Empty));
        for (name, value) in [("", "a"), ("team", "")] {
            let labels = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(Confinement::new(&labels), Err(ConfinementError::Label(name.to_owned())));
        }
        assert_eq!(format!("{:?}", team("a")), r#"{team="a"}"#);
        assert!(team("a").has(&Labels::from_pairs([("team", "a"), ("x", "y")])));
        assert!(!team("a").has(&Labels::from_pairs([("x", "y")])));
    }

    #[test]
    fn every_selector_of_a_plan_gets_the_matchers() {
        let node = |op| Arc::new(PlanNode { op, span: Span::default() });
        let selector = |matchers| Selector { matchers, offset: 0, at: None, extension: None };
        let name = Matcher::equal("__name__", "m");
        let other = Matcher::equal("team", "b");
        let own = Matcher::equal("team", "a");
        let instant = node(PlanOp::Instant(selector(vec![name.clone(), other.clone()])));
        let range = node(PlanOp::Range { selector: selector(vec![name.clone(), own.clone()]), range: 5 });
        let subquery = node(PlanOp::Subquery { input: instant, range: 9, step: None, offset: 0, at: None });
        let both = node(PlanOp::Binary(Box::new(engine::plan::Binary {
            op: engine::plan::BinaryOp::Add,
            return_bool: false,
            matching: Default::default(),
            lhs: subquery,
            rhs: range,
            kind: engine::plan::ValueType::Vector,
        })));
        let confined = team("a").plan(&both).unwrap();
        let mut found = Vec::new();
        let mut rest = vec![confined];
        while let Some(plan) = rest.pop() {
            if let PlanOp::Instant(selector) | PlanOp::Range { selector, .. } = &plan.op {
                found.push(selector.matchers.clone());
            }
            rest.extend(plan.inputs().into_iter().cloned());
        }
        assert_eq!(found, [vec![name.clone(), own.clone()], vec![name, other, own]]);
        let statement =
            engine::plan::statement::plan_of_statement("SELECT 1", engine::plan::statement::RowForm::Cells);
        assert!(team("a").plan(&node(PlanOp::Negate(statement))).is_err(), "it would run unconfined");
    }
}
