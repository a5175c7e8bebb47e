//! Tests native histograms, start timestamps and exemplars, from a target to the store.

mod bench;

use bench::protobuf::{self, double, label, number, signed, submessage as bytes};
use bench::{Bench, TargetResponse, text};
use connectors::scrape::appender::StartRules;
use connectors::scrape::manager::ScrapeOptions;
use storage::model::histogram::ResetHint;
use storage::model::value::is_stale;
use storage::model::{Matcher, SHARDS};

fn family(name: &str, kind: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
    protobuf::body(&[protobuf::family(name, kind, metrics)])
}

/// A histogram with `count` observations: one below 0.1 and the others below 1 in the classic
/// buckets, and two native buckets of schema 0.
fn histogram(count: u64) -> Vec<u8> {
    let span = bytes(12, &[signed(1, -3), number(2, 2)].concat());
    let deltas = [signed(13, 1), signed(13, count as i64 - 2)].concat();
    let exemplar = bytes(3, &[label("id", "x"), double(2, 0.05), bytes(3, &number(1, 1_000))].concat());
    let bucket = |bound, n, more: &[u8]| bytes(3, &[number(1, n), double(2, bound), more.to_vec()].concat());
    let classic = [bucket(0.1, 1, &exemplar), bucket(1.0, count, b"")].concat();
    let created = bytes(15, &number(1, 500));
    bytes(7, &[number(1, count), double(2, 0.5), classic, signed(5, 0), span, deltas, created].concat())
}

fn answer(body: Vec<u8>) -> TargetResponse {
    let content_type =
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    TargetResponse { content_type, body, ..text("") }
}

fn exposition(count: u64) -> TargetResponse {
    let counter = bytes(3, &[double(1, 3.0), bytes(3, &number(1, 400))].concat());
    answer([family("h", 4, &[histogram(count)]), family("c_total", 0, &[counter])].concat())
}

/// The counts and reset hints of the histograms named `name`, their bounds, and the start
/// timestamps of their samples.
fn stored(bench: &Bench, name: &str) -> (Vec<(f64, ResetHint)>, Vec<f64>, Vec<i64>) {
    let mut histograms = Vec::new();
    let mut starts = Vec::new();
    for shard in 0..SHARDS {
        let selection = bench.store.select(shard, &[Matcher::equal("__name__", name)], 0, i64::MAX).unwrap();
        for i in 0..selection.labels.len() {
            selection.read_histograms(i, 0, i64::MAX, &mut histograms).unwrap();
            selection.read_starts(i, 0, i64::MAX, &mut starts).unwrap();
        }
    }
    let bounds = histograms.first().map_or(Vec::new(), |(_, h)| h.bounds.to_vec());
    let counts = histograms.iter().map(|(_, h)| (h.count, h.hint)).collect();
    (counts, bounds, starts.iter().map(|(_, start)| *start).collect())
}

async fn with_starts(starts: StartRules) -> Bench {
    Bench::with("", ScrapeOptions { starts, ..ScrapeOptions::default() }).await
}

const NATIVE: &str = "scrape_native_histograms: true";

#[tokio::test(flavor = "multi_thread")]
async fn a_native_histogram_lives_changes_and_ends() {
    let bench = with_starts(StartRules { keep: true, zeros: false }).await;
    bench.store.exemplars().set_limit(10);
    bench.answer(exposition(5));
    bench.apply(NATIVE);
    bench.until("two scrapes", |b| stored(b, "h").0.len() >= 2).await;
    let (counts, _, starts) = stored(&bench, "h");
    assert_eq!(counts[..2], [(5.0, ResetHint::Unknown), (5.0, ResetHint::NotReset)]);
    assert_eq!((starts[0], stored(&bench, "c_total").2[0]), (500_000, 400_000));
    assert!(bench.samples("h_bucket").is_empty() && bench.samples("h_count").is_empty());
    let accept = bench.site.headers.lock().unwrap()["accept"].to_str().unwrap().to_owned();
    assert!(accept.starts_with("application/vnd.google.protobuf;"), "{accept}");
    assert_eq!(bench.last("scrape_samples_scraped"), Some(2.0));
    assert_eq!(bench.samples("scrape_series_added")[0].2[..2], [2.0, 0.0]);
    let metadata = bench.manager.metadata(|_| true);
    assert!(metadata.iter().any(|m| format!("{m:?}").contains("c_total")), "{metadata:?}");
    let exemplars = bench.store.select_exemplars(&[vec![Matcher::equal("__name__", "h")]], 0, i64::MAX);
    assert_eq!((exemplars[0].exemplars.len(), exemplars[0].exemplars[0].t), (1, 1_000_000));

    bench.answer(exposition(4));
    bench.until("a reset", |b| stored(b, "h").0.iter().any(|h| h.0 == 4.0)).await;
    let reset = stored(&bench, "h").0.into_iter().find(|h| h.0 == 4.0);
    assert_eq!(reset, Some((4.0, ResetHint::Unknown)));
    bench.answer(answer(family("g", 1, &[bytes(2, &double(1, 1.0))])));
    bench.until("the end", |b| b.last("h").is_some_and(is_stale)).await;
    bench.until("g", |b| b.samples("g").first().is_some_and(|s| s.2.len() > 2)).await;
    assert_eq!(bench.samples("h")[0].2.len(), 1, "one marker");
    bench.answer(exposition(6));
    bench.until("it is back", |b| stored(b, "h").0.last().is_some_and(|h| h.0 == 6.0)).await;
    bench.answer(text("not metrics at all {"));
    bench
        .until("all stale", |b| b.samples("h")[0].2.len() == 2 && b.last("c_total").is_some_and(is_stale))
        .await;
}

/// The time of half a minute ago, seconds.
fn recent() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() - 30
}

/// An OpenMetrics body whose counter, histogram and summary started at `start`, seconds.
fn with_created_lines(start: u64) -> TargetResponse {
    let body = format!(
        "# TYPE c counter\nc_total{{x=\"1\"}} 3 # {{id=\"x\"}} 0.5\nc_created{{x=\"1\"}} {start}\nc_total{{x=\"2\"}} 4\n\
         # TYPE h histogram\nh_bucket{{le=\"1\"}} 2\nh_bucket{{le=\"+Inf\"}} 3\nh_count 3\nh_sum 4\nh_created {start}\n\
         # TYPE s summary\ns{{quantile=\"0.5\"}} 1\ns_count 2\ns_created 1\n# TYPE g gauge\ng 1\ng_created 7\n# EOF\n"
    );
    TargetResponse { content_type: "application/openmetrics-text; version=1.0.0", ..text(&body) }
}

#[tokio::test(flavor = "multi_thread")]
async fn created_lines_are_series_or_start_timestamps() {
    let start = recent();
    let plain = Bench::new("", false).await;
    plain.answer(with_created_lines(start));
    plain.apply("");
    plain.until("a scrape", |b| b.last("g") == Some(1.0)).await;
    assert_eq!(plain.last("c_created"), Some(start as f64));
    assert_eq!(plain.last("scrape_samples_scraped"), Some(13.0));

    let kept = with_starts(StartRules { keep: true, zeros: false }).await;
    kept.answer(with_created_lines(start));
    kept.apply("");
    kept.until("two scrapes", |b| stored(b, "c_total").2.len() > 1).await;
    for name in ["c_created", "h_created", "s_created"] {
        assert!(kept.samples(name).is_empty(), "{name}");
    }
    assert_eq!(kept.last("scrape_samples_scraped"), Some(10.0));
    assert_eq!((kept.last("g_created"), stored(&kept, "g").2), (Some(7.0), vec![]));
    let since = start as i64 * 1000;
    let counters = kept.samples("c_total");
    assert!(counters.iter().all(|(_, _, values)| values.iter().all(|v| *v > 0.0)), "no zero: {counters:?}");
    assert_eq!(stored(&kept, "c_total").2[..2], [since, since], "those of x=1 alone");
    for (name, start) in
        [("h_bucket", since), ("h_count", since), ("h_sum", since), ("s", 1_000), ("s_count", 1_000)]
    {
        assert_eq!(stored(&kept, name).2.first(), Some(&start), "{name}");
    }
    kept.apply("convert_classic_histograms_to_nhcb: true");
    kept.until("a histogram", |b| !stored(b, "h").2.is_empty()).await;
    assert_eq!(stored(&kept, "h").2[0], since);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_begins_has_a_zero_at_its_start() {
    let start = recent();
    let bench = with_starts(StartRules { keep: false, zeros: true }).await;
    bench.answer(with_created_lines(start));
    bench.apply("");
    bench.until("three scrapes", |b| b.samples("c_total").first().is_some_and(|s| s.2.len() > 3)).await;
    let since = start as i64 * 1000;
    let counters = bench.samples("c_total");
    let zero =
        |(_, ts, vs): &(String, Vec<i64>, Vec<f64>)| (ts[0], vs[0], vs.iter().filter(|v| **v == 0.0).count());
    assert_eq!(zero(&counters[0]), (since, 0.0, 1), "once");
    assert_eq!((counters[1].2[0], stored(&bench, "c_total").2), (4.0, vec![]), "x=2 says no start");
    assert_eq!(zero(&bench.samples("h_sum")[0]), (since, 0.0, 1));
    assert_eq!(zero(&bench.samples("s_count")[0]).2, 0, "more than an hour ago");
    // The counter restarts.
    bench.answer(with_created_lines(start + 1));
    bench.until("more", |b| b.samples("c_total")[0].2.len() > counters[0].2.len() + 3).await;
    assert_eq!(zero(&bench.samples("c_total")[0]).2, 1, "but before what is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_has_a_native_histogram() {
    let bench = with_starts(StartRules { keep: true, zeros: true }).await;
    let start = recent();
    let created = bytes(15, &number(1, start));
    let span = bytes(12, &[signed(1, -3), number(2, 1)].concat());
    let h = bytes(
        7,
        &[number(1, 2), double(2, 0.5), signed(5, 3), double(6, 0.25), span, signed(13, 2), created].concat(),
    );
    bench.answer(answer(family("h", 4, &[h])));
    bench.apply(NATIVE);
    bench.until("two scrapes", |b| stored(b, "h").0.len() > 2).await;
    let (counts, _, starts) = stored(&bench, "h");
    assert_eq!(counts[..3].iter().map(|h| h.0).collect::<Vec<_>>(), [0.0, 2.0, 2.0]);
    assert_eq!(counts[1].1, ResetHint::NotReset, "of one kind with the zero");
    assert_eq!(starts[0], start as i64 * 1000, "the samples' own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_may_change_its_nature() {
    let bench = Bench::new("", false).await;
    let gauge = || answer(family("h", 1, &[bytes(2, &double(1, 1.0))]));
    bench.answer(gauge());
    bench.apply(NATIVE);
    bench.until("a float", |b| b.last("h") == Some(1.0)).await;
    bench.answer(exposition(3));
    bench.until("a histogram", |b| stored(b, "h").0.len() > 1).await;
    bench.answer(gauge());
    let histograms = stored(&bench, "h").0.len();
    bench.until("floats again", |b| b.samples("h")[0].2.len() > 4).await;
    // Only a failed scrape ends the series, which a timeout may cause on a busy machine.
    let failed = bench.samples("up").iter().flat_map(|(_, _, up)| up).filter(|up| **up == 0.0).count();
    let ended = bench.samples("h")[0].2.iter().filter(|v| is_stale(**v)).count();
    assert!(ended <= failed, "it ended {ended} times, {failed} scrapes failed");
    assert!(stored(&bench, "h").0.len() <= histograms + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_buckets_come_where_they_are_asked_for() {
    let bench = Bench::new("", false).await;
    bench.answer(exposition(3));
    bench.apply("");
    bench.until("classic", |b| b.samples("h_bucket").len() == 3).await;
    assert_eq!((bench.last("h_count"), stored(&bench, "h").0.len()), (Some(3.0), 0));
    bench.apply("convert_classic_histograms_to_nhcb: true");
    bench.until("custom", |b| !stored(b, "h").0.is_empty()).await;
    assert_eq!(stored(&bench, "h").1, [0.1, 1.0]);
    bench.until("no classic any more", |b| b.last("h_count").is_some_and(is_stale)).await;
    bench.apply("scrape_native_histograms: true\n  always_scrape_classic_histograms: true");
    bench.until("both", |b| b.last("h_count") == Some(3.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_converted_too() {
    let body =
        "# TYPE t histogram\nt_bucket{le=\"1\"} 2\nt_bucket{le=\"+Inf\"} 3\nt_sum 4\nt_count 3\nother 1\n";
    let bench = Bench::new(body, false).await;
    bench.apply("convert_classic_histograms_to_nhcb: true");
    bench.until("both", |b| stored(b, "t").0.len() > 1 && b.last("other") == Some(1.0)).await;
    let (counts, bounds, _) = stored(&bench, "t");
    assert_eq!((counts[0].0, counts[1].1, bounds), (3.0, ResetHint::NotReset, vec![1.0]));
    assert!(bench.samples("t_count").is_empty());
    bench.answer(text("other 1\n"));
    bench.until("the end", |b| b.last("t").is_some_and(is_stale)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_histograms_and_limits_fail_the_scrape() {
    let bench = Bench::new("", false).await;
    let span = bytes(12, &number(2, 1));
    let wrong = bytes(7, &[number(1, 9), span, signed(13, 1)].concat());
    bench.answer(answer(family("h", 4, &[wrong])));
    bench.apply(NATIVE);
    bench.until_error("1 observations found in buckets, but the Count field is 9").await;
    bench.answer(exposition(3));
    bench.until_up().await;
    bench.apply("scrape_native_histograms: true\n  sample_limit: 1");
    bench.until_error("sample limit exceeded").await;
    let span = bytes(12, &[signed(1, -60), number(2, 2), signed(1, 0)].concat());
    let far = bytes(12, &[signed(1, 90), number(2, 1)].concat());
    let wide = [number(1, 3), span, far, signed(13, 1), signed(13, 0), signed(13, 0)].concat();
    bench.answer(answer(family("h", 4, &[bytes(7, &wide)])));
    bench.apply("scrape_native_histograms: true\n  native_histogram_bucket_limit: 1");
    bench.until_error("histogram bucket limit exceeded").await;
    bench.apply("scrape_native_histograms: true\n  metric_relabel_configs: [{source_labels: [__name__], regex: h, action: drop}]");
    bench.until_up().await;
    bench.answer(answer(vec![9, 9]));
    bench.until_error("damaged protobuf").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_histogram_that_is_too_large_keeps_nothing_out() {
    let many = storage::limits::HISTOGRAM_BUCKETS + 1;
    let span = bytes(12, &number(2, many as u64));
    // One observation in each bucket: one delta of 1, then zeros.
    let deltas = bytes(13, &[vec![2], vec![0; many - 1]].concat());
    let large = bytes(7, &[number(1, many as u64), signed(5, 8), span, deltas].concat());
    let gauge = family("g", 1, &[bytes(2, &double(1, 1.0))]);
    let bench = Bench::new("", false).await;
    bench.answer(answer([family("h", 4, &[large]), gauge].concat()));
    bench.apply(NATIVE);
    bench.until("the float", |b| b.last("g") == Some(1.0)).await;
    bench.until("the histogram", |b| stored(b, "h").0.first().is_some_and(|h| h.0 == many as f64)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_of_open_metrics_are_kept() {
    let body =
        "# TYPE a counter\na_total 1 # {id=\"x\"} 0.5 7\nb_total{le=\"1\"} 2 # {id=\"y\"} 0.25\n# EOF\n";
    let bench = Bench::new("", false).await;
    bench.store.exemplars().set_limit(10);
    bench
        .answer(TargetResponse { content_type: "application/openmetrics-text; version=1.0.0", ..text(body) });
    bench.apply("");
    bench.until("three scrapes", |b| b.samples("a_total").first().is_some_and(|s| s.2.len() > 2)).await;
    let found = |name| {
        let series = bench.store.select_exemplars(&[vec![Matcher::equal("__name__", name)]], 0, i64::MAX);
        let all = series.into_iter().flat_map(|series| series.exemplars);
        all.map(|e| (e.labels.to_string(), e.v, e.t)).collect::<Vec<_>>()
    };
    assert_eq!(found("a_total"), [("{id=\"x\"}".to_owned(), 0.5, 7_000)]);
    let untimed = found("b_total");
    assert_eq!(
        (untimed.len(), untimed[0].2),
        (1, bench.samples("b_total")[0].1[0]),
        "once, with the sample's time"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exemplar_goes_with_its_sample() {
    let now = recent();
    let ahead = now + 3_600;
    // Samples that are too old, too far in the future, or the second one of their series.
    let body = format!(
        "# TYPE a counter\na_total{{n=\"old\"}} 1 195594353.5 # {{id=\"x\"}} 0.5 {now}\n\
         a_total{{n=\"ahead\"}} 1 {ahead} # {{id=\"x\"}} 0.5 {now}\na_total{{n=\"twice\"}} 1\n\
         a_total{{n=\"twice\"}} 1 # {{id=\"x\"}} 0.5 {now}\na_total{{n=\"good\"}} 1 # {{id=\"x\"}} 0.5 {now}\n# EOF\n"
    );
    let bench = Bench::new("", false).await;
    bench.store.exemplars().set_limit(10);
    bench.answer(TargetResponse {
        content_type: "application/openmetrics-text; version=1.0.0",
        ..text(&body)
    });
    bench.apply("");
    bench.until("two scrapes", |b| b.samples("up").first().is_some_and(|s| s.2.len() > 2)).await;
    let sets = [vec![Matcher::equal("__name__", "a_total")]];
    let found: Vec<String> = bench
        .store
        .select_exemplars(&sets, 0, i64::MAX)
        .iter()
        .map(|s| s.labels.get("n").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(found, ["good"]);
    let none_late = "\nprometheus_target_scrapes_exemplar_out_of_order_total 0\n";
    assert!(bench.registry.render().contains(none_late));
    let older =
        format!("# TYPE a counter\na_total{{n=\"good\"}} 1 # {{id=\"y\"}} 0.5 {}\n# EOF\n", now - 7_200);
    bench.answer(TargetResponse {
        content_type: "application/openmetrics-text; version=1.0.0",
        ..text(&older)
    });
    bench.until("a late one", |b| !b.registry.render().contains(none_late)).await;
    bench.until_up().await;
}
