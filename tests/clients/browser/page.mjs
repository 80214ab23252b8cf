// Logs in over WebSocket with a token, exchanges messages, and reports what happened to the server
// that the page came from; see ../README.md.

import { wsconnect } from "@nats-io/nats-core";

const TIMEOUT = 20_000;

const { url, token, wrong, publish, subscribe } = await (await fetch("session.json")).json();
const seen = { agent: navigator.userAgent, refused: null, received: [], error: null };

async function login() {
  try {
    await wsconnect({ servers: url, token: wrong, reconnect: false, timeout: TIMEOUT });
  } catch (error) {
    seen.refused = error.message;
  }
  const connection = await wsconnect({ servers: url, token, reconnect: false, timeout: TIMEOUT });
  const messages = connection.subscribe(subscribe);
  await connection.flush();
  connection.publish(publish, "hello from the page");
  for await (const message of messages) {
    seen.received.push(message.string());
    break;
  }
  await connection.close();
}

try {
  await login();
} catch (error) {
  seen.error = String(error);
}
await fetch("report", { method: "POST", body: JSON.stringify(seen) });
