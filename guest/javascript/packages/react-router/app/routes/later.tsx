import { Suspense } from 'react';
import { Await, useLoaderData } from 'react-router';

export const loader = () => ({ late: new Promise<string>((resolve) => setTimeout(resolve, 30, 'it came late')) });

export default function Later() {
  const { late } = useLoaderData<typeof loader>();
  return (
    <Suspense fallback={<i id="wait">wait</i>}>
      <Await resolve={late}>{(text) => <b id="late">{text}</b>}</Await>
    </Suspense>
  );
}
