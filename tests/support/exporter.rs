//! A scrape target with a body that the test sets: a thread that returns the current body for every
//! GET.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Serves a body until the process ends.
pub struct Exporter {
    pub port: u16,
    body: Arc<Mutex<Vec<u8>>>,
}

impl Exporter {
    /// An exporter that serves `body` as text format 0.0.4.
    pub fn start(body: &str) -> Exporter {
        Exporter::start_as("text/plain; version=0.0.4; charset=utf-8", body.as_bytes())
    }

    /// An exporter that serves `body` with this content type.
    pub fn start_as(content_type: &'static str, body: &[u8]) -> Exporter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let body = Arc::new(Mutex::new(body.to_vec()));
        let shared = body.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, content_type, &shared));
            }
        });
        Exporter { port, body }
    }

    /// Changes the body for the next scrape.
    pub fn set(&self, body: &str) {
        *self.body.lock().expect("not poisoned") = body.as_bytes().to_vec();
    }
}

fn serve(stream: TcpStream, content_type: &str, body: &Mutex<Vec<u8>>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        while !lines.next()?.ok()?.is_empty() {}
        let body = body.lock().expect("not poisoned").clone();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    }
}
