// The official client of OpenAI's API for Node against `wick serve`. Run by ci/clients.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import test from "node:test";

// The package stands beside the environment of the tests, not beside this file.
const require = createRequire(`${process.env.WICK_MODULES}/`);
const { default: OpenAI } = require("openai");

const options = { baseURL: `${process.env.WICK_URL}/v1`, apiKey: "none", maxRetries: 0 };
const client = new OpenAI(options);
const text = "turn on the light in the kitchen";
const messages = [{ role: "user", content: text }];
const ON = '{"device":"light","room":"kitchen","action":"on"}';
const asked = { model: "nano", messages, temperature: 0 };
const parameters = {
  type: "object",
  properties: { level: { type: "integer", minimum: 0, maximum: 9 } },
  required: ["level"],
  additionalProperties: false,
};

test("models", async () => {
  const models = await client.models.list();
  assert.deepEqual(models.data.map((model) => model.id), ["nano"]);
  await assert.rejects(client.models.retrieve("other"), OpenAI.NotFoundError);
});

test("a conversation, whole and as it comes", async () => {
  const whole = await client.chat.completions.create(asked);
  assert.equal(whole.choices[0].message.content, ON);
  const stream = await client.chat.completions.create({
    ...asked,
    stream: true,
    stream_options: { include_usage: true },
  });
  let said = "";
  let usage;
  for await (const chunk of stream) {
    said += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(said, ON);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  const helper = client.chat.completions.stream(asked);
  assert.equal(await helper.finalContent(), ON);
});

test("choices and log probabilities", async () => {
  const more = { n: 2, seed: 3, temperature: 1, logprobs: true, top_logprobs: 3 };
  const [one, again] = [
    await client.chat.completions.create({ ...asked, ...more }),
    await client.chat.completions.create({ ...asked, ...more }),
  ];
  assert.deepEqual(one.choices, again.choices);
  for (const token of one.choices[0].logprobs.content) {
    assert.ok(token.logprob <= 0 && token.top_logprobs.length === 3);
  }
});

test("tools", async () => {
  const tools = [{ type: "function", function: { name: "dim", parameters } }];
  const more = { tools, tool_choice: "required", parallel_tool_calls: false, max_tokens: 100 };
  const { choices } = await client.chat.completions.create({ ...asked, ...more });
  const [call] = choices[0].message.tool_calls;
  assert.equal(choices[0].finish_reason, "tool_calls");
  assert.ok(JSON.parse(call.function.arguments).level < 10);
  const helper = client.chat.completions.stream({ ...asked, ...more });
  const streamed = await helper.finalChatCompletion();
  assert.deepEqual(
    streamed.choices[0].message.tool_calls.map((other) => other.function),
    [call.function].map(({ name, arguments: given }) => ({ name, arguments: given })),
  );
  const result = { role: "tool", tool_call_id: call.id, content: "done" };
  const next = [...messages, choices[0].message, result];
  const answer = await client.chat.completions.create({ ...asked, messages: next, tools, tool_choice: "none" });
  assert.ok(answer.choices[0].message.content);
});

test("a form", async () => {
  const json_schema = { name: "lamp", strict: true, schema: parameters };
  const response_format = { type: "json_schema", json_schema };
  const answer = await client.chat.completions.create({ ...asked, temperature: 2, response_format });
  assert.ok(JSON.parse(answer.choices[0].message.content).level < 10);
});

test("embeddings", async () => {
  const input = ["turn on the light", "hi"];
  const { data, usage } = await client.embeddings.create({ model: "nano", input });
  const numbers = await client.embeddings.create({ model: "nano", input, encoding_format: "float" });
  assert.ok(usage.prompt_tokens > 3);
  data.forEach(({ embedding }, i) => {
    const length = embedding.reduce((sum, value) => sum + value * value, 0);
    assert.ok(Math.abs(length - 1) < 1e-4);
    embedding.forEach((value, j) => assert.ok(Math.abs(value - numbers.data[i].embedding[j]) < 1e-6));
  });
});

test("responses, whole and as they come", async () => {
  const whole = await client.responses.create({ model: "nano", input: text, temperature: 0 });
  assert.equal(whole.output_text, ON);
  const stream = await client.responses.create({ model: "nano", input: text, temperature: 0, stream: true });
  let said = "";
  let last;
  for await (const event of stream) {
    if (event.type === "response.output_text.delta") said += event.delta;
    last = event;
  }
  assert.equal(said, ON);
  assert.equal(last.type, "response.completed");
  const helper = client.responses.stream({ model: "nano", input: text, temperature: 0 });
  assert.equal((await helper.finalResponse()).output_text, ON);
});

test("errors", async () => {
  const long = [{ role: "user", content: "lamp ".repeat(600) }];
  await assert.rejects(
    client.chat.completions.create({ ...asked, messages: long }),
    (error) => error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded",
  );
  await assert.rejects(
    client.chat.completions.create({ ...asked, temperature: -1 }),
    (error) => error.status === 400 && error.param === "temperature",
  );
});

test("who leaves, or waits no longer, does no harm", async () => {
  const stream = await client.chat.completions.create({ ...asked, stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break;
  }
  stream.controller.abort();
  const impatient = new OpenAI({ ...options, timeout: 1 });
  await assert.rejects(impatient.chat.completions.create(asked), OpenAI.APIConnectionTimeoutError);
  const answer = await client.chat.completions.create(asked);
  assert.equal(answer.choices[0].message.content, ON);
});

test("several at once get what each gets alone", async () => {
  const ask = async (i) => {
    const content = `what is ${i} plus ${i}?`;
    const answer = await client.chat.completions.create({
      model: "nano",
      messages: [{ role: "user", content }],
      seed: i,
      temperature: 1.5,
      max_tokens: 20,
    });
    return answer.choices[0].message.content;
  };
  const alone = [];
  for (let i = 0; i < 8; i++) alone.push(await ask(i));
  assert.deepEqual(await Promise.all([...alone.keys()].map(ask)), alone);
});
