//! An HTTP server that records requests and gives the answers that a test sets: it stands for
//! receivers, token servers, and servers that break off.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: &'static str,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// So many bytes of the body are sent; then the connection breaks.
    pub cut: Option<usize>,
}

impl Reply {
    /// An answer with this status and body.
    pub fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, content_type: "text/plain", body: body.into(), cut: None }
    }

    /// A document in JSON.
    pub fn json(body: &serde_json::Value) -> Reply {
        Reply { content_type: "application/json", ..Reply::new("200 OK", body.to_string()) }
    }
}

/// Listens until the process ends.
pub struct Recorder {
    pub port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Recorder {
    /// A server with these answers.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let answer = Arc::new(answer);
        let recorder = Recorder { port, seen: seen.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = seen.clone();
                let answer = answer.clone();
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        recorder
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request) -> Reply + Send + Sync),
) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = read(&mut reader)?;
        seen.lock().expect("not poisoned").push(request.clone());
        let Reply { status, content_type, body, cut } = answer(&request);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all(head.as_bytes()).ok()?;
        writer.write_all(&body[..cut.unwrap_or(body.len())]).ok()?;
        if cut.is_some() {
            writer.shutdown(Shutdown::Both).ok()?;
            return None;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let method = words.next()?.to_owned();
    let path = words.next()?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}
