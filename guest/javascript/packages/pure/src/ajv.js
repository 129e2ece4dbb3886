import Ajv from 'ajv';
import addFormats from 'ajv-formats';

const schema = {
  type: 'object',
  required: ['name', 'mail'],
  additionalProperties: false,
  properties: {
    name: { type: 'string', minLength: 2, pattern: '^\\p{Lu}' },
    mail: { type: 'string', format: 'email' },
    age: { type: 'integer', minimum: 0, default: 18 },
    tags: { type: 'array', items: { enum: ['a', 'b'] }, uniqueItems: true },
  },
};

export function ajv() {
  const checker = new Ajv({ allErrors: true, useDefaults: true });
  addFormats(checker);
  const validate = checker.compile(schema);
  const inputs = [
    { name: 'Ägir', mail: 'a@example.com', tags: ['a'] },
    { name: 'ada', mail: 'nobody', age: -1, tags: ['a', 'a', 'c'], more: true },
  ];
  return inputs.map((input) => ({ valid: validate(input), input, errors: checker.errorsText(validate.errors) }));
}
