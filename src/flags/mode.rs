//! The two modes of the server, server and agent (`--agent`), and which flags only one of them
//! accepts. Lists and texts are Prometheus', with our own flags added.

use super::{EarlyExit, FLAGS, Flags};
use std::time::Duration;

/// Flags that only a server accepts, besides all that begin with one of [`SERVER_PREFIXES`].
const SERVER_ONLY: &[&str] = &[
    "storage.remote.read-sample-limit",
    "storage.remote.read-concurrent-limit",
    "storage.remote.read-max-bytes-in-frame",
    "web.search.max-limit",
    "web.max-subscription-buffers",
    "sql.listen-address",
];
/// The prefixes of flags that only a server accepts.
const SERVER_PREFIXES: &[&str] = &["storage.tsdb.", "rules.", "alertmanager.", "query.", "cluster."];
/// The prefix of flags that only an agent accepts.
const AGENT_PREFIX: &str = "storage.agent.";

/// Sizes that a segment of an agent's log may have, bytes.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (10 << 20)..=(256 << 20);
/// The longest interval at which an agent removes sent samples from its log.
const TRUNCATE_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// The shortest interval at which it does so.
const TRUNCATE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// How long an agent keeps samples, from the flags.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AgentRetention {
    /// Younger samples are always kept, ms.
    pub least: i64,
    /// Older samples are removed even if a receiver does not have them yet, ms.
    pub most: i64,
    /// The interval at which samples are removed.
    pub every: Duration,
}

fn is_server_only(name: &str) -> bool {
    SERVER_ONLY.contains(&name) || SERVER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Checks that no flag of the other mode is on the command line.
pub(super) fn check(flags: &Flags) -> Result<(), EarlyExit> {
    let agent = *flags.agent;
    let given = FLAGS.iter().zip(flags.is_given()).filter(|(_, is_given)| *is_given);
    let is_of_other = |name: &str| if agent { is_server_only(name) } else { name.starts_with(AGENT_PREFIX) };
    let wrong: Vec<String> = given
        .filter(|(flag, _)| is_of_other(flag.name))
        .map(|(flag, _)| format!("\"--{}\"", flag.name))
        .collect();
    if !wrong.is_empty() {
        let not = if agent { "not be used" } else { "only be used" };
        let text = format!("The following flag(s) can {not} in agent mode: [{}]\n", wrong.join(" "));
        return Err(EarlyExit { code: 3, text });
    }
    if !agent {
        return Ok(());
    }
    if *flags.storage_agent_checkpoint_batch_size == 0 {
        let text = "--storage.agent.checkpoint-batch-size must be greater than 0.\n";
        return Err(EarlyExit { code: 1, text: text.to_owned() });
    }
    let segment = flags.storage_agent_wal_segment_size.0;
    if segment != 0 && !SEGMENT_BYTES.contains(&segment) {
        let text = "flag 'storage.agent.wal-segment-size' must be set between 10MB and 256MB\n";
        return Err(EarlyExit { code: 1, text: text.to_owned() });
    }
    Ok(())
}

impl Flags {
    /// How long an agent keeps samples; `None`: this is a server.
    pub fn agent_retention(&self) -> Option<AgentRetention> {
        if !*self.agent {
            return None;
        }
        let least = self.storage_agent_retention_min_time.0.max(0);
        let frequency = self.storage_agent_wal_truncate_frequency.map(|frequency| frequency.std());
        let every =
            frequency.unwrap_or(TRUNCATE_INTERVAL_MAX).clamp(TRUNCATE_INTERVAL_MIN, TRUNCATE_INTERVAL_MAX);
        // As in Prometheus: nothing is given up before it could have been forgotten.
        let most = self.storage_agent_retention_max_time.0.max(least);
        Some(AgentRetention { least, most, every })
    }

    /// What is said of a frequency that is lower than an agent's lowest; `None`: it is not.
    pub(super) fn truncate_note(&self) -> Option<String> {
        let frequency = self.storage_agent_wal_truncate_frequency.filter(|_| *self.agent)?;
        let is_seldom = frequency.std() > TRUNCATE_INTERVAL_MAX;
        is_seldom.then(|| {
            format!("--storage.agent.wal-truncate-frequency={frequency} has the effect of 1m: an agent here forgets at least that often")
        })
    }

    /// Bytes of a segment of an agent's log, if the flag says so.
    pub fn agent_segment_bytes(&self) -> Option<u64> {
        Some(self.storage_agent_wal_segment_size.0).filter(|bytes| *self.agent && *bytes > 0)
    }
}
