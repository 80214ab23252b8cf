// Logs in with @nats-io/transport-node and prints what happened; see ../README.md.

import { parseArgs } from "node:util";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";
import { useJetstream } from "./jetstream.mjs";

const TIMEOUT = 10_000;

const text = { type: "string" };
const { values: args, positionals: [url] } = parseArgs({
  allowPositionals: true,
  options: {
    user: text,
    password: text,
    token: text,
    "nkey-seed": text,
    ca: text,
    cert: text,
    key: text,
    "inbox-prefix": text,
    subscribe: text,
    publish: text,
    request: text,
    forbidden: text,
    stream: text,
    consumer: text,
    store: text,
    create: { type: "boolean" },
  },
});

const seen = { connected: false, error: null, received: [], reply: null, violations: [], jetstream: null };

async function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("timeout")), TIMEOUT);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function login() {
  const options = { servers: url, reconnect: false, timeout: TIMEOUT };
  if (args.user !== undefined) Object.assign(options, { user: args.user, pass: args.password });
  if (args.token !== undefined) options.token = args.token;
  if (args["nkey-seed"] !== undefined) {
    options.authenticator = nkeyAuthenticator(new TextEncoder().encode(args["nkey-seed"]));
  }
  if (args.ca !== undefined) {
    options.tls = { caFile: args.ca, certFile: args.cert, keyFile: args.key };
  }
  if (args["inbox-prefix"] !== undefined) options.inboxPrefix = args["inbox-prefix"];

  let connection;
  try {
    connection = await connect(options);
  } catch (error) {
    seen.error = error.message;
    return;
  }
  seen.connected = true;

  const hello = new Promise((resolve) => {
    connection.subscribe(args.subscribe, {
      callback: (error, message) => {
        if (error) return;
        if (message.reply) {
          message.respond(`pong:${message.string()}`);
        } else {
          seen.received.push(message.string());
          resolve();
        }
      },
    });
  });

  const violated = (async () => {
    for await (const status of connection.status()) {
      if (status.type === "error" && /permissions violation/i.test(String(status.error))) {
        seen.violations.push(status.error.message);
        if (seen.violations.length >= 2) return;
      }
    }
  })();

  connection.publish(args.publish, "hello");
  try {
    await within(hello);
    seen.reply = (await connection.request(args.request, "ping", { timeout: TIMEOUT })).string();
    if (args.stream !== undefined) seen.jetstream = await useJetstream(connection, args);
  } catch (error) {
    seen.error = error.message;
  }
  if (args.forbidden === undefined) return connection.close();

  connection.subscribe(args.forbidden, { callback: () => {} });
  connection.publish(args.forbidden, "forbidden");
  await within(violated).catch(() => {});
  await connection.close();
}

await login();
console.log(JSON.stringify(seen));
