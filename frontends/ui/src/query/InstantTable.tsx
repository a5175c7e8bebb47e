// Answers that have no chart: ranges of samples, strings.
import { selector } from '../format/labels';
import { clockTime } from '../format/time';
import { zone } from '../settings';
import type { InstantData } from '../types';

const SERIES_SHOWN = 500;

export function InstantTable({ data }: { data: InstantData }) {
  if (data.resultType === 'string' || data.resultType === 'scalar') return <div class="box" style={{ margin: '0 8px 8px' }}><pre>{data.result[1]}</pre></div>;
  if (data.result.length === 0) return <div class="box" style={{ margin: '0 8px 8px' }}>Empty: no series has a sample here.</div>;
  if (data.resultType === 'vector') return null;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Samples">
      <table>
        <thead><tr><th scope="col">series</th><th scope="col">samples</th></tr></thead>
        <tbody>
          {data.result.slice(0, SERIES_SHOWN).map((s) => (
            <tr key={selector(s.metric)}>
              <td class="wrap"><code>{selector(s.metric)}</code></td>
              <td class="wrap mono">{(s.values ?? []).map(([t, v]) => `${v} @ ${clockTime(t, zone.value, true)}`).join('\n')}{s.histograms ? `${s.histograms.length} histograms` : ''}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {data.result.length > SERIES_SHOWN && <p class="dim">{data.result.length - SERIES_SHOWN} more series are not shown.</p>}
    </div>
  );
}
