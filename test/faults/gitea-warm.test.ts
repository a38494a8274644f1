import t from 'tap'
import { checkDocument } from './document.ts'
import { runMatrix } from './runner.ts'

checkDocument(t, 'gitea', 'warm', await runMatrix(t, 'gitea', 'warm'))
