// Anthropic's Node client: its README's examples.
import Anthropic from "@anthropic-ai/sdk";
import { assert, messages, model, run, url } from "./checking.mjs";

const client = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
const greedy = { model, max_tokens: 24, messages, temperature: 0 };

async function message() {
  const told = await client.messages.create(greedy);
  assert.match(told.content[0].text, /Paris/);
  assert.ok(["end_turn", "max_tokens"].includes(told.stop_reason));
}

async function streamed() {
  const whole = (await client.messages.create(greedy)).content[0].text;
  const pieces = [];
  const stream = client.messages.stream(greedy).on("text", (text) => pieces.push(text));
  const final = await stream.finalMessage();
  assert.ok(pieces.length > 3);
  assert.equal(pieces.join(""), whole);
  assert.equal(final.content[0].text, whole);
}

async function raw_events() {
  const kinds = [];
  for await (const event of await client.messages.create({ ...greedy, stream: true })) {
    kinds.push(event.type);
  }
  assert.deepEqual(kinds.slice(0, 2), ["message_start", "content_block_start"]);
  assert.deepEqual(kinds.slice(-2), ["message_delta", "message_stop"]);
}

async function tools() {
  const tool = {
    name: "get_weather",
    description: "The weather of a city.",
    input_schema: {
      type: "object",
      properties: { city: { type: "string", maxLength: 20 } },
      required: ["city"],
      additionalProperties: false,
    },
  };
  const stream = client.messages.stream({
    ...greedy,
    max_tokens: 64,
    tools: [tool],
    tool_choice: { type: "any" },
  });
  const final = await stream.finalMessage();
  const use = final.content.find((block) => block.type === "tool_use");
  assert.equal(final.stop_reason, "tool_use");
  assert.equal(use.name, "get_weather");
  assert.equal(typeof use.input.city, "string");
}

async function models() {
  const names = [];
  for await (const one of client.models.list()) names.push(one.id);
  assert.ok(names.includes(model));
}

async function errors() {
  await assert.rejects(client.messages.create({ ...greedy, model: "none" }), (error) => {
    assert.ok(error instanceof Anthropic.NotFoundError);
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(
    client.messages.create({ ...greedy, max_tokens: 0 }),
    (error) => error instanceof Anthropic.BadRequestError,
  );
}

async function aborted() {
  const long = [{ role: "user", content: "Write a long story about a river and its towns." }];
  const stream = client.messages.stream({ ...greedy, messages: long, max_tokens: 400 });
  await assert.rejects(
    (async () => {
      for await (const event of stream) if (event.type === "content_block_delta") stream.abort();
      await stream.finalMessage();
    })(),
    (error) => error instanceof Anthropic.APIUserAbortError,
  );
  assert.ok((await client.messages.create(greedy)).content);
}

await run(message, streamed, raw_events, tools, models, errors, aborted);
