import neostandard, { plugins } from 'neostandard'

/** Returns the rule of the files of a folder that may not import some parts; test/layers.test.ts has the whole law. */
const restrictImports = (folder, ...patterns) => ({
  files: [`${folder}/**/*.ts`],
  rules: {
    '@typescript-eslint/no-restricted-imports': ['error', {
      patterns: patterns.map(pattern => ({ message: 'docs/architecture.md has the rules for imports.', ...pattern }))
    }]
  }
})
const from = parts => ({ regex: `^(?:\\.\\./)+(?:${parts})/` })

export default [
  ...neostandard({
    ts: true,
    ignores: [
      'node_modules',
      'examples/registry',
      'examples/host.ts',
      'test/clients/*/generated',
      'test/types',
      '**/dist',
      '.tap',
      'openapi.yaml'
    ]
  }),
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { projectService: true } },
    // A comment cannot turn a rule off.
    linterOptions: { noInlineConfig: true, reportUnusedDisableDirectives: 'error' },
    plugins: { '@typescript-eslint': plugins['typescript-eslint'].plugin },
    rules: {
      // A schema and its type share one name, and wire formats have names of their own; the compiler checks both.
      '@typescript-eslint/no-redeclare': 'off',
      camelcase: 'off',
      // `void` marks a promise that is not awaited, for no-floating-promises.
      'no-void': ['error', { allowAsStatement: true }],
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      'max-len': ['error', { code: 120, ignoreUrls: true, ignoreRegExpLiterals: true }]
    }
  },
  {
    files: ['**/*.ts'],
    ignores: ['test/**'],
    rules: { 'max-lines-per-function': ['error', { max: 120, skipComments: true, skipBlankLines: true }] }
  },
  {
    files: ['**/*.ts'],
    // The client's test proves that the generated types refuse a wrong call.
    ignores: ['test/clients/typescript/client.ts'],
    rules: {
      'no-warning-comments': ['error', {
        terms: ['eslint-disable', '@ts-ignore', '@ts-expect-error', '@ts-nocheck'],
        location: 'anywhere'
      }]
    }
  },
  restrictImports('routes', from('routes|backends|plugins')),
  restrictImports('plugins', from('routes|backends')),
  restrictImports('lib', from('routes|backends|plugins')),
  restrictImports('schemas', from('routes|backends|plugins|lib')),
  restrictImports('backends', from('routes'), { regex: '/plugins/.*plugin\\.ts$', allowTypeImports: true }),
  restrictImports('backends/gitea', from('routes|oci'), { regex: '/plugins/.*plugin\\.ts$', allowTypeImports: true }),
  restrictImports('backends/oci', from('routes|gitea'), { regex: '/plugins/.*plugin\\.ts$', allowTypeImports: true })
]
