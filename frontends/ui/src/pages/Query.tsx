// The query page: one or more panels, all in the address.
import { useRef } from 'preact/hooks';
import { go, replace, route } from '../router';
import { Panel } from '../query/Panel';
import { formatPanels, newPanel, parsePanels, type Panel as Settings } from '../query/url';

export function Query() {
  const panels = parsePanels(route.value.params);
  // A panel keeps its editor when another one is removed.
  const ids = useRef<number[]>([]);
  const next = useRef(0);
  while (ids.current.length < panels.length) ids.current.push(next.current++);
  ids.current.length = panels.length;
  const set = (list: Settings[], push: boolean) => (push ? go : replace)(formatPanels(list));
  return (
    <>
      <h1 class="hide">Query</h1>
      {panels.map((settings, i) => (
        <Panel key={ids.current[i]} settings={settings} first={i === 0}
          change={(changed, push) => set(panels.map((p, j) => (j === i ? changed : p)), push)}
          stretch={(range, end) => set(panels.map((p) => ({ ...p, range, end })), false)}
          remove={panels.length < 2 ? null : () => {
            ids.current.splice(i, 1);
            set(panels.filter((_, j) => j !== i), true);
          }} />
      ))}
      <button type="button" onClick={() => set([...panels, newPanel()], true)}>+ Add a query</button>
    </>
  );
}
