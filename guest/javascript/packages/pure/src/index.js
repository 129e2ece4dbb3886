// One route for each package, named as the package is. What it answers is compared with what Node.js answers for the same code.

import { answer } from '../../answer.js';
import { ajv } from './ajv.js';
import { dates, identifiers, versions } from './basics.js';
import { lodash, observed, produced, serialized } from './data.js';
import { cheerio, linkedom, marked } from './documents.js';
import { drizzle } from './drizzle.js';
import { graphql, yoga } from './graphql.js';
import { jose } from './jose.js';
import { packed, protobuf } from './packed.js';
import { hono, itty } from './routers.js';
import { zod } from './zod.js';

const routes = {
  ajv,
  cheerio,
  'date-fns': dates,
  'drizzle-orm': drizzle,
  graphql,
  'graphql-yoga': yoga,
  hono,
  immer: produced,
  'itty-router': itty,
  jose,
  linkedom,
  'lodash-es': lodash,
  marked,
  '@msgpack/msgpack': packed,
  nanoid: identifiers.nanoid,
  protobufjs: protobuf,
  rxjs: observed,
  semver: versions,
  superjson: serialized,
  uuid: identifiers.uuid,
  zod,
};

export default { fetch: answer(routes) };
