// OpenAI's Node client: its README's examples.
import OpenAI from "openai";
import { asked, assert, embeddings, messages, model, run, url } from "./checking.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const greedy = { model, messages, max_tokens: 24, temperature: 0 };

async function chat() {
  const told = await client.chat.completions.create(greedy);
  assert.match(told.choices[0].message.content, /Paris/);
}

async function streamed() {
  const whole = (await client.chat.completions.create(greedy)).choices[0].message.content;
  let text = "";
  for await (const chunk of await client.chat.completions.create({ ...greedy, stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? "";
  }
  assert.equal(text, whole);
}

async function vectors() {
  const told = await client.embeddings.create({ model: embeddings, input: ["a", "b"] });
  assert.deepEqual(told.data.map((one) => one.embedding.length), [384, 384]);
}

async function responses() {
  const wanted = { model, input: asked, max_output_tokens: 24, temperature: 0 };
  const whole = await client.responses.create(wanted);
  assert.ok(whole.output_text);
  const stream = client.responses.stream(wanted);
  let text = "";
  for await (const event of stream) {
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  assert.equal(text, whole.output_text);
  assert.equal((await stream.finalResponse()).output_text, text);
  const next = await client.responses.create({ ...wanted, previous_response_id: whole.id });
  assert.ok(next.usage.input_tokens > whole.usage.input_tokens);
}

async function tools() {
  const weather = {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather of a city.",
      parameters: {
        type: "object",
        properties: { city: { type: "string", maxLength: 20 } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  };
  const told = await client.chat.completions.create({
    ...greedy,
    max_tokens: 64,
    tools: [weather],
    tool_choice: "required",
  });
  const call = told.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "get_weather");
  assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
}

async function errors() {
  await assert.rejects(client.chat.completions.create({ ...greedy, model: "none" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
}

async function aborted() {
  const stream = await client.chat.completions.create({ ...greedy, max_tokens: 400, stream: true });
  for await (const _ of stream) {
    stream.controller.abort();
  }
  assert.ok((await client.chat.completions.create(greedy)).choices.length);
}

await run(chat, streamed, vectors, responses, tools, errors, aborted);
