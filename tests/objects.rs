//! Tests that a directory and an S3 server do what the store needs of an object store: conditional
//! writes, listing, ranges, deletion.

#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/mod.rs"]
mod support;

use connectors::objects::RemoteObjects;
use connectors::objects::config::ObjectStoreConfig;
use std::io::ErrorKind;
use storage::object_store::ObjectStorage;
use support::s3::{KEY, S3};

fn config(text: &str) -> ObjectStoreConfig {
    serde_saphyr::from_str(&format!("{{{text}}}")).expect("a configuration")
}

fn open(text: &str) -> RemoteObjects {
    RemoteObjects::open(&config(text), std::iter::empty()).expect("a place")
}

fn put(place: &RemoteObjects, name: &str, content: &[u8]) {
    let read = |at: u64, len: usize| Ok(content[at as usize..content.len().min(at as usize + len)].to_vec());
    place.put(name, content.len() as u64, &read).expect("put");
}

fn keeps_its_word(place: &RemoteObjects) {
    let names = |folder: &str| {
        let mut found = place.list(folder).expect("a list");
        found.sort();
        found
    };
    assert_eq!((names(""), place.len_of("a/x").expect("head")), (vec![], None));
    put(place, "a/x", b"hello");
    put(place, "a/y", b"");
    put(place, "ab/x", b"other");
    assert_eq!(names(""), [("a/x".to_owned(), 5), ("a/y".to_owned(), 0), ("ab/x".to_owned(), 5)]);
    assert_eq!(names("a"), [("a/x".to_owned(), 5), ("a/y".to_owned(), 0)]);
    assert_eq!(
        (place.get("a/x", 1..4).expect("bytes"), place.len_of("a/x").expect("head")),
        (b"ell".to_vec(), Some(5))
    );
    assert_eq!(place.get("a/y", 0..0).expect("nothing"), b"");
    assert_eq!(place.get("a/none", 0..1).expect_err("no object").kind(), ErrorKind::NotFound);
    let several =
        [("ab/x", 0..5), ("a/none", 0..1), ("a/x", 1..3)].map(|(name, range)| (name.to_owned(), range));
    let given: Vec<_> =
        place.get_many(&several).into_iter().map(|bytes| bytes.map_err(|e| e.kind())).collect();
    assert_eq!(given, [Ok(b"other".to_vec()), Err(ErrorKind::NotFound), Ok(b"el".to_vec())]);
    put(place, "a/x", b"again");
    assert_eq!(place.get("a/x", 0..5).expect("bytes"), b"again");
    place.create("owner", b"me").expect("created");
    assert_eq!(place.create("owner", b"you").expect_err("there is one").kind(), ErrorKind::AlreadyExists);
    assert_eq!(place.get("owner", 0..2).expect("bytes"), b"me");
    // Larger than one request.
    let large: Vec<u8> = (0..(20u32 << 20)).map(|i| (i % 251) as u8).collect();
    put(place, "large", &large);
    let middle = (15 << 20)..(18 << 20);
    let found = place.get("large", middle.start as u64..middle.end as u64).expect("bytes");
    assert!(found == large[middle], "parts are in order");
    let fails = |_: u64, _: usize| Err(std::io::Error::other("the disk"));
    assert!(place.put("failed", 20 << 20, &fails).is_err());
    assert_eq!(place.len_of("failed").expect("head"), None);
    for name in ["a/x", "a/y", "ab/x", "large", "owner", "a/x"] {
        place.delete(name).expect("deleted");
    }
    assert_eq!(names(""), []);
}

#[test]
fn a_directory_keeps_its_word() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = open(&format!("url: 'file://{}/new'", directory.path().display()));
    keeps_its_word(&place);
}

#[test]
fn a_server_keeps_its_word() {
    let mut server = S3::start();
    let place = open(&server.config("some/prefix"));
    let other = open(&server.config("other"));
    put(&other, "a/x", b"other");
    keeps_its_word(&place);
    assert_eq!(other.list("").expect("a list"), [("a/x".to_owned(), 5)], "another prefix is another place");
    server.stop();
    let error = other.len_of("a/x").expect_err("nobody answers").to_string();
    assert!(!error.contains(KEY.1), "{error}");
    server.run();
    assert_eq!(other.len_of("a/x").expect("head"), Some(5));
    let wrong = server.config("other").replace(KEY.1, "a wrong key");
    let error = open(&wrong).get("a/x", 0..1).expect_err("the wrong key");
    assert!(
        error.kind() == ErrorKind::PermissionDenied && !error.to_string().contains("wrong key"),
        "{error:?}"
    );
}

#[test]
fn keys_come_from_the_environment_too() {
    let server = S3::start();
    let text = format!("url: s3://bucket/p, endpoint: 'http://127.0.0.1:{}', allow_http: true", server.port);
    let variables = [
        ("AWS_ACCESS_KEY_ID", KEY.0),
        ("AWS_SECRET_ACCESS_KEY", KEY.1),
        ("AWS_REGION", "here"),
        ("HOME", "/"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let place = RemoteObjects::open(&config(&text), variables.into_iter()).expect("a place");
    put(&place, "x", b"hello");
    assert_eq!(place.len_of("x").expect("head"), Some(5));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (text, why) in [
        ("url: ftp://x/y", "must begin with s3:// or file:///"),
        ("url: bucket", "relative URL"),
        ("url: s3:///x", "names no bucket"),
        ("url: file://x/y", "third slash"),
        ("url: s3://id:key@bucket/x", "keys of their own"),
        ("url: s3://bucket, after: 0s", "after must be greater than 0"),
        ("url: s3://bucket, access_key_id: x", "go together"),
        ("url: s3://bucket, secret_access_key: x", "go together"),
        (
            "url: s3://bucket, access_key_id: x, secret_access_key: y, secret_access_key_file: z",
            "at most one",
        ),
        ("url: s3://bucket, endpoint: 'http://localhost'", "allow_http"),
        ("url: file:///x, region: eu", "for s3:// only"),
        ("url: s3://bucket, ca_file: /does/not/exist", "/does/not/exist"),
    ] {
        let error = RemoteObjects::open(&config(text), std::iter::empty()).err().expect(text);
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
    assert!(serde_saphyr::from_str::<ObjectStoreConfig>("{url: s3://bucket, bucket: x}").is_err());
    let shown = format!("{:?}", config("url: s3://bucket, access_key_id: x, secret_access_key: hunter2"));
    assert!(!shown.contains("hunter2"), "{shown}");
}
