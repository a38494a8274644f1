import t from 'tap'
import { checkDocument } from './document.ts'
import { runMatrix } from './runner.ts'

checkDocument(t, 'gitea', 'cold', await runMatrix(t, 'gitea', 'cold'))
