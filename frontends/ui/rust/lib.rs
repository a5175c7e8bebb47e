//! Embeds the web page in the binary: its files, compressed by `build.rs`, and the HTML frame of
//! every page.
//!
//! The sources are next to this folder: `src/` (TypeScript), and `dist/`, which `npm run build`
//! makes of them. `api::pages` serves the files.

use flate2::read::GzDecoder;
use std::io::Read;

/// A file of the page.
pub struct Asset {
    /// Its path below the base of the page, such as `a/index-1b2c.js`.
    pub path: &'static str,
    /// Its `ETag`, with quotes.
    pub etag: &'static str,
    /// Its bytes, compressed with gzip.
    pub gzip: &'static [u8],
}

static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

const INDEX: &str = "index.html";

impl Asset {
    /// The media type by the ending of the path.
    pub fn content_type(&self) -> &'static str {
        match self.path.rsplit_once('.').map_or("", |(_, ending)| ending) {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "html" => "text/html; charset=utf-8",
            _ => "application/octet-stream",
        }
    }

    /// Whether the name has a hash of the content: another content has another name.
    pub fn is_immutable(&self) -> bool {
        self.path.starts_with("a/")
    }

    /// The bytes, not compressed.
    pub fn plain(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // The build wrote it: it cannot be damaged.
        let _ = GzDecoder::new(self.gzip).read_to_end(&mut bytes);
        bytes
    }
}

/// The file at a path below the base of the page; `None`: there is none. The frame of pages is not
/// among them.
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path && path != INDEX)
}

/// What differs in the frame of pages from server to server.
pub struct Frame<'a> {
    /// The path below which browsers see the server, without a final slash: "" or such as
    /// `/prometheus`.
    pub external_path: &'a str,
    /// The title.
    pub title: &'a str,
    /// What the page must know at once, as a JSON object.
    pub settings: &'a str,
}

/// The HTML of every page.
pub fn index(frame: &Frame) -> String {
    let file = ASSETS.iter().find(|asset| asset.path == INDEX).map(Asset::plain);
    let text = String::from_utf8(file.unwrap_or_default()).unwrap_or_default();
    text.replace("{{base}}", &escape(&format!("{}/", frame.external_path)))
        .replace("{{title}}", &escape(frame.title))
        .replace("{{settings}}", &escape(frame.settings))
}

/// The text as content of an element or of an attribute in quotes.
fn escape(text: &str) -> String {
    // Braces, too: a title must not contain another placeholder.
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('{', "&#123;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_names_files_that_are_there() {
        let html = index(&Frame { external_path: "", title: "T", settings: "{}" });
        let mut names = 0;
        for (at, _) in html.match_indices("=\"./") {
            let rest = &html[at + 4..];
            let path = &rest[..rest.find('"').unwrap()];
            assert!(asset(path).is_some(), "{path}");
            names += 1;
        }
        assert!(names >= 2, "{html}");
        assert!(asset("index.html").is_none());
        assert!(asset("favicon.svg").is_some_and(|icon| icon.content_type() == "image/svg+xml"));
    }

    #[test]
    fn what_the_operator_wrote_stays_text() {
        let html = index(&Frame {
            external_path: "/a\"><script>x",
            title: "</title><script>{{settings}}",
            settings: "{\"a\":\"</x>\"}",
        });
        assert!(!html.contains("<script>"), "{html}");
        assert!(html.contains("<title>&lt;/title&gt;&lt;script&gt;&#123;&#123;settings}}</title>"), "{html}");
        assert!(html.contains("content=\"&#123;&quot;a&quot;:&quot;&lt;/x&gt;&quot;}\""), "{html}");
        assert!(html.contains("<base href=\"/a&quot;&gt;&lt;script&gt;x/\""), "{html}");
    }
}
