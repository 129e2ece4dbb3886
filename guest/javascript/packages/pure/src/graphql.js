import { buildSchema, graphql as run, GraphQLError, printSchema } from 'graphql';
import { createSchema, createYoga } from 'graphql-yoga';

const typeDefs = `
  type User { id: ID!, name(upper: Boolean = false): String!, friends: [User!]! }
  type Query { user(id: ID!): User, users: [User!]! }
  type Mutation { rename(id: ID!, name: String!): User! }
`;
const names = ['Ada', 'Grace'];
const userOf = (id) => ({
  id,
  name: ({ upper }) => (upper ? names[id].toUpperCase() : names[id]),
  friends: () => names.map((_, other) => userOf(other)).filter((user) => user.id !== id),
});

export async function graphql() {
  const schema = buildSchema(typeDefs);
  const rootValue = {
    user: async ({ id }) => {
      if (names[id] === undefined) throw new GraphQLError('no such user', { extensions: { code: 'NOT_FOUND' } });
      return userOf(Number(id));
    },
    users: () => names.map((_, id) => userOf(id)),
  };
  const source = 'query ($id: ID!) { user(id: $id) { id name(upper: true) friends { ...f } } none: user(id: "9") { id } } fragment f on User { name }';
  return {
    result: await run({ schema, source, rootValue, variableValues: { id: '0' } }),
    invalid: await run({ schema, source: '{ user { wrong } }', rootValue }),
    printed: printSchema(schema).length,
  };
}

const server = createYoga({
  schema: createSchema({
    typeDefs: 'type Query { hello(name: String): String! } type Subscription { count(to: Int!): Int! }',
    resolvers: {
      Query: { hello: (_, { name }) => `Hello, ${name ?? 'you'}!` },
      Subscription: {
        count: {
          subscribe: async function* (_, { to }) {
            for (let count = 1; count <= to; count++) yield { count };
          },
        },
      },
    },
  }),
  logging: false,
});

export async function yoga() {
  const ask = (init, query = '') => server.fetch(`http://test.example/graphql${query}`, init);
  const json = { 'content-type': 'application/json', accept: 'application/json' };
  const posted = await ask({ method: 'POST', headers: json, body: JSON.stringify({ query: '{ hello(name: "Ada") }' }) });
  const got = await ask({ headers: json }, '?query=%7Bhello%7D');
  const wrong = await ask({ method: 'POST', headers: json, body: JSON.stringify({ query: '{ nothing }' }) });
  const stream = await ask({
    method: 'POST',
    headers: { ...json, accept: 'text/event-stream' },
    body: JSON.stringify({ query: 'subscription { count(to: 2) }' }),
  });
  return {
    posted: [posted.status, await posted.json()],
    got: [got.status, await got.json()],
    wrong: [wrong.status, (await wrong.json()).errors[0].message],
    stream: [stream.headers.get('content-type'), (await stream.text()).split('\n').filter((line) => line.startsWith('data: {'))],
  };
}
