import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { configKeys } from '../lib/config/keys.ts'
import { loadConfig } from '../lib/config/load.ts'
import { parseConfig } from '../lib/config/parse.ts'
import { startApp } from './fakes/app.ts'
import { matchStrictly } from './fakes/match.ts'

const root = resolve(import.meta.dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')
const readJson = <T>(file: string): T => JSON.parse(read(file)) as T

interface Probe { httpGet: { path: string, port: string } }
interface Container {
  image: string
  env: Array<{ name: string, value: string }>
  ports: Array<{ name: string, containerPort: number }>
  livenessProbe: Probe
  readinessProbe: Probe
  resources: { requests: Record<string, string>, limits: Record<string, string> }
  securityContext: { readOnlyRootFilesystem: boolean, allowPrivilegeEscalation: boolean }
  volumeMounts: Array<{ name: string, mountPath: string, readOnly?: boolean }>
}
interface Metadata {
  name: string
  namespace?: string
  labels: Record<string, string>
  annotations?: Record<string, string>
}
interface Manifest {
  ConfigMap: { metadata: Metadata, data: Record<string, string> }
  Secret: { metadata: Metadata, stringData: Record<string, string> }
  Deployment: {
    metadata: Metadata
    spec: {
      selector: { matchLabels: Record<string, string> }
      strategy: { type: string }
      template: {
        metadata: Metadata
        spec: {
          terminationGracePeriodSeconds: number,
          securityContext: { runAsNonRoot: boolean, runAsUser: number, fsGroup: number },
          containers: [Container],
          volumes: Array<
            {
              name: string,
              configMap?: { name: string },
              secret?: { secretName: string },
              emptyDir?: { sizeLimit: string }
            }
          >
        }
      }
    }
  }
  Service: { metadata: Metadata, spec: { selector: Record<string, string>, ports: Array<{ targetPort: string }> } }
}

/** The Dockerfile's instructions, each with its argument on one line. */
const instructions = read('deploy/Dockerfile').split('\n').filter(line => /^[A-Z]/.test(line)).map(line => {
  const [, name = '', argument = ''] = /^(\w+) (.*)$/.exec(line) ?? []
  return { name, argument }
})
const all = (name: string): string[] =>
  instructions.filter(instruction => instruction.name === name).map(({ argument }) => argument)
const last = (name: string): string => all(name).at(-1) ?? ''

await t.test('the image', async t => {
  const packageJson = readJson<
    { bin: Record<string, string>, engines: { node: string }, scripts: Record<string, string>, files: string[] }
  >('package.json')

  await t.test('copies only files that exist, and every file that the build requires', async t => {
    const copied = all('COPY').filter(argument => !argument.startsWith('--from')).flatMap(argument =>
      argument.split(' ').slice(0, -1)
    )
    for (const file of copied) t.ok(existsSync(join(root, file)), file)
    const { include } = readJson<{ include: string[] }>('tsconfig.build.json')
    for (const part of include) t.ok(part === '*.ts' || copied.includes(part), `${part} is built`)
    for (const file of ['app.ts', 'global.ts', 'server.ts', 'tsconfig.json', 'tsconfig.build.json']) {
      t.ok(copied.includes(file), file)
    }
  })

  await t.test('has every package that the program requires, including peer dependencies', async t => {
    const { packages } = readJson<
      { packages: Record<string, { dev?: boolean, dependencies?: object, peerDependencies?: object }> }
    >('package-lock.json')
    for (const name of Object.keys({ ...packages['']?.dependencies, ...packages['']?.peerDependencies })) {
      const installed = packages[`node_modules/${name}`]
      t.ok(installed !== undefined && installed.dev !== true, `npm ci --omit=dev installs ${name}`)
    }
  })

  await t.test('uses the same Node.js release as the project', async t => {
    const { optionalDependencies } = readJson<{ optionalDependencies: Record<string, string> }>('runtime/package.json')
    const [major = ''] = Object.values(optionalDependencies)[0]?.split('.') ?? []
    for (const base of all('FROM')) t.match(base, new RegExp(`^node:${major}-slim( AS \\w+)?$`))
    t.equal(read('.nvmrc').trim(), major, '.nvmrc names the same release')
  })

  await t.test('runs existing scripts of the package and starts its program', async t => {
    for (const [, script = ''] of read('deploy/Dockerfile').matchAll(/npm run (\w+)/g)) {
      t.type(packageJson.scripts[script], 'string', script)
    }
    const [program, ...args] = JSON.parse(last('ENTRYPOINT')) as string[]
    t.equal(program, 'node')
    t.strictSame(args.filter(arg => !arg.startsWith('--')), [packageJson.bin['extension-registry']])
    for (const flag of packageJson.scripts['start']?.split(' ').filter(word => word.startsWith('--')) ?? []) {
      t.ok(args.includes(flag), `${flag}, as npm start`)
      t.ok(packageJson.scripts['dev']?.split(' ').includes(flag), `${flag}, in npm run dev`)
    }
  })

  await t.test('exposes and probes the port on which the server listens', async t => {
    const { server: { port } } = parseConfig({})
    t.equal(last('EXPOSE'), String(port))
    const { app } = await startApp(t, {})
    const [, probedPort, path = ''] =
      /\(process\.env\.REGISTRY_SERVER_PORT \|\| (\d+)\) \+ '([^']+)'/.exec(last('HEALTHCHECK')) ?? []
    t.equal(probedPort, String(port))
    t.ok(app.hasRoute({ method: 'GET', url: path }), path)
  })

  await t.test('does not run as root', async t => { t.match(last('USER'), /^[1-9]\d*:[1-9]\d*$/) })
})

await t.test('the manifest', async t => {
  const documents = parseAllDocuments(read('deploy/kubernetes.yaml'))
  if (!Array.isArray(documents)) throw new Error('The manifest is empty')
  t.strictSame(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings]), [])
  const objects = documents.map(document => document.toJS() as { kind: keyof Manifest, metadata: Metadata })
  t.strictSame(objects.map(({ kind }) => kind), ['ConfigMap', 'Secret', 'Deployment', 'Service'])
  const { ConfigMap: configMap, Secret: secret, Deployment: deployment, Service: service } = Object.fromEntries(
    objects.map(object => [object.kind, object])
  ) as unknown as Manifest
  const pod = deployment.spec.template.spec
  const [container] = pod.containers
  const mountOf = (expected: (volume: typeof pod.volumes[number]) => boolean): string | undefined => {
    const volume = pod.volumes.find(expected)
    return container.volumeMounts.find(({ name }) => name === volume?.name)?.mountPath
  }

  // The configuration of the container: the file of the ConfigMap, overridden by the environment.
  const env = Object.fromEntries(container.env.map(({ name, value }) => [name, value]))
  const folder = t.testdir(configMap.data)
  const { config } = await loadConfig({
    file: join(folder, 'config.toml'),
    env: { ...env, REGISTRY_CONFIG: '' },
    cwd: root
  })

  await t.test('sets only variables that the registry reads, and the path of the mounted file', async t => {
    const known = new Set(['REGISTRY_CONFIG', ...configKeys.map(({ environment }) => environment)])
    for (const { name } of container.env) t.ok(known.has(name), name)
    t.strictSame(Object.keys(configMap.data), ['config.toml'])
    t.equal(
      env['REGISTRY_CONFIG'],
      `${mountOf(({ configMap: source }) => source?.name === configMap.metadata.name)}/config.toml`
    )
  })

  await t.test('listens on IPv6 and IPv4', async t => { t.equal(config.server.host, '::') })

  await t.test('mounts the keys of the Secret at the paths in the configuration', async t => {
    const mounted = mountOf(({ secret: source }) => source?.secretName === secret.metadata.name)
    t.strictSame(
      config.gitea.map(({ token_file: file }) => file),
      Object.keys(secret.stringData).map(key => `${mounted}/${key}`)
    )
    t.notMatch(configMap.data['config.toml'], /^\s*(token|password)\s*=/m, 'no secret in the ConfigMap')
  })

  await t.test('stores downloads on the only writable volume, which is larger than the store', async t => {
    t.equal(mountOf(({ emptyDir }) => emptyDir !== undefined), config.store.directory)
    t.equal(all('ENV')[1], `REGISTRY_STORE_DIRECTORY=${config.store.directory}`, 'as in the image')
    const [, mebibytes = ''] =
      /^(\d+)Mi$/.exec(pod.volumes.find(({ emptyDir }) => emptyDir !== undefined)?.emptyDir?.sizeLimit ?? '') ?? []
    t.ok(Number(mebibytes) * 1024 ** 2 > config.store.max_bytes)
    t.strictSame(container.volumeMounts.filter(({ readOnly }) => readOnly !== true).map(({ name }) => name), ['store'])
  })

  await t.test('routes the Service to the port on which the server listens', async t => {
    t.strictSame(container.ports, [{ name: 'http', containerPort: config.server.port }])
    t.equal(String(config.server.port), last('EXPOSE'))
    for (const { targetPort } of service.spec.ports) t.equal(targetPort, 'http')
    const { labels, annotations } = deployment.spec.template.metadata
    matchStrictly(t, labels, service.spec.selector)
    matchStrictly(t, labels, deployment.spec.selector.matchLabels)
    t.equal(annotations?.['prometheus.io/port'], String(config.server.port))
  })

  await t.test('probes existing routes', async t => {
    const { get } = await startApp(t, { oci: { registry: join(root, 'examples/registry') } })
    matchStrictly(t, [container.livenessProbe, container.readinessProbe], [{
      httpGet: { path: '/health', port: 'http' }
    }, {
      httpGet: { path: '/readyz', port: 'http' }
    }])
    const metrics = deployment.spec.template.metadata.annotations?.['prometheus.io/path'] ?? ''
    await get('/api/v1/extensions')
    for (const path of [container.livenessProbe.httpGet.path, container.readinessProbe.httpGet.path, metrics]) {
      t.equal((await get(path)).statusCode, 200, path)
    }
  })

  await t.test('allows enough time for the shutdown of the registry', async t => {
    const [, closeGrace = ''] = /const closeGraceMs = ([\d_]+)/.exec(read('server.ts')) ?? []
    const grace = Number(closeGrace.replaceAll('_', '')) / 1000
    t.equal(grace, 25)
    // server.ts exits 5 seconds after the grace period at the latest.
    t.ok(pod.terminationGracePeriodSeconds >= config.server.shutdown_delay_seconds + grace + 5)
    t.equal(deployment.spec.strategy.type, 'RollingUpdate')
  })

  await t.test('runs as the user of the image, with a read-only root file system', async t => {
    const { runAsNonRoot, runAsUser, fsGroup } = pod.securityContext
    t.strictSame([runAsNonRoot, `${runAsUser}:${fsGroup}`], [true, last('USER')])
    matchStrictly(t, container.securityContext, { readOnlyRootFilesystem: true, allowPrivilegeEscalation: false })
    matchStrictly(t, container.resources, { requests: { cpu: String, memory: String }, limits: { memory: String } })
  })

  await t.test('names the version of the image that the Dockerfile builds', async t => {
    const { version } = readJson<{ version: string }>('package.json')
    t.match(container.image, new RegExp(`:${version.replaceAll('.', '\\.')}$`))
    t.match(read('deploy/Dockerfile'), `extension-registry:${version} `)
    for (const { metadata } of objects) t.notOk(metadata.namespace, `${metadata.name} does not set a namespace`)
  })
})
