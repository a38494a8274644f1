import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { writeAtomically } from '../../lib/atomic-file.ts'
import { SnapshotEnd, SnapshotHead, SnapshotRecord } from '../../schemas/snapshot.ts'

const head = TypeCompiler.Compile(SnapshotHead)
const record = TypeCompiler.Compile(SnapshotRecord)
const end = TypeCompiler.Compile(SnapshotEnd)

/** Maximum bytes of a file that is read. Files that are written here are much smaller. */
const maxSnapshotBytes = 1024 * 1024 * 1024
/** Milliseconds after which a temporary file of another process is abandoned. */
const abandoned = 600_000

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Reason why a snapshot is not used. */
export class SnapshotError extends Error {
  override readonly name = 'SnapshotError'
}

/**
 * Keeps records of instances in a directory, one file each: `{instance}.ndjson`. A file is written under a temporary
 * name, flushed and renamed, so that it is never partial. Several processes may share the directory: the last one to
 * write wins.
 */
export function createSnapshotFiles (directory: string) {
  const fileOf = (instance: string): string => join(directory, `${instance}.ndjson`)

  /** Removes temporary files of processes that ended while they wrote. */
  async function clean (instance: string): Promise<void> {
    for (const name of await readdir(directory)) {
      if (!name.startsWith(`${instance}.`) || !name.endsWith('.tmp')) continue
      const path = join(directory, name)
      // Another process may have renamed or removed it meanwhile.
      const found = await stat(path).catch(() => undefined)
      if (found !== undefined && Date.now() - found.mtimeMs > abandoned) await rm(path, { force: true })
    }
  }

  return {
    /** Writes the records of an instance, and yields to other work after each. Throws errors of the file system. */
    async write (instance: string, identity: string, records: Iterable<SnapshotRecord>): Promise<void> {
      await mkdir(directory, { recursive: true, mode: 0o700 })
      await clean(instance)
      await writeAtomically(join(directory, `${instance}.${randomUUID()}.tmp`), fileOf(instance), async handle => {
        const hash = createHash('sha256')
        const put = async (value: object): Promise<void> => {
          const line = `${JSON.stringify(value)}\n`
          hash.update(line)
          await handle.write(line)
          await turn()
        }
        await put({ format: 1, identity } satisfies SnapshotHead)
        for (const record of records) await put(record)
        await handle.write(`${JSON.stringify({ sha256: hash.digest('hex') } satisfies SnapshotEnd)}\n`)
      })
    },

    /**
     * Returns the records of an instance; undefined when there are none. Throws a {@link SnapshotError} when they are
     * damaged, of another format or of another configuration, and errors of the file system.
     */
    async read (instance: string, identity: string): Promise<SnapshotRecord[] | undefined> {
      const file = fileOf(instance)
      const found = await stat(file).catch((error: unknown) => {
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
        throw error
      })
      if (found === undefined) return undefined
      if (found.size > maxSnapshotBytes) throw new SnapshotError('The snapshot is too large')
      const bytes = await readFile(file)
      const last = bytes.lastIndexOf('\n', bytes.length - 2) + 1
      const parse = (text: string): unknown => {
        try {
          return JSON.parse(text)
        } catch {
          throw new SnapshotError('The snapshot is damaged')
        }
      }
      const sum = parse(bytes.subarray(last).toString('utf8'))
      if (!end.Check(sum) || sum.sha256 !== sha256(bytes.subarray(0, last))) {
        throw new SnapshotError('The snapshot is damaged')
      }
      const [first, ...rest] = bytes.subarray(0, last).toString('utf8').trimEnd().split('\n').map(parse)
      if (!head.Check(first)) throw new SnapshotError('The snapshot has another format')
      if (first.identity !== identity) throw new SnapshotError('The snapshot is of another configuration')
      if (!rest.every(value => record.Check(value))) throw new SnapshotError('The snapshot has another format')
      return rest
    }
  }
}
export type SnapshotFiles = ReturnType<typeof createSnapshotFiles>
