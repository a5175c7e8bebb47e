//! Conversions of scalars that Go's YAML library makes, such as a number for a key whose type is
//! text.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads text; `null` is the empty text, as a value of Go that nothing was written to.
pub fn text<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(d)?.unwrap_or_default())
}

/// An integer type that [`integer`] reads.
pub trait Integer: Default + TryFrom<i64> + TryFrom<u64> {
    /// Its name in errors.
    const NAME: &'static str;
}

impl Integer for i64 {
    const NAME: &'static str = "int64";
}

impl Integer for u64 {
    const NAME: &'static str = "uint64";
}

/// Reads an integer. A number with a point or an exponent (`1e3`) is cut, and `null` is 0, as in
/// Go.
///
/// # Errors
/// A number that the type does not hold, and every value that is no number.
pub fn integer<'de, T: Integer, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    d.deserialize_any(IntegerVisitor(PhantomData))
}

struct IntegerVisitor<T>(PhantomData<T>);

impl<'de, T: Integer> Visitor<'de> for IntegerVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of type {}", T::NAME)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        // Beyond 2^63 a float is no integer of either type; NaN fails the comparison.
        if value.abs() < 9.2e18 {
            return self.visit_i64(value as i64);
        }
        Err(E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_none<E>(self) -> Result<T, E> {
        Ok(T::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Limits {
        #[serde(deserialize_with = "integer")]
        samples: u64,
        #[serde(default, deserialize_with = "text")]
        name: String,
    }

    #[test]
    fn numbers_are_converted_as_go_does() {
        for (written, want) in [("1e3", 1000), ("0x10", 16), ("2.9", 2), ("~", 0), ("7", 7)] {
            let limits: Limits = serde_saphyr::from_str(&format!("samples: {written}")).expect(written);
            assert_eq!((limits.samples, limits.name.as_str()), (want, ""), "{written}");
        }
        for written in ["-1", "many", "'7'", "1e30", "true", "[1]"] {
            let read = serde_saphyr::from_str::<Limits>(&format!("samples: {written}"));
            assert!(read.is_err(), "{written}: {read:?}");
        }
    }

    #[test]
    fn null_is_the_empty_text() {
        for (written, want) in [("~", ""), ("", ""), ("null", ""), ("'~'", "~"), ("007", "007")] {
            let limits: Limits =
                serde_saphyr::from_str(&format!("samples: 1\nname: {written}")).expect(written);
            assert_eq!(limits.name, want, "{written}");
        }
    }
}
