//! For the tests: writes protobuf by hand, so that the input of a test does not come from the code
//! under test.

pub fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

pub fn number(field: u64, n: u64) -> Vec<u8> {
    [varint(field << 3), varint(n)].concat()
}

pub fn signed(field: u64, n: i64) -> Vec<u8> {
    number(field, ((n << 1) ^ (n >> 63)) as u64)
}

pub fn double(field: u64, v: f64) -> Vec<u8> {
    [varint(field << 3 | 1), v.to_le_bytes().to_vec()].concat()
}

pub fn submessage(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

pub fn label(name: &str, value: &str) -> Vec<u8> {
    submessage(1, &[submessage(1, name.as_bytes()), submessage(2, value.as_bytes())].concat())
}

/// The message of a metric family.
pub fn family(name: &str, kind: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
    let head = [submessage(1, name.as_bytes()), submessage(2, b"help"), number(3, kind)].concat();
    let metrics: Vec<u8> = metrics.iter().flat_map(|metric| submessage(4, metric)).collect();
    [head, metrics].concat()
}

/// A body with these families.
pub fn body(families: &[Vec<u8>]) -> Vec<u8> {
    families.iter().flat_map(|family| [varint(family.len() as u64), family.clone()].concat()).collect()
}
