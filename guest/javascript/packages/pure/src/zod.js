import { z } from 'zod';

const User = z
  .object({
    name: z.string().trim().min(2),
    mail: z.email(),
    born: z.coerce.date().optional(),
    role: z.enum(['admin', 'user']).default('user'),
    tags: z.array(z.string().regex(/^\p{L}+$/u)).max(3),
    home: z.url(),
    mood: z.emoji().optional(),
    kind: z.discriminatedUnion('type', [z.object({ type: z.literal('a'), n: z.number() }), z.object({ type: z.literal('b') })]),
  })
  .strict()
  .refine(({ name, tags }) => !tags.includes(name), { message: 'a name is no tag', path: ['tags'] });

export async function zod() {
  const good = { name: ' Ada ', mail: 'ada@example.com', born: '1815-12-10', tags: ['mathé', 'Ελλάδα'], home: 'https://example.com', mood: '😀', kind: { type: 'a', n: 1 } };
  const bad = { name: 'x', mail: 'no', tags: ['1'], home: 'no', mood: 'sad', kind: { type: 'c' }, more: 1 };
  const issues = User.safeParse(bad).error.issues.map(({ path, code, message }) => [path.join('.'), code, message]);
  const piped = z.string().transform(async (text) => text.length).pipe(z.number().min(3));
  return {
    good: User.parse(good),
    issues,
    schema: z.toJSONSchema(z.object({ a: z.int().positive(), b: z.string().nullable() })),
    piped: [await piped.parseAsync('abc'), (await piped.safeParseAsync('a')).success],
  };
}
