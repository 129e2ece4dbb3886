import { data, useLoaderData } from 'react-router';

export async function loader({ params }: { params: { id?: string } }) {
  await new Promise((resolve) => setTimeout(resolve, 2));
  if (Number(params.id) > 9) throw data('no such product', { status: 404 });
  return { id: params.id, price: 9.5, since: new Date(0) };
}

export default function Product() {
  const { id, price, since } = useLoaderData<typeof loader>();
  return (
    <p id="product">
      Product {id} costs {price} since {since.getUTCFullYear()}
    </p>
  );
}
