//! A blocking HTTP/1.1 client for tests: JSON APIs, remote write and event streams over loopback.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest wait for data.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A response: status and body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }
}

/// Sends one request on its own connection; `Err` if there is no connection or it breaks.
pub fn send(
    port: u16,
    method: &str,
    path: &str,
    head: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = open(port, method, path, head, body)?;
    let (status, chunked) = read_head(&mut stream)?;
    let body = if chunked { read_chunks(&mut stream)? } else { read_rest(&mut stream)? };
    Ok(Answer { status, body })
}

/// Sends `GET path`.
pub fn get(port: u16, path: &str) -> std::io::Result<Answer> {
    send(port, "GET", path, &[], b"")
}

/// Sends `POST path` without a body.
pub fn post(port: u16, path: &str) -> std::io::Result<Answer> {
    send(port, "POST", path, &[], b"")
}

/// Starts an endless response: checks for status 200 and returns a reader of the raw body (with
/// chunk sizes, which look like no line of our formats).
pub fn stream(port: u16, path: &str, head: &[(&str, &str)]) -> BufReader<TcpStream> {
    let mut reader = open(port, "GET", path, head, b"").expect("connection");
    let (status, _) = read_head(&mut reader).expect("an answer");
    assert_eq!(status, 200, "GET {path}");
    reader
}

/// Percent-encodes everything except letters, digits and `-_.~`.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (b as char).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

fn open(
    port: u16,
    method: &str,
    path: &str,
    head: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let extra: String = head.iter().map(|(k, v)| format!("{k}: {v}\r\n")).collect();
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {length}\r\n{extra}\r\n"
    );
    stream.write_all(text.as_bytes())?;
    stream.write_all(body)?;
    Ok(BufReader::new(stream))
}

fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<(u16, bool)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not a status line: {line:?}")))?;
    let mut chunked = false;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            return Ok((status, chunked));
        }
        chunked |= line.to_ascii_lowercase().starts_with("transfer-encoding: chunked");
    }
}

fn read_rest(reader: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    Ok(body)
}

fn read_chunks(reader: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}
