// How GraphiQL reaches the server: queries and mutations by POST, subscriptions by WebSocket
// (live.js), all on this origin. Who asks is in an HttpOnly cookie that no script here can read.
import { getOperationAST, parse } from "graphql";

import { watch } from "./live.js";
import { isUnauthenticated, message, say, UNAUTHENTICATED } from "./status.js";

const ENDPOINT = "/graphql";
// GraphiQL's own reading of the schema, which the server gives to anybody.
const INTROSPECTION = "IntrospectionQuery";

export async function fetcher(params, { documentAST } = {}) {
  const operation = getOperationAST(documentAST ?? parse(params.query), params.operationName);
  return operation?.operation === "subscription" ? watch(params, operation) : post(params);
}

/** Tells at once who is not signed in, not only when an operation is refused. */
export async function askWhoIsHere() {
  // A server that does not answer has been told of already.
  await post({ query: "{ viewer { kind } }" }).catch(() => {});
}

async function post(params) {
  const response = await send(params);
  const result = await read(response);
  const refused = response.status === 401 || result.errors?.some(isUnauthenticated);
  if (refused) say(UNAUTHENTICATED);
  else if (params.operationName !== INTROSPECTION || message() !== UNAUTHENTICATED) say(null);
  return result;
}

async function send(params) {
  try {
    return await fetch(ENDPOINT, {
      method: "POST",
      credentials: "same-origin",
      headers: {
        "content-type": "application/json",
        accept: "application/graphql-response+json, application/json",
      },
      body: JSON.stringify(params),
    });
  } catch (cause) {
    say("The server does not answer. Is `rungraph serve` running?");
    throw new Error("The server does not answer.", { cause });
  }
}

async function read(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return { errors: [{ message: `HTTP ${response.status}: ${text.slice(0, 500)}` }] };
  }
}
