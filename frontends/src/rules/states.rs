//! The state machine of one alerting rule: inactive, pending, firing, resolved. No clock, no I/O.
//!
//! Rows of the condition come in with their tick ([`Alerts::apply`]), time comes in by [`Alerts::advance`];
//! every alert has at most one timer, so that only what falls due is touched, and so has its next sending.
//! Semantics are those of Prometheus' `rules/alerting.go`, except that time is continuous: `for` ends at its exact
//! millisecond.

use super::alert::{Alert, Due, Restored, Row, State, Timing};
use super::inbox::Told;
use super::limits::RESOLVED_RETENTION_MS;
use super::texts::Texts;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// The name of the series that are 1 while an alert is pending or fires.
pub const ALERTS: &str = "ALERTS";
/// The name of the series that say since when.
pub const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";

/// All alerts of one rule.
#[derive(Debug)]
pub struct Alerts {
    timing: Timing,
    active: BTreeMap<Labels, Alert>,
    /// The rows that hold now: row → (alert, value).
    rows: HashMap<Labels, (Labels, f64)>,
    /// The rows of each alert; more than one is an error.
    holders: HashMap<Labels, Vec<Labels>>,
    clashes: usize,
    failed: bool,
    /// Evaluating the condition fails: nobody knows what holds.
    stands_still: bool,
    /// Nothing happens by itself before this time: until then the states stood still.
    moves_from: TimeMs,
    /// What series tell of alerts of before the start, until their rows come.
    restored: HashMap<Labels, Alert>,
    timers: BTreeSet<(TimeMs, Labels)>,
    sends: BTreeSet<(TimeMs, Labels)>,
    /// Alerts whose state or start changed since [`Alerts::take_changed`].
    changed: BTreeSet<Labels>,
    /// Alerts that are not as they were at [`Alerts::take_news`].
    news: BTreeSet<Labels>,
    /// Alerts as they fired that had ended before they could be sent.
    brief: Vec<(Labels, Alert)>,
}

/// The error of rows that become one alert.
pub const SAME_LABELS: &str = "vector contains metrics with the same labelset after applying alert labels";

impl Alerts {
    /// No alert yet.
    pub fn new(timing: Timing) -> Alerts {
        Alerts {
            timing,
            active: BTreeMap::new(),
            rows: HashMap::new(),
            holders: HashMap::new(),
            clashes: 0,
            failed: false,
            stands_still: false,
            moves_from: TimeMs::MIN,
            restored: HashMap::new(),
            timers: BTreeSet::new(),
            sends: BTreeSet::new(),
            changed: BTreeSet::new(),
            news: BTreeSet::new(),
            brief: Vec::new(),
        }
    }

    /// All alerts by their labels; resolved ones stay for a while.
    pub fn iter(&self) -> impl Iterator<Item = (&Labels, &Alert)> {
        self.active.iter()
    }

    /// Whether there is an alert with these labels.
    pub fn has(&self, labels: &Labels) -> bool {
        self.active.contains_key(labels)
    }

    /// The highest state of all alerts.
    pub fn state(&self) -> State {
        self.active.values().map(|a| a.state).max().unwrap_or(State::Inactive)
    }

    /// The rows that hold now.
    pub fn rows(&self) -> impl Iterator<Item = &Labels> {
        self.rows.keys()
    }

    /// The alerts of which `ALERTS` shows something else than at the last call.
    pub fn take_changed(&mut self) -> BTreeSet<Labels> {
        std::mem::take(&mut self.changed)
    }

    /// The alerts that have changed since the last call, in anything but their value; `None`: it is forgotten.
    pub fn take_news(&mut self) -> Vec<(Labels, Option<&Alert>)> {
        let news = std::mem::take(&mut self.news);
        news.into_iter().map(|labels| (labels.clone(), self.active.get(&labels))).collect()
    }

    /// All alerts count as changed.
    pub fn all_news(&mut self) {
        self.news.extend(self.active.keys().cloned());
    }

    /// Takes up the alerts of before a restart exactly as they were. Those that were active wait for their row until
    /// [`Alerts::settle`]; those that had ended are told about as long as any other.
    pub fn resume(&mut self, alerts: Vec<(Labels, Alert)>, now: TimeMs) {
        for (labels, alert) in alerts {
            if alert.resolved_at.is_some_and(|r| now > r + RESOLVED_RETENTION_MS) {
                continue;
            }
            self.insert(labels, alert);
        }
        self.retime(self.timing, now);
    }

    /// The rule asks something else now: its alerts wait for their rows.
    pub fn await_rows(&mut self) {
        let (rows, holders) = (&mut self.rows, &mut self.holders);
        rows.clear();
        holders.clear();
        (self.clashes, self.failed) = (0, false);
        let labels: Vec<Labels> = self.active.keys().cloned().collect();
        for labels in labels {
            if let Some(alert) = self.active.get_mut(&labels).filter(|a| a.state != State::Inactive) {
                alert.awaited = true;
                self.schedule(&labels);
            }
        }
    }

    /// A row has come that an alert waited for, before a slot looks at it.
    pub fn row_has_come(&mut self, row: Row) {
        let Some(alert) = self.active.get_mut(&row.alert).filter(|alert| alert.awaited) else { return };
        alert.awaited = false;
        self.schedule(&row.alert);
        self.holders.entry(row.alert.clone()).or_default().push(row.row.clone());
        self.rows.insert(row.row, (row.alert, row.value));
    }

    /// Keeps what was told of an alert.
    pub fn keep_texts(&mut self, labels: &Labels, texts: Arc<Texts>) {
        if let Some(alert) = self.active.get_mut(labels) {
            alert.texts = Some(texts);
        }
    }

    /// An Alertmanager took an alert as it was handed out.
    pub fn told(&mut self, told: &Told) {
        let is_it = |a: &&mut Alert| (a.fired_at, a.resolved_at) == (told.fired_at, told.resolved_at);
        if let Some(alert) = self.active.get_mut(&told.labels).filter(is_it)
            && alert.told_at < Some(told.sent)
        {
            alert.told_at = Some(told.sent);
            self.news.insert(told.labels.clone());
        }
    }

    fn insert(&mut self, labels: Labels, alert: Alert) {
        if let Some(old) = self.active.insert(labels.clone(), alert) {
            self.unschedule(&labels, &old);
        }
        self.changed.insert(labels.clone());
        self.schedule(&labels);
    }

    fn remove(&mut self, labels: &Labels) {
        if let Some(old) = self.active.remove(labels) {
            self.unschedule(labels, &old);
            self.changed.insert(labels.clone());
            self.news.insert(labels.clone());
        }
    }

    fn unschedule(&mut self, labels: &Labels, old: &Alert) {
        old.due.map(|t| self.timers.remove(&(t, labels.clone())));
        old.send_due.map(|t| self.sends.remove(&(t, labels.clone())));
    }

    /// Takes up the alerts of before a restart as Prometheus does, from what their series tell: those whose row comes
    /// before [`Alerts::settle`] go on, of the others nobody hears. `grace`: an alert that was about to fire waits at least this long
    /// (`--rules.alert.for-grace-period`), unless its `for` is shorter.
    pub fn restore(&mut self, alerts: Vec<Restored>, now: TimeMs, grace: i64) {
        let hold = self.timing.hold;
        for old in alerts {
            let remaining = hold - (old.seen_at - old.active_at);
            let active_at = match old.firing || remaining <= 0 {
                true => old.active_at,
                false if remaining < grace && hold >= grace => now + grace - hold,
                false => old.active_at + (now - old.seen_at),
            };
            let state = if old.firing { State::Firing } else { State::Pending };
            let alert = Alert {
                state,
                fired_at: old.firing.then_some(active_at + hold),
                // When it was sent is not known; that it was, is likely.
                last_sent_at: old.firing.then_some(old.seen_at),
                ..Alert::begun(Labels::default(), active_at)
            };
            self.restored.insert(old.alert, alert);
        }
    }

    /// Alerts whose row has not come by now are over since `t` (or fire on by `keep_firing_for`). Those that only
    /// series told of are dropped without a word: they may be somebody else's.
    pub fn settle(&mut self, t: TimeMs) {
        self.restored.clear();
        let awaited: Vec<Labels> =
            self.active.iter().filter(|(_, a)| a.awaited).map(|(l, _)| l.clone()).collect();
        for labels in awaited {
            let Some(alert) = self.active.get_mut(&labels) else { continue };
            alert.awaited = false;
            self.row_gone(&labels, t);
        }
    }

    /// New timing after a reload. What fires goes on firing, as in Prometheus.
    pub fn retime(&mut self, timing: Timing, t: TimeMs) {
        self.timing = timing;
        let keys: Vec<Labels> = self.active.keys().cloned().collect();
        keys.iter().for_each(|labels| self.schedule(labels));
        if timing.continuous {
            self.advance(t);
        }
    }

    /// Evaluating the condition failed: as in Prometheus nothing changes until it goes well again.
    pub fn stand_still(&mut self) {
        self.stands_still = true;
    }

    /// Evaluating went well at `t`, if all its rows are known.
    pub fn go_on(&mut self, t: TimeMs) {
        if std::mem::take(&mut self.stands_still) {
            self.moves_from = t;
        }
    }

    /// Whether evaluating the condition fails.
    pub fn fails(&self) -> bool {
        self.stands_still
    }

    /// Whether it is not known what holds: the states stand still.
    pub fn stands(&self) -> bool {
        self.stands_still || self.failed
    }

    /// Takes the changes of tick `t`. Timers that fell due before `t` run first, unless it was not known what holds.
    /// An error leaves the states as they are, until the rows are in order again.
    pub fn apply(&mut self, t: TimeMs, upsert: Vec<Row>, remove: &[Labels]) -> Result<(), &'static str> {
        if self.timing.continuous {
            self.advance(t - 1);
        }
        let mut touched: Vec<Labels> = remove.iter().filter_map(|row| self.drop_row(row)).collect();
        for row in upsert {
            touched.extend(self.drop_row(&row.row).filter(|old| *old != row.alert));
            let holders = self.holders.entry(row.alert.clone()).or_default();
            holders.push(row.row.clone());
            self.clashes += usize::from(holders.len() == 2);
            touched.push(row.alert.clone());
            self.rows.insert(row.row, (row.alert, row.value));
        }
        if self.clashes > 0 {
            self.failed = true;
            return Err(SAME_LABELS);
        }
        self.go_on(t);
        if std::mem::take(&mut self.failed) {
            self.moves_from = t;
            self.reconcile(t);
        } else {
            touched.iter().for_each(|labels| self.touch(labels, t));
        }
        self.advance(t);
        Ok(())
    }

    /// After an error: every row and every alert is looked at.
    fn reconcile(&mut self, t: TimeMs) {
        let keys: BTreeSet<Labels> = self.active.keys().chain(self.holders.keys()).cloned().collect();
        keys.iter().for_each(|labels| self.touch(labels, t));
    }

    /// Forgets a row; the alert it had.
    fn drop_row(&mut self, row: &Labels) -> Option<Labels> {
        let (alert, _) = self.rows.remove(row)?;
        if let Some(holders) = self.holders.get_mut(&alert) {
            self.clashes -= usize::from(holders.len() == 2);
            holders.retain(|r| r != row);
            if holders.is_empty() {
                self.holders.remove(&alert);
            }
        }
        Some(alert)
    }

    /// Brings an alert in line with its row, if it has one.
    fn touch(&mut self, labels: &Labels, t: TimeMs) {
        let row = self.holders.get(labels).and_then(|holders| holders.first());
        match row.and_then(|row| Some((row.clone(), self.rows.get(row)?.1))) {
            Some((row, value)) => self.row_holds(labels, &row, value, t),
            None => self.row_gone(labels, t),
        }
    }

    fn row_holds(&mut self, labels: &Labels, row: &Labels, value: f64, t: TimeMs) {
        if let Some(alert) = self.active.get_mut(labels)
            && alert.state != State::Inactive
        {
            alert.value = value;
            alert.row.clone_from(row);
            alert.seen_at = t;
            let awaited = std::mem::take(&mut alert.awaited);
            if alert.keep_firing_since.take().is_some() || awaited {
                self.schedule(labels);
            }
            return;
        }
        // One that has ended and begins anew before its end could be told: both are.
        if let Some(ended) =
            self.active.get(labels).filter(|a| a.resolved_at.is_some() && a.last_sent_at.is_none())
        {
            self.brief.push((labels.clone(), ended.clone()));
        }
        let known = self.restored.remove(labels).unwrap_or_else(|| Alert::begun(Labels::default(), t));
        self.insert(labels.clone(), Alert { value, row: row.clone(), seen_at: t, ..known });
    }

    fn row_gone(&mut self, labels: &Labels, t: TimeMs) {
        let Some(alert) = self.active.get_mut(labels) else { return };
        match alert.state {
            State::Inactive => return,
            State::Pending => return self.remove(labels),
            State::Firing if self.timing.keep_firing_for > 0 => {
                alert.keep_firing_since.get_or_insert(t);
            }
            State::Firing => {
                if alert.last_sent_at.is_none() {
                    self.brief.push((labels.clone(), alert.clone()));
                }
                alert.resolve(t);
                self.changed.insert(labels.clone());
            }
        }
        self.schedule(labels);
    }

    /// Runs the timers that fall due up to and including `t`, but none while it is not known what holds.
    pub fn advance(&mut self, t: TimeMs) {
        if self.stands() {
            return;
        }
        while let Some((due, labels)) = self.timers.first().cloned() {
            if due > t {
                break;
            }
            self.timers.pop_first();
            let timing = self.timing;
            let Some(alert) = self.active.get_mut(&labels) else { continue };
            alert.due = None;
            let at = timing.happens_at(due).max(self.moves_from).min(t);
            match alert.state {
                State::Pending => alert.fire(at),
                State::Firing
                    if alert.keep_firing_since.is_some_and(|s| due >= s + timing.keep_firing_for) =>
                {
                    if alert.last_sent_at.is_none() {
                        self.brief.push((labels.clone(), alert.clone()));
                    }
                    // An end that is noticed very late is told all the same.
                    alert.resolve(if t - at > RESOLVED_RETENTION_MS { t } else { at });
                }
                State::Inactive => {
                    self.remove(&labels);
                    continue;
                }
                _ => continue,
            }
            self.changed.insert(labels.clone());
            self.schedule(&labels);
        }
    }

    /// Sets the timers of an alert that has changed.
    fn schedule(&mut self, labels: &Labels) {
        let Some(alert) = self.active.get_mut(labels) else { return };
        self.news.insert(labels.clone());
        let (due, send_due) = (alert.turns_at(&self.timing), alert.sends_at(&self.timing));
        let old = (std::mem::replace(&mut alert.due, due), std::mem::replace(&mut alert.send_due, send_due));
        reset(&mut self.timers, labels, old.0, due);
        reset(&mut self.sends, labels, old.1, send_due);
    }

    /// The earliest time at which something changes by itself.
    pub fn next_wake(&self) -> Option<TimeMs> {
        self.timers.first().map(|(t, _)| *t).filter(|_| !self.stands())
    }

    /// The earliest time at which something must be sent (again).
    pub fn next_send(&self) -> Option<TimeMs> {
        match self.brief.is_empty() {
            true => self.sends.first().map(|(t, _)| *t).filter(|_| !self.stands()),
            false => Some(TimeMs::MIN),
        }
    }

    /// What must be sent at `now`; it counts as sent. What fired and ended since the last call comes in both states.
    pub fn take_due(&mut self, now: TimeMs) -> Vec<Due> {
        let timing = self.timing;
        let valid = now + 4 * timing.interval.max(timing.resend_delay);
        let brief = self.brief.drain(..).map(|(labels, alert)| {
            let ends_at = alert.resolved_at.unwrap_or(valid);
            Due { labels, alert, ends_at }
        });
        let mut due: Vec<Due> = brief.collect();
        while let Some((_, labels)) = self.sends.first().filter(|(t, _)| *t <= now).cloned() {
            self.sends.pop_first();
            let Some(alert) = self.active.get_mut(&labels) else { continue };
            alert.send_due = None;
            alert.last_sent_at = Some(now);
            let ends_at = alert.resolved_at.unwrap_or(valid);
            due.push(Due { labels: labels.clone(), alert: alert.clone(), ends_at });
            self.schedule(&labels);
        }
        due
    }

    /// The `ALERTS` and `ALERTS_FOR_STATE` samples that hold now.
    pub fn samples(&self, alertname: &str) -> Vec<(Labels, f64)> {
        self.active.keys().flat_map(|labels| self.samples_of(alertname, labels)).collect()
    }

    /// Those of one alert.
    pub fn samples_of(&self, alertname: &str, labels: &Labels) -> Vec<(Labels, f64)> {
        let Some(alert) = self.active.get(labels).filter(|a| a.state != State::Inactive) else {
            return Vec::new();
        };
        // In whole seconds, as Prometheus writes it.
        let since = alert.active_at.div_euclid(1000) as f64;
        vec![
            (for_state_series(alertname, labels), since),
            (state_series(alertname, labels, alert.state), 1.0),
        ]
    }

    /// The error of too many alerts, if there are.
    pub fn over_limit(&self) -> Option<String> {
        let limit = self.timing.limit;
        let count = self.active.values().filter(|a| a.state != State::Inactive).count();
        (limit > 0 && count > limit).then(|| format!("exceeded limit of {limit} with {count} alerts"))
    }

    /// Whether the rows are out of order: the states stand still.
    pub fn in_error(&self) -> bool {
        self.failed
    }

    /// Forgets every alert (Prometheus does so when the limit is exceeded); the rows stay known.
    pub fn clear(&mut self) {
        let active = std::mem::take(&mut self.active);
        self.changed.extend(active.keys().cloned());
        self.news.extend(active.into_keys());
        self.timers.clear();
        self.sends.clear();
        self.brief.clear();
        self.failed = true;
    }
}

/// All series that may show an alert.
pub(super) fn series_of(alertname: &str, labels: &Labels) -> [Labels; 3] {
    [
        for_state_series(alertname, labels),
        state_series(alertname, labels, State::Pending),
        state_series(alertname, labels, State::Firing),
    ]
}

fn for_state_series(alertname: &str, labels: &Labels) -> Labels {
    let mut series = labels.to_builder();
    series.set("alertname", alertname).set("__name__", ALERTS_FOR_STATE);
    series.build()
}

fn state_series(alertname: &str, labels: &Labels, state: State) -> Labels {
    let mut series = labels.to_builder();
    series.set("alertname", alertname).set("__name__", ALERTS).set("alertstate", state.as_str());
    series.build()
}

fn reset(timers: &mut BTreeSet<(TimeMs, Labels)>, labels: &Labels, old: Option<TimeMs>, new: Option<TimeMs>) {
    if old == new {
        return;
    }
    old.map(|t| timers.remove(&(t, labels.clone())));
    new.map(|t| timers.insert((t, labels.clone())));
}
