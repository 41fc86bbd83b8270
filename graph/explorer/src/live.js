// Subscriptions over graphql-transport-ws. The connection is made for the first one, kept while any
// lasts, and made again for as long as it takes. An operation that declares `$after` resumes there:
// after a reconnect it asks for what follows the last `seq` it saw, so nothing is missing or twice.
import { createClient } from "graphql-ws";

import { isUnauthenticated, say, UNAUTHENTICATED } from "./status.js";
import { Trail } from "./trail.js";

const PING_MS = 10_000;
const PONG_WITHIN_MS = 5_000;
const LONGEST_PAUSE_MS = 10_000;

let overdue;
let watching = 0;

const client = createClient({
  url: `${window.location.protocol === "https:" ? "wss" : "ws"}://${window.location.host}/graphql`,
  retryAttempts: Infinity,
  retryWait: (retries) => pause(Math.min(LONGEST_PAUSE_MS, 500 * 2 ** retries) * (0.5 + Math.random() / 2)),
  // By itself the client goes on trying for an operation that was stopped meanwhile.
  shouldRetry: () => watching > 0,
  keepAlive: PING_MS,
  on: {
    connected: () => say(null),
    closed: (event) => {
      clearTimeout(overdue);
      if (watching > 0 && event.code !== 1000) say(trouble(event, "; trying again…"));
    },
    // A connection that is dead but not closed shows itself only by a ping without an answer.
    ping: (received) => {
      if (!received) overdue = setTimeout(() => client.terminate(), PONG_WITHIN_MS);
    },
    pong: (received) => {
      if (received) clearTimeout(overdue);
    },
  },
});

/** An observable, as GraphiQL knows them, of what the subscription has said so far. */
export function watch(params, operation) {
  const resumes = operation.variableDefinitions?.some(({ variable }) => variable.name.value === "after");
  // The client sends this very object again after a reconnect.
  const request = { ...params, variables: { ...params.variables } };
  return {
    subscribe(sink) {
      const trail = new Trail((shown) => sink.next(shown));
      let ended = false;
      const end = () => {
        if (!ended) watching -= 1;
        ended = true;
        trail.end();
      };
      watching += 1;
      const stop = client.subscribe(request, {
        next(result) {
          if (resumes) request.variables.after = lastSeq(result) ?? request.variables.after;
          if (result.errors?.some(isUnauthenticated)) say(UNAUTHENTICATED);
          trail.add(result);
        },
        error(error) {
          if (ended) return;
          end();
          if (Array.isArray(error) && error.some(isUnauthenticated)) say(UNAUTHENTICATED);
          // A close that the protocol calls fatal; any other is tried again and does not come here.
          if (error instanceof CloseEvent) say(trouble(error));
          // Not an Error: GraphiQL would show where in this page it was made.
          sink.error(error instanceof CloseEvent ? [{ message: trouble(error) }] : error);
        },
        complete() {
          if (ended) return;
          end();
          sink.complete();
        },
      });
      return {
        unsubscribe() {
          end();
          stop();
          say(null);
        },
      };
    },
  };
}

function lastSeq(result) {
  const seqs = Object.values(result.data ?? {}).map((event) => event?.seq);
  return seqs.findLast((seq) => seq !== undefined);
}

function trouble({ code, reason }, next = "") {
  if (code === 4401 || code === 4403) return UNAUTHENTICATED;
  return `The live connection is lost (${code}${reason && `: ${reason}`})${next}`;
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
