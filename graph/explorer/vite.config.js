// Builds the page into graph/static, which the server serves and the wheel carries.
// The server answers GET /graphql with index.html and everything else below `base`; names carry
// a hash of their content, so they may be cached for ever. Nothing is fetched from elsewhere.
import { defineConfig } from "vite";

// The editor of variables takes an input field that is non-null for required, although it has a
// default, and underlines good variables in red. GraphQL's own predicate knows better.
const defaults = {
  name: "input fields with a default are optional",
  transform(code, id) {
    if (!/graphql-language-service[\\/]esm[\\/]utils[\\/]getVariablesJSONSchema\.js$/.test(id)) return null;
    const mended = code
      .replace("import {", "import { isRequiredInputField,")
      .replace("if (fieldRequired)", "if (isRequiredInputField(field))");
    if (mended.split("isRequiredInputField").length !== 3) throw new Error(`${id} is not what it was`);
    return { code: mended, map: null };
  },
};

export default defineConfig({
  base: "/explorer-assets/",
  plugins: [defaults],
  build: {
    outDir: "../static",
    emptyOutDir: true,
    // What we bundle is other people's work: their licences travel with it.
    license: { fileName: "licenses.md" },
    // The editor alone is larger than the default limit of this warning.
    chunkSizeWarningLimit: 8000,
    rolldownOptions: { onwarn: (warning, warn) => warning.code === "MODULE_LEVEL_DIRECTIVE" || warn(warning) },
  },
  worker: { format: "es", plugins: () => [defaults] },
});
