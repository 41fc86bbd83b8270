// Builds the page into graph/static, which the server serves and the wheel carries.
// The server answers GET /graphql with index.html and everything else below `base`; names carry
// a hash of their content, so they may be cached for ever. Nothing is fetched from elsewhere.
import { defineConfig } from "vite";

// Two mendings of what we bundle; a build fails when the place is no longer what it was.
const mend = (name, file, ...changes) => ({
  name,
  transform(code, id) {
    if (!id.replaceAll("\\", "/").endsWith(`/node_modules/${file}`)) return null;
    for (const [before, after] of changes) {
      if (code.split(before).length !== 2) throw new Error(`${id} is not what it was`);
      code = code.replace(before, after);
    }
    return { code, map: null };
  },
});

const mendings = () => [
  // An input field that is non-null but has a default is not required, and good variables without
  // it are not to be underlined in red. GraphQL's own predicate knows better.
  mend(
    "input fields with a default are optional",
    "graphql-language-service/esm/utils/getVariablesJSONSchema.js",
    ["import {", "import { isRequiredInputField,"],
    ["if (fieldRequired)", "if (isRequiredInputField(field))"],
  ),
  // A list of numbers, as metrics come, takes one line and not one line a number. Strings cannot
  // be hit: in JSON they hold no newline.
  mend("lists of numbers take one line", "@graphiql/toolkit/dist/esm/format/index.js", [
    "JSON.stringify(obj, null, 2)",
    String.raw`JSON.stringify(obj, null, 2).replace(/\[\n[\s\d.,eE+nul-]+\]/g, (list) => list.replace(/\s+/g, " "))`,
  ]),
];

export default defineConfig({
  base: "/explorer-assets/",
  plugins: mendings(),
  build: {
    outDir: "../static",
    emptyOutDir: true,
    // What we bundle is other people's work: their licences travel with it.
    license: { fileName: "licenses.md" },
    // The editor alone is larger than the default limit of this warning.
    chunkSizeWarningLimit: 8000,
    rolldownOptions: { onwarn: (warning, warn) => warning.code === "MODULE_LEVEL_DIRECTIVE" || warn(warning) },
  },
  worker: { format: "es", plugins: mendings },
});
