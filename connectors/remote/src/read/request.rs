//! The request of remote read: decodes those of other servers, encodes our own.

use super::RemoteReadError;
use crate::limits::{READ_MATCHERS, READ_QUERIES, READ_REQUEST_BYTES};
use crate::protobuf::{put_bytes, put_message, put_number};
use connectors::decompress::{snappy_length, unsnappy};
use connectors::protobuf::{FieldReader, FieldValue, ProtobufError};
use storage::model::{Labels, MatchOp, Matcher, TimeMs};

/// The form of an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ResponseType {
    /// One message with all samples.
    Samples,
    /// Frames with chunks of samples.
    StreamedChunks,
}

/// A request: several queries, and the form of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadRequest {
    /// The queries.
    pub queries: Vec<ReadQuery>,
    /// The form of the answer.
    pub response: ResponseType,
}

/// One query: the series that satisfy all matchers, in a range of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadQuery {
    /// The first time, ms.
    pub from: TimeMs,
    /// The last time, ms, inclusive.
    pub to: TimeMs,
    /// The matchers.
    pub matchers: Vec<ReadMatcher>,
}

/// A matcher as it was sent, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadMatcher {
    /// 0: `=`, 1: `!=`, 2: `=~`, 3: `!~`.
    pub kind: u64,
    /// The label.
    pub name: String,
    /// The text or pattern.
    pub value: String,
}

impl From<ProtobufError> for RemoteReadError {
    fn from(error: ProtobufError) -> RemoteReadError {
        RemoteReadError::BadRequest(error.to_string())
    }
}

impl ReadRequest {
    /// Decodes the body of a request.
    ///
    /// # Errors
    /// The body is malformed or beyond a limit, or the client accepts no answer that is known.
    pub fn decode(body: &[u8]) -> Result<ReadRequest, RemoteReadError> {
        let bad = |error: &dyn std::fmt::Display| RemoteReadError::BadRequest(error.to_string());
        // Checked before the buffer is reserved: the length in the header is the client's.
        snappy_length(body, READ_REQUEST_BYTES).map_err(|error| bad(&error))?;
        let message = unsnappy(body, READ_REQUEST_BYTES).map_err(|error| bad(&error))?;
        let mut queries = Vec::new();
        let mut accepted = Vec::new();
        let mut fields = FieldReader::new(&message);
        while let Some(field) = fields.next_field()? {
            match field {
                (1, FieldValue::Bytes(query)) => queries.push(ReadQuery::decode(query)?),
                (2, types) => types.each_number(|n| accepted.push(n))?,
                _ => {}
            }
            // While decoding and not after it: each entry costs memory, a few bytes on the wire
            // cost little.
            if queries.len() > READ_QUERIES || accepted.len() > READ_QUERIES {
                return Err(bad(&format!("the request has more than {READ_QUERIES} queries")));
            }
        }
        Ok(ReadRequest { queries, response: negotiate(&accepted)? })
    }
}

/// The first form that is known; of an old client that names none, samples.
fn negotiate(accepted: &[u64]) -> Result<ResponseType, RemoteReadError> {
    let known = |n: &u64| match n {
        0 => Some(ResponseType::Samples),
        1 => Some(ResponseType::StreamedChunks),
        _ => None,
    };
    // Clients of before the streamed form.
    if accepted.is_empty() {
        return Ok(ResponseType::Samples);
    }
    accepted.iter().find_map(known).ok_or_else(|| {
        let asked: Vec<String> = accepted.iter().map(u64::to_string).collect();
        RemoteReadError::BadRequest(format!(
            "server does not support any of the requested response types: [{}]; supported: map[SAMPLES:{{}} STREAMED_XOR_CHUNKS:{{}}]",
            asked.join(" ")
        ))
    })
}

impl ReadQuery {
    fn decode(message: &[u8]) -> Result<ReadQuery, RemoteReadError> {
        let mut query = ReadQuery::default();
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_field()? {
            match field {
                (1, from) => query.from = from.number() as i64,
                (2, to) => query.to = to.number() as i64,
                (3, FieldValue::Bytes(matcher)) => query.matchers.push(ReadMatcher::decode(matcher)?),
                // Hints (field 4) describe the query that the samples are for. The answer does not
                // need them: it has all samples in the range.
                _ => {}
            }
            if query.matchers.len() > READ_MATCHERS {
                let what = format!("a query has more than {READ_MATCHERS} matchers");
                return Err(RemoteReadError::BadRequest(what));
            }
        }
        Ok(query)
    }

    /// The matchers for this store. A matcher for an external label of this server is satisfied by
    /// all of its series, which do not have the label.
    ///
    /// # Errors
    /// The kind of a matcher is not known, or its pattern is not valid.
    pub fn matchers(&self, external: &Labels) -> Result<Vec<Matcher>, RemoteReadError> {
        let invalid = |what: String| RemoteReadError::Matcher(what);
        let mut matchers = Vec::with_capacity(self.matchers.len());
        for ReadMatcher { kind, name, value } in &self.matchers {
            let op = match kind {
                0 => MatchOp::Equal,
                1 => MatchOp::NotEqual,
                2 => MatchOp::Regex,
                3 => MatchOp::NotRegex,
                _ => return Err(invalid("invalid matcher type".to_owned())),
            };
            let is_external = op == MatchOp::Equal && external.get(name) == Some(value.as_str());
            let value = if is_external { "" } else { value.as_str() };
            let matcher = Matcher::new(name.as_str(), op, value);
            matchers.push(matcher.map_err(|error| invalid(error.to_string()))?);
        }
        Ok(matchers)
    }
}

impl ReadMatcher {
    fn decode(message: &[u8]) -> Result<ReadMatcher, RemoteReadError> {
        let mut matcher = ReadMatcher::default();
        let mut fields = FieldReader::new(message);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        while let Some(field) = fields.next_field()? {
            match field {
                (1, kind) => matcher.kind = kind.number(),
                (2, FieldValue::Bytes(name)) => matcher.name = text(name),
                (3, FieldValue::Bytes(value)) => matcher.value = text(value),
                _ => {}
            }
        }
        Ok(matcher)
    }
}

/// What the samples of a query are for: servers with samples of several resolutions choose by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadHints {
    /// The time between evaluations, ms; 0: there is one.
    pub step: i64,
    /// The function over the samples; empty: none.
    pub function: String,
    /// The length of its windows, ms; 0: none.
    pub range: i64,
}

/// The compressed body of a request with one query. A stream of chunks is asked for, or else a
/// message with samples.
pub(super) fn encode_request(matchers: &[Matcher], from: TimeMs, to: TimeMs, hints: &ReadHints) -> Vec<u8> {
    let mut message = Vec::new();
    put_message(&mut message, 1, |out| {
        put_number(out, 1, from as u64);
        put_number(out, 2, to as u64);
        for matcher in matchers {
            put_message(out, 3, |out| put_matcher(out, matcher));
        }
        put_message(out, 4, |out| {
            put_number(out, 1, hints.step as u64);
            put_bytes(out, 2, hints.function.as_bytes());
            put_number(out, 3, from as u64);
            put_number(out, 4, to as u64);
            put_number(out, 7, hints.range as u64);
        });
    });
    for kind in [ResponseType::StreamedChunks, ResponseType::Samples] {
        put_number(&mut message, 2, u64::from(kind == ResponseType::StreamedChunks));
    }
    // Fails only beyond 4 GiB.
    snap::raw::Encoder::new().compress_vec(&message).unwrap_or_default()
}

fn put_matcher(out: &mut Vec<u8>, matcher: &Matcher) {
    let kind = match matcher.op {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::Regex => 2,
        MatchOp::NotRegex => 3,
    };
    put_number(out, 1, kind);
    put_bytes(out, 2, matcher.name.as_bytes());
    put_bytes(out, 3, matcher.value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let regex = Matcher::new("b", MatchOp::NotRegex, "x.*").expect("a pattern");
        let matchers = [Matcher::equal("a", "1"), regex];
        let hints = ReadHints { step: 5, function: "rate".to_owned(), range: 7 };
        let request = ReadRequest::decode(&encode_request(&matchers, -3, 9, &hints)).expect("a request");
        assert_eq!(request.response, ResponseType::StreamedChunks);
        let query = &request.queries[0];
        assert_eq!((query.from, query.to), (-3, 9));
        let decoded = query.matchers(&Labels::default()).expect("matchers");
        let shown: Vec<String> = decoded.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a=\"1\"", "b!~\"x.*\""]);
    }

    fn request(types: &[u64]) -> Vec<u8> {
        let mut message = Vec::new();
        put_message(&mut message, 1, |out| {
            put_number(out, 1, 5);
            put_number(out, 2, 9);
            for (kind, name, value) in [(0, "a", "b"), (0, "cluster", "c1"), (2, "x", "y.*")] {
                put_message(out, 3, |out| {
                    put_number(out, 1, kind);
                    put_bytes(out, 2, name.as_bytes());
                    put_bytes(out, 3, value.as_bytes());
                });
            }
        });
        for kind in types {
            put_number(&mut message, 2, *kind);
        }
        snap::raw::Encoder::new().compress_vec(&message).unwrap()
    }

    #[test]
    fn requests_are_decoded() {
        let request_of = |types: &[u64]| ReadRequest::decode(&request(types));
        assert_eq!(request_of(&[]).unwrap().response, ResponseType::Samples);
        assert_eq!(request_of(&[1, 0]).unwrap().response, ResponseType::StreamedChunks);
        assert_eq!(request_of(&[7, 0]).unwrap().response, ResponseType::Samples);
        assert!(
            request_of(&[7]).unwrap_err().to_string().contains("any of the requested response types: [7]")
        );
        let request = request_of(&[]).unwrap();
        let query = &request.queries[0];
        assert_eq!((query.from, query.to), (5, 9));
        let external = Labels::from_pairs([("cluster", "c1")]);
        let matchers = query.matchers(&external).unwrap();
        let shown: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a=\"b\"", "cluster=\"\"", "x=~\"y.*\""]);
        assert_eq!(ReadRequest::decode(b"nonsense").unwrap_err().status(), 400);
    }
}
