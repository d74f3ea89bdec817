// OpenAI's SDK for JavaScript.
import OpenAI from "openai";
import { MODEL, PROMPT, SCENARIO, SCHEMA, TOOL_NAME, TOOL_SAYS, leave, readNote, tell } from "./telling.mjs";

const client = new OpenAI();
const messages = [{ role: "user", content: PROMPT }];
const tools = [{ type: "function", function: { name: TOOL_NAME, description: TOOL_SAYS, parameters: SCHEMA } }];

const scenarios = {
  async plain() {
    const answer = await client.chat.completions.create({ model: MODEL, messages });
    tell({ text: answer.choices[0].message.content });
  },

  // By the helper, which holds chunks to their form.
  async stream() {
    const pieces = [];
    const runner = client.chat.completions.stream({ model: MODEL, messages, stream_options: { include_usage: true } });
    runner.on("content", (delta) => pieces.push(delta));
    const { usage } = await runner.finalChatCompletion();
    if (!usage?.completion_tokens) throw new Error("no usage");
    tell({ text: pieces.join(""), pieces: pieces.length });
  },

  async tools() {
    const { choices } = await client.chat.completions.stream({ model: MODEL, messages, tools }).finalChatCompletion();
    const { role, content, tool_calls } = choices[0].message;
    const [call] = tool_calls;
    const args = JSON.parse(call.function.arguments);
    const said = { role, content, tool_calls: [{ id: call.id, type: "function", function: { name: call.function.name, arguments: call.function.arguments } }] };
    const result = { role: "tool", tool_call_id: call.id, content: readNote(args) };
    const answer = await client.chat.completions.create({ model: MODEL, messages: [...messages, said, result], tools });
    tell({ text: answer.choices[0].message.content, called: { name: call.function.name, arguments: args } });
  },

  async error() {
    try {
      await scenarios.plain();
    } catch (problem) {
      if (!(problem instanceof OpenAI.NotFoundError)) throw problem;
      tell({ status: problem.status, message: problem.message });
    }
  },

  async abort() {
    const chunks = await client.chat.completions.create({ model: MODEL, messages, stream: true });
    for await (const _ of chunks) break;
    leave();
  },
};
await scenarios[SCENARIO]();
