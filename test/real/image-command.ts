import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')

/** Arguments of Node.js, and variables of its environment, with which the image starts the server. */
export interface ImageCommand { args: string[], env: Record<string, string> }

/**
 * Builds the server into `folder`, and returns the command of `deploy/Dockerfile` for this build. The folder must be
 * below the project, where the packages are found, but not below `node_modules`; `.tap/image` if unset.
 */
export function imageCommand (folder: string = join(root, '.tap', 'image')): ImageCommand {
  mkdirSync(folder, { recursive: true })
  const dist = join(folder, 'dist')
  rmSync(dist, { recursive: true, force: true })
  execFileSync('tsc', ['-p', join(root, 'tsconfig.build.json'), '--outDir', dist], {
    env: { ...process.env, PATH: `${join(root, 'node_modules', '.bin')}:${process.env.PATH ?? ''}` }
  })
  const dockerfile = readFileSync(join(root, 'deploy', 'Dockerfile'), 'utf8')
  const entryPoint = /^ENTRYPOINT (.*)$/m.exec(dockerfile)?.[1]
  if (entryPoint === undefined) throw new Error('deploy/Dockerfile has no ENTRYPOINT')
  const [, ...args] = JSON.parse(entryPoint) as string[]
  // The settings of the registry itself are those of the test.
  const variables = [...dockerfile.matchAll(/^ENV (?!REGISTRY_)(\w+)=(\S+)$/gm)].map(([, name, value]) => [name, value])
  return {
    args: args.map(arg => arg.replace(/^dist(?=\/)/, dist)),
    env: Object.fromEntries(variables) as Record<string, string>
  }
}
