// The entry: workers first (Monaco asks for them when it is loaded), then the page.
import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import "./page.css";

import { createRoot } from "react-dom/client";

import { askWhoIsHere } from "./fetcher.js";
import { Page } from "./page.jsx";

// A link followed while the page is open changes the fragment alone; only a reload reads it.
window.addEventListener("hashchange", () => window.location.reload());

createRoot(document.getElementById("page")).render(<Page />);
askWhoIsHere();
