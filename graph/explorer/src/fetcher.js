// How GraphiQL reaches the server: queries and mutations by POST, subscriptions by WebSocket
// (live.js), all on this origin. Who asks is in an HttpOnly cookie that no script here can read.
import { getOperationAST, parse } from "graphql";

import { watch } from "./live.js";
import { isUnauthenticated, message, say, UNAUTHENTICATED } from "./status.js";

const ENDPOINT = "/graphql";
// GraphiQL's own reading of the schema, which the server gives to anybody.
const INTROSPECTION = "IntrospectionQuery";
const UNREACHABLE = "The server does not answer. Is `rungraph serve` running?";

export async function fetcher(params) {
  const document = read(params.query);
  // What cannot be read the server refuses, and tells where.
  if (!document) return post(params);
  const request = { ...params, operationName: nameIn(document, params.operationName) };
  const operation = getOperationAST(document, request.operationName);
  return operation?.operation === "subscription" ? watch(request, operation) : post(request);
}

/** Tells at once who is not signed in, not only when an operation is refused. */
export async function askWhoIsHere() {
  await post({ query: "{ viewer { kind } }" });
}

function read(query) {
  try {
    return parse(query);
  } catch {
    return null;
  }
}

// For a moment after a tab is chosen, GraphiQL still tells the operation of the one before.
function nameIn(document, name) {
  return document.definitions.some((definition) => definition.name?.value === name) ? name : undefined;
}

async function post(params) {
  const response = await send(params);
  if (!response) return { errors: [{ message: UNREACHABLE }] };
  const result = await resultIn(response);
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
  } catch {
    say(UNREACHABLE);
    return null;
  }
}

async function resultIn(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return { errors: [{ message: `HTTP ${response.status}: ${text.slice(0, 500)}` }] };
  }
}
