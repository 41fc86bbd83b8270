// What the page tells about its connection, in one line at its top; null when all is well.
// A store of its own because the fetcher, which is no component, writes it.
let current = null;
const listeners = new Set();

export const UNAUTHENTICATED = "You are not signed in: open the one-time link that `rungraph link` prints.";

export const isUnauthenticated = (error) => error.extensions?.code === "UNAUTHENTICATED";

export function say(message) {
  if (message === current) return;
  current = message;
  listeners.forEach((listener) => listener());
}

export const message = () => current;

export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
