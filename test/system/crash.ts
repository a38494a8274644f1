import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { createRegistryFake } from '../fakes/registry.ts'
import { bytesOf, contentOfFiles, createStorage, fileOf } from '../fakes/storage.ts'

/** Number of kills. */
const kills = 50
/** Returns the share of the file after which the process is killed; more than 1 is after the transfer. */
const shareAtKill = (): number => Math.random() * 1.2
const root = resolve(import.meta.dirname, '../..')

/** Returns the paths of all files below a directory; an empty array if the directory does not exist. */
async function filesIn (directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries.filter(entry => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name))
}

await t.test('a process that is killed at any moment leaves verified files only; the next start removes partial ' +
  'files', async t => {
  const directory = join(t.testdir(), 'store')
  const file = fileOf(6 * 1024 * 1024)
  const storage = await createStorage(t, file)
  const fake = await createRegistryFake(contentOfFiles({ 'taskserv/big': file }), { storage: storage.url })
  t.teardown(fake.close)
  const env = {
    PATH: process.env.PATH,
    NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
    REGISTRY_SERVER_PORT: '0',
    REGISTRY_SERVER_HOST: '127.0.0.1',
    REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '0',
    REGISTRY_STORE_DIRECTORY: directory,
    REGISTRY_OCI_REGISTRY: fake.url,
    REGISTRY_OCI_REDIRECT_HOSTS: storage.host
  }

  async function start (): Promise<{ child: ChildProcess, url: string, end: Promise<unknown> }> {
    const child = spawn(process.execPath, ['server.ts'], { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] })
    const end = new Promise(resolve => { child.once('exit', resolve) })
    t.teardown(async () => {
      child.kill('SIGKILL')
      await end
    })
    for await (const line of createInterface(child.stdout)) {
      const address = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0]
      if (address === undefined) continue
      child.stdout.resume()
      return { child, end, url: `${address}/api/v1/extensions/taskserv/big/1.0.0` }
    }
    throw new Error('The process ended before it listened')
  }

  let wrong = 0
  let whole = 0
  let leaked = 0
  for (let times = 0; times < kills; times++) {
    const { child, url, end } = await start()
    // The process is killed after this number of bytes: at the start, during the transfer, while the file is stored, or
    // afterwards.
    const moment = Math.floor(shareAtKill() * file.length)
    const hash = createHash('sha256')
    let seen = 0
    const kill = () => { child.kill('SIGKILL') }
    try {
      const response = await fetch(url)
      // The store has been cleaned by now: its directory for temporary files contains only those of this process.
      if ((await readdir(join(directory, 'tmp')).catch(() => [])).length > 1) leaked++
      if (moment === 0) kill()
      for await (const chunk of response.body ?? []) {
        const bytes = Buffer.from(chunk as Uint8Array)
        if (!bytes.equals(file.subarray(seen, seen + bytes.length))) wrong++
        hash.update(bytes)
        seen += bytes.length
        if (seen >= moment) kill()
      }
      whole++
      await new Promise(resolve => { setTimeout(resolve, moment / file.length) })
    } catch {}
    kill()
    await end
    for (const path of await filesIn(join(directory, 'blobs'))) {
      const digest = createHash('sha256').update(await readFile(path)).digest('hex')
      if (!path.endsWith(digest)) t.fail(`digest differs from the file name: ${path}`)
    }
    // The file is removed after every other complete download, so that the next process transfers it again.
    if (seen === file.length && times % 2 === 0) await rm(join(directory, 'blobs'), { recursive: true, force: true })
  }
  t.equal(wrong, 0, 'every received byte was correct')
  t.equal(leaked, 0, 'partial files are removed at the next start')
  t.comment(`${whole} of ${kills} downloads were complete`)
  const { child, url, end } = await start()
  t.ok((await bytesOf(await fetch(url))).equals(file))
  t.strictSame((await readdir(join(directory, 'tmp'))).length <= 1, true, 'partial files are removed after a start')
  child.kill('SIGTERM')
  await end
  t.strictSame(await filesIn(join(directory, 'tmp')), [])
  t.strictSame(await readdir(join(directory, 'tmp')), [])
  t.equal((await filesIn(join(directory, 'blobs'))).length, 1)
})
