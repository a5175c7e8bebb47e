// The graphs of the page, which the bar at its lower edge steers.
import type { Graph } from './graph';

export const graphs: Graph[] = [];
