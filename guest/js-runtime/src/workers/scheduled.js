// A run of a schedule: a request of the host, with header fields that it lets no client send, becomes a call of `scheduled`.

import { crons } from 'wasmhost:bindings';

import { has } from '../fields.js';
import { listOfRequest } from '../request.js';
import { INNER } from '../shape.js';

const PATH = '/.well-known/wasmhost/schedule';
const CRON = 'x-wasmhost-schedule-cron';
const TIME = 'x-wasmhost-schedule-time';

// As the application knows its patterns; the host may have them in another way.
const known = (cron) => (Object.hasOwn(crons, cron) ? crons[cron] : cron);

class ScheduledController {
  constructor(cron, scheduledTime) {
    this.type = 'scheduled';
    this.cron = cron;
    this.scheduledTime = scheduledTime;
  }

  // The host tries no run again.
  noRetry() {}
}

// What `scheduled` is called with; null: it is another request.
export function eventOf(request) {
  if (!has(listOfRequest(request[INNER]), CRON) || request.method !== 'POST' || new URL(request.url).pathname !== PATH) return null;
  const { headers } = request;
  return new ScheduledController(known(headers.get(CRON)), Number(headers.get(TIME)));
}
