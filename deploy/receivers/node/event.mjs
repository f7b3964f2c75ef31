// What to do with an event, however it came: open it, keep it once, decide by its type.
import {readFileSync} from 'node:fs';
import {compactDecrypt, importJWK} from 'jose';

const ALG = 'ECDH-ES+A256KW';

// privateKeys reads the JWKS whose public half is the webhook's encrypt_to_file, by kid. In a rotation it holds both keys.
export async function privateKeys(file) {
  if (!file) return new Map();
  const {keys} = JSON.parse(readFileSync(file, 'utf8'));
  const own = keys.filter(({use = 'enc', alg = ALG}) => use === 'enc' && alg === ALG);
  return new Map(await Promise.all(own.map(async jwk => [jwk.kid, await importJWK(jwk, ALG)])));
}

// open returns the whole event. With `content: encrypted` that is in data.encrypted; other content comes as it is.
export async function open(event, keys) {
  if (!event.data.encrypted) return event;
  const find = ({kid}) => keys.get(kid) ?? Promise.reject(new Error(`no private key has the kid ${JSON.stringify(kid)}`));
  // Which algorithms are accepted is said here, never taken from the message.
  const {plaintext} = await compactDecrypt(event.data.encrypted, find,
    {keyManagementAlgorithms: [ALG], contentEncryptionAlgorithms: ['A256GCM'], maxDecompressedLength: 0});
  const inner = JSON.parse(Buffer.from(plaintext).toString());
  // Anybody can encrypt to a public key: what is inside must be what was vouched for outside.
  if (inner.type !== event.type || inner.data.id !== event.data.id || inner.data.status !== event.data.status) {
    throw new Error('the encrypted event is not the one around it');
  }
  return inner;
}

const kept = new Map(); // your database: a table with a unique key over data.id and type

// keep stores an event, once. Answer 2xx (or acknowledge) only after it has returned.
export async function keep(event) {
  const {type, data} = event;
  if (!type.startsWith('step_up.')) return; // endpoint.test
  // The same event comes again until it is answered, and once from each of your webhooks: webhook-id would not tell.
  const key = `${data.id} ${type}`;
  if (kept.has(key)) return;
  kept.set(key, event);
  console.log(key, decide(event)); // reference, metadata and identity may tell of a person: keep them out of logs
}

// decide is yours. The type decides, not data.status: an approval that came too late is step_up.delivery_expired, "approved".
function decide({type, data}) {
  if (type !== 'step_up.approved') {
    // denied, expired, cancelled and failed are no. So is unknown: the person may have said yes, but nobody can prove it.
    // After unknown and delivery_expired ask again, under a new Idempotency-Key.
    return 'not approved';
  }
  if (!data.identity) return 'approved, fetch who'; // `content: reference`: GET /v1/step-ups/{id}
  if (!data.identity.bound) return 'approved, compare who'; // with the customer whom you meant
  return 'approved';
}

// reason is what may be logged of an error. A SyntaxError quotes the text that is not JSON.
export const reason = err => err instanceof SyntaxError ? 'not JSON' : err.message;
