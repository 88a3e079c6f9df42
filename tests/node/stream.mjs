// Streams an answer from a daemon, written from docs/protocol.md alone.
//
//   node stream.mjs ENDPOINT MODEL PROMPT [--cancel-after N]
//
// Text goes to standard output as it comes; the last line of standard error is how it ended, in JSON.

import { decode, encode } from "@msgpack/msgpack";
import { Dealer } from "zeromq";

const MAGIC = Buffer.from("nsedge/1");
const CREDIT = 2048;

const [endpoint, model, prompt, flag, count] = process.argv.slice(2);
const cancelAfter = flag === "--cancel-after" ? Number(count) : Infinity;

function controlEndpoint({ control_suffix, control_port_offset }) {
  if (endpoint.startsWith("ipc://")) return endpoint + control_suffix;
  const [, host, port] = endpoint.match(/^(.*):(\d+)$/);
  return `${host}:${Number(port) + control_port_offset}`;
}

const data = new Dealer({ linger: 100 });
const control = new Dealer({ linger: 100 });
data.connect(endpoint);

// A DEALER of this library sends one message at a time: the queue keeps their order.
let sending = Promise.resolve();
function say(message) {
  sending = sending.then(() => data.send([MAGIC, encode(message)]));
  return sending;
}

async function* payloads() {
  for await (const [magic, ...frames] of data) {
    if (!magic.equals(MAGIC)) throw new Error(`not nsedge: ${magic}`);
    for (const frame of frames) yield { size: frame.length, ...decode(frame) };
  }
}

async function stream() {
  let session, heartbeat;
  let pieces = 0;
  let taken = 0;
  await say({ type: "hello", protocol: "1.0", client: "node" });
  for await (const event of payloads()) {
    switch (event.type) {
      case "welcome":
        session = event.session;
        control.connect(controlEndpoint(event));
        heartbeat = setInterval(
          () => control.send([MAGIC, encode({ type: "ping", session })]),
          event.heartbeat_s * 1000,
        );
        await say({ type: "generate", id: "1", model, text: prompt, credit: CREDIT });
        break;
      case "delta":
        process.stdout.write(event.text);
        pieces += 1;
        taken += event.size;
        if (taken >= CREDIT / 2) {
          await say({ type: "credit", id: event.id, bytes: taken });
          taken = 0;
        }
        if (pieces === cancelAfter) {
          await control.send([MAGIC, encode({ type: "cancel", session, id: "1" })]);
          await say({ type: "cancel", session, id: "1" });
        }
        break;
      case "finished":
      case "failed":
        clearInterval(heartbeat);
        await say({ type: "bye" });
        return event;
    }
  }
}

const { type, reason, code, usage } = await stream();
data.close();
control.close();
console.error(JSON.stringify({ type, reason, code, usage }));
