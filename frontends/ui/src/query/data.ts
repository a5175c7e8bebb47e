// The answer of one panel: history by query_range, what follows by a subscription, gaps asked again.
import { call, ApiError } from '../api';
import type { Exemplar } from '../chart/Chart';
import { Store } from '../chart/store';
import { parseValue, type Unit } from '../format/numbers';
import { ASKED_MS, now, paused, watch, withoutSocket } from '../live';
import { print, threshold, unitOf, type Node, type Threshold } from '../promql/ast';
import type { ExemplarSeries, InstantData, RangeData } from '../types';
import { stepOf, type Panel } from './url';

/** Whether the chart moves by itself. */
export type LiveState = { kind: 'live' } | { kind: 'asked'; why: string } | { kind: 'fixed'; why: string };

/** What one run of a query has shown so far. */
export interface Result {
  tree: Node | null;
  unit: Unit;
  /** The comparison at the root, if its left side is what is drawn. */
  threshold: Threshold | null;
  /** What is really asked. */
  asked: string;
  store: Store | null;
  /** The values some time ago, moved to the present; null: they are not compared. */
  before: Store | null;
  exemplars: Exemplar[];
  /** The answer of an expression that has no range: a range of samples or a string. */
  instant: InstantData | null;
  warnings: string[];
  infos: string[];
  error: ApiError | null;
  live: LiveState;
  /** Seconds that the first answer took. */
  took: number;
  loading: boolean;
}

/** Charts with more series are drawn once. */
const LIVE_SERIES_MAX = 1000;
/** Queries that take longer are not asked for again and again. */
const LIVE_SECONDS_MAX = 3;
/** How often the newest part is compared with history: samples that came late change it. */
const RECHECK_MS = 60_000;
const EXEMPLARS_MS = 10_000;
/** How long steps stay unsettled at least, and how often history is asked about them at most. */
const SETTLE_AFTER_MS = 1000;
const SETTLE_AGAIN_MS = 5000;
/** Samples that are so late may miss the first answer and the snapshot that follows it. */
const LATE_SECONDS = 15;
/** Only the newest are drawn. */
const EXEMPLARS_MAX = 500;

/** Runs a panel's query and keeps its answer current until `stop`. */
export class PanelData {
  result: Result = empty();
  private readonly abort = new AbortController();
  private unwatch: (() => void) | null = null;
  private recheck: ReturnType<typeof setInterval> | undefined;
  private exemplarsTimer: ReturnType<typeof setInterval> | undefined;
  private poller: ReturnType<typeof setInterval> | undefined;
  private settler: ReturnType<typeof setTimeout> | undefined;
  private settledAt = 0;
  private repairing = false;
  /** Seconds that history took to answer. */
  private seconds = 0;

  constructor(private readonly panel: Panel, private readonly changed: () => void, before: Result | null) {
    // The old picture stays until the new one is there.
    if (before) this.result = { ...before, error: null, loading: true };
    this.result.loading = true;
    void this.run();
  }

  /** Ends requests and the subscription. */
  stop(): void {
    this.abort.abort();
    this.unwatch?.();
    clearInterval(this.recheck);
    clearInterval(this.exemplarsTimer);
    clearInterval(this.poller);
    clearTimeout(this.settler);
  }

  private async run(): Promise<void> {
    const { panel } = this;
    const signal = this.abort.signal;
    const began = performance.now();
    try {
      const { data: tree } = await call<Node>('parse_query', { query: panel.expr }, signal);
      const limit = panel.literal ? null : threshold(tree);
      const asked = limit ? print(limit.left) : panel.expr;
      const next: Result = { ...empty(), tree, threshold: limit, asked, unit: unitOf(limit ? limit.left : tree), loading: false };
      if (['matrixSelector', 'subquery', 'stringLiteral'].includes(tree.type)) {
        const answer = await call<InstantData>('query', { query: panel.expr, time: panel.end ?? undefined }, signal);
        next.instant = answer.data;
        next.live = { kind: 'fixed', why: 'this kind of answer is not live' };
        this.show(next, answer, began);
        return;
      }
      const step = stepOf(panel);
      const end = Math.floor((panel.end ?? now.value) / step) * step;
      const start = end - Math.ceil(panel.range / step) * step;
      const sent = performance.now();
      const answer = await call<RangeData>('query_range', { query: asked, start, end, step }, signal);
      this.seconds = (performance.now() - sent) / 1000;
      const store = new Store(step, start, end - start);
      store.setRange(start, end, answer.data.result);
      next.store = store;
      this.show(next, answer, began);
      this.begin(store);
      if (panel.compare > 0) await this.compare(store);
      if (panel.exemplars) {
        await this.askExemplars(store);
        if (panel.end === null) this.exemplarsTimer = setInterval(() => !document.hidden && !paused.value && void this.askExemplars(store), EXEMPLARS_MS);
      }
    } catch (e) {
      if (signal.aborted) return;
      const error = e instanceof ApiError ? e : new ApiError('internal', String(e), 0);
      this.result = { ...this.result, error, loading: false, live: { kind: 'fixed', why: 'the query failed' } };
      this.changed();
    }
  }

  private show(next: Result, answer: { warnings: string[]; infos: string[] }, began: number): void {
    next.warnings = answer.warnings;
    next.infos = answer.infos;
    next.took = (performance.now() - began) / 1000;
    this.result = next;
    this.changed();
  }

  private begin(store: Store): void {
    const why = this.notLive(store);
    if (why !== '') {
      this.result.live = { kind: 'fixed', why };
      this.changed();
      return;
    }
    this.unwatch = watch(this.result.asked, {
      started: (standing, why) => {
        this.result.live = standing ? { kind: 'live' } : { kind: 'asked', why };
        this.tell();
      },
      snapshot: (t, rows) => {
        store.snapshot(t, rows);
        void this.repair(t);
        // What came between the answer of history and the snapshot is in the snapshot only.
        store.unsettleSteps(store.end - LATE_SECONDS, t);
        this.settle(store);
        this.tell();
      },
      delta: (t, upsert, remove, since) => {
        // What is evaluated once a second may have changed at any time since.
        store.delta(t, upsert, remove, this.result.live.kind === 'asked' ? store.liveAt + 1e-3 : since);
        this.settle(store);
        this.tell();
      },
      progress: (t) => {
        store.progress(t);
        this.tell();
      },
      lost: (from, to) => {
        store.lose(from, to);
        this.tell();
      },
      error: (message, final) => {
        if (final) this.result.live = { kind: 'fixed', why: message };
        else this.result.warnings = [message];
        this.tell();
      },
    });
    this.poller = setInterval(() => {
      const gap = store.missing(now.value);
      if (withoutSocket.value && gap && !document.hidden && !paused.value) void this.ask(store, gap.from, gap.to);
    }, ASKED_MS);
    this.recheck = setInterval(() => {
      void this.ask(store, store.end - 60, store.end);
      void this.repair(store.end);
      if (this.panel.compare > 0) void this.compare(store);
    }, RECHECK_MS);
  }

  /** Asks for the values some time ago, also for the steps that will come until it asks again. */
  private async compare(store: Store): Promise<void> {
    const ahead = this.panel.end === null ? Math.ceil((2 * RECHECK_MS) / 1000 / store.step) * store.step : 0;
    const start = store.time(store.first);
    const end = store.end + ahead;
    const { compare } = this.panel;
    try {
      const { data } = await call<RangeData>('query_range', { query: this.result.asked, start: start - compare, end: end - compare, step: store.step }, this.abort.signal);
      const before = new Store(store.step, start, end - start);
      before.setRange(start, end, data.result.map((s) => ({ metric: s.metric, values: (s.values ?? []).map(([t, v]) => [t + compare, v]) })));
      this.result.before = before;
      this.tell();
    } catch (e) {
      if (!this.abort.signal.aborted) this.result.infos = [`The values of another time: ${e instanceof Error ? e.message : String(e)}`];
    }
  }

  private async askExemplars(store: Store): Promise<void> {
    try {
      const { data } = await call<ExemplarSeries[] | null>('query_exemplars', { query: this.result.asked, start: store.time(store.first), end: Math.max(store.end, now.value) }, this.abort.signal);
      const all = (data ?? []).flatMap((s) => s.exemplars.map((e) => ({ t: Number(e.timestamp), value: parseValue(e.value), labels: e.labels, series: s.seriesLabels })));
      this.result.exemplars = all.sort((a, b) => b.t - a.t).slice(0, EXEMPLARS_MAX);
      this.tell();
    } catch (e) {
      if (!this.abort.signal.aborted) this.result.infos = [`Exemplars: ${e instanceof Error ? e.message : String(e)}`];
    }
  }

  private notLive(store: Store): string {
    if (this.panel.end !== null) return 'the end of the range is fixed';
    if (this.panel.live === 'off') return 'live is off for this query';
    if (this.panel.live === 'on') return '';
    if (store.series.size > LIVE_SERIES_MAX) return `more than ${LIVE_SERIES_MAX} series`;
    if (this.seconds > LIVE_SECONDS_MAX) return 'the query is slow';
    return '';
  }

  private tell(): void {
    if (!paused.value) this.changed();
  }

  /** Asks history for the steps between what is known and a snapshot, and for what was lost. */
  private async repair(t: number): Promise<void> {
    const { store } = this.result;
    if (!store || this.repairing) return;
    const gap = store.missing(t);
    const lost = [...store.lost];
    if (!gap && lost.length === 0) return;
    this.repairing = true;
    const from = Math.min(gap?.from ?? Infinity, ...lost.map((l) => Math.floor(l.from / store.step) * store.step));
    const said = await this.ask(store, Math.max(from, store.t0), gap?.to ?? store.end);
    // What was lost stays marked until history has said what was there.
    if (said) store.found(lost);
    else if (gap) store.lose(gap.from, gap.to);
    this.repairing = false;
    this.tell();
  }

  /** Soon asks history for the steps that are unsettled. */
  private settle(store: Store): void {
    if (!store.unsettled || this.settler !== undefined) return;
    const wait = Math.max(SETTLE_AFTER_MS, this.settledAt + SETTLE_AGAIN_MS - Date.now());
    this.settler = setTimeout(async () => {
      const stretch = store.unsettled;
      store.unsettled = null;
      this.settledAt = Date.now();
      const said = stretch !== null && (await this.ask(store, stretch.from, stretch.to));
      this.settler = undefined;
      if (said) this.settle(store);
      // Asked again with the next message: the server may be gone.
      else if (stretch) store.unsettleSteps(stretch.from, stretch.to + store.step / 2);
    }, wait);
  }

  /** Asks history for the steps of a stretch; `false`: it did not answer. */
  private async ask(store: Store, from: number, to: number): Promise<boolean> {
    const grid = (t: number) => Math.round((t - store.t0) / store.step) * store.step + store.t0;
    // A computer that slept has a gap wider than the picture.
    const start = grid(Math.max(from, to - store.window, store.t0));
    try {
      const answer = await call<RangeData>('query_range', { query: this.result.asked, start, end: grid(to), step: store.step }, this.abort.signal);
      store.setRange(start, grid(to), answer.data.result);
      this.tell();
      return true;
    } catch {
      return false;
    }
  }
}

function empty(): Result {
  return {
    tree: null, unit: '', threshold: null, asked: '', store: null, before: null, exemplars: [], instant: null, warnings: [], infos: [], error: null,
    live: { kind: 'fixed', why: '' }, took: 0, loading: false,
  };
}
