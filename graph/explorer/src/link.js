// A link may carry an operation in its fragment, which a browser never sends to a server:
//   /graphql#query=subscription…&variables={"run":"run_…"}
// Both parts are URL-encoded as in a query string. The operation is put into a tab of its own and
// is not started: a link somebody sends must not act for whoever opens it. So it is told what to do.
const HINT = "# From the link: the button starts it, or Ctrl-Enter.\n";

export function takeLinkedOperation() {
  const parts = new URLSearchParams(window.location.hash.slice(1));
  const query = parts.get("query");
  if (!query) return null;
  // Taken once, so that a reload shows what has become of the tab instead of opening another.
  window.history.replaceState(null, "", window.location.pathname + window.location.search);
  return { query: HINT + query.trim(), variables: indented(parts.get("variables")) };
}

function indented(variables) {
  if (!variables) return "";
  try {
    return JSON.stringify(JSON.parse(variables), null, 2);
  } catch {
    return variables;
  }
}
