import t from 'tap'
import { checkDocument } from './document.ts'
import { runMatrix } from './runner.ts'

checkDocument(t, 'oci', 'warm', await runMatrix(t, 'oci', 'warm'))
