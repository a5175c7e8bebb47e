//! A fake Alertmanager: records the alerts that it gets, and can refuse requests or not respond.

use super::now_ms;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// What the receiver does with a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReceiverBehavior {
    /// Accepts it.
    Takes,
    /// Answers 503.
    Refuses,
    /// Reads the request and never responds.
    Hangs,
}

/// One alert of one request.
#[derive(Clone, Debug)]
pub struct ReceivedAlert {
    /// When the request arrived, ms.
    pub at: i64,
    /// The number of the request.
    pub batch: usize,
    /// The alert in the JSON of Alertmanager's API.
    pub alert: Value,
    /// The `Authorization` header of the request.
    pub authorization: Option<String>,
}

impl ReceivedAlert {
    /// A time of the alert, ms.
    pub fn time(&self, field: &str) -> i64 {
        let text = self.alert[field].as_str().unwrap_or_default();
        chrono::DateTime::parse_from_rfc3339(text)
            .unwrap_or_else(|e| panic!("{field} {text:?}: {e}"))
            .timestamp_millis()
    }

    /// Whether the alert had ended when it was sent.
    pub fn is_resolved(&self) -> bool {
        self.time("endsAt") <= self.at
    }

    /// A label of the alert, or "".
    pub fn label(&self, name: &str) -> &str {
        self.alert["labels"][name].as_str().unwrap_or_default()
    }
}

/// Listens until the process ends.
pub struct Receiver {
    pub port: u16,
    heard: Arc<Mutex<Vec<ReceivedAlert>>>,
    mood: Arc<AtomicU8>,
}

impl Receiver {
    /// A receiver that accepts everything.
    pub fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let receiver = Receiver {
            port,
            heard: Arc::default(),
            mood: Arc::new(AtomicU8::new(ReceiverBehavior::Takes as u8)),
        };
        let heard = receiver.heard.clone();
        let mood = receiver.mood.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = heard.clone();
                let mood = mood.clone();
                std::thread::spawn(move || serve(stream, &heard, &mood));
            }
        });
        receiver
    }

    /// Changes what the receiver does with all further requests.
    pub fn set(&self, mood: ReceiverBehavior) {
        self.mood.store(mood as u8, SeqCst);
    }

    /// All accepted alerts so far, in order.
    pub fn heard(&self) -> Vec<ReceivedAlert> {
        self.heard.lock().expect("not poisoned").clone()
    }
}

fn serve(stream: TcpStream, heard: &Mutex<Vec<ReceivedAlert>>, mood: &AtomicU8) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut authorization = None;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let Some((name, value)) = line.trim().split_once(':').filter(|(name, _)| !name.contains(' '))
            else {
                if line.trim().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => authorization = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mood = mood.load(SeqCst);
        if mood == ReceiverBehavior::Hangs as u8 {
            std::thread::sleep(std::time::Duration::from_secs(3_600));
        }
        let taken = mood == ReceiverBehavior::Takes as u8;
        if taken {
            let alerts: Vec<Value> = serde_json::from_slice(&body).unwrap_or_default();
            let mut heard = heard.lock().expect("not poisoned");
            let batch = heard.last().map_or(0, |last| last.batch + 1);
            let told =
                |alert| ReceivedAlert { at: now_ms(), batch, alert, authorization: authorization.clone() };
            heard.extend(alerts.into_iter().map(told));
        }
        let status = if taken { "200 OK" } else { "503 Service Unavailable" };
        writer.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).ok()?;
    }
}
