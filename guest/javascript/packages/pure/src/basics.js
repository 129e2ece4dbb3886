import { addMonths, differenceInBusinessDays, format, formatDistance, parseISO } from 'date-fns';
import { de } from 'date-fns/locale';
import { customAlphabet, nanoid } from 'nanoid';
import semver from 'semver';
import { NIL, stringify, v4, v5, v7, validate, version } from 'uuid';

export function dates() {
  const begin = new Date(2024, 0, 31, 9, 5);
  return [
    format(begin, "EEEE, do MMMM yyyy 'at' HH:mm"),
    format(addMonths(begin, 1), 'PPPP', { locale: de }),
    differenceInBusinessDays(parseISO('2024-03-01'), parseISO('2024-02-01')),
    formatDistance(begin, new Date(2025, 5, 1), { addSuffix: true, locale: de }),
  ];
}

export const identifiers = {
  nanoid() {
    const made = [nanoid(), nanoid(10), customAlphabet('01', 12)()];
    return { shapes: made.map((id) => [id.length, /^[\w-]+$/.test(id)]), distinct: nanoid() !== nanoid(), binary: /^[01]+$/.test(made[2]) };
  },
  uuid() {
    const random = v4();
    return {
      named: v5('example.com', v5.DNS),
      versions: [random, v5('x', v5.URL), v7()].map((id) => [validate(id), version(id)]),
      distinct: v4() !== random,
      fixed: v4({ random: Uint8Array.from({ length: 16 }, (_, index) => index * 16) }),
      nil: stringify(new Uint8Array(16)) === NIL,
    };
  },
};

export function versions() {
  return {
    satisfies: ['1.2.9', '1.3.0-rc.1', '2.0.0'].map((one) => semver.satisfies(one, '^1.2.3 || >=2.0.0 <3')),
    sorted: semver.rsort(['1.0.0', '1.0.0-rc.10', '1.0.0-rc.9', '0.9.9']),
    bumped: semver.inc('1.2.3', 'prerelease', 'beta'),
    coerced: semver.coerce('v3.4 and more')?.version,
  };
}
