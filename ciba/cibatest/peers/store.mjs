// What the provider remembers, in memory. oidc-provider's own development
// store holds at most a thousand entries, single-use assertion ids included,
// and drops a request at the moment it expires: under load it forgets live
// requests, and expired_token would turn into invalid_grant by chance.
// Here an entry goes `keep` seconds after its own expiry and not before.

const keep = 120;
const entries = new Map(); // "Model:id" -> {payload, until (ms)}

setInterval(() => {
  const now = Date.now();
  for (const [key, {until}] of entries) if (until <= now) entries.delete(key);
}, 10_000).unref();

export class Store {
  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    const until = expiresIn === undefined ? Infinity : Date.now() + (expiresIn + keep) * 1000;
    entries.set(this.key(id), {payload, until});
  }

  async find(id) {
    return entries.get(this.key(id))?.payload;
  }

  // consume marks in the same turn of the event loop in which it is called:
  // of two requests only one finds the entry unmarked.
  async consume(id) {
    entries.get(this.key(id)).payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    entries.delete(this.key(id));
  }

  async revokeByGrantId(grantId) {
    for (const [key, {payload}] of entries) if (payload.grantId === grantId) entries.delete(key);
  }

  async findByUid() {} // sessions: none here

  async findByUserCode() {} // device flow: none here
}
