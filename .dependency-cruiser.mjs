/** The walls of ARCHITECTURE.md: a module may import its own level's listed neighbours and anything below, never above, and rooms never import each other. */
const level = {
  0: ['contracts', 'kernel'],
  1: ['policy'],
  2: ['bus', 'store', 'runtime', 'telemetry', 'config'],
  3: ['api', 'sdk', 'dialects'],
};
const above = (n) =>
  Object.entries(level)
    .filter(([l]) => Number(l) > n)
    .flatMap(([, names]) => names);

/** The packages of a level may not reach those above it, nor any room. */
const wall = (n) => ({
  name: `level-${n}-looks-down`,
  severity: 'error',
  from: { path: `^packages/(${level[n].join('|')})/`, pathNot: '\\.test\\.ts$' },
  to: { path: [`^packages/(${above(n).join('|') || 'nothing-above'})/`, '^apps/', '^test/'] },
});

export default {
  forbidden: [
    wall(0),
    wall(1),
    wall(2),
    wall(3),
    {
      name: 'rooms-never-import-each-other',
      severity: 'error',
      from: { path: '^apps/([^/]+)/' },
      to: { path: '^apps/(?!$1/)' },
    },
    {
      name: 'policy-is-pure',
      severity: 'error',
      from: { path: '^packages/policy/', pathNot: '\\.test\\.ts$' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'testkit-is-for-tests',
      severity: 'error',
      from: {
        path: '^(apps|packages)/',
        pathNot: '(\\.test\\.ts$|^packages/testkit/|conformance|/simulation/|^apps/sandbox-scheduler/src/testing/)',
      },
      to: { path: '^packages/testkit/' },
    },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, viaOnly: { pathNot: 'node_modules' } } },
    {
      name: 'public-door',
      comment: 'Other packages enter by index.ts.',
      severity: 'error',
      from: { path: '^(apps|packages)/([^/]+)/' },
      to: { path: '^packages/([^/]+)/src/(?!index\\.ts)', pathNot: '^$1/$2/' },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    exclude: { path: 'node_modules' },
  },
};
