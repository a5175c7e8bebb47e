//! [`ConsoleFiles`]: the files of the operator for `/consoles` and `/user`: console templates
//! (`--web.console.templates`, `--web.console.libraries`) and static files (`--web.user-assets`).
//!
//! Only regular files below these folders are read, and none whose path has a segment that begins
//! with a dot. `rules::console` executes the templates; `api::consoles` has the endpoints.

use crate::query_language::TemplateQueries;
use crate::server::Server;
use api::consoles::{ConsoleFailure, ConsoleRequest, OperatorFiles, UserFile};
use api::limits::USER_FILE_BYTES;
use rules::TemplateQueryError;
use rules::console::{ConsolePage, ConsoleServer, render};
use rules::limits::{CONSOLE_FILE_BYTES, CONSOLE_LIBRARIES, CONSOLE_QUERIES, CONSOLE_TIME};
use rules::template::TemplateQuery;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use storage::model::{Labels, TimeMs};

/// The pages of a server.
pub(crate) struct ConsoleFiles {
    server: Arc<Server>,
    templates: PathBuf,
    libraries: PathBuf,
    user_assets: Option<PathBuf>,
}

impl ConsoleFiles {
    /// The files that the flags of `server` name.
    pub(crate) fn new(server: Arc<Server>) -> ConsoleFiles {
        let flags = &server.context.flags;
        let assets = flags.web_user_assets.as_str();
        ConsoleFiles {
            templates: PathBuf::from(flags.web_console_templates.as_str()),
            libraries: PathBuf::from(flags.web_console_libraries.as_str()),
            user_assets: (!assets.is_empty()).then(|| PathBuf::from(assets)),
            server,
        }
    }

    /// The libraries: all files `*.lib`, by name.
    fn libraries(&self) -> Result<Vec<(String, String)>, ConsoleFailure> {
        // A folder that is not there has no libraries, as in Prometheus.
        let Ok(entries) = std::fs::read_dir(&self.libraries) else { return Ok(Vec::new()) };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".lib") && !name.starts_with('.'))
            .collect();
        names.sort();
        if names.len() > CONSOLE_LIBRARIES {
            let reason = format!("there are more than {CONSOLE_LIBRARIES} console libraries");
            return Err(ConsoleFailure::Failed(reason));
        }
        let mut libraries = Vec::new();
        for name in names {
            let text = read(&self.libraries.join(&name), CONSOLE_FILE_BYTES)?;
            libraries.push((name, String::from_utf8_lossy(&text).into_owned()));
        }
        Ok(libraries)
    }
}

/// The path of a file below `root`; `None`: it must not be read.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let mut whole = root.to_owned();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        // Hidden files are not meant for others, and `..` leads out.
        if segment.starts_with('.') || segment.contains(['\\', '\0']) {
            return None;
        }
        whole.push(segment);
    }
    Some(whole)
}

/// A regular file of at most `most` bytes.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, ConsoleFailure> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // Without the folder: it says where the operator keeps files.
    let failed = |error: &dyn std::fmt::Display| ConsoleFailure::Failed(format!("{name}: {error}"));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Err(ConsoleFailure::NotFound);
        }
        Err(error) => return Err(failed(&error)),
    };
    let about = file.metadata().map_err(|error| failed(&error))?;
    if !about.is_file() {
        return Err(failed(&"it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > most {
        return Err(failed(&format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

impl OperatorFiles for ConsoleFiles {
    fn console(&self, request: &ConsoleRequest) -> Result<String, ConsoleFailure> {
        let path = below(&self.templates, &request.path).ok_or(ConsoleFailure::NotFound)?;
        let source = read(&path, CONSOLE_FILE_BYTES)?;
        let libraries = self.libraries()?;
        let rules = &self.server.rules;
        let options = rules.trial_options();
        let queries = &self.server.queries;
        let page = ConsolePage {
            path: request.path.trim_start_matches('/'),
            source: &String::from_utf8_lossy(&source),
            libraries: &libraries,
            params: &request.params,
            now: self.server.context.clock.now(),
        };
        let server = ConsoleServer {
            external_labels: &options.external_labels,
            external_url: &options.external_url,
            query: Arc::new(ConsoleQueries {
                queries: TemplateQueries {
                    querier: queries.reader.clone(),
                    language: queries.language,
                    options: queries.options.clone(),
                },
                allowance: QueryAllowance { began: Instant::now(), asked: AtomicUsize::new(0) },
            }),
        };
        render(&page, &server).map_err(|error| ConsoleFailure::Failed(error.to_string()))
    }

    fn user_file(&self, path: &str) -> Result<UserFile, ConsoleFailure> {
        let root = self.user_assets.as_ref().ok_or(ConsoleFailure::NotFound)?;
        let mut file = below(root, path).ok_or(ConsoleFailure::NotFound)?;
        if file.is_dir() {
            file.push("index.html");
        }
        let bytes = read(&file, USER_FILE_BYTES)?;
        Ok(UserFile { media_type: media_type(&file), bytes })
    }

    fn start(&self) -> Option<&'static str> {
        if self.templates.join("index.html").is_file() {
            return Some("/consoles/index.html");
        }
        let has_own = self.user_assets.as_ref().is_some_and(|root| root.join("index.html").is_file());
        has_own.then_some("/user/index.html")
    }
}

/// What the queries of one page may still cost.
struct QueryAllowance {
    began: Instant,
    asked: AtomicUsize,
}

impl QueryAllowance {
    /// The time that the next query may take.
    fn next(&self) -> Result<Duration, TemplateQueryError> {
        if self.asked.fetch_add(1, Relaxed) >= CONSOLE_QUERIES {
            let reason = format!("the page makes more than {CONSOLE_QUERIES} queries");
            return Err(TemplateQueryError::Text(reason));
        }
        let left = CONSOLE_TIME.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            let reason = format!("the queries of the page take more than {CONSOLE_TIME:?}");
            return Err(TemplateQueryError::Text(reason));
        }
        Ok(left)
    }
}

/// The queries of one page.
struct ConsoleQueries {
    queries: TemplateQueries,
    allowance: QueryAllowance,
}

impl TemplateQuery for ConsoleQueries {
    fn query(&self, expr: &str, t: TimeMs) -> Result<Vec<(Labels, f64)>, TemplateQueryError> {
        let left = self.allowance.next()?;
        self.queries.query_within(expr, t, left)
    }
}

/// The media type of a file, by the end of its name.
fn media_type(path: &Path) -> &'static str {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref().unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/vnd.microsoft.icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "xml" => "text/xml; charset=utf-8",
        "txt" | "md" | "log" | "csv" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        let root = Path::new("/c");
        assert_eq!(below(root, "a/b.html"), Some(PathBuf::from("/c/a/b.html")));
        assert_eq!(below(root, "//a"), Some(PathBuf::from("/c/a")));
        for path in ["..", "../x", "a/../../x", "a/..", ".git/config", "a/.htaccess", "a\\..\\x", "a\0b"] {
            assert_eq!(below(root, path), None, "{path:?}");
        }
    }

    #[test]
    fn the_queries_of_a_page_have_a_number_and_a_time() {
        let allowance = |ago| QueryAllowance { began: Instant::now() - ago, asked: AtomicUsize::new(0) };
        let fresh = allowance(Duration::ZERO);
        assert!((0..CONSOLE_QUERIES).all(|_| fresh.next().is_ok()));
        assert_eq!(fresh.next().unwrap_err().to_string(), "the page makes more than 500 queries");
        assert!(allowance(CONSOLE_TIME / 2).next().is_ok_and(|left| left <= CONSOLE_TIME / 2));
        let late = allowance(CONSOLE_TIME).next().unwrap_err();
        assert_eq!(late.to_string(), "the queries of the page take more than 10s");
    }

    #[test]
    fn only_files_of_a_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.html");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().to_string(), "x.html: it has more than 4 bytes");
        assert_eq!(read(&dir.path().join("y"), 4).unwrap_err(), ConsoleFailure::NotFound);
        assert_eq!(read(&path.join("y"), 4).unwrap_err(), ConsoleFailure::NotFound);
        assert!(matches!(read(dir.path(), 4).unwrap_err(), ConsoleFailure::Failed(_)));
    }
}
