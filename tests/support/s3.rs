//! A server that speaks S3, over a directory: it can be stopped and comes back on its port with what it had.

use super::daemon::free_port;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The keys that it knows.
pub const KEY: (&str, &str) = ("perennial", "the key of the test");

/// A server with one bucket, `bucket`.
pub struct S3 {
    pub port: u16,
    directory: TempDir,
    runtime: Option<Runtime>,
}

impl S3 {
    /// Starts one.
    pub fn start() -> S3 {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("bucket")).expect("a bucket");
        let mut server = S3 { port: free_port(), directory, runtime: None };
        server.run();
        server
    }

    /// Starts it again.
    pub fn run(&mut self) {
        let files = s3s_fs::FileSystem::new(self.directory.path()).expect("a file system");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(KEY.0, KEY.1));
        let runtime = Runtime::new().expect("a runtime");
        let address = ("127.0.0.1", self.port);
        let listener = runtime.block_on(TcpListener::bind(address)).expect("its port");
        runtime.spawn(serve(listener, service.build()));
        self.runtime = Some(runtime);
    }

    /// Nobody answers any more.
    pub fn stop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }

    /// `storage.objects` of a server that uses it, but for the time.
    pub fn config(&self, prefix: &str) -> String {
        format!(
            "url: s3://bucket/{prefix}, endpoint: 'http://127.0.0.1:{}', allow_http: true, region: here, \
             access_key_id: {}, secret_access_key: {}",
            self.port, KEY.0, KEY.1
        )
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    while let Ok((socket, _)) = listener.accept().await {
        // Or the system holds back the end of an answer for 40 ms.
        socket.set_nodelay(true).expect("a socket");
        let service = service.clone();
        tokio::spawn(async move {
            // A connection that breaks is the client's to notice.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
