//! [`Body`]: the body of a scrape while it is received: it is decompressed and read as it arrives.
//!
//! No more of a compressed body is decompressed than is read next: a small body can expand to a
//! very large one.

use crate::decompress::DecompressError;
use crate::exposition::BodyFormat;
use crate::limits::{SCRAPE_PIECE_BYTES, SERIES_BYTES};
use crate::scrape::fetch::FetchError;
use flate2::write::MultiGzDecoder;
use std::io::{self, Write};

/// The body of a scrape.
pub struct Body {
    text: Text,
    /// Bytes decoded so far.
    decoded: usize,
    /// Maximum number of decoded bytes.
    limit: usize,
    /// Whether everything was received.
    received: bool,
    /// Bytes of text needed before the next read.
    wanted: usize,
}

/// Decoded text that was not read yet.
enum Text {
    Plain(Vec<u8>),
    Gzip {
        decoder: Box<MultiGzDecoder<Vec<u8>>>,
        /// Received, not decompressed yet.
        packed: Vec<u8>,
        /// Whether the end was decompressed.
        ended: bool,
    },
}

/// A piece of a body.
pub struct BodyChunk<'a> {
    /// Complete lines of a text; any bytes of another format.
    pub bytes: &'a [u8],
    /// Whether it is the end of the body.
    pub last: bool,
}

impl Body {
    /// An empty body of at most `limit` decoded bytes.
    pub fn new(gzip: bool, limit: usize) -> Body {
        let text = if gzip {
            Text::Gzip {
                decoder: Box::new(MultiGzDecoder::new(Vec::new())),
                packed: Vec::new(),
                ended: false,
            }
        } else {
            Text::Plain(Vec::new())
        };
        Body { text, decoded: 0, limit, received: false, wanted: SCRAPE_PIECE_BYTES }
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        match &mut self.text {
            Text::Gzip { packed, .. } => packed.extend_from_slice(bytes),
            Text::Plain(text) => {
                text.extend_from_slice(bytes);
                self.decoded += bytes.len();
            }
        }
        self.check()
    }

    /// Marks the end of the received bytes.
    pub fn end(&mut self) {
        self.received = true;
    }

    /// Number of bytes that wait to be decompressed or read.
    pub fn waiting(&self) -> usize {
        match &self.text {
            Text::Plain(text) => text.len(),
            Text::Gzip { packed, .. } => packed.len(),
        }
    }

    /// Number of bytes decoded so far.
    pub fn decoded(&self) -> usize {
        self.decoded
    }

    fn check(&self) -> Result<(), FetchError> {
        if self.decoded > self.limit { Err(FetchError::BodyLimit) } else { Ok(()) }
    }

    /// Decompresses until there is enough text for the next read, or nothing left.
    pub fn decode(&mut self) -> Result<(), FetchError> {
        let Text::Gzip { decoder, packed, ended } = &mut self.text else { return Ok(()) };
        let before = decoder.get_ref().len();
        let mut at = 0;
        // No more than is read next: a gzip body of a megabyte can be a gigabyte of text.
        while at < packed.len() && decoder.get_ref().len() < self.wanted {
            at += match decoder.write(&packed[at..]) {
                // The decoder takes nothing more although there is more: garbage after the end of
                // the stream.
                Ok(0) => return Err(damaged(io::ErrorKind::InvalidData.into())),
                Ok(taken) => taken,
                Err(error) => return Err(damaged(error)),
            };
        }
        packed.drain(..at);
        // The checksum comes last; without this a truncated body would pass for a whole one.
        if packed.is_empty() && self.received && !*ended {
            decoder.try_finish().map_err(damaged)?;
            *ended = true;
        }
        self.decoded += decoder.get_ref().len() - before;
        self.check()
    }

    /// The piece to be read next. Lines are complete.
    pub fn piece(&self, format: BodyFormat) -> BodyChunk<'_> {
        let last = self.is_decoded();
        let text = self.text();
        let whole = match format {
            _ if last => text.len(),
            BodyFormat::Protobuf => text.len(),
            // Whole lines only; the rest waits for more.
            BodyFormat::Text(_) => memchr::memrchr(b'\n', text).map_or(0, |end| end + 1),
        };
        BodyChunk { bytes: &text[..whole], last }
    }

    /// The decoded text.
    pub fn text(&self) -> &[u8] {
        match &self.text {
            Text::Plain(text) => text,
            Text::Gzip { decoder, .. } => decoder.get_ref(),
        }
    }

    /// Removes the first `read` bytes of the text. If nothing was read, more text is needed: twice
    /// as much, so that the cost of reading again stays proportional.
    pub fn consume(&mut self, read: usize) -> Result<(), FetchError> {
        let text = match &mut self.text {
            Text::Plain(text) => text,
            Text::Gzip { decoder, .. } => decoder.get_mut(),
        };
        // A line of which no part can be read yet. It may grow up to the size of a series and no
        // further, or a body without line breaks would be held as a whole.
        if read == 0 && text.len() > SERIES_BYTES {
            return Err(FetchError::TooLong);
        }
        self.wanted = if read == 0 { self.wanted.max(2 * text.len()) } else { SCRAPE_PIECE_BYTES };
        text.drain(..read);
        Ok(())
    }

    /// Whether everything is received and decoded.
    pub fn is_decoded(&self) -> bool {
        match &self.text {
            Text::Plain(_) => self.received,
            Text::Gzip { ended, .. } => *ended,
        }
    }

    /// Whether more must be received before there is more to read.
    pub fn is_short(&self) -> bool {
        match &self.text {
            Text::Plain(text) => !self.received && text.len() < self.wanted,
            Text::Gzip { packed, .. } => !self.received && packed.is_empty(),
        }
    }
}

fn damaged(error: io::Error) -> FetchError {
    FetchError::Damaged(DecompressError::Damaged { format: "gzip", reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::TextFormat;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// Reads a body as a scrape does. Returns its length, and the maximum length of buffered text.
    fn read(packed: &[u8], limit: usize) -> Result<(usize, usize), FetchError> {
        let mut body = Body::new(true, limit);
        body.push(packed)?;
        body.end();
        let mut all = 0;
        let mut most = 0;
        loop {
            body.decode()?;
            most = most.max(body.text().len());
            let piece = body.piece(BodyFormat::Text(TextFormat::Text));
            let read = piece.bytes.len();
            let last = piece.last;
            all += read;
            body.consume(read)?;
            if last {
                return Ok((all, most));
            }
        }
    }

    #[test]
    fn a_bomb_is_unpacked_piece_by_piece_and_stops_at_the_limit() {
        let text = b"a 1\n".repeat(3_000_000);
        let packed = gzip(&text);
        assert!(packed.len() < 50_000, "{}", packed.len());
        let (all, most) = read(&packed, text.len()).unwrap();
        assert_eq!(all, text.len());
        assert!(most < 4 * SCRAPE_PIECE_BYTES, "{most}");
        assert_eq!(read(&packed, text.len() - 1), Err(FetchError::BodyLimit));
    }

    #[test]
    fn two_members_are_one_body_and_damage_is_named() {
        let packed = [gzip(b"a 1\nb"), gzip(b" 2\n")].concat();
        assert_eq!(read(&packed, 100).map(|read| read.0), Ok(8));
        for damage in [&packed[..packed.len() - 3], b"not gzip at all", &[&packed[..], b"x"].concat()] {
            let error = read(damage, 100).unwrap_err().to_string();
            assert!(error.starts_with("cannot decompress gzip"), "{error}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let packed = gzip(&vec![b'x'; 4 * SERIES_BYTES]);
        assert!(read(&packed, usize::MAX).unwrap_err().to_string().contains("is longer than"));
    }

    #[test]
    fn twice_the_body_costs_at_most_a_little_more_than_twice() {
        // Not compressible: what waits compressed is as long as the text.
        let text = |n: usize| {
            (0..n as u64)
                .map(|i| format!("a{:x} 1\n", i.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
                .collect::<String>()
        };
        let packed = |n: usize| gzip(text(n).as_bytes());
        testing::assert_proportional("a packed body", 100_000, packed, |packed| {
            read(packed, usize::MAX).unwrap()
        });
        let packed = |n: usize| gzip(format!("{{a=\"{}\"}} 1\n", "x".repeat(n)).as_bytes());
        testing::assert_proportional("one line", SERIES_BYTES / 4, packed, |packed| {
            read(packed, usize::MAX).unwrap()
        });
    }
}
