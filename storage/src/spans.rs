//! Spans: what the server did, when and for how long, for a tracing system (`tracing` in the
//! configuration).
//!
//! All parts of the server get one [`Tracer`] and start [`Span`]s with it. While nothing is
//! configured this costs one load of a flag. Finished spans go to a [`SpanSink`], which sends them
//! (`connectors::traces`). Contexts come in and go out in the form of W3C's Trace Context.

use crate::limits::SPAN_TEXT_BYTES;
use parking_lot::RwLock;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The header with the context of a span.
pub const TRACEPARENT: &str = "traceparent";

/// Takes finished spans.
///
/// # Contract
/// 1. `put` does not wait: what has no place is dropped and counted.
/// 2. `now_ns` does not go back by much, so that spans do not end before they start.
pub trait SpanSink: Send + Sync {
    /// Takes a span.
    fn put(&self, span: FinishedSpan);
    /// The time, nanoseconds since 1970.
    fn now_ns(&self) -> u64;
}

/// Which trace and span something belongs to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace; not 0.
    pub trace: u128,
    /// The span; not 0.
    pub span: u64,
    /// Whether the spans of the trace are sent.
    pub is_sampled: bool,
}

impl SpanContext {
    /// Reads the header `traceparent`; `None` if it is malformed.
    pub fn parse(header: &str) -> Option<SpanContext> {
        let mut parts = header.trim().split('-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_valid = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        // Version ff is not allowed; only later versions may have more parts.
        if !is_valid || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let context = SpanContext {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            is_sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        };
        (context.trace != 0 && context.span != 0).then_some(context)
    }
}

/// The value of the header `traceparent`.
impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-0{}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

/// Which side of a call a span is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Something within this process.
    Internal,
    /// A request that was received.
    Server,
    /// A request that was sent.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum SpanValue {
    /// A text.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
}

impl From<&str> for SpanValue {
    fn from(text: &str) -> SpanValue {
        let mut end = text.len().min(SPAN_TEXT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        SpanValue::Text(text[..end].to_owned())
    }
}

impl From<i64> for SpanValue {
    fn from(number: i64) -> SpanValue {
        SpanValue::Integer(number)
    }
}

impl From<usize> for SpanValue {
    fn from(number: usize) -> SpanValue {
        SpanValue::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for SpanValue {
    fn from(number: f64) -> SpanValue {
        SpanValue::Float(number)
    }
}

/// An attribute of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanAttribute {
    /// The key of the attribute.
    pub name: &'static str,
    /// A text or a number.
    pub value: SpanValue,
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedSpan {
    /// Its own context.
    pub context: SpanContext,
    /// The span that it is a part of; `None`: it is the first of its trace.
    pub parent: Option<u64>,
    /// What was done.
    pub name: Cow<'static, str>,
    /// Which side of a call it is.
    pub kind: SpanKind,
    /// When it began, nanoseconds since 1970.
    pub start_ns: u64,
    /// When it ended, nanoseconds since 1970.
    pub end_ns: u64,
    /// What else is known.
    pub attributes: Vec<SpanAttribute>,
    /// Why it failed; `None`: it did not.
    pub error: Option<String>,
}

/// Starts spans. Off until [`Tracer::route`]. Cheap to clone; all clones are on or off together.
#[derive(Clone, Default)]
pub struct Tracer(Arc<TracerState>);

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

/// What all clones of a [`Tracer`] share.
#[derive(Default)]
struct TracerState {
    is_on: AtomicBool,
    route: RwLock<Option<Arc<SpanRoute>>>,
}

/// How spans are numbered, chosen and sent.
struct SpanRoute {
    sink: Arc<dyn SpanSink>,
    /// Traces are sent whose number is below it: of the 63 upper bits of the lower half.
    bound: u64,
    /// Where the numbers of this process begin.
    seed: u64,
    /// Grows with each number.
    next: AtomicU64,
}

impl SpanRoute {
    /// A random number that is not 0.
    fn id(&self) -> u64 {
        // SplitMix64: good enough to be unique, and without a lock.
        let mut z = self.seed.wrapping_add(self.next.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).max(1)
    }
}

impl Tracer {
    /// Sends spans to `sink` from now on. Of the traces that begin here the share `fraction` is
    /// sent; others follow their caller. `seed` is a random number.
    pub fn route(&self, sink: Arc<dyn SpanSink>, fraction: f64, seed: u64) {
        // As in OpenTelemetry's sampler: of 63 bits of the number of the trace.
        let bound = (fraction.clamp(0.0, 1.0) * (1u64 << 63) as f64) as u64;
        *self.0.route.write() = Some(Arc::new(SpanRoute { sink, bound, seed, next: AtomicU64::new(0) }));
        self.0.is_on.store(true, Relaxed);
    }

    /// Sends no more spans.
    pub fn stop(&self) {
        self.0.is_on.store(false, Relaxed);
        *self.0.route.write() = None;
    }

    /// Whether spans may be sent: nothing for them needs to be prepared if not.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Relaxed)
    }

    /// Starts a span; it ends when it is dropped. `parent` is the span that it is a part of.
    #[inline]
    pub fn start(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        parent: Option<SpanContext>,
    ) -> Span {
        if !self.is_on() {
            return Span(None);
        }
        self.start_on(name.into(), kind, parent)
    }

    /// Starts a span while tracing is on.
    fn start_on(&self, name: Cow<'static, str>, kind: SpanKind, parent: Option<SpanContext>) -> Span {
        let Some(route) = self.0.route.read().clone() else { return Span(None) };
        let (trace, is_sampled) = match parent {
            Some(parent) => (parent.trace, parent.is_sampled),
            None => {
                let low = route.id();
                (u128::from(route.id()) << 64 | u128::from(low), low >> 1 < route.bound)
            }
        };
        let context = SpanContext { trace, span: route.id(), is_sampled };
        let span = FinishedSpan {
            context,
            parent: parent.map(|parent| parent.span),
            name,
            kind,
            // Nothing is sent of it: only its context is passed on.
            start_ns: if is_sampled { route.sink.now_ns() } else { 0 },
            end_ns: 0,
            attributes: Vec::new(),
            error: None,
        };
        Span(Some(Box::new(OpenSpan { route, span })))
    }
}

/// Something that is going on. It ends when this is dropped. Empty while tracing is off.
#[derive(Default)]
pub struct Span(Option<Box<OpenSpan>>);

/// A span that has not ended.
struct OpenSpan {
    route: Arc<SpanRoute>,
    span: FinishedSpan,
}

impl Span {
    /// Its context, for spans that are parts of it, here and in the servers that it asks; `None`:
    /// tracing is off.
    pub fn context(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|open| open.span.context)
    }

    /// Whether it will be sent: attributes need not be made if not.
    pub fn is_sampled(&self) -> bool {
        self.context().is_some_and(|context| context.is_sampled)
    }

    /// Adds an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<SpanValue>) {
        if let Some(open) = self.0.as_mut().filter(|open| open.span.context.is_sampled) {
            open.span.attributes.push(SpanAttribute { name, value: value.into() });
        }
    }

    /// Says why it failed.
    pub fn fail(&mut self, error: impl fmt::Display) {
        if let Some(open) = self.0.as_mut().filter(|open| open.span.context.is_sampled) {
            open.span.error = Some(error.to_string());
        }
    }

    /// Moves its times: it began `before_ns` nanoseconds ago, and takes `took_ns`. For what was
    /// measured before it was known to be a span.
    #[must_use]
    pub fn measured(mut self, before_ns: u64, took_ns: u64) -> Span {
        if let Some(open) = &mut self.0 {
            open.span.start_ns = open.span.start_ns.saturating_sub(before_ns);
            open.span.end_ns = open.span.start_ns + took_ns;
        }
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(open) = self.0.take() else { return };
        let OpenSpan { route, mut span } = *open;
        if !span.context.is_sampled {
            return;
        }
        if span.end_ns == 0 {
            span.end_ns = route.sink.now_ns().max(span.start_ns);
        }
        route.sink.put(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct SpanList {
        spans: Mutex<Vec<FinishedSpan>>,
        now: AtomicU64,
    }

    impl SpanSink for SpanList {
        fn put(&self, span: FinishedSpan) {
            self.spans.lock().push(span);
        }

        fn now_ns(&self) -> u64 {
            self.now.fetch_add(10, Relaxed)
        }
    }

    #[test]
    fn contexts_are_those_of_w3c() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = SpanContext::parse(text).unwrap();
        assert_eq!((context.span, context.is_sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(context.to_string(), text);
        let later =
            SpanContext::parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more").unwrap();
        assert!(!later.is_sampled);
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(SpanContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn spans_are_parts_of_each_other() {
        let tracer = Tracer::default();
        assert!(tracer.start("off", SpanKind::Internal, None).context().is_none());
        let kept = Arc::new(SpanList::default());
        tracer.route(kept.clone(), 1.0, 7);
        let mut outer = tracer.start("outer", SpanKind::Server, None);
        outer.set("query", "up");
        let mut inner = tracer.start("inner", SpanKind::Client, outer.context());
        inner.fail("refused");
        drop(inner);
        drop(outer);
        drop(tracer.start("measured", SpanKind::Internal, None).measured(25, 5));
        let spans = kept.spans.lock();
        let [inner, outer, measured] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((inner.parent, outer.parent), (Some(outer.context.span), None));
        assert_eq!(inner.context.trace, outer.context.trace);
        assert_eq!((outer.start_ns, inner.start_ns, inner.end_ns, outer.end_ns), (0, 10, 20, 30));
        assert_eq!(inner.error.as_deref(), Some("refused"));
        assert_eq!(outer.attributes, [SpanAttribute { name: "query", value: "up".into() }]);
        assert_eq!((measured.start_ns, measured.end_ns), (15, 20));
    }

    #[test]
    fn a_share_is_sampled_and_callers_decide() {
        let tracer = Tracer::default();
        let kept = Arc::new(SpanList::default());
        tracer.route(kept.clone(), 0.25, 42);
        for _ in 0..4_000 {
            assert!(tracer.start("x", SpanKind::Internal, None).context().is_some());
        }
        let sent = kept.spans.lock().len();
        assert!((850..1_150).contains(&sent), "{sent}");
        kept.spans.lock().clear();
        for is_sampled in [false, true] {
            let caller = SpanContext { trace: 5, span: 6, is_sampled };
            for _ in 0..10 {
                let span = tracer.start("x", SpanKind::Internal, Some(caller));
                assert_eq!(span.context().map(|c| (c.trace, c.is_sampled)), Some((5, is_sampled)));
            }
        }
        assert_eq!(kept.spans.lock().len(), 10);
        tracer.stop();
        assert!(!tracer.is_on());
    }

    #[test]
    fn long_texts_are_cut() {
        let SpanValue::Text(text) = SpanValue::from("ü".repeat(SPAN_TEXT_BYTES).as_str()) else { panic!() };
        assert_eq!(text.len(), SPAN_TEXT_BYTES);
    }
}
