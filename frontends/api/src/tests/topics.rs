//! Tests of topics and of versions of lists: a listener gets a message when a list changes, and a
//! list that did not change is answered with 304.

use super::super::limits::SUBSCRIPTIONS_PER_SOCKET;
use super::super::{ApiSettings, limits};
use super::api::request as ask;
use super::fakes::server;
use super::live::{connect, hear, options, say, start_with, until};
use serde_json::{Value, json};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

/// The version of a list, from its tag.
fn version(tag: &str) -> u64 {
    let number = tag.strip_prefix("W/\"").and_then(|rest| rest.strip_suffix('"'));
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no version: {tag:?}"))
}

#[tokio::test]
async fn who_listens_hears_that_a_list_has_changed() {
    let running = start_with(options(10), ApiSettings::default()).await;
    let mut socket = connect(&running).await;
    say(&mut socket, json!({"subscribe": {"id": "t", "topic": "notifications"}})).await;
    let first = hear(&mut socket).await;
    let at_first = &first["changed"];
    assert_eq!((&at_first["id"], &at_first["topic"]), (&json!("t"), &json!("notifications")));
    assert_eq!(at_first["t"], 1000.123);
    let began = Instant::now();
    running.fakes.ready.store(false, SeqCst);
    let second = hear(&mut socket).await;
    assert_ne!(second["changed"]["version"], at_first["version"]);
    running.fakes.ready.store(true, SeqCst);
    let third = hear(&mut socket).await;
    assert_eq!(third["changed"]["version"], at_first["version"], "it is as it was");
    assert!(began.elapsed() >= limits::TOPIC_SPACING, "at most one message a second");

    say(&mut socket, json!({"subscribe": {"id": "t", "query": "up"}})).await;
    let twice = hear(&mut socket).await;
    assert_eq!(twice["error"]["error"], "invalid parameter \"id\": \"t\" is already subscribed");
    say(&mut socket, json!({"subscribe": {"id": "u", "topic": "weather"}})).await;
    let unknown = hear(&mut socket).await["error"]["error"].clone();
    assert!(unknown.as_str().is_some_and(|text| text.contains("unknown variant `weather`")), "{unknown}");
    say(&mut socket, json!({"unsubscribe": "t"})).await;
    assert_eq!(hear(&mut socket).await, json!({"unsubscribed": {"id": "t"}}));
    until("it is no longer counted", || running.state.telemetry.subscriptions.get() == 0.0).await;
    until("nobody looks any longer", || running.state.subscriptions.topics.watched_topics() == 0).await;
}

#[tokio::test]
async fn topics_count_among_the_subscriptions_of_a_socket() {
    let running = start_with(options(10), ApiSettings::default()).await;
    let mut socket = connect(&running).await;
    for i in 0..SUBSCRIPTIONS_PER_SOCKET {
        say(&mut socket, json!({"subscribe": {"id": i.to_string(), "topic": "rules"}})).await;
    }
    say(&mut socket, json!({"subscribe": {"id": "more", "topic": "rules"}})).await;
    let refused = loop {
        let message = hear(&mut socket).await;
        if message["error"].is_object() {
            break message["error"]["error"].clone();
        }
    };
    assert_eq!(refused, "too many subscriptions on this socket (limit 100)");
    assert_eq!(running.state.subscriptions.topics.watched_topics(), 1, "one task for all of them");
    let refused = ask(&running.state, "GET", "/api/v1/subscribe?topic=rules", &[], "").await;
    assert_eq!(refused.error(), "invalid parameter \"topic\": topics need a websocket");
}

#[tokio::test]
async fn a_version_is_the_tag_of_the_list() {
    let running = start_with(options(10), ApiSettings::default()).await;
    let (state, _) = server(ApiSettings::default());
    let mut socket = connect(&running).await;
    for (topic, path) in [
        ("targets", "/api/v1/targets?state=active"),
        ("rules", "/api/v1/rules?exclude_alerts=true"),
        ("alerts", "/api/v1/rules?type=alert"),
    ] {
        say(&mut socket, json!({"subscribe": {"id": topic, "topic": topic}})).await;
        let heard: Value = hear(&mut socket).await["changed"].clone();
        let whole = ask(&state, "GET", path, &[], "").await;
        let tag = whole.header("etag").to_owned();
        assert_eq!(json!(version(&tag)), heard["version"], "{topic}");
        assert!(whole.text.contains("success"), "{}", whole.text);
        for known in [tag.clone(), tag.trim_start_matches("W/").to_owned()] {
            let same = ask(&state, "GET", path, &[("if-none-match", known.as_str())], "").await;
            assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""), "{topic} {known}");
        }
        let other = ask(&state, "GET", path, &[("if-none-match", "W/\"1\"")], "").await;
        assert_eq!(other.status.as_u16(), 200, "{topic}");
    }
}
