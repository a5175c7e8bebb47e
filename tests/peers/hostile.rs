//! Tests bad targets, bad clients and bad rules together, under normal load: a short run of
//! `benches/hostile.py`.

use crate::support::server::binary_under_test;
use crate::support::{daemon, wall_clock};
use std::path::Path;
use std::process::Command;

/// Actors that once stopped the server, or nearly: fast ones of each kind.
const ACTORS: &[&str] = &[
    "target-labels-text",
    "target-labels-protobuf",
    "target-hang",
    "target-endless-lines",
    "target-apart",
    "target-bomb-lines",
    "client-write-labels",
    "client-write-apart",
    "client-joins",
    "client-constant-some",
    "client-group-left",
    "client-replaces",
    "client-leavers",
    "client-silent",
    "client-half-sent",
    "client-empty-histograms",
    "client-stalled-readers",
    "client-foreign",
    "rules-doubling",
];

/// Checks that the process survives, continues scraping and stops in order. Time limits are meant
/// for a release build on an idle machine: here other tests may cost the good targets some scrapes,
/// while a server that hangs loses most of them.
#[test]
fn nothing_bad_stops_the_server() {
    wall_clock(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let short = [
            "--minutes=0.4",
            "--idle=3",
            "--settle=5",
            "--targets=8",
            "--rules=30",
            "--exit-seconds=20",
            "--lost=0.25",
        ];
        let output = Command::new(daemon::python())
            .arg(root.join("benches/hostile.py"))
            .arg("--perennial")
            .arg(binary_under_test())
            .args(short)
            .arg(format!("--only={}", ACTORS.join(",")))
            .output()
            .expect("Python runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let wrong = String::from_utf8_lossy(&output.stderr);
        for criterion in ["the process lives", "good scrapes lost: at most 25%", "exit within 20 s"] {
            assert!(said.contains(&format!("holds   {criterion}")), "{criterion}\n{said}\n{wrong}");
        }
        for actor in ACTORS {
            let row = format!("| {} | ", actor.replacen('-', " ", 1));
            let acted = said.lines().any(|l| l.starts_with(&row) && !l.contains("| 0 | "));
            assert!(acted || actor.starts_with("rules-"), "{actor} did nothing\n{said}\n{wrong}");
        }
    });
}
