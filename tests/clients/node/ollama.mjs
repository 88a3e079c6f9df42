// Ollama's JavaScript client: its README's examples.
import { Ollama } from "ollama";
import { asked, assert, embeddings, messages, model, run, url } from "./checking.mjs";

const client = new Ollama({ host: url });
const options = { temperature: 0, num_predict: 24 };

async function chat() {
  const told = await client.chat({ model, messages, options });
  assert.match(told.message.content, /Paris/);
  assert.equal(told.done, true);
}

async function streamed() {
  const whole = (await client.chat({ model, messages, options })).message.content;
  const pieces = [];
  for await (const part of await client.chat({ model, messages, options, stream: true })) {
    pieces.push(part.message.content);
  }
  assert.ok(pieces.length > 3);
  assert.equal(pieces.join(""), whole);
}

async function generate() {
  const told = await client.generate({ model, prompt: asked, options });
  assert.ok(told.response);
}

async function structured() {
  const format = {
    type: "object",
    properties: { capital: { type: "string", maxLength: 20 } },
    required: ["capital"],
    additionalProperties: false,
  };
  const told = await client.chat({
    model,
    messages,
    format,
    options: { ...options, num_predict: 64 },
  });
  assert.deepEqual(Object.keys(JSON.parse(told.message.content)), ["capital"]);
}

async function vectors() {
  const told = await client.embed({ model: embeddings, input: ["a", "b"] });
  assert.deepEqual(told.embeddings.map((one) => one.length), [384, 384]);
}

async function models() {
  const names = (await client.list()).models.map((one) => one.name);
  assert.ok(names.includes(`${model}:latest`));
  assert.ok((await client.ps()).models.length >= 1);
  assert.ok((await client.show({ model })).capabilities.includes("completion"));
}

async function errors() {
  await assert.rejects(client.chat({ model: "none", messages }), {
    name: "ResponseError",
    status_code: 404,
    message: "model 'none' not found",
  });
}

async function aborted() {
  const stream = await client.generate({
    model,
    prompt: "1, 2, 3, 4, 5, 6, 7, 8,",
    raw: true,
    stream: true,
    options: { temperature: 0, num_predict: 400 },
  });
  await assert.rejects(
    (async () => {
      for await (const _ of stream) stream.abort();
    })(),
    { name: "AbortError" },
  );
  assert.ok((await client.chat({ model, messages, options })).done);
}

await run(chat, streamed, generate, structured, vectors, models, errors, aborted);
