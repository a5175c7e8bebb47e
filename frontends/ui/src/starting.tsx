// While the server starts: how far it has come. Later, why it is not healthy.
import { useEffect, useState } from 'preact/hooks';
import { call } from './api';
import { connection } from './live';

/** How often a starting server is asked, ms. */
const ASK_MS = 1000;

export function Starting() {
  const [text, setText] = useState('');
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let gone = false;
    const ask = async () => {
      let next = '';
      try {
        const response = await fetch('-/ready', { cache: 'no-store' });
        if (response.status === 503) {
          next = (await response.text()).trim();
          const { data } = await call<{ min: number; max: number; current: number }>('status/walreplay');
          if (data.max > data.min) next += ` — replaying the log: ${data.current - data.min} of ${data.max - data.min} segments`;
        }
      } catch {
        // Not reachable at all: the clock says so.
      }
      if (gone) return;
      setText(next);
      if (next !== '') timer = setTimeout(() => void ask(), ASK_MS);
    };
    void ask();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [connection.value]);
  if (text === '') return null;
  // It has started, and cannot go on: its disk is full or gone.
  if (/not healthy/i.test(text)) return <div class="box err" role="alert">{text.replace(/^Prometheus Server/, 'The server')}</div>;
  return <div class="box info" role="status">The server is starting. {text}</div>;
}
