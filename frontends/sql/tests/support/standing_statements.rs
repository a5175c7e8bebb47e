//! Draws statements for the test of standing statements: of every class, over metrics, lists of the
//! server, a table `owners` and a view `busy`.

use crate::random::Random;

/// A statement that may be a plan.
pub fn plan_like(random: &mut Random) -> String {
    let metric = random.pick(&["m_gauge", "m_total"]);
    let number = number(random);
    let conditions = conditions(random);
    let by = random.pick(&["job", "env", "job, env"]);
    let of = random.pick(&["sum", "min", "max", "count", "avg"]);
    match random.below(9) {
        0 => format!("SELECT job, instance, env, {number} AS n FROM {metric}{conditions}"),
        1 => format!("SELECT instance FROM {metric}{conditions}"),
        2 => format!("SELECT {by}, {of}({number}) AS n FROM {metric}{conditions} GROUP BY {by}"),
        3 => format!("SELECT {of}({number}) AS n FROM {metric}{conditions}"),
        4 => format!(
            "SELECT {by}, {of}({number}) AS n FROM {metric}{conditions} GROUP BY {by} HAVING {of}({number}) > 2"
        ),
        5 => format!("SELECT DISTINCT {by} FROM {metric}{conditions}"),
        6 => "SELECT g.instance, g.value / t.value AS n FROM m_gauge g JOIN m_total t USING (labels)"
            .to_owned(),
        7 => format!(
            "SELECT instance, {number} AS n FROM {metric} a WHERE NOT EXISTS (SELECT 1 FROM m_gauge b WHERE b.instance = a.instance AND b.value > 4)"
        ),
        _ => format!("SELECT count(*) AS n FROM {metric}{conditions} HAVING count(*) > 2"),
    }
}

/// A statement that is no plan.
pub fn relational(random: &mut Random) -> String {
    let conditions = conditions(random);
    let number = number(random);
    match random.below(12) {
        9 => format!("SELECT job, instance, value AS now, ago(value, '10s') AS before, {number} AS n FROM m_gauge{conditions}"),
        10 => format!("SELECT job, sum(value) AS total, max({number}) AS most, count(*) AS n FROM m_gauge{conditions} GROUP BY job"),
        11 => "SELECT sum(value) AS total, avg(value) AS mean, min(value) AS least FROM m_total".to_owned(),
        0 => format!("SELECT job, count(DISTINCT env) AS n FROM m_gauge{conditions} GROUP BY job"),
        1 => "SELECT g.job, count(*) AS n, max(t.value) AS most FROM m_gauge g JOIN m_total t USING (job) GROUP BY g.job".to_owned(),
        2 => format!("SELECT instance, value, {number} AS n, ago(value, '10s') AS before FROM m_total{conditions}"),
        3 => "SELECT job, value FROM m_gauge UNION ALL SELECT job, value FROM m_total".to_owned(),
        4 => format!("SELECT value FROM m_gauge{conditions} ORDER BY value DESC LIMIT 2"),
        5 => "SELECT upper(job) AS j, env = '' AS bare, value FROM m_gauge WHERE value > 2 OR job = 'a'".to_owned(),
        6 => "SELECT instance, value, rank() OVER (PARTITION BY job ORDER BY value DESC) AS place FROM m_gauge".to_owned(),
        7 => format!("SELECT ts, upper(job) AS j, {number} AS n FROM m_gauge{conditions}"),
        _ => "SELECT g.instance, t.value FROM m_gauge g LEFT JOIN m_total t ON g.instance = t.instance AND t.value > 3".to_owned(),
    }
}

/// A statement that groups, joins or compares texts, which stand as numbers while it runs.
pub fn over_texts(random: &mut Random) -> String {
    let conditions = conditions(random);
    let metric = random.pick(&["m_gauge", "m_total"]);
    let list = random.pick(&["targets t", "alerts t"]);
    match random.below(16) {
        0 => format!("SELECT m.job, t.health, count(DISTINCT m.instance) AS n, max(m.value) AS most FROM {metric} m JOIN targets t USING (job) GROUP BY m.job, t.health"),
        1 => format!("SELECT t.last_error, count(*) AS n FROM {metric} m JOIN targets t ON t.instance = m.instance GROUP BY t.last_error"),
        2 => format!("SELECT job, count(DISTINCT instance) AS n, min(env) AS first, max(instance) AS last FROM {metric}{conditions} GROUP BY job"),
        3 => format!("SELECT job, env, string_agg(instance, ',' ORDER BY instance) AS instances FROM {metric}{conditions} GROUP BY job, env"),
        4 => format!("SELECT job, count(*) AS n, max(value) AS most FROM {metric} WHERE value > 3 OR job = 'a' OR env <> 'x' GROUP BY job"),
        5 => format!("SELECT upper(job) AS j, env, count(DISTINCT instance) AS n FROM {metric} GROUP BY upper(job), env"),
        6 => format!("SELECT m.instance, m.job, t.job AS other FROM {metric} m LEFT JOIN {list} ON t.job = m.job AND t.job <> 'a'"),
        7 => format!("SELECT m.instance, t.health FROM {metric} m FULL JOIN targets t ON t.instance = m.instance"),
        8 => format!("SELECT m.job, count(*) AS n FROM {metric} m WHERE m.instance IN (SELECT t.instance FROM targets t WHERE t.health = 'up') GROUP BY m.job"),
        9 => format!("SELECT m.instance FROM {metric} m WHERE NOT EXISTS (SELECT 1 FROM {list} WHERE t.job = m.job AND t.job > 'a')"),
        10 => format!("SELECT job, count(DISTINCT env) AS envs, count(DISTINCT instance) AS n FROM {metric} GROUP BY ROLLUP (job)"),
        11 => format!("SELECT j, count(DISTINCT instance) AS n FROM (SELECT job AS j, instance FROM {metric} UNION ALL SELECT health, instance FROM targets) x GROUP BY j"),
        12 => "SELECT a.job, b.env, count(*) AS n FROM m_gauge a JOIN m_total b ON a.job = b.job AND a.instance <> b.instance GROUP BY a.job, b.env".to_owned(),
        13 => format!("SELECT job, count(DISTINCT instance) AS n FROM promql('{metric} > 1') GROUP BY job"),
        14 => format!("SELECT DISTINCT m.env, t.pool FROM {metric} m CROSS JOIN targets t WHERE m.job <> t.job"),
        _ => format!("SELECT env, n, rank() OVER (ORDER BY n DESC, env) AS place FROM (SELECT env, count(DISTINCT job) AS n FROM {metric} GROUP BY env) x"),
    }
}

/// A statement with numbers that a live view has within 1e-13 only (docs/live.md). Nothing in it
/// enlarges a difference: no comparison of such a number, no subtraction.
pub fn over_rates(random: &mut Random) -> String {
    let conditions = conditions(random);
    let metric = random.pick(&["m_gauge", "m_total", "m_hist"]);
    let window = random.pick(&["30s", "1m", "5m"]);
    let rate = random.pick(&["rate", "increase"]);
    let number = format!("{rate}(value, '{window}')");
    let by = random.pick(&["job", "env", "job, env"]);
    let of = random.pick(&["sum", "min", "max", "avg"]);
    match random.below(9) {
        0 => format!("SELECT job, instance, {number} AS n FROM {metric}{conditions}"),
        1 => format!("SELECT instance, delta(value, '{window}') AS n FROM m_total{conditions}"),
        2 => format!("SELECT {by}, {of}({number}) AS n FROM {metric}{conditions} GROUP BY {by}"),
        3 => format!("SELECT {of}({number}) AS n FROM {metric}{conditions}"),
        4 => format!(
            "SELECT instance, value AS now, ago(value, '10s') AS before, {number} AS n FROM {metric}{conditions}"
        ),
        5 => format!(
            "SELECT job, sum(value) AS total, max({number}) AS most, avg({number}) AS mean, count(*) AS n FROM m_total{conditions} GROUP BY job"
        ),
        6 => format!(
            "SELECT upper(job) AS j, instance, {number} AS n FROM {metric} WHERE value > 2 OR job = 'a'"
        ),
        7 => format!(
            "SELECT g.instance, g.value, {rate}(t.value, '{window}') AS n FROM m_gauge g JOIN m_total t USING (labels)"
        ),
        _ => format!(
            "SELECT m.instance, t.health, {rate}(m.value, '{window}') AS n FROM {metric} m JOIN targets t USING (instance)"
        ),
    }
}

/// A statement over native histograms, some of which are floats at times.
pub fn over_histograms(random: &mut Random) -> String {
    let conditions = conditions(random);
    let window = random.pick(&["30s", "1m", "2m"]);
    let of = random.pick(&["sum", "avg", "count", "max"]);
    let over = random.pick(&["sum_over_time", "avg_over_time", "last_over_time"]);
    match random.below(15) {
        0 => format!("SELECT job, instance, value, histogram FROM m_hist{conditions}"),
        1 => format!("SELECT instance, upper(job) AS j, histogram FROM m_hist{conditions}"),
        2 => format!("SELECT instance, {over}(value, '{window}') AS n FROM m_hist{conditions}"),
        3 => format!("SELECT instance, value, histogram, count_over_time(value, '{window}') AS n FROM m_hist"),
        4 => format!("SELECT job, {of}(value) AS n FROM m_hist{conditions} GROUP BY job"),
        5 => format!("SELECT job, histogram_quantile(0.9, value) AS q FROM m_hist{conditions} GROUP BY job"),
        6 => "SELECT instance, histogram_count(value) AS n, histogram_sum(value) AS total FROM m_hist".to_owned(),
        7 => format!("SELECT job, sum(histogram_avg(value)) AS n FROM m_hist{conditions} GROUP BY job"),
        8 => "SELECT job, count(DISTINCT histogram) AS n, max(value) AS most FROM m_hist GROUP BY job".to_owned(),
        9 => "SELECT instance, histogram IS NULL AS is_float, value FROM m_hist WHERE value > 2 OR job = 'a'".to_owned(),
        10 => "SELECT h.instance, h.histogram, g.value FROM m_hist h JOIN m_gauge g USING (instance)".to_owned(),
        11 => "SELECT g.instance, h.value, h.histogram FROM m_gauge g LEFT JOIN m_hist h ON h.instance = g.instance".to_owned(),
        12 => format!("SELECT instance, changes(value, '{window}') AS n, resets(value, '{window}') AS r FROM m_hist"),
        13 => "SELECT job, histogram, value FROM m_hist UNION ALL SELECT job, NULL, value FROM m_gauge".to_owned(),
        _ => format!("SELECT instance, value, ago(value, '20s') AS before, histogram FROM m_hist{conditions}"),
    }
}

/// A statement over a view.
pub fn over_view(random: &mut Random) -> String {
    random
        .pick(&[
            "SELECT job, n FROM busy WHERE n > 1",
            "SELECT b.job, b.n, t.instance FROM busy b JOIN targets t USING (job)",
            "SELECT sum(n) AS total, max(job) AS last FROM busy",
            "SELECT g.instance, b.n FROM m_gauge g JOIN busy b USING (job)",
        ])
        .to_owned()
}

/// A statement over lists of the server.
pub fn over_lists(random: &mut Random) -> String {
    let metric = random.pick(&["m_gauge", "m_total"]);
    let having = random.pick(&["", " HAVING count(*) > 1"]);
    match random.below(18) {
        0 => format!("SELECT metric, count(*) AS n FROM series GROUP BY metric{having}"),
        1 => "SELECT metric, name AS label, count(DISTINCT value) AS label_values, count(DISTINCT series) AS series FROM label_pairs GROUP BY metric, name ORDER BY label_values DESC LIMIT 20".to_owned(),
        2 => format!("SELECT name, value FROM label_pairs WHERE metric = '{metric}' AND name <> 'instance'"),
        3 => format!("SELECT DISTINCT name, value FROM label_pairs WHERE metric ~ '^{metric}$'"),
        4 => "SELECT job, health, count(*) AS n, min(instance) AS first, max(last_error) AS why FROM targets GROUP BY job, health".to_owned(),
        5 => format!("SELECT alertname, sum(value) AS total, avg(value) AS mean, count(*) FILTER (WHERE state = 'firing') AS firing FROM alerts GROUP BY alertname{having}"),
        6 => "SELECT count(*) AS n, sum(value) AS total, max(alertname) AS last FROM alerts".to_owned(),
        7 => "SELECT a.alertname, a.state, t.instance, t.health FROM alerts a JOIN targets t USING (job)".to_owned(),
        8 => "SELECT t.job, t.instance, a.alertname FROM targets t LEFT JOIN alerts a ON a.job = t.job".to_owned(),
        9 => "SELECT t.job, t.instance FROM targets t WHERE NOT EXISTS (SELECT 1 FROM alerts a WHERE a.job = t.job)".to_owned(),
        10 => "SELECT t.job, t.instance FROM targets t WHERE t.job IN (SELECT a.job FROM alerts a WHERE a.state = 'firing')".to_owned(),
        11 => "SELECT p.value AS job, count(*) AS series, count(DISTINCT t.instance) AS targets FROM label_pairs p JOIN targets t ON p.value = t.job WHERE p.name = 'job' GROUP BY p.value".to_owned(),
        12 => "SELECT job, instance, last_scrape_seconds FROM targets ORDER BY last_scrape_seconds DESC LIMIT 2".to_owned(),
        13 => "SELECT alertname, state FROM alerts ORDER BY alertname LIMIT 3 OFFSET 1".to_owned(),
        14 => "SELECT job FROM targets UNION ALL SELECT alertname FROM alerts WHERE value > 0".to_owned(),
        15 => "SELECT upper(alertname) AS a, CASE WHEN value > 1 THEN 'high' ELSE state END AS s, value * 2 AS v FROM alerts WHERE state = 'firing' OR job = 'a'".to_owned(),
        16 => "SELECT s.metric, count(*) AS n FROM series s JOIN (SELECT DISTINCT metric FROM label_pairs WHERE name = 'env') e USING (metric) GROUP BY s.metric".to_owned(),
        // These run again: a rank has no dataflow, and values change with each scrape.
        _ => format!("SELECT m.instance, m.value, t.health FROM {metric} m JOIN targets t USING (instance)"),
    }
}

/// A statement over a table.
pub fn over_owners(random: &mut Random) -> String {
    let having = random.pick(&["", " HAVING count(*) > 1"]);
    match random.below(8) {
        0 => "SELECT a.alertname, a.state, o.owner, o.tier FROM alerts a JOIN owners o USING (job)".to_owned(),
        1 => format!("SELECT o.owner, count(*) AS n FROM label_pairs p JOIN owners o ON p.value = o.job WHERE p.name = 'job' GROUP BY o.owner{having}"),
        2 => "SELECT o.job, o.owner FROM owners o WHERE NOT EXISTS (SELECT 1 FROM targets t WHERE t.job = o.job)".to_owned(),
        3 => "SELECT t.job, t.instance, o.owner, o.tier FROM targets t LEFT JOIN owners o ON o.job = t.job".to_owned(),
        4 => format!("SELECT owner, sum(tier) AS tiers, max(job) AS last, count(*) AS n FROM owners GROUP BY owner{having}"),
        5 => "SELECT job, owner, tier FROM owners ORDER BY tier DESC LIMIT 2".to_owned(),
        // These run again.
        6 => format!("SELECT o.owner, count(*) AS n, max(g.value) AS most FROM m_gauge g JOIN owners o ON o.job = g.job GROUP BY o.owner{having}"),
        _ => "SELECT g.instance, g.value, o.owner FROM m_gauge g LEFT JOIN owners o ON o.job = g.job AND o.tier > 0".to_owned(),
    }
}

/// Whether numbers are equal within 1e-13 only.
pub fn is_extrapolated(text: &str) -> bool {
    ["rate(", "increase(", "delta("].iter().any(|function| text.contains(function))
}

/// Whether it reads native histograms.
pub fn reads_histograms(text: &str) -> bool {
    text.contains("m_hist")
}

/// Whether a row has the numbers of several live views.
pub fn shows_several(text: &str) -> bool {
    text.contains(" AS before")
        || text.contains(" AS most, count(*) AS n FROM m_gauge")
        || text.contains(" AS least")
        || text.contains(" AS mean, count(*) AS n FROM m_total")
        || text.contains(" AS r FROM m_hist")
}

/// A number of a row.
fn number(random: &mut Random) -> String {
    let window = random.pick(&["30s", "1m", "2m"]);
    match random.below(9) {
        0..3 => "value".to_owned(),
        // Not `rate`: here all bits count ([`over_rates`]).
        3 => format!("changes(value, '{window}')"),
        4 => format!("max_over_time(value, '{window}')"),
        5 => format!("sum_over_time(value, '{window}')"),
        6 => "ago(value, '20s')".to_owned(),
        7 => "value * 2 - 1".to_owned(),
        _ => format!("count_over_time(value, '{window}')"),
    }
}

fn conditions(random: &mut Random) -> String {
    let mut parts = Vec::new();
    if random.below(3) == 0 {
        parts.push(random.pick(&[
            "job = 'a'",
            "env <> ''",
            "instance ~ '^i[0-3]$'",
            "job IN ('a', 'b')",
            "env IS NULL",
        ]));
    }
    if random.below(3) == 0 {
        parts.push(random.pick(&["value > 3", "value <= 5", "value BETWEEN 1 AND 6"]));
    }
    if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) }
}
