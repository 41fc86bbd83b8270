// The example operations: each examples/NN-name.graphql, with NN-name.json beside it where it takes
// variables. They are bundled at build time; the tests validate them against schema.graphql.
const documents = import.meta.glob("../examples/*.graphql", { query: "?raw", import: "default", eager: true });
const variables = import.meta.glob("../examples/*.json", { query: "?raw", import: "default", eager: true });

export const examples = Object.keys(documents)
  .sort()
  .map((path) => ({
    query: documents[path].trim(),
    variables: variables[path.replace(/graphql$/, "json")]?.trim() ?? "",
  }));
