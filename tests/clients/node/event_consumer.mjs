// A program that hears of every change of tenants and users: see
// examples/event_consumer.rs.
//
//     node event_consumer.mjs nats://127.0.0.1:4222 DIR/keys/events.creds FOLDER [CONSUMER]

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { jetstream } from "@nats-io/jetstream";
import { connect, credsAuthenticator, nkeyAuthenticator } from "@nats-io/transport-node";

const STREAM = "AUTH_EVENTS";
const CONSUMER = "events";
const MAX_DELIVER = 5;
const RETRY = 200;

// Writes the data under the event's id, once; false if it was handled before.
async function write(folder, event) {
  try {
    await writeFile(join(folder, `${event.id}.json`), JSON.stringify(event.data), { flag: "wx" });
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  }
}

// Routes by type; types that came later are for later programs.
async function handle(event, folder) {
  switch (event.type) {
    case "auth.tenant.created":
    case "auth.tenant.updated":
    case "auth.tenant.removed":
    case "auth.user.created":
    case "auth.user.updated":
    case "auth.user.removed":
      return write(join(folder, event.type), event);
    default:
      return false;
  }
}

// Acknowledges what is handled; has the rest delivered again, or sets it aside.
async function settle(message, folder) {
  let event;
  try {
    event = message.json();
  } catch {
    console.log(`parked ${message.subject}`);
    return message.term();
  }
  const what = `${event.type} ${event.subject} ${event.id}`;
  let outcome;
  try {
    outcome = (await handle(event, folder)) ? "handled" : "again";
  } catch (error) {
    if (message.info.deliveryCount < MAX_DELIVER) {
      console.log(`failed ${what}: ${error.message}`);
      return message.nak(RETRY);
    }
    await write(join(folder, "parked"), event);
    console.log(`parked ${what}`);
    return message.term();
  }
  // The server confirms: handled once is handled for good.
  await message.ackAck();
  console.log(`${outcome} ${what}`);
}

const [url, credentials, folder, name = CONSUMER] = process.argv.slice(2);
if (folder === undefined) {
  console.error("usage: event_consumer.mjs URL CREDENTIALS FOLDER [CONSUMER]");
  process.exit(2);
}
// Operator mode has a creds file, config mode a seed.
const key = await readFile(credentials);
const authenticator = credentials.endsWith(".creds")
  ? credsAuthenticator(key)
  : nkeyAuthenticator(new TextEncoder().encode(key.toString().trim()));
const connection = await connect({
  servers: url,
  name: "event consumer",
  inboxPrefix: "_INBOX_events",
  authenticator,
});
const context = jetstream(connection, { apiPrefix: "JS.auth.API" });
const consumer = await context.consumers.get(STREAM, name);
for await (const message of await consumer.consume()) await settle(message, folder);
