//! An HTTP server, with or without TLS, that records requests and gives the answers that a test
//! sets: it stands for receivers, token servers, proxies, and servers that break off.

use rustls::server::{Acceptor, ClientHello};
use rustls::{ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tls::ServerOptions;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// What the client said for TLS; `None`: there is none.
    pub hello: Option<Hello>,
}

/// What a client said when it began to speak TLS.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// The name of the server.
    pub server_name: Option<String>,
    /// The protocols that it offers.
    pub protocols: Vec<String>,
    /// Its certificate, if it showed one, DER.
    pub certificate: Option<Vec<u8>>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: &'static str,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// So many bytes of the body are sent; then the connection breaks.
    pub cut: Option<usize>,
    /// Whether the connection ends with the answer.
    pub closes: bool,
}

impl Reply {
    /// An answer with this status and body.
    pub fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, content_type: "text/plain", body: body.into(), cut: None, closes: false }
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
        Recorder::listen(move |stream, seen| serve(stream, None, seen, &answer))
    }

    /// A server over TLS. It asks for its certificates at each connection, which has one request.
    pub fn start_tls(
        options: impl Fn() -> ServerOptions + Send + Sync + 'static,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Recorder {
        let answer = move |request: &Request| Reply { closes: true, ..answer(request) };
        Recorder::listen(move |stream, seen| {
            let (stream, hello) = encrypted(stream, &options())?;
            serve(stream, Some(hello), seen, &answer)
        })
    }

    fn listen(
        serve: impl Fn(TcpStream, &Mutex<Vec<Request>>) -> Option<()> + Send + Sync + 'static,
    ) -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let serve = Arc::new(serve);
        let recorder = Recorder { port, seen: seen.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = seen.clone();
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        recorder
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

/// Shakes hands with a client; `None`: it has gone, or one does not trust the other.
fn encrypted(
    mut stream: TcpStream,
    options: &ServerOptions,
) -> Option<(StreamOwned<ServerConnection, TcpStream>, Hello)> {
    let config = options.build().expect("certificates").config;
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        acceptor.read_tls(&mut stream).ok().filter(|read| *read > 0)?;
        if let Some(accepted) = acceptor.accept().ok()? {
            break accepted;
        }
    };
    let mut hello = said(&accepted.client_hello());
    let mut connection = accepted.into_connection(config).ok()?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).ok()?;
    }
    let shown = connection.peer_certificates().and_then(|chain| chain.first());
    hello.certificate = shown.map(|certificate| certificate.to_vec());
    Some((StreamOwned::new(connection, stream), hello))
}

fn said(hello: &ClientHello<'_>) -> Hello {
    let protocols = hello.alpn().into_iter().flatten();
    Hello {
        server_name: hello.server_name().map(str::to_owned),
        protocols: protocols.map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
        certificate: None,
    }
}

/// Answers the requests of a connection, until one of the two ends it.
fn serve(
    stream: impl Read + Write,
    hello: Option<Hello>,
    seen: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request) -> Reply,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let request = Request { hello: hello.clone(), ..read(&mut stream)? };
        seen.lock().expect("not poisoned").push(request.clone());
        let Reply { status, content_type, body, cut, closes } = answer(&request);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{}\r\n",
            body.len(),
            if closes { "Connection: close\r\n" } else { "" },
        );
        let writer = stream.get_mut();
        writer.write_all(head.as_bytes()).ok()?;
        writer.write_all(&body[..cut.unwrap_or(body.len())]).ok()?;
        writer.flush().ok()?;
        if closes || cut.is_some() {
            return None;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
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
    Some(Request { method, path, headers, body, hello: None })
}
