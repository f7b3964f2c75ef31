// Verifies webhooks with npm standardwebhooks, a receiver's library that is not ours.
// Standard input: one JSON object a line, {"secret":"whsec_…","headers":{"webhook-id":"…",…},"body":"…"}.
// Standard output: for each of them, in order, {"ok":true} or {"ok":false,"error":"…"}.
import {createInterface} from 'node:readline';
import {Webhook} from 'standardwebhooks';

function judge(line) {
  try {
    const {secret, headers, body} = JSON.parse(line);
    new Webhook(secret).verify(body, headers);
    return {ok: true};
  } catch (err) {
    return {ok: false, error: `${err.name}: ${err.message}`};
  }
}

for await (const line of createInterface({input: process.stdin})) {
  process.stdout.write(`${JSON.stringify(judge(line))}\n`);
}
