/** @jsxImportSource react */
import { createContext, Suspense, use, useContext, useId, useMemo, useState } from 'react';
import { renderToReadableStream, renderToStaticMarkup, renderToString } from 'react-dom/server';

const Theme = createContext('light');

function Item({ children }) {
  const [count] = useState(() => 1);
  const doubled = useMemo(() => count * 2, [count]);
  return (
    <li className={useContext(Theme)} data-n={doubled} style={{ fontSize: 12, '--x': 'y' }} onClick={() => {}}>
      {children}
    </li>
  );
}

function Late({ promise }) {
  return <em id={useId()}>{use(promise)}</em>;
}

const List = ({ names }) => (
  <Theme value="dark">
    <ul>
      {names.map((name) => (
        <Item key={name}>{name}</Item>
      ))}
    </ul>
    <input defaultValue="a&b" disabled />
  </Theme>
);

export async function react() {
  const names = ['Ada', '<b>Grace</b>', 'Ä'];
  const promise = new Promise((resolve) => setTimeout(resolve, 5, 'late'));
  const stream = await renderToReadableStream(
    <html lang="de">
      <body>
        <Suspense fallback={<i>wait</i>}>
          <Late promise={promise} />
        </Suspense>
      </body>
    </html>,
  );
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const streamed = await new Blob(chunks).text();
  const failed = await renderToReadableStream(<Failing />, { onError: () => {} }).catch((error) => error.message);
  return {
    markup: renderToStaticMarkup(<List names={names} />),
    string: renderToString(<p>{names[0]} and {names[1]}</p>),
    streamed,
    inPieces: chunks.length > 1,
    failed,
  };
}

function Failing() {
  throw new Error('as asked');
}
