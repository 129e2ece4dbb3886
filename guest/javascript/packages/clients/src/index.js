// Clients of services. They ask a server of the test, whose address is in `env.SERVICE`; Node.js is asked with the same server.

import { Sha256 } from '@aws-crypto/sha256-js';
import { SignatureV4 } from '@smithy/signature-v4';
import { AwsClient, AwsV4Signer } from 'aws4fetch';
import OpenAI from 'openai';
import Stripe from 'stripe';

import { answer } from '../../answer.js';

// Of the documentation of AWS.
const accessKeyId = 'AKIDEXAMPLE';
const secretAccessKey = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';

async function aws4fetch(_, { SERVICE }) {
  const client = new AwsClient({ accessKeyId, secretAccessKey, service: 's3', region: 'us-east-1' });
  const signer = new AwsV4Signer({
    accessKeyId,
    secretAccessKey,
    url: 'https://examplebucket.s3.amazonaws.com/a%20b?list-type=2&prefix=%C3%A4',
    datetime: '20130524T000000Z',
  });
  const { url, headers } = await signer.sign();
  const response = await client.fetch(`${SERVICE}/echo`, { method: 'PUT', body: 'content', aws: { datetime: '20130524T000000Z' } });
  const { method, fields, body } = await response.json();
  return { url: url.toString(), signed: headers.get('authorization'), sent: [method, fields['x-amz-content-sha256'], body], hasSignature: /Signature=[\da-f]{64}$/.test(fields.authorization) };
}

async function smithy() {
  const signer = new SignatureV4({ credentials: { accessKeyId, secretAccessKey }, region: 'us-east-1', service: 'service', sha256: Sha256 });
  const request = {
    method: 'POST',
    protocol: 'https:',
    hostname: 'example.amazonaws.com',
    path: '/',
    query: { Param1: 'value1' },
    headers: { host: 'example.amazonaws.com', 'content-type': 'application/json' },
    body: '{"a":1}',
  };
  const signingDate = new Date('2015-08-30T12:36:00Z');
  const { headers } = await signer.sign(request, { signingDate });
  const presigned = await signer.presign({ ...request, body: undefined }, { signingDate, expiresIn: 60 });
  return { authorization: headers.authorization, presigned: presigned.query };
}

async function openai(_, { SERVICE }) {
  const client = new OpenAI({ apiKey: 'sk-test', baseURL: `${SERVICE}/v1`, maxRetries: 1 });
  const made = await client.chat.completions.create({ model: 'm', messages: [{ role: 'user', content: 'Grüß Gott' }] });
  const stream = await client.chat.completions.create({ model: 'm', messages: [{ role: 'user', content: 'count' }], stream: true });
  const pieces = [];
  for await (const { choices } of stream) pieces.push(choices[0].delta.content);
  // The server answers the first attempt with 500.
  const models = await client.models.list();
  const refused = await client.models.retrieve('none').catch((error) => [error.constructor.name, error.status, error.code]);
  return { said: made.choices[0].message.content, pieces, models: models.data.map(({ id }) => id), refused };
}

async function stripe(_, { SERVICE }) {
  const { hostname, port } = new URL(SERVICE);
  const client = new Stripe('sk_test_x', { host: hostname, port, protocol: 'http', httpClient: Stripe.createFetchHttpClient(), telemetry: false });
  const customer = await client.customers.create({ name: 'Åsa', metadata: { a: '1' } }, { idempotencyKey: 'k' });
  const all = [];
  for await (const { id } of client.customers.list({ limit: 2 })) all.push(id);
  const refused = await client.charges.retrieve('none').catch((error) => [error.type, error.statusCode, error.message]);
  const payload = '{"id":"evt_1","object":"event","type":"x"}';
  const webCrypto = Stripe.createSubtleCryptoProvider();
  const header = await client.webhooks.generateTestHeaderStringAsync({ payload, secret: 'whsec', timestamp: 1_700_000_000, cryptoProvider: webCrypto });
  const event = await client.webhooks.constructEventAsync(payload, header, 'whsec', Infinity, webCrypto);
  const forged = await client.webhooks.constructEventAsync(`${payload} `, header, 'whsec', Infinity, webCrypto).catch((error) => error.type);
  return { customer, all, refused, header, event: event.id, forged };
}

export default { fetch: answer({ '@smithy/signature-v4': smithy, aws4fetch, openai, stripe }) };
