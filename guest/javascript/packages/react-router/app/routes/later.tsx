import { Suspense } from 'react';
import { Await, useLoaderData } from 'react-router';

export const loader = ({ context }: { context: any }) => ({
  late: fetch(context.cloudflare.env.LATE).then((answer) => answer.text()),
});

export default function Later() {
  const { late } = useLoaderData<typeof loader>();
  return (
    <Suspense fallback={<i id="wait">wait</i>}>
      <Await resolve={late}>{(text) => <b id="late">{text}</b>}</Await>
    </Suspense>
  );
}
