import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  about, acknowledged, ask, asked, attempts, bank, becomes, cancelled, control, delivered, fetched, nobody, provider, read, settled, stranger, under,
  waiting, waits, type StepUp,
} from "./bank.js";
import type { components, operations } from "./stepup.js";

// Every operation that the document has under `paths`. Those under `webhooks` are ours to answer, not to call.
export const calls: Record<Exclude<keyof operations, `on${string}`>, () => Promise<void>> = {
  async createStepUp() {
    const person = await control("person");
    const key = randomUUID();
    const request = { reference: "txn-881", metadata: { till: "4" } };
    const { data, response } = await ask(person, request, key);
    assert(data?.status === "pending");
    assert.equal(response.status, 201);
    assert.equal(response.headers.get("Location"), `/v1/step-ups/${data.id}`);
    assert.deepEqual({ reference: data.reference, metadata: data.metadata }, request);
    assert.deepEqual(await asked(person, request, key), data, "a repeat gets the same answer");
  },

  async getStepUp() {
    const [yes, no] = [await control("person"), await control("person")];
    const [first, second] = [await asked(yes), await asked(no)];
    const get = (header: { "If-None-Match"?: string; "X-Request-Id"?: string }) =>
      bank.GET("/v1/step-ups/{id}", { params: { path: { id: first.id }, query: { wait: "100ms" }, header } });
    const request = randomUUID();
    const { data, response } = await get({ "X-Request-Id": request });
    assert.deepEqual(data, first);
    assert.equal(response.headers.get("X-Request-Id"), request);
    const tag = response.headers.get("ETag");
    assert(tag);
    const unchanged = await get({ "If-None-Match": tag });
    assert.equal(unchanged.response.status, 304);
    assert(!unchanged.data);

    await control("approve", yes);
    await control("deny", no);
    const [approval, denial] = [await settled(first.id), await settled(second.id)];
    assert(approval.status === "approved" && approval.identity);
    assert(approval.identity.bound);
    assert.equal(approval.identity.uuid, yes);
    assert(denial.status === "denied");
    assert.equal(denial.reason.code, "denied_by_user");
    assert.equal(denial.identity, null);
    assert.equal((await get({ "If-None-Match": tag })).response.status, 200);
  },

  async listStepUps() {
    const reference = randomUUID();
    const newestFirst: string[] = [];
    for (let n = 0; n < 5; n++) {
      newestFirst.unshift((await asked(await control("person"), { reference })).id);
      await sleep(2); // so that they have an order
    }
    const { id: last } = await cancelled();
    assert.deepEqual(ids(await list({ reference, limit: 2 })), newestFirst);
    assert.deepEqual(ids(await list({ reference, status: "pending" })), newestFirst);
    assert.deepEqual(ids(await list({ reference, status: "cancelled" })), []);
    assert.deepEqual(ids(await list({ status: "cancelled" })), [last]);
    assert.deepEqual(ids(await list({ limit: 3 })).slice(0, 6), [last, ...newestFirst]);
  },

  async cancelStepUp() {
    const { id } = await asked(await control("person"));
    const { data, error } = await bank.POST("/v1/step-ups/{id}/cancel", { params: { path: { id } }, body: {} });
    assert(data?.status === "cancelled", JSON.stringify(error));
    assert.equal(data.reason.code, "cancelled");
    assert.equal((await settled(id)).status, "cancelled");
  },

  async redeliverStepUp() {
    const { id } = await cancelled();
    await becomes(id, delivered(1));
    const { data, error } = await bank.POST("/v1/step-ups/{id}/redeliver", { params: { path: { id } } });
    assert(data?.status === "cancelled", JSON.stringify(error));
    await becomes(id, delivered(2));
  },

  async redeliverStepUps() {
    const again = async (body: components["schemas"]["RedeliverStepUps"]) => {
      const { data, error } = await bank.POST("/v1/redeliveries", { body });
      assert(data, JSON.stringify(error));
      return data;
    };
    const nothing = { step_ups: 0, busy: 0, gone: 0 };
    const { id, from } = await under("receiver-down", async () => {
      const { id } = await cancelled();
      const tried = ({ deliveries }: StepUp) => deliveries.some(({ webhook, attempts }) => webhook === "ledger" && attempts > 0);
      const { completed_at: from } = await becomes(id, tried);
      assert(from);
      const hourBefore = new Date(Date.parse(from) - 3_600_000).toISOString();
      assert.deepEqual(await again({ from: hourBefore, until: from }), nothing);
      assert.deepEqual(await again({ from, webhook: "queue" }), nothing);
      for (;;) {
        const done = await again({ from, webhook: "ledger" });
        if (done.busy > 0) continue;
        assert.deepEqual(done, { ...nothing, step_ups: 1 });
        return { id, from };
      }
    });
    await again({ from }); // if it has failed once more meanwhile, it is due at once
    await becomes(id, ({ deliveries }) => deliveries.some(({ webhook, status }) => webhook === "ledger" && status === "delivered"));
    assert.deepEqual(await again({ from }), nothing);
    const log = await attempts(id);
    assert.deepEqual([log[0]?.outcome, log[0]?.status, log[0]?.reason], ["failed", null, "dial"]);
    assert.deepEqual([log.at(-1)?.outcome, log.at(-1)?.event_id], ["delivered", log[0]?.event_id]);
  },

  async listAttempts() {
    const { id } = await cancelled();
    const type = "step_up.cancelled";
    await becomes(id, delivered(1));
    const event = await waits(id);
    await acknowledged([event.id]);
    const [sent, taken, ...more] = await attempts(id);
    assert(sent && taken && more.length === 0);
    const { event_id, at, duration_ms, key_ids, ...how } = sent;
    assert.deepEqual(how, { webhook: "ledger", type, outcome: "delivered", status: 204, reason: null });
    assert.match(event_id, new RegExp(`^evt_${id.slice(3)}[A-Z2-7]{8}$`));
    assert.match(key_ids.join(), /^[0-9a-f]{8}$/);
    assert(Date.parse(at) <= Date.parse(taken.at) && duration_ms >= 0);
    assert.deepEqual(taken, {
      webhook: "queue", event_id: event.id, type, at: taken.at, duration_ms: 0, outcome: "acknowledged", status: null, reason: null, key_ids: [],
    });
  },

  async listEvents() {
    const [first, second] = [(await cancelled()).id, (await cancelled()).id];
    const { events, next } = await waiting(2);
    assert.deepEqual(events.slice(-2).map(about), [first, second]);
    assert.equal(new Set(events.map(({ id }) => id)).size, events.length);
    assert.deepEqual((await fetched({ after: next, wait: "100ms" })).events, []);

    const person = await control("person");
    const { id } = await asked(person);
    const held = fetched({ webhook: "queue", after: next, wait: "60s" });
    await control("deny", person);
    const { events: [event] } = await held;
    assert(event?.event.type === "step_up.denied");
    const { deliveries, ...stepUp } = await read(id);
    assert.deepEqual(event.event.data, stepUp);
    assert.equal(event.webhook, "queue");
    assert.deepEqual((await waiting()).events.at(-1), event, "it comes again");
    assert.deepEqual((await waiting(100, stranger)).events, []);
  },

  async acknowledgeEvents() {
    const { id } = await cancelled();
    const { id: event } = await waits(id);
    const nobodys = `evt_${id.slice(3)}AAAAAAAA`;
    assert.deepEqual(await acknowledged([event], stranger), { acknowledged: [], unknown: [event] });
    assert.equal((await waits(id)).id, event);
    assert.deepEqual(await acknowledged([nobodys, event, event]), { acknowledged: [event], unknown: [nobodys] });
    assert.deepEqual(await acknowledged([event]), { acknowledged: [event], unknown: [] }, "a repeat");
    assert(!(await waiting()).events.some((other) => about(other) === id));
    const { deliveries } = await becomes(id, delivered(1));
    assert.deepEqual(deliveries.find(({ webhook }) => webhook === "queue"), {
      webhook: "queue", status: "delivered", attempts: 0, last_status: null, next_attempt_at: null,
    });
    const { error } = await bank.POST("/v1/step-ups/{id}/redeliver", { params: { path: { id } } });
    assert(!error, JSON.stringify(error));
    assert.equal((await waits(id)).id, event, "it waits again");
  },

  async getProviderKeys() {
    const { data, error } = await nobody.GET("/providers/{provider}/jwks.json", { params: { path: { provider } } });
    assert(data, JSON.stringify(error));
    assert.deepEqual(data.keys.map(({ use }) => use).sort(), ["enc", "sig"]);
  },

  async headProviderKeys() {
    const { response } = await nobody.HEAD("/providers/{provider}/jwks.json", { params: { path: { provider } } });
    assert.equal(response.status, 200);
  },

  async getKeys() {
    const { data } = await nobody.GET("/.well-known/jwks.json");
    assert.deepEqual(data, (await nobody.GET("/providers/{provider}/jwks.json", { params: { path: { provider } } })).data);
  },

  async headKeys() {
    assert.equal((await nobody.HEAD("/.well-known/jwks.json")).response.status, 200);
  },

  async getWebhookKeys() {
    const { data } = await nobody.GET("/.well-known/webhook-jwks.json");
    assert.deepEqual(data, { keys: [] }); // its webhooks have shared secrets alone
  },

  async headWebhookKeys() {
    assert.equal((await nobody.HEAD("/.well-known/webhook-jwks.json")).response.status, 200);
  },

  async getOpenAPI() {
    const { data, response } = await nobody.GET("/openapi.json");
    assert(data && "webhooks" in data);
    const header = { "If-None-Match": response.headers.get("ETag") ?? "" };
    assert.equal((await nobody.GET("/openapi.json", { params: { header } })).response.status, 304);
  },

  async headOpenAPI() {
    assert.equal((await nobody.HEAD("/openapi.json")).response.status, 200);
  },

  async getDocs() {
    const { data, response } = await nobody.GET("/docs", { parseAs: "text" });
    assert(data?.includes("</html>"));
    const header = { "If-None-Match": response.headers.get("ETag") ?? "" };
    assert.equal((await nobody.GET("/docs", { params: { header } })).response.status, 304);
  },

  async headDocs() {
    assert.equal((await nobody.HEAD("/docs")).response.status, 200);
  },
};

// list goes through all pages.
async function list(query: NonNullable<operations["listStepUps"]["parameters"]["query"]>): Promise<StepUp[]> {
  const all: StepUp[] = [];
  for (let cursor: string | undefined; ; ) {
    const { data, error } = await bank.GET("/v1/step-ups", { params: { query: cursor ? { ...query, cursor } : query } });
    assert(data, JSON.stringify(error));
    assert(data.step_ups.length <= (query.limit ?? 20));
    all.push(...data.step_ups);
    cursor = data.next_cursor;
    if (!cursor) return all;
  }
}

const ids = (stepUps: StepUp[]) => stepUps.map(({ id }) => id);
