// GraphiQL with our name, our examples as its first tabs, and one line about the connection.
import { GraphiQL } from "graphiql";
import { useSyncExternalStore } from "react";

import { examples } from "./examples.js";
import { fetcher } from "./fetcher.js";
import { takeLinkedOperation } from "./link.js";
import { listen, message } from "./status.js";

const linked = takeLinkedOperation();

export function Page() {
  return (
    <>
      <Status />
      <GraphiQL
        fetcher={fetcher}
        // Only a browser that has been here before has tabs of its own; they win over these.
        defaultTabs={linked ? [linked, ...examples] : examples}
        initialQuery={linked?.query}
        initialVariables={linked?.variables}
        defaultEditorToolsVisibility="variables"
        // Nobody needs a token here, and so none can be left behind in the page's storage.
        isHeadersEditorEnabled={false}
        showPersistHeadersSettings={false}
      >
        <GraphiQL.Logo>
          <span className="rungraph-logo">Rungraph</span>
        </GraphiQL.Logo>
      </GraphiQL>
    </>
  );
}

function Status() {
  const text = useSyncExternalStore(listen, message);
  return (
    <div id="status" role="status" hidden={!text}>
      {text}
    </div>
  );
}
