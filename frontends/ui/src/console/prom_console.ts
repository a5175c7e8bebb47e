// What console templates of Prometheus call: `new PromConsole.Graph({…})` and `new PromConsole.TimeControl()`, with the
// names and parameters that they have there. One classic script, because templates use it right after they load it.
import './bootstrap';
import { place } from '../api';
import { Graph, graphDefaults, queryAddress } from './graph';
import { interpolate } from './names';
import { NumberFormatter, withoutZeros } from './numbers';
import { graphs } from './registry';
import { TimeControl } from './time_control';

const prefix = (globalThis as { PATH_PREFIX?: string }).PATH_PREFIX ?? '';
place.base = new URL(`${prefix}/`, location.origin).href;

Object.assign(globalThis, {
  PromConsole: {
    NumberFormatter, TimeControl, Graph, graphDefaults,
    _graph_registry: graphs, _interpolateName: interpolate, _graphsToSlashGraphURL: queryAddress, _stripTrailingZero: withoutZeros,
  },
});
