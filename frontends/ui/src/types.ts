// The answers of the API that the pages read. Tests compare them with recorded answers.
import type { Labels } from './format/labels';

export interface HistogramValue { count: string; sum: string; buckets?: [number, string, string, string][] }
export interface RangeSeries { metric: Labels; values?: [number, string][]; histograms?: [number, HistogramValue][] }
export interface RangeData { resultType: 'matrix'; result: RangeSeries[] }
export interface InstantSeries { metric: Labels; value?: [number, string]; histogram?: [number, HistogramValue] }
export type InstantData =
  | { resultType: 'vector'; result: InstantSeries[] }
  | { resultType: 'matrix'; result: RangeSeries[] }
  | { resultType: 'scalar'; result: [number, string] }
  | { resultType: 'string'; result: [number, string] };

export interface ExemplarSeries { seriesLabels: Labels; exemplars: { labels: Labels; value: string; timestamp: number }[] }

export interface Alert { labels: Labels; annotations: Labels; state: 'pending' | 'firing'; activeAt: string; value: string; keepFiringSince?: string }
export interface Rule {
  type: 'alerting' | 'recording'; name: string; query: string; labels?: Labels; health: 'ok' | 'err' | 'unknown'; lastError?: string;
  evaluationTime: number; lastEvaluation: string; state?: 'inactive' | 'pending' | 'firing' | 'unknown'; duration?: number; keepFiringFor?: number;
  annotations?: Labels; alerts?: Alert[];
}
export interface RuleGroup { name: string; file: string; interval: number; rules: Rule[]; evaluationTime: number; lastEvaluation: string; limit: number }
/** `/api/v1/rules/source`: where in its file each rule stands, with its lines. */
export interface RuleSources { rules: RuleSource[]; errors: string[]; truncated: boolean }
export interface RuleSource { file: string; group: string; index: number; rule: string; line: number; lines: string[] }

export interface Target {
  discoveredLabels: Labels; labels: Labels; scrapePool: string; scrapeUrl: string; globalUrl: string; lastError: string; lastScrape: string;
  lastScrapeDuration: number; health: 'up' | 'down' | 'unknown'; scrapeInterval: string; scrapeTimeout: string;
}
export interface Targets { activeTargets: Target[]; droppedTargets: { discoveredLabels: Labels; scrapePool: string }[]; droppedTargetCounts: Record<string, number> | null }
export interface View {
  id: string; name: string; kind: string; standing: boolean; record?: string; interval?: number; plan: string; physicalPlan?: string; query?: string; taps: number; rows: number;
  lastChange?: string; frontier?: string; health: string; lastError: string; level?: number; worker?: number;
  localSteps?: { total: number; shared: number }; gatherSteps?: { total: number; shared: number }; rowsTouched?: number;
  stateBytes?: { total: number; shared: number }; cpuSeconds?: number; evaluationSeconds?: number;
  rings?: { selector: string; reach: number; series: number; bytes: number; readers: number }[];
  leaves?: { step: string; maintenance: string; nextDue?: string }[];
}
export interface Views { time: string; views: View[]; total: number; next?: string }
export interface TsdbStatus {
  headStats: { numSeries: number; numLabelPairs: number; chunkCount: number; minTime: number; maxTime: number };
  seriesCountByMetricName: Stat[]; labelValueCountByLabelName: Stat[]; memoryInBytesByLabelName: Stat[]; seriesCountByLabelValuePair: Stat[];
}
export interface Stat { name: string; value: number }

/** `/api/v1/alerts/history`. Times are Unix seconds. */
export interface AlertHistoryData { transitions: Transition[]; keptFrom: number; truncated: boolean }
export interface Transition {
  at: number; rule: { file: string; group: string; name: string }; fingerprint: string; labels: Labels; from: string; to: string; reason: string; value: string;
  cause: { series: SeriesMove[]; truncated: boolean } | null; sent: { alertmanager: string; at: number; ok: boolean; error: string }[];
}
export interface SeriesMove { labels: Labels; before: string | null; after: string | null; t: number }

/** `/api/v1/rules/test`. */
export interface RuleTest {
  alert: string; query: string; start: number; end: number; step: number; alerts: { labels: Labels; intervals: { from: number; to: number; state: string; open: boolean }[] }[];
  fired: number; firingSeconds: number; longestSeconds: number; notifications: number; sent: number; evaluations: number; failures: number; firstError: string; truncated: boolean;
}
export interface RuleTestProgress { done: number; at: number; fired: number }

/** `/api/v1/status/queries`. */
export interface QueryList { active: ActiveQuery[]; top: TopQuery[]; window: number }
export interface ActiveQuery { id: string; kind: string; query: string; client: string; since: number; elapsedSeconds: number; state: string; samples: number; limitSamples: number }
export interface TopQuery { query: string; count: number; seconds: number; maxSeconds: number; samples: number; lastAt: number; lastError: string }

/** `/api/v1/subscriptions`: the connections of subscribers. A subscription to a topic has no envelope. */
export interface Subscribers { sockets: Subscriber[]; limits: { subscriptions: number; views: number; stateBytes: number } }
export interface Subscriber { id: string; client: string; origin: string; name: string; transport: string; since: number; subscriptions: SubscriptionOf[] }
export interface SubscriptionOf {
  id: string; query: string; view?: string; standing: boolean; envelope?: string; backpressure?: string; waitingBytes: number; sent: number; bytes: number; lost: number;
}

/** `/api/v1/status/config?pending=1`: what is in force, and what a reload would put in force. */
export interface PendingConfig { yaml: string; pending: string; error: string; ruleGroups: { added: string[]; changed: string[]; removed: string[] } }
