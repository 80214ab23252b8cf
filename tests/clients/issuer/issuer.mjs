// An issuer of others' making (oidc-provider), with a client that gets tokens and one that asks about them. What it
// gives for the resource urn:nats:jwt is a JWT, for urn:nats:opaque one that it has to be asked about. Prints where
// it listens.

import http from "node:http";
import { Provider } from "oidc-provider";

const server = http.createServer();
await new Promise((listens) => server.listen(0, "127.0.0.1", listens));
const issuer = `http://127.0.0.1:${server.address().port}`;
const client = (client_id, client_secret, grant_types) => ({
  client_id, client_secret, grant_types, redirect_uris: [], response_types: [],
});
const provider = new Provider(issuer, {
  clients: [client("app", "secret", ["client_credentials"]), client("callout", "s3:cret/+", [])],
  scopes: ["orders"],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: async (_, asking) => asking.clientId === "callout" },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: "orders",
        audience: "nats",
        accessTokenTTL: 300,
        accessTokenFormat: resource === "urn:nats:opaque" ? "opaque" : "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});
server.on("request", provider.callback());
console.log(JSON.stringify({ issuer }));
