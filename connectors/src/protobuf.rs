//! A minimal reader for protocol buffers: iterates over the fields of a message without copying.
//!
//! It does not recurse: a nested message is a slice, over which the caller may iterate in turn.
//! Used for remote write and for protobuf scrapes.

/// Why a message is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged protobuf at byte {at}: {reason}")]
pub struct ProtobufError {
    /// The offset in the message.
    pub at: usize,
    /// What was expected.
    pub reason: &'static str,
}

/// The value of a field.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum FieldValue<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1: eight bytes.
    Fixed64(u64),
    /// Wire type 2: bytes, text or a message.
    Bytes(&'a [u8]),
    /// Wire type 5: four bytes.
    Fixed32(u32),
}

/// The encoding of a field in a known message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Any: the field is not known.
    Any,
    /// A varint.
    Number,
    /// Eight bytes.
    Double,
    /// Bytes, text or a message.
    Bytes,
    /// Varints, packed or one at a time.
    Numbers,
    /// Doubles, packed or one at a time.
    Doubles,
}

impl Wire {
    fn allows(self, value: FieldValue<'_>) -> bool {
        match self {
            Wire::Any => true,
            Wire::Number => matches!(value, FieldValue::Varint(_)),
            Wire::Double => matches!(value, FieldValue::Fixed64(_)),
            Wire::Bytes => matches!(value, FieldValue::Bytes(_)),
            Wire::Numbers => matches!(value, FieldValue::Varint(_) | FieldValue::Bytes(_)),
            Wire::Doubles => matches!(value, FieldValue::Fixed64(_) | FieldValue::Bytes(_)),
        }
    }
}

/// Iterates over the fields of a message.
#[derive(Clone, Debug)]
pub struct FieldReader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> FieldReader<'a> {
    /// A reader for the fields of `message`.
    pub fn new(message: &'a [u8]) -> FieldReader<'a> {
        FieldReader { message, at: 0 }
    }

    /// The current offset, bytes.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next field, number and value; `None` at the end of the message.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u64, FieldValue<'a>)>, ProtobufError> {
        if self.at == self.message.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        // Field numbers begin at 1. Zeros in a body are usually a file that was extended and never
        // written.
        if tag >> 3 == 0 {
            return Err(self.error("illegal tag 0"));
        }
        let value = match tag & 7 {
            0 => FieldValue::Varint(self.varint()?),
            1 => FieldValue::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = self.varint()?;
                FieldValue::Bytes(self.bytes(len)?)
            }
            5 => FieldValue::Fixed32(u32::from_le_bytes(self.array()?)),
            // 3 and 4 are groups, which proto3 does not have. To skip one, the reader would have to
            // recurse.
            _ => return Err(self.error("unknown wire type")),
        };
        Ok(Some((tag >> 3, value)))
    }

    /// As [`FieldReader::next_field`], for a message whose fields have the encodings `wires`, from
    /// number 1 on.
    #[inline]
    pub fn next_of(&mut self, wires: &[Wire]) -> Result<Option<(u64, FieldValue<'a>)>, ProtobufError> {
        let field = self.next_field()?;
        if let Some((number, value)) = field
            // Unknown fields are passed over, so that later versions of a message can be read. A
            // known field in another encoding is damage: Go's decoder refuses it, too.
            && !wires.get(number as usize - 1).is_none_or(|wire| wire.allows(value))
        {
            return Err(self.error("wrong wire type for a known field"));
        }
        Ok(field)
    }

    #[cold]
    fn error(&self, reason: &'static str) -> ProtobufError {
        ProtobufError { at: self.at, reason }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0u64;
        // At most ten bytes; without an end a number could be as long as the body.
        for shift in (0..70).step_by(7) {
            let Some(byte) = self.message.get(self.at) else { return Err(self.error("number is cut off")) };
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("number is too long"))
    }

    #[inline]
    fn bytes(&mut self, len: u64) -> Result<&'a [u8], ProtobufError> {
        let rest = &self.message[self.at..];
        match usize::try_from(len).ok().and_then(|len| rest.get(..len)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(self.error("field is longer than its message")),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let bytes = self.bytes(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }
}

/// Decodes the length of a message at the start of `bytes`, and the number of bytes of the length;
/// `None` if these are incomplete.
pub fn message_length(bytes: &[u8]) -> Result<Option<(u64, usize)>, ProtobufError> {
    let mut fields = FieldReader::new(bytes);
    match fields.varint() {
        Ok(length) => Ok(Some((length, fields.at))),
        // Cut off, and still short enough to become a number when more bytes come.
        Err(_) if fields.at == bytes.len() && bytes.len() < 10 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Decodes a number of type sint32 or sint64.
#[inline]
pub fn zigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

impl FieldValue<'_> {
    /// The number, if the value is a varint; otherwise 0.
    pub fn number(self) -> u64 {
        if let FieldValue::Varint(n) = self { n } else { 0 }
    }

    /// The double, if the value is one; otherwise 0.
    pub fn double(self) -> f64 {
        if let FieldValue::Fixed64(bits) = self { f64::from_bits(bits) } else { 0.0 }
    }

    /// Calls `each` for the varints of a repeated field, packed or not.
    pub fn each_number(self, mut each: impl FnMut(u64)) -> Result<(), ProtobufError> {
        match self {
            FieldValue::Varint(n) => each(n),
            FieldValue::Bytes(packed) => {
                let mut packed = FieldReader::new(packed);
                while packed.at < packed.message.len() {
                    each(packed.varint()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Calls `each` for the doubles of a repeated field, packed or not.
    pub fn each_double(self, mut each: impl FnMut(f64)) -> Result<(), ProtobufError> {
        match self {
            FieldValue::Fixed64(bits) => each(f64::from_bits(bits)),
            FieldValue::Bytes(packed) => {
                let mut packed = FieldReader::new(packed);
                while packed.at < packed.message.len() {
                    each(f64::from_bits(u64::from_le_bytes(packed.array()?)));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn damage_is_named() {
        for (bytes, reason) in [
            (&[0x08u8][..], "number is cut off"),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "number is too long"),
            (&[0x0a, 0x05, 0x00], "field is longer than its message"),
            (&[0x09, 0x05, 0x00], "field is longer than its message"),
            (&[0x0b], "unknown wire type"),
            (&[0x02, 0x00], "illegal tag 0"),
        ] {
            assert_eq!(FieldReader::new(bytes).next_field().unwrap_err().reason, reason);
        }
    }

    #[test]
    fn repeated_numbers_come_packed_or_alone() {
        let mut all = Vec::new();
        FieldValue::Bytes(&[0x01, 0x96, 0x01]).each_number(|n| all.push(zigzag(n))).unwrap();
        FieldValue::Varint(4).each_number(|n| all.push(zigzag(n))).unwrap();
        assert_eq!(all, [-1, 75, 2]);
        assert!(FieldValue::Bytes(&[0; 12]).each_double(drop).is_err());
        assert_eq!(message_length(&[0x96, 0x01, 7]), Ok(Some((150, 2))));
        assert_eq!((message_length(&[]), message_length(&[0x96])), (Ok(None), Ok(None)));
        assert!(message_length(&[0xff; 12]).is_err());
    }

    #[test]
    fn fields_of_known_messages_are_written_as_they_must_be() {
        let wires = [Wire::Bytes, Wire::Number, Wire::Double, Wire::Numbers, Wire::Doubles, Wire::Any];
        let good = |bytes: &[u8]| FieldReader::new(bytes).next_of(&wires).is_ok();
        assert!(good(&[0x0a, 0x00]) && good(&[0x10, 0x01]) && good(&[0x20, 0x01]) && good(&[0x22, 0x00]));
        assert!(good(&[0x30, 0x01]) && good(&[0x38, 0x01]) && good(&[0x2a, 0x00]));
        assert!(!good(&[0x08, 0x01]) && !good(&[0x12, 0x00]) && !good(&[0x18, 0x01]) && !good(&[0x28, 0x01]));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut fields = FieldReader::new(&bytes);
            while let Ok(Some(_)) = fields.next_field() {}
            prop_assert!(fields.position() <= bytes.len());
            let _ = message_length(&bytes);
            let _ = FieldValue::Bytes(&bytes).each_number(|_| ());
            let _ = FieldValue::Bytes(&bytes).each_double(|_| ());
        }
    }
}
