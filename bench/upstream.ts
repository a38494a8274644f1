// Runs a Gitea for benchmarks: `node upstream.ts EXTENSIONS`. Prints its port, and publishes a release of one extension
// per second.
import { createGiteaFake } from '../test/fakes/gitea.ts'
import { describe } from './words.ts'

const suffixes = { provider: 'prov', taskserv: 'taskserv', cluster: 'cluster' }
const versions = 10

function repository (number: number) {
  const { type, name, description, tags } = describe(number)
  const full = `${name}_${suffixes[type]}`
  return {
    name: full,
    description,
    topics: tags,
    releases: Array.from(
      { length: versions },
      (_, at) => ({ tag: `v1.${at}.0`, assets: [{ name: `${full}.tar.gz`, content: `file of ${name} 1.${at}.0` }] })
    )
  }
}

const count = Number(process.argv[2])
const repositories = Array.from({ length: count }, (_, number) => repository(number))
const gitea = await createGiteaFake({ owner: { login: 'extensions', full_name: 'Extensions' }, repositories })
// The fake stores every request for tests, which end earlier; a benchmark must not accumulate them.
gitea.fault = () => {
  gitea.requests.length = 0
  return undefined
}
let published = 0
setInterval(() => {
  const { name, releases } = gitea.repository(repositories[published++ % count]?.name ?? '')
  // The oldest release is removed, so that responses keep their size.
  const [oldest] = releases
  if (oldest !== undefined) gitea.withdraw(name, oldest.tag)
  gitea.publish(name, {
    tag: `v2.${published}.0`,
    assets: [{ name: `${name}.tar.gz`, content: `file of ${name} 2.${published}.0` }]
  })
}, 1000)
console.log(gitea.port)
