import t from 'tap'
import { checkDocument } from './document.ts'
import { runMatrix } from './runner.ts'

checkDocument(t, 'oci', 'cold', await runMatrix(t, 'oci', 'cold'))
