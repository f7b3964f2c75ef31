// A bank's backend as a stranger would write it: all that it knows of the API is what openapi-typescript has read in
// /openapi.json. It drives every operation and meets every problem, and tells each in a line of JSON. The compiler refuses it
// when the document has an operation, or a code of a problem, that is missing here.
import { calls } from "./calls.js";
import { problems } from "./problems.js";

async function tell(steps: Record<string, () => Promise<unknown>>, kind: string) {
  for (const [name, run] of Object.entries(steps)) {
    const began = Date.now();
    await run().catch((cause: unknown) => {
      throw new Error(`${kind} ${name}`, { cause });
    });
    console.log(JSON.stringify({ [kind]: name, ms: Date.now() - began }));
  }
}

await tell(calls, "operation");
await tell(problems, "problem");
