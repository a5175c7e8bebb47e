//! The features of `--enable-feature`, one line each. [`super`] parses the command line.

/// Defines [`Feature`] from a table: each row has the variant, its name, and `works` or why the
/// feature has no effect.
macro_rules! features {
    ($($(#[$meta:meta])* $variant:ident $name:literal $effect:expr;)*) => {
        /// A feature that Prometheus 3 knows.
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub enum Feature {
            $($(#[$meta])* $variant,)*
        }

        impl Feature {
            /// All features, by name.
            pub const ALL: &[Feature] = &[$(Feature::$variant),*];

            /// The name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Feature::$variant => $name,)*
                }
            }

            /// Why the feature has no effect; `None`: it has one.
            pub fn no_effect(self) -> Option<&'static str> {
                match self {
                    $(Feature::$variant => $effect,)*
                }
            }
        }
    };
}

const WORKS: Option<&str> = None;
const OWN_FORMAT: Option<&str> = Some("samples are stored in a format of this server's own");

features! {
    /// Loads the configuration again when it changes.
    AutoReloadConfig "auto-reload-config" WORKS;
    /// Evaluates independent rules of a group at the same time.
    ConcurrentRuleEval "concurrent-rule-eval"
        Some("all rules are evaluated at the same time, with or without it");
    /// Appends a 0 where a counter starts.
    CreatedTimestampZeroIngestion "created-timestamp-zero-ingestion" WORKS;
    /// Delays compactions, so that several servers do not compact at once.
    DelayedCompaction "delayed-compaction" Some("blocks are not written at fixed times of the clock");
    /// Stores exemplars.
    ExemplarStorage "exemplar-storage" WORKS;
    /// Adds series about scrapes.
    ExtraScrapeMetrics "extra-scrape-metrics" WORKS;
    /// Scrapes while the log is replayed.
    FastStartup "fast-startup" Some("targets are always scraped while the log is replayed");
    /// Encodes start timestamps in chunks of histograms.
    HistogramsStEncoding "histograms-st-encoding" OWN_FORMAT;
    /// Writes a snapshot of the head at the end, for a faster start.
    MemorySnapshotOnShutdown "memory-snapshot-on-shutdown"
        Some("the log is replayed at every start, and queries are answered meanwhile");
    /// Stores metadata in the log.
    MetadataWalRecords "metadata-wal-records" Some("metadata is not stored in the log");
    /// Scrapes native histograms.
    NativeHistograms "native-histograms" WORKS;
    /// Serves the page of Prometheus 2.
    OldUi "old-ui" Some("this server has a page of its own");
    /// Takes native histograms that come late.
    OooNativeHistograms "ooo-native-histograms"
        Some("native histograms may always come late, as in Prometheus 3.14");
    /// Stores the sums of deltas in the OTLP receiver.
    OtlpDeltaToCumulative "otlp-deltatocumulative" WORKS;
    /// Stores deltas as they are in the OTLP receiver.
    OtlpNativeDeltaIngestion "otlp-native-delta-ingestion" WORKS;
    /// `fill`, `fill_left` and `fill_right`.
    PromqlBinopFillModifiers "promql-binop-fill-modifiers" WORKS;
    /// Drops metric names at the end of a query.
    PromqlDelayedNameRemoval "promql-delayed-name-removal" WORKS;
    /// Arithmetic in durations.
    PromqlDurationExpr "promql-duration-expr"
        Some("expressions in durations are always allowed, as in Prometheus 3.14");
    /// Experimental functions.
    PromqlExperimentalFunctions "promql-experimental-functions" WORKS;
    /// `anchored` and `smoothed`.
    PromqlExtendedRangeSelectors "promql-extended-range-selectors" WORKS;
    /// Statistics per step.
    PromqlPerStepStats "promql-per-step-stats" WORKS;
    /// `/api/v1/search`.
    SearchApi "search-api" WORKS;
    /// Stores start timestamps.
    StStorage "st-storage" WORKS;
    /// Makes start timestamps for samples that come without.
    StSynthesis "st-synthesis" Some("only the start timestamps that targets and senders give are stored");
    /// Adds type and unit as labels.
    TypeAndUnitLabels "type-and-unit-labels" WORKS;
    /// Uses start timestamps in PromQL.
    UseStartTimestamps "use-start-timestamps" WORKS;
    /// Writes chunks past the page cache.
    UseUncachedIo "use-uncached-io" Some("blocks are written through the page cache");
    /// Another encoding of chunks.
    Xor2Encoding "xor2-encoding" OWN_FORMAT;
}

impl Feature {
    /// The feature with a name.
    pub fn named(name: &str) -> Option<Feature> {
        Feature::ALL.iter().copied().find(|feature| feature.name() == name)
    }
}
