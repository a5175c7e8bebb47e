//! Tests the output formats of [`sql`]: NaN and infinities in JSON and CSV, and that Arrow can be
//! read back.

mod support;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Float64Type;
use datafusion::arrow::ipc::reader::StreamReader;
use sql::output::Format;
use support::SqlFixture;

fn world() -> SqlFixture {
    let world = SqlFixture::empty();
    for (instance, v) in [("a", 1.5), ("b", f64::NAN), ("c", f64::INFINITY), ("d", f64::NEG_INFINITY)] {
        world.add(&[("__name__", "m"), ("instance", instance)], [(0, v)]);
    }
    world
}

const STATEMENT: &str = "SELECT instance, value FROM m ORDER BY instance";

#[test]
fn numbers_that_json_has_no_word_for() {
    let world = world();
    let text =
        |format| String::from_utf8(world.ask_as(STATEMENT, format).expect("an answer").0).expect("UTF-8");
    let json = text(Format::Json);
    assert!(json.contains(r#""rows":[["a",1.5],["b","NaN"],["c","+Inf"],["d","-Inf"]]"#), "{json}");
    assert!(json.contains(r#"{"name":"instance","type":"text"},{"name":"value","type":"float8"}"#), "{json}");
    assert_eq!(text(Format::Csv), "instance,value\r\na,1.5\r\nb,NaN\r\nc,+Inf\r\nd,-Inf\r\n");
    let ndjson = text(Format::Ndjson);
    assert!(ndjson.ends_with("{\"end\":{\"rows\":4,\"warnings\":[]}}\n"), "{ndjson}");
}

#[test]
fn arrow_is_read_back() {
    let (bytes, summary) = world().ask_as(STATEMENT, Format::Arrow).expect("an answer");
    let reader = StreamReader::try_new(bytes.as_slice(), None).expect("a stream");
    assert_eq!(reader.schema().field(1).name(), "value");
    let batches: Vec<_> = reader.map(|batch| batch.expect("a batch")).collect();
    assert_eq!((summary.rows, batches.iter().map(|b| b.num_rows()).sum::<usize>()), (4, 4));
    assert_eq!(batches[0].column(1).as_primitive::<Float64Type>().value(0), 1.5);
}

/// `count(*)` asks for no column, and still for the number of rows.
#[test]
fn rows_without_columns() {
    let rows =
        world().rows("SELECT count(*) FROM (SELECT 1 FROM samples.m WHERE ts > now() - interval '1 hour') x");
    assert_eq!(rows.expect("an answer"), [["4"]]);
}
