// The entry: starts the router and the live connection, and shows the page that the address names.
import { render } from 'preact';
import './style.css';
import { startLive } from './live';
import { startRouter } from './router';
import { Shell } from './shell';

startRouter();
startLive();
render(<Shell />, document.getElementById('app')!);
// For tests of how long it takes until one can type.
performance.mark('usable');
