//! The functions that a plan over numbers calls: the text of a number, and the number of a text.
//! No statement can name them.

use super::{CODE, TextCodes};
use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, UInt32Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The direction of a [`Conversion`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
enum Direction {
    ToText,
    ToNumber,
}

/// Turns numbers into texts, or texts into numbers.
#[derive(Debug)]
struct Conversion {
    codes: Arc<TextCodes>,
    direction: Direction,
    signature: Signature,
}

impl PartialEq for Conversion {
    fn eq(&self, other: &Conversion) -> bool {
        Arc::ptr_eq(&self.codes, &other.codes) && self.direction == other.direction
    }
}

impl Eq for Conversion {}

impl Hash for Conversion {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.codes).hash(state);
        self.direction.hash(state);
    }
}

fn call(codes: &Arc<TextCodes>, direction: Direction, arg: Expr) -> Expr {
    let kind = match direction {
        Direction::ToText => CODE,
        Direction::ToNumber => DataType::Utf8,
    };
    // Volatile, because the number of a constant differs from run to run: it must not be folded.
    let signature = Signature::exact(vec![kind], Volatility::Volatile);
    ScalarUDF::new_from_impl(Conversion { codes: codes.clone(), direction, signature }).call(vec![arg])
}

/// The text of the number `arg`.
pub(super) fn text_of(codes: &Arc<TextCodes>, arg: Expr) -> Expr {
    call(codes, Direction::ToText, arg)
}

/// The number of the text `arg`.
pub(super) fn number_of(codes: &Arc<TextCodes>, arg: Expr) -> Expr {
    call(codes, Direction::ToNumber, arg)
}

impl ScalarUDFImpl for Conversion {
    fn name(&self) -> &str {
        match self.direction {
            Direction::ToText => "text_of",
            Direction::ToNumber => "number_of",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.direction {
            Direction::ToText => DataType::Utf8,
            Direction::ToNumber => CODE,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [arg] = args.args.as_slice() else { return exec_err!("{} has one argument", self.name()) };
        match (self.direction, arg) {
            (Direction::ToNumber, ColumnarValue::Scalar(ScalarValue::Utf8(text))) => {
                let number = text.as_ref().map(|text| self.codes.number(text));
                Ok(ColumnarValue::Scalar(ScalarValue::UInt32(number)))
            }
            (Direction::ToNumber, ColumnarValue::Array(texts)) => {
                match texts.as_any().downcast_ref::<StringArray>() {
                    Some(texts) => Ok(ColumnarValue::Array(Arc::new(self.codes.numbers(texts)))),
                    None => exec_err!("number_of has a text"),
                }
            }
            (Direction::ToText, arg) => {
                let numbers = arg.to_array(args.number_rows)?;
                let texts = self.codes.texts(numbers.as_primitive::<UInt32Type>());
                Ok(ColumnarValue::Array(Arc::new(texts)))
            }
            (Direction::ToNumber, ColumnarValue::Scalar(_)) => exec_err!("number_of has a text"),
        }
    }
}
