// What the page is checked for in a browser, and the test that does. `checks.test.mjs` looks whether each test is there.
const E2E = 'e2e.mjs';
const LIVE = 'e2e_live.mjs';
const HOSTILE = 'e2e_hostile.mjs';

/** Numbers, what holds, and where it is tested: files, with the beginning of the names of their tests. */
export const CHECKS = [
  [1, 'the first page is that of queries, with the editor in focus; no error in the console, no report of the policy', [E2E, 'the start page is the query page']],
  [2, 'old addresses of graphs keep all that they say', [E2E, 'links of alerts and old bookmarks']],
  [3, 'half a name and Enter twice make chart and table', [E2E, 'half a name and Enter twice']],
  [4, 'Shift-Enter begins a line; Enter with open completion takes what is offered', [LIVE, 'Shift-Enter begins a line']],
  [5, 'a syntax error is said in full and underlined, the old chart stays', [E2E, 'an error is said in full']],
  [6, 'after 65 s a live chart shows what a reload shows', [LIVE, 'a live chart shows after ']],
  [7, 'nothing is lost by a pause', [E2E, 'a live chart shows what a reload shows, after a pause']],
  [8, 'after the end and the start of the server the page goes on, without wrong values', [E2E, 'the server ends and comes back']],
  [9, 'what a slow client lost is hatched, then right', [LIVE, 'changes that were lost are hatched']],
  [10, 'a tab that nobody looks at ends its subscriptions, and begins them again', [E2E, 'a tab that nobody looks at']],
  [11, 'a new series comes, the others keep their colours', [E2E, 'a new series comes by itself']],
  [12, '500 series: a short legend, a short page, quick answers under the pointer', [E2E, '500 series: a short legend']],
  [13, 'stacked areas end where a value is missing', [E2E, 'stacked areas end']],
  [14, 'an alert goes from pending to firing on the page without a reload; a rule that fails is first and not green', [LIVE, 'an alert that fires is on the page soon'], [E2E, 'alerts: broken first']],
  [15, 'the link of an alert: threshold drawn, true stretches shaded', [E2E, 'an alert link draws'], [E2E, 'where the condition of an alert holds']],
  [16, 'a target that is down is first, with its error, and recovers by itself', [E2E, 'targets: down first']],
  [17, 'a query is stopped with the flag, and not without', [E2E, 'queries that run are listed'], [E2E, 'the whole is below a prefix']],
  [18, 'UTC or local time, 24 hours, also on a day when clocks change', [E2E, 'times are those of the zone']],
  [19, 'axe finds nothing serious on any page, in both themes and at both widths; keys alone do the first jobs', [E2E, 'no page scrolls sideways on a phone'], [E2E, 'keys alone'], [E2E, 'the frequent jobs take']],
  [20, 'every page has one layout in both themes and cuts no text, at both widths', [LIVE, 'both themes have one layout']],
  ...[
    'a metric name in the tip of a chart', 'metric and label texts in legend and table', 'a metric name that is completed', 'a metric name in the search of the palette',
    'a label name as the head of a column', 'a label value in a cell and in a file', 'an address of scripts as a value', 'the bound of a bucket on an axis', 'help', 'unit', 'annotations',
    'addresses in annotations', 'names of rules, groups, files and labels of alerts', 'errors of a scrape', 'addresses of targets', 'the text of the configuration', 'the title of the page',
    'an error that repeats the query', 'every parameter of an address', 'texts of the socket, names of columns, labels of exemplars, what relabelling makes',
  ].map((what, i) => [21 + i, `${what} stays text`, [HOSTILE, i === 8 || i === 9 ? '29, 30: ' : i === 10 || i === 11 ? '31, 32: ' : i === 13 || i === 14 ? '34, 35: ' : `${21 + i}: `]]),
];
