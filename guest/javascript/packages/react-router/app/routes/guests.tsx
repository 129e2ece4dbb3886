import { createCookie, data, Form, useActionData } from 'react-router';

const last = createCookie('last', { secrets: ['a secret'], httpOnly: true });

export async function action({ request }: { request: Request }) {
  const name = (await request.formData()).get('name');
  if (name === '') return data({ name: null, before: null }, { status: 400 });
  const before = await last.parse(request.headers.get('cookie'));
  return data({ name, before }, { headers: { 'set-cookie': await last.serialize(name) } });
}

export default function Guests() {
  const found = useActionData<typeof action>();
  return (
    <Form method="post">
      <input name="name" />
      <p id="guest">{found === undefined ? 'nobody' : `${found.name} after ${found.before}`}</p>
    </Form>
  );
}
