// Builds the page into graph/static, which the server serves and the wheel carries.
// The server answers GET /graphql with index.html and everything else below `base`; names carry
// a hash of their content, so they may be cached for ever. Nothing is fetched from elsewhere.
import { defineConfig } from "vite";

export default defineConfig({
  base: "/explorer-assets/",
  build: {
    outDir: "../static",
    emptyOutDir: true,
    // What we bundle is other people's work: their licences travel with it.
    license: { fileName: "licenses.md" },
    // The editor alone is larger than the default limit of this warning.
    chunkSizeWarningLimit: 8000,
    rolldownOptions: { onwarn: (warning, warn) => warning.code === "MODULE_LEVEL_DIRECTIVE" || warn(warning) },
  },
  worker: { format: "es" },
});
