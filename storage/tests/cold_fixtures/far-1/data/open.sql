-- Blocks as tables, for DuckDB. Run in the data directory: duckdb -init open.sql
-- series(block, series_id, metric, labels); samples(block, series_id, ts, value): ts in ms, value NULL where the series ended.

create or replace view series as
select regexp_extract(filename, '([^/\\]+)[/\\][^/\\]+$', 1) as block, series_id, "__name__" as metric, labels
from read_parquet('blocks/*_*_*/series.parquet', filename = true);

create or replace view samples as
with
    rows as (
        select regexp_extract(filename, '([^/\\]+)[/\\][^/\\]+$', 1) as block, *
        from read_parquet('blocks/*_*_*/samples.parquet', filename = true)
    ),
    clocks as (
        select regexp_extract(filename, '([^/\\]+)[/\\][^/\\]+$', 1) as block, clock_id, ts
        from read_parquet('blocks/*_*_*/clocks.parquet', filename = true)
    )
select
    block,
    series_id,
    unnest(case when len(gaps) = 0 then ts
                else list_filter(ts, lambda t, i: not list_contains(gaps, i - 1)) end) as ts,
    unnest(case when exp >= 0 then list_transform(m, lambda x: x / power(10::double, exp)) else raw end) as value
from rows join clocks using (block, clock_id);

-- Blocks with native histograms or start timestamps have a file more. Where there is one:
--
-- create or replace view histograms as
-- select regexp_extract(filename, '([^/\\]+)[/\\][^/\\]+$', 1) as block, * exclude (filename)
-- from read_parquet('blocks/*_*_*/histograms.parquet', filename = true);
--
-- select metric, labels, ts, count, sum, positive_counts from histograms join series using (block, series_id);
