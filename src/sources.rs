//! What the HTTP API shows of the other rooms: their snapshots in its words.

use connectors::scrape::manager::Manager as ScrapeManager;
use connectors::scrape::target::Health as ScrapeHealth;
use frontends::http::model as api;
use frontends::http::sources;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::{Labels, time::format_duration};

/// Scrape targets.
pub struct Targets(pub Arc<ScrapeManager>);

impl sources::Targets for Targets {
    fn active(&self) -> Vec<api::Target> {
        let target = |t: connectors::scrape::manager::TargetInfo| api::Target {
            discovered_labels: t.discovered_labels,
            labels: map(&t.labels),
            scrape_pool: t.scrape_pool,
            scrape_url: t.scrape_url,
            global_url: t.global_url,
            last_error: t.last_error,
            last_scrape: (t.last_scrape > 0).then_some(t.last_scrape),
            last_scrape_duration: t.last_scrape_duration,
            health: match t.health {
                ScrapeHealth::Unknown => api::TargetHealth::Unknown,
                ScrapeHealth::Up => api::TargetHealth::Up,
                ScrapeHealth::Down => api::TargetHealth::Down,
            },
            scrape_interval: format_duration(t.scrape_interval.0),
            scrape_timeout: format_duration(t.scrape_timeout.0),
        };
        self.0.targets().active.into_iter().map(target).collect()
    }

    fn dropped(&self) -> Vec<api::DroppedTarget> {
        let dropped = |t: connectors::scrape::manager::DroppedTarget| api::DroppedTarget {
            discovered_labels: t.discovered_labels,
            scrape_pool: t.scrape_pool,
        };
        self.0.targets().dropped.into_iter().map(dropped).collect()
    }

    fn dropped_counts(&self) -> BTreeMap<String, usize> {
        self.0.targets().dropped_counts
    }

    fn pools(&self) -> Vec<String> {
        self.0.pools()
    }

    fn metadata(&self) -> Vec<api::Metadata> {
        let metadata = |m: connectors::scrape::manager::TargetMetadata| api::Metadata {
            target: m.target,
            metric: m.metric,
            kind: m.metadata.kind.as_str().to_owned(),
            help: m.metadata.help,
            unit: m.metadata.unit,
        };
        self.0.metadata(|_| true).into_iter().map(metadata).collect()
    }
}

fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}
