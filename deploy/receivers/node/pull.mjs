// Fetches events where nothing may come in (`pull: true`): `node pull.mjs https://stepup.bank.example API_KEY_FILE [PRIVATE_JWKS]`.
// What vouches for these events is the TLS connection that you made, so there is no signature.
import {readFileSync} from 'node:fs';
import {setTimeout as sleep} from 'node:timers/promises';
import {keep, open, privateKeys, reason} from './event.mjs';

const [base, keyFile, jwksFile] = process.argv.slice(2);
const headers = {Authorization: `Bearer ${readFileSync(keyFile, 'utf8').trim()}`, 'Content-Type': 'application/json'};
const keys = await privateKeys(jwksFile);

async function call(path, body) {
  const response = await fetch(new URL(path, base), {
    method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body), redirect: 'error', signal: AbortSignal.timeout(45_000),
  });
  if (response.ok) return response.json();
  const err = new Error(`${path} was answered ${response.status}`);
  err.after = Number(response.headers.get('Retry-After'));
  throw err;
}

// page stores a page of events and acknowledges those that are stored. One that cannot be opened or stored keeps coming.
async function page(after) {
  const {events, next} = await call(`/v1/events?wait=30s${after && `&after=${encodeURIComponent(after)}`}`);
  const ids = [];
  for (const {id, event} of events) {
    try {
      await keep(await open(event, keys));
      ids.push(id);
    } catch (err) {
      console.error(id, reason(err));
    }
  }
  if (ids.length > 0) await call('/v1/events/acknowledge', {ids}); // if this is lost they come again, and keep knows them
  return events.length > 0 ? next : ''; // at the end from the start: only what is not acknowledged is left there
}

for (let after = ''; ;) {
  try {
    after = await page(after);
  } catch (err) {
    console.error(reason(err));
    after = ''; // what is not acknowledged is still there
    await sleep(1000 * (err.after || 5));
  }
}
