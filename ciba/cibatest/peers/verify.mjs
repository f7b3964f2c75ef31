// Verifies webhooks with npm standardwebhooks, a receiver's library that is not ours; v1a, which
// it does not know, with Node's own crypto.
// Standard input: one JSON object a line, {"secret":"whsec_…" or "whpk_…","headers":{"webhook-id":"…",…},"body":"…"}.
// Standard output: for each of them, in order, {"ok":true} or {"ok":false,"error":"…"}.
import {createPublicKey, verify} from 'node:crypto';
import {createInterface} from 'node:readline';
import {Webhook} from 'standardwebhooks';

function judge(line) {
  try {
    const {secret, headers, body} = JSON.parse(line);
    if (secret.startsWith('whpk_')) verifyV1a(secret, headers, body);
    else new Webhook(secret).verify(body, headers);
    return {ok: true};
  } catch (err) {
    return {ok: false, error: `${err.name}: ${err.message}`};
  }
}

// verifyV1a is what a receiver in Node writes (Standard Webhooks 1.0.0, "Signature scheme").
function verifyV1a(whpk, headers, body) {
  const {'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures} = headers;
  if (!id || !timestamp || !signatures) throw new Error('Missing required headers');
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= 300)) throw new Error('Message timestamp too old or too new');
  const x = Buffer.from(whpk.slice('whpk_'.length), 'base64').toString('base64url');
  const key = createPublicKey({key: {kty: 'OKP', crv: 'Ed25519', x}, format: 'jwk'});
  const signed = Buffer.from(`${id}.${timestamp}.${body}`);
  const good = signatures.split(' ').some(entry =>
    entry.startsWith('v1a,') && verify(null, signed, key, Buffer.from(entry.slice('v1a,'.length), 'base64')));
  if (!good) throw new Error('No matching signature found');
}

for await (const line of createInterface({input: process.stdin})) {
  process.stdout.write(`${JSON.stringify(judge(line))}\n`);
}
