// How GraphiQL reaches the server: queries and mutations by POST, subscriptions by WebSocket
// (live.js), all on this origin. Who asks is in an HttpOnly cookie that no script here can read.
import { getOperationAST, parse } from "graphql";

import { watch } from "./live.js";
import { isUnauthenticated, say, UNAUTHENTICATED } from "./status.js";

const ENDPOINT = "/graphql";

export async function fetcher(params, { documentAST } = {}) {
  const operation = getOperationAST(documentAST ?? parse(params.query), params.operationName);
  return operation?.operation === "subscription" ? watch(params, operation) : post(params);
}

async function post(params) {
  const response = await send(params);
  const result = await read(response);
  const refused = response.status === 401 || result.errors?.some(isUnauthenticated);
  say(refused ? UNAUTHENTICATED : null);
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
