return { 'usage', redis.call('HLEN', entries), redis.call('HGET', meta, 'bytes') or '0' }
