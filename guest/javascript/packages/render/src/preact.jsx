/** @jsxImportSource preact */
import { createContext, toChildArray } from 'preact';
import { lazy, Suspense } from 'preact/compat';
import { useContext, useState } from 'preact/hooks';
import { render, renderToStringAsync } from 'preact-render-to-string';

const Language = createContext('en');

function Greeting({ name, children }) {
  const [greeting] = useState(useContext(Language) === 'de' ? 'Grüß Gott' : 'Hello');
  return (
    <h1 class="x" title={`"${name}"`}>
      {greeting}, {name}! {toChildArray(children).length}
    </h1>
  );
}

export async function preact() {
  // Not for all requests: what was loaded once is there.
  const Late = lazy(() => new Promise((resolve) => setTimeout(resolve, 2, { default: () => <b>late</b> })));
  const page = (
    <Language.Provider value="de">
      <Greeting name="<Ada>">
        <i />
        <i />
      </Greeting>
      <svg viewBox="0 0 1 1">
        <path d="M0 0" stroke-width={2} />
      </svg>
    </Language.Provider>
  );
  const late = (
    <Suspense fallback={<i>wait</i>}>
      <Late />
    </Suspense>
  );
  return {
    page: render(page),
    raw: render(<p dangerouslySetInnerHTML={{ __html: '<b>x</b>' }} />),
    late: await renderToStringAsync(late),
  };
}
