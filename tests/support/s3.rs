//! An S3 server over a directory, which a test can stop and start again on the same port.

use super::daemon::free_port;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The access key and the secret key.
pub const KEY: (&str, &str) = ("perennial", "the key of the test");

/// A server with one bucket, `bucket`.
pub struct S3 {
    pub port: u16,
    directory: TempDir,
    runtime: Option<Runtime>,
}

impl S3 {
    /// Starts a server.
    pub fn start() -> S3 {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("bucket")).expect("a bucket");
        let mut server = S3 { port: free_port(), directory, runtime: None };
        server.run();
        server
    }

    /// Starts the server again.
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

    /// Stops the server: requests fail from now on.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// The `storage.objects` block for this server, without the time.
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
        // Without this the system delays the end of a response by 40 ms.
        socket.set_nodelay(true).expect("a socket");
        let service = service.clone();
        tokio::spawn(async move {
            // The client reports a broken connection.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
