//! [`JsonPieces`]: splits a stream of JSON into objects that are parsed one by one, so that a list
//! of ten thousand pods is never in memory as text. [`super::watch`] uses it.

/// Why an answer cannot be cut.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonSplitError {
    /// An object, or what is between objects, has more bytes than this.
    #[error("an object of the answer is larger than {} MiB", .0 >> 20)]
    TooLarge(usize),
    /// The answer ended inside a list.
    #[error("the answer ends too early")]
    CutOff,
}

/// Cuts a stream of objects, or the items out of a list.
pub(super) struct JsonPieces {
    /// The depth at which a piece begins: 0 of a stream, 2 in the items of a list.
    base: usize,
    /// Whether the reader is where pieces are: always in a stream, inside the items of a list.
    inside: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The latest string at depth 1, which is a key if a colon follows.
    key: Vec<u8>,
    piece: Vec<u8>,
    /// A list without its items.
    rest: Vec<u8>,
    most: usize,
}

/// Bytes of the longest key that is compared.
const KEY_BYTES: usize = 16;

impl JsonPieces {
    /// A stream of objects, of at most `most` bytes each.
    pub(super) fn stream(most: usize) -> JsonPieces {
        JsonPieces {
            base: 0,
            inside: true,
            depth: 0,
            in_string: false,
            escaped: false,
            key: Vec::new(),
            piece: Vec::new(),
            rest: Vec::new(),
            most,
        }
    }

    /// The items of a list, of at most `most` bytes each.
    pub(super) fn items(most: usize) -> JsonPieces {
        JsonPieces { base: 2, inside: false, ..JsonPieces::stream(most) }
    }

    /// The next piece, if it ends in `bytes`, which then begin after it. Fails if a piece, or what
    /// is between them, is too long.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, JsonSplitError> {
        while let Some((byte, after)) = bytes.split_first() {
            *bytes = after;
            // The first and the last byte of a piece are braces that change the depth: they belong
            // to it, so both sides are asked.
            let was_piece = self.is_piece();
            self.step(*byte);
            if was_piece || self.is_piece() {
                self.piece.push(*byte);
            // The commas between items would make the rest of the list invalid.
            } else if self.base > 0 && !(self.inside && self.depth == self.base && *byte == b',') {
                self.rest.push(*byte);
            }
            // Both, because a damaged answer may never begin an item.
            if self.piece.len() > self.most || self.rest.len() > self.most {
                return Err(JsonSplitError::TooLarge(self.most));
            }
            if was_piece && !self.is_piece() {
                return Ok(Some(std::mem::take(&mut self.piece)));
            }
        }
        Ok(None)
    }

    /// A list without its items, after its end. Fails if it has not ended.
    pub(super) fn rest(&self) -> Result<&[u8], JsonSplitError> {
        // A connection that broke between two items looks like the end otherwise, and the objects
        // of the second half would be taken for gone.
        if self.depth > 0 || self.rest.is_empty() {
            return Err(JsonSplitError::CutOff);
        }
        Ok(&self.rest)
    }

    fn is_piece(&self) -> bool {
        self.inside && self.depth > self.base
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                // Before the others: an escaped quote does not end a string.
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ if self.depth == 1 && self.key.len() < KEY_BYTES => self.key.push(byte),
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 {
                    // A value clears it, too: then it is no key, and no list follows.
                    self.key.clear();
                }
            }
            b'{' => self.depth += 1,
            b'[' => {
                self.depth += 1;
                // Only at depth 1, for an annotation may be called `items`, too.
                if self.base == 2 && self.depth == 2 && self.key == b"items" {
                    self.inside = true;
                }
            }
            b'}' | b']' => {
                // Text that closes more than it opened is refused by the parser of the piece, not
                // here.
                self.depth = self.depth.saturating_sub(1);
                if self.depth < self.base {
                    self.inside = false;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &mut JsonPieces, text: &str, step: usize) -> Vec<String> {
        let mut found = Vec::new();
        for chunk in text.as_bytes().chunks(step) {
            let mut chunk = chunk;
            while let Some(piece) = pieces.next(&mut chunk).unwrap() {
                found.push(String::from_utf8(piece).unwrap());
            }
        }
        found
    }

    #[test]
    fn objects_and_items_are_cut_wherever_the_text_is() {
        let stream = "{\"a\": \"}\\\"{\"}\n {\"b\": [{}, {}]}{}";
        let list = "{\"kind\": \"items\", \"metadata\": {\"items\": [1]}, \"items\": [{\"a\": [1, 2]}, {\"b\": \"],\"}], \"z\": [{}]}";
        for step in 1..=list.len() {
            let found = cut(&mut JsonPieces::stream(100), stream, step);
            assert_eq!(found, ["{\"a\": \"}\\\"{\"}", "{\"b\": [{}, {}]}", "{}"]);
            let mut pieces = JsonPieces::items(200);
            assert_eq!(cut(&mut pieces, list, step), ["{\"a\": [1, 2]}", "{\"b\": \"],\"}"]);
            let rest: serde_json::Value = serde_json::from_slice(pieces.rest().unwrap()).unwrap();
            assert_eq!(rest["items"], serde_json::json!([]));
            assert_eq!((&rest["metadata"]["items"][0], &rest["z"][0]), (&1.into(), &serde_json::json!({})));
        }
        let mut pieces = JsonPieces::items(200);
        cut(&mut pieces, &list[..list.len() - 1], 7);
        assert!(pieces.rest().is_err());
        let mut long = &b"{\"a\": \"bbbbbbbbb\"}"[..];
        assert!(JsonPieces::stream(10).next(&mut long).is_err());
    }
}
