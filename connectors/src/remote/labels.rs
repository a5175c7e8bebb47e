//! Reads the labels of a series in messages of remote write 1.0 and remote read, which have the
//! same form.

use crate::protobuf::{FieldReader, FieldValue, ProtobufError};

/// Calls `take(name, value)` for each label in the first field of `message`.
///
/// # Errors
/// The message is damaged, or the error of `take`, which is not called again.
pub fn each_label<'a, E: From<ProtobufError>>(
    message: &'a [u8],
    mut take: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut fields = FieldReader::new(message);
    while let Some(field) = fields.next_field()? {
        let (1, FieldValue::Bytes(label)) = field else { continue };
        let mut name = &b""[..];
        let mut value = &b""[..];
        let mut parts = FieldReader::new(label);
        while let Some(part) = parts.next_field()? {
            match part {
                (1, FieldValue::Bytes(bytes)) => name = bytes,
                (2, FieldValue::Bytes(bytes)) => value = bytes,
                _ => {}
            }
        }
        take(name, value)?;
    }
    Ok(())
}
