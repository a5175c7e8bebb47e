//! [`RemoteRead`]: asks the servers of `remote_read` for the series that queries read.
//!
//! All servers are asked at once, and each for several selections at a time. A server that fails in
//! one of them gives nothing for any, and its failure is a warning, as in Prometheus: other servers
//! are second to the own store. An error is only what stops the query itself.

use super::answer::{FrameReader, ReceivedSeries};
use super::client::{AnswerForm, AnswerPart, PartSender, ReadClient, ReadEvent, ReadFailure};
use super::request::{ReadHints, encode_request};
use super::{MemoryRefused, ReadMemory};
use crate::config::{RemoteReadConfig, short_name};
use crate::limits::{READ_ANSWER_BYTES, READ_PARTS, READ_POLL, READS_AT_ONCE};
use connectors::config::error::BlockError;
use connectors::decompress::{DecompressError, snappy_length, unsnappy};
use connectors::http_client::Peers;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::metrics::Metrics;
use storage::model::{Labels, MatchOp, Matcher, TimeMs};
use storage::store::LabelledSource;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

/// What remote read works with.
#[derive(Clone)]
pub struct RemoteReadServices {
    /// The self-metrics.
    pub metrics: Metrics,
    /// Runs the requests.
    pub runtime: Handle,
    /// What answers the requests.
    pub peers: Peers,
}

/// What a request selects: the series that satisfy all matchers, in a range of time.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadSelection {
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// The first time.
    pub from: TimeMs,
    /// The last time.
    pub to: TimeMs,
    /// What the samples are for.
    pub hints: ReadHints,
}

/// What all servers together have.
#[derive(Default)]
pub struct ReadAnswer {
    /// The series of each selection, sorted by labels; of servers that have the same series, that
    /// of the first entry of the configuration comes first.
    pub series: Vec<Vec<LabelledSource>>,
    /// Why something is missing.
    pub warnings: Vec<String>,
}

/// The servers of the configuration.
pub struct RemoteRead {
    services: RemoteReadServices,
    endpoints: RwLock<Arc<[Endpoint]>>,
}

/// An entry of the configuration.
struct Endpoint {
    client: Arc<ReadClient>,
    /// Equality matchers that a selector must have.
    required: BTreeMap<String, String>,
    /// The labels that are added to the matchers and removed from the answer.
    external: Labels,
    reads_recent: bool,
}

/// A request that is at work.
struct RunningRead<'a> {
    /// The number of its endpoint.
    endpoint: usize,
    /// The number of its selection.
    selection: usize,
    body: AnswerBody,
    received: ReceivedSeries<'a>,
    most_frame: usize,
    memory: &'a dyn ReadMemory,
    /// Bytes counted for `body`.
    held: usize,
}

/// A received piece of an answer's body.
enum AnswerBody {
    Nothing,
    Message(Vec<u8>),
    Frames(FrameReader),
}

/// A request that is to be sent.
struct PlannedRead {
    endpoint: usize,
    selection: usize,
    from: TimeMs,
    to: TimeMs,
    removed: Vec<String>,
    request: Vec<u8>,
}

/// Requests that are at work; dropping it gives them up.
struct SentReads {
    events: mpsc::Receiver<ReadEvent>,
    /// By the number of the request.
    handles: Vec<AbortHandle>,
    tasks: JoinSet<()>,
}

impl SentReads {
    /// Gives the requests up whose numbers are `unwanted`.
    fn give_up(&self, unwanted: impl Fn(usize) -> bool) {
        for (number, handle) in self.handles.iter().enumerate() {
            if unwanted(number) {
                handle.abort();
            }
        }
    }
}

impl RemoteRead {
    /// Without servers.
    pub fn new(services: RemoteReadServices) -> RemoteRead {
        RemoteRead { services, endpoints: RwLock::new(Vec::new().into()) }
    }

    /// Puts a configuration in force. After an error nothing is changed.
    ///
    /// # Errors
    /// A client cannot be made.
    pub fn apply(&self, configs: &[RemoteReadConfig], external: &Labels) -> Result<(), BlockError> {
        RemoteReadConfig::check_all(configs)?;
        let RemoteReadServices { metrics, peers, .. } = &self.services;
        let mut endpoints = Vec::new();
        for config in configs {
            let keys = &config.keys;
            let name = short_name(&keys.name, config);
            let external = if keys.filter_external_labels { external.clone() } else { Labels::default() };
            endpoints.push(Endpoint {
                client: Arc::new(ReadClient::new(config, name, peers, metrics)?),
                required: keys.required_matchers.clone(),
                external,
                reads_recent: keys.read_recent,
            });
        }
        *self.endpoints.write() = endpoints.into();
        Ok(())
    }

    /// Whether a server would be asked for these times; `local_start` is the first time that the
    /// own store has for certain.
    pub fn reads(&self, from: TimeMs, local_start: TimeMs) -> bool {
        self.endpoints.read().iter().any(|endpoint| endpoint.reads_recent || from <= local_start)
    }

    /// The series of these selections. Blocks; not within the runtime's own threads. `check` is
    /// called at least every [`READ_POLL`]; after its error all requests are given up.
    ///
    /// # Errors
    /// What `check` says, or the answers do not fit into `memory`.
    pub fn read<E: From<MemoryRefused>>(
        &self,
        selections: &[ReadSelection],
        local_start: TimeMs,
        memory: &dyn ReadMemory,
        mut check: impl FnMut() -> Result<(), E>,
    ) -> Result<ReadAnswer, E> {
        let endpoints = self.endpoints.read().clone();
        let planned = plan(&endpoints, selections, local_start);
        if planned.is_empty() {
            return Ok(ReadAnswer { series: vec![Vec::new(); selections.len()], warnings: Vec::new() });
        }
        let mut failures: Vec<Option<ReadFailure>> = endpoints.iter().map(|_| None).collect();
        let mut found: Vec<Vec<Vec<LabelledSource>>> =
            endpoints.iter().map(|_| vec![Vec::new(); selections.len()]).collect();
        let mut reads: Vec<Option<RunningRead>> = planned
            .iter()
            .map(|read| Some(RunningRead::new(read, endpoints[read.endpoint].client.most_frame, memory)))
            .collect();
        // Requests that are still at work end with this, whenever it ends.
        let mut sent = self.send_all(&endpoints, &planned);
        loop {
            check()?;
            let next = async { tokio::time::timeout(READ_POLL, sent.events.recv()).await };
            let event = match self.services.runtime.block_on(next) {
                Err(_) => continue,
                Ok(None) => break,
                Ok(Some(event)) => event,
            };
            let slot = &mut reads[event.read];
            let Some(mut read) = slot.take() else { continue };
            let endpoint = read.endpoint;
            if failures[endpoint].is_some() {
                continue;
            }
            let selection = read.selection;
            let outcome = match event.part.and_then(|part| read.take(part)) {
                Ok(false) => {
                    *slot = Some(read);
                    continue;
                }
                Ok(true) => read.finish(),
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(series) => found[endpoint][selection] = series,
                Err(ReadFailure::Memory(refused)) => return Err(refused.into()),
                Err(failure) => {
                    failures[endpoint] = Some(failure);
                    sent.give_up(|number| planned[number].endpoint == endpoint);
                }
            }
        }
        for read in reads.into_iter().flatten() {
            // Its task ended without a word: it panicked, and the log says why.
            failures[read.endpoint].get_or_insert(ReadFailure::CutOff);
        }
        Ok(merged(found, failures, selections.len()))
    }

    /// Begins all requests.
    fn send_all(&self, endpoints: &[Endpoint], planned: &[PlannedRead]) -> SentReads {
        let (sender, events) = mpsc::channel(READ_PARTS);
        let turns: Vec<Arc<Semaphore>> =
            endpoints.iter().map(|_| Arc::new(Semaphore::new(READS_AT_ONCE))).collect();
        let mut sent = SentReads { events, handles: Vec::new(), tasks: JoinSet::new() };
        for (number, read) in planned.iter().enumerate() {
            let client = endpoints[read.endpoint].client.clone();
            let turns = turns[read.endpoint].clone();
            let request = read.request.clone();
            let parts = PartSender { read: number, events: sender.clone() };
            let task = async move {
                // Closed by nobody.
                let _turn = turns.acquire().await.ok();
                client.ask(request, &parts).await;
            };
            sent.handles.push(sent.tasks.spawn_on(task, &self.services.runtime));
        }
        sent
    }
}

/// The requests for these selections: of each server, and only what it is to be asked for.
fn plan(endpoints: &[Endpoint], selections: &[ReadSelection], local_start: TimeMs) -> Vec<PlannedRead> {
    let mut planned = Vec::new();
    for (endpoint, at) in endpoints.iter().zip(0..) {
        for (selection, number) in selections.iter().zip(0..) {
            planned.extend(endpoint.plan(at, selection, number, local_start));
        }
    }
    planned
}

impl Endpoint {
    /// The request for a selection; `None`: this server is not asked.
    fn plan(
        &self,
        at: usize,
        selection: &ReadSelection,
        number: usize,
        local_start: TimeMs,
    ) -> Option<PlannedRead> {
        let ReadSelection { matchers, from, to, hints } = selection;
        // What the own store has is not asked for, unless that is wanted.
        if !self.reads_recent && *from > local_start {
            return None;
        }
        let to = if self.reads_recent { *to } else { local_start.min(*to) };
        let has = |(name, value): (&String, &String)| {
            matchers.iter().any(|m| m.op == MatchOp::Equal && m.name == *name && m.value == *value)
        };
        if !self.required.iter().all(has) {
            return None;
        }
        let mut sent = matchers.clone();
        let mut removed = Vec::new();
        for (name, value) in self.external.iter() {
            // A selector that names the label wants the label itself.
            if matchers.iter().all(|matcher| matcher.name != name) {
                sent.push(Matcher::equal(name, value));
                removed.push(name.to_owned());
            }
        }
        let request = encode_request(&sent, *from, to, hints);
        Some(PlannedRead { endpoint: at, selection: number, from: *from, to, removed, request })
    }
}

impl<'a> RunningRead<'a> {
    fn new(planned: &'a PlannedRead, most_frame: usize, memory: &'a dyn ReadMemory) -> RunningRead<'a> {
        RunningRead {
            endpoint: planned.endpoint,
            selection: planned.selection,
            body: AnswerBody::Nothing,
            received: ReceivedSeries::new(planned.from, planned.to, &planned.removed, memory),
            most_frame,
            memory,
            held: 0,
        }
    }

    /// Takes a part of the answer; returns whether it was the last.
    fn take(&mut self, part: AnswerPart) -> Result<bool, ReadFailure> {
        match part {
            AnswerPart::Begin(AnswerForm::Samples) => self.body = AnswerBody::Message(Vec::new()),
            AnswerPart::Begin(AnswerForm::Frames) => {
                self.body = AnswerBody::Frames(FrameReader::new(self.most_frame));
            }
            AnswerPart::Bytes(bytes) => self.bytes(&bytes)?,
            AnswerPart::End => return Ok(true),
        }
        Ok(false)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), ReadFailure> {
        let held = match &mut self.body {
            AnswerBody::Nothing => 0,
            AnswerBody::Message(message) => {
                if message.len() + bytes.len() > READ_ANSWER_BYTES {
                    let text = format!("the answer has more than {READ_ANSWER_BYTES} bytes");
                    return Err(ReadFailure::Body(text));
                }
                message.extend_from_slice(bytes);
                message.capacity()
            }
            AnswerBody::Frames(frames) => {
                frames.push(bytes);
                while let Some(frame) = frames.next_frame()? {
                    self.received.frame(frame)?;
                }
                frames.held()
            }
        };
        self.memory.grow(held.saturating_sub(self.held))?;
        self.held = self.held.max(held);
        Ok(())
    }

    /// The series of the complete answer.
    fn finish(mut self) -> Result<Vec<LabelledSource>, ReadFailure> {
        match &self.body {
            AnswerBody::Nothing => {}
            AnswerBody::Message(body) => {
                let damaged = |error: DecompressError| ReadFailure::Body(error.to_string());
                let length = snappy_length(body, READ_ANSWER_BYTES).map_err(damaged)?;
                self.memory.grow(length)?;
                self.held += length;
                let message = unsnappy(body, READ_ANSWER_BYTES).map_err(damaged)?;
                self.received.message(&message)?;
            }
            AnswerBody::Frames(frames) if !frames.is_at_end() => return Err(ReadFailure::CutOff),
            AnswerBody::Frames(_) => {}
        }
        self.memory.shrink(self.held);
        self.received.finish()
    }
}

/// What all servers together have.
fn merged(
    found: Vec<Vec<Vec<LabelledSource>>>,
    failures: Vec<Option<ReadFailure>>,
    selections: usize,
) -> ReadAnswer {
    let mut answer = ReadAnswer { series: vec![Vec::new(); selections], warnings: Vec::new() };
    for (by_selection, failure) in found.into_iter().zip(failures) {
        match failure {
            // All or nothing: half of what a query asks of one server would be a wrong answer.
            Some(failure) => answer.warnings.push(format!("remote_read: {failure}")),
            None => {
                for (series, found) in answer.series.iter_mut().zip(by_selection) {
                    series.extend(found);
                }
            }
        }
    }
    for series in &mut answer.series {
        // Stable: of the same series, that of the first server stays in front.
        series.sort_by(|a, b| a.0.cmp(&b.0));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::super::request::ReadRequest;
    use super::*;

    /// What a server with these keys is asked for, of a selection between two times.
    fn asked(
        keys: &str,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Option<(PlannedRead, ReadRequest)> {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let services = RemoteReadServices {
            metrics: Metrics::default(),
            runtime: runtime.handle().clone(),
            peers: Peers::Network,
        };
        let read = RemoteRead::new(services);
        let configs: Vec<RemoteReadConfig> =
            serde_saphyr::from_str(&format!("[{{url: 'http://h', {keys}}}]")).expect("a block");
        let external = Labels::from_pairs([("cluster", "c1"), ("zone", "z")]);
        read.apply(&configs, &external).expect("a configuration");
        let selection = ReadSelection { matchers: matchers.to_vec(), from, to, hints: ReadHints::default() };
        let planned = plan(&read.endpoints.read(), &[selection], 100).pop()?;
        let request = ReadRequest::decode(&planned.request).expect("a request");
        Some((planned, request))
    }

    #[test]
    fn what_the_own_store_has_is_asked_for_only_if_that_is_wanted() {
        let times = |keys: &str, from, to| {
            let (planned, request) = asked(keys, &[], from, to)?;
            let query = &request.queries[0];
            assert_eq!((planned.from, planned.to), (query.from, query.to));
            Some((query.from, query.to))
        };
        assert_eq!(times("read_recent: false", 101, 200), None);
        assert_eq!(times("read_recent: false", 100, 200), Some((100, 100)));
        assert_eq!(times("read_recent: false", 50, 80), Some((50, 80)));
        assert_eq!(times("read_recent: true", 101, 200), Some((101, 200)));
    }

    #[test]
    fn matchers_are_required_and_external_labels_added() {
        let up = Matcher::equal("__name__", "up");
        let job = Matcher::equal("job", "a");
        let pattern = Matcher::new("job", MatchOp::Regex, "a").expect("a pattern");
        let required = "read_recent: true, required_matchers: {job: a}";
        assert!(asked(required, std::slice::from_ref(&up), 0, 9).is_none());
        assert!(asked(required, &[up.clone(), pattern], 0, 9).is_none());
        let matchers = |keys: &str, given: &[Matcher]| {
            let (planned, request) = asked(keys, given, 0, 9).expect("asked");
            let sent = request.queries[0].matchers(&Labels::default()).expect("matchers");
            let sent: Vec<String> = sent.iter().map(ToString::to_string).collect();
            (sent.join(","), planned.removed.join(","))
        };
        let all = r#"__name__="up",job="a",cluster="c1",zone="z""#;
        assert_eq!(matchers(required, &[up.clone(), job]), (all.to_owned(), "cluster,zone".to_owned()));
        // Whoever names an external label wants it in the answer.
        let own = Matcher::equal("cluster", "c2");
        let named = r#"__name__="up",cluster="c2",zone="z""#;
        assert_eq!(matchers("name: x", &[up.clone(), own]), (named.to_owned(), "zone".to_owned()));
        let plain = ("__name__=\"up\"".to_owned(), String::new());
        assert_eq!(matchers("filter_external_labels: false", &[up]), plain);
    }
}
