import neostandard, { plugins } from 'neostandard'

export default [
  ...neostandard({ ts: true, ignores: ['node_modules', 'examples/registry', 'examples/host.ts', 'test/clients/*/generated', 'test/types', '**/dist', '.tap', 'openapi.yaml'] }),
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { projectService: true } },
    plugins: { '@typescript-eslint': plugins['typescript-eslint'].plugin },
    rules: {
      // A schema and its type share one name, and wire formats have names of their own; the compiler checks both.
      '@typescript-eslint/no-redeclare': 'off',
      camelcase: 'off',
      // How no-floating-promises is told that nobody waits.
      'no-void': ['error', { allowAsStatement: true }],
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-explicit-any': 'error'
    }
  }
]
