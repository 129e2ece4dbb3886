import { and, desc, eq, gt, inArray, sql } from 'drizzle-orm';
import { integer, PgDialect, pgTable, QueryBuilder, text, timestamp } from 'drizzle-orm/pg-core';
import { drizzle as overProxy } from 'drizzle-orm/sqlite-proxy';
import { integer as whole, sqliteTable, text as words } from 'drizzle-orm/sqlite-core';

const users = pgTable('users', { id: integer('id').primaryKey(), name: text('name').notNull(), at: timestamp('at') });
const posts = pgTable('posts', { id: integer('id').primaryKey(), author: integer('author').references(() => users.id), title: text('title') });
const notes = sqliteTable('notes', { id: whole('id').primaryKey({ autoIncrement: true }), title: words('title').notNull() });

export async function drizzle() {
  const builder = new QueryBuilder();
  const selected = builder
    .select({ name: users.name, posts: sql`count(${posts.id})`.as('posts') })
    .from(users)
    .leftJoin(posts, eq(posts.author, users.id))
    .where(and(gt(users.id, 10), inArray(users.name, ['a', 'b'])))
    .groupBy(users.name)
    .orderBy(desc(sql`posts`))
    .limit(5)
    .toSQL();
  const dialect = new PgDialect();
  const asked = [];
  const db = overProxy(async (query, params, method) => {
    asked.push([query, params, method]);
    return { rows: [[1, 'first']] };
  });
  const inserted = await db.insert(notes).values({ title: 'first' }).returning();
  const updated = db.update(notes).set({ title: 'x' }).where(eq(notes.id, 1)).toSQL();
  return { selected, expression: dialect.sqlToQuery(sql`${users.name} = ${'x'}`), inserted, updated, asked };
}
