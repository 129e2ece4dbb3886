import { Link, useLoaderData } from 'react-router';

export const meta = () => [{ title: 'Home & <more>' }];

export const headers = () => ({ 'cache-control': 'max-age=60' });

export function loader({ context, request }: { context: any; request: Request }) {
  return { greeting: context.cloudflare.env.GREETING ?? 'Hello', query: new URL(request.url).searchParams.get('q') };
}

export default function Home() {
  const { greeting, query } = useLoaderData<typeof loader>();
  return (
    <main>
      <h1 id="greeting">{greeting}!</h1>
      <p id="query">{query}</p>
      <Link to="/products/7">a product</Link>
    </main>
  );
}
