import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { ask, asked, bank, becomes, cancelled, control, nobody, provider, settled, type StepUp } from "./bank.js";
import type { operations } from "./stepup.js";

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

const delivered = (times: number) => (stepUp: StepUp) =>
  stepUp.deliveries.every(({ status, attempts }) => status === "delivered" && attempts === times);

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
