// The live client against a small server, on real sockets. Waits are short, by `options.limits`. Both sides share one
// event loop, which looks at its timers before it reads: what must come in time is given longer than that may stall.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { test as nodeTest } from 'node:test';
import { connect } from '../../host/roles/live/src/client.js';
import { FakeServer } from './fake-server.mjs';

// Node has EventSource, and before 22 WebSocket, only when it is told so: then this file runs once more, with both.
const isComplete = typeof WebSocket === 'function' && typeof EventSource === 'function';
if (!isComplete) {
  const flags = ['--experimental-websocket', '--experimental-eventsource', '--no-warnings'];
  const { status } = spawnSync(process.execPath, [...flags, import.meta.filename], { stdio: 'inherit' });
  process.exit(status ?? 1);
}

const TRANSPORTS = ['websocket', 'sse', 'poll'];
const QUICK = { backoffMinMs: 2, backoffMaxMs: 20, commandTimeoutMs: 3_000, openTimeoutMs: 2_000 };
const WAIT_MS = 4_000;
const test = (promise, body) => nodeTest(promise, { timeout: 15_000 }, body);

/** A server, and clients of it that end with the test. */
async function start(t) {
  const server = await FakeServer.start();
  const clients = [];
  t.after(() => {
    for (const client of clients) client.close();
    server.stop();
  });
  const open = ({ limits, ...options } = {}) => {
    const live = connect(server.url, { transports: ['websocket'], ...options, limits: { ...QUICK, ...limits } });
    live.states = [];
    live.onState = (state, detail) => live.states.push({ state, ...detail });
    clients.push(live);
    return live;
  };
  return { server, open };
}

/** A subscription that writes down all it is told. */
function follow(live, channel = 'room', options = {}) {
  const seen = { data: [], positions: [], recovered: [], errors: [], presence: [] };
  seen.subscription = live.subscribe(channel, {
    onMessage: (data, position) => {
      seen.data.push(data);
      seen.positions.push(position);
    },
    onRecovered: (recovered) => seen.recovered.push(recovered),
    onError: (error) => seen.errors.push(error.code),
    onPresence: ({ members, joined, left }) => seen.presence.push({ members: [...members], joined, left }),
    ...options,
  });
  return seen;
}

/** A page that can be hidden and shown; put in place before the client looks for it. */
function makePage(t) {
  const page = new EventTarget();
  page.show = (visibilityState) => {
    page.visibilityState = visibilityState;
    page.dispatchEvent(new Event('visibilitychange'));
  };
  globalThis.document = page;
  t.after(() => delete globalThis.document);
  return page;
}

async function until(isSo, what = isSo.toString()) {
  const deadline = performance.now() + WAIT_MS;
  while (!isSo()) {
    if (performance.now() > deadline) throw new Error(`never came: ${what}`);
    await sleep(2);
  }
}

const subscribed = (seen) => until(() => seen.subscription.state === 'subscribed', 'subscribed');
const connected = (live) => until(() => live.state === 'connected', 'connected');
const commandsNamed = (server, name) => server.commands.filter((command) => name in command);

for (const transport of TRANSPORTS) {
  test(`${transport}: subscribe, publish, presence and messages to and from the handler work`, async (t) => {
    const { server, open } = await start(t);
    const live = open({ transports: [transport] });
    const messages = [];
    live.onMessage = (data) => messages.push(data);
    const seen = follow(live);
    await subscribed(seen);
    assert.equal(await live.publish('room', { n: 1 }), 'abc-1');
    await until(() => seen.data.length === 1);
    assert.deepEqual([seen.data, seen.positions], [[{ n: 1 }], ['abc-1']]);
    assert.deepEqual([...seen.subscription.members], ['ann']);
    assert.deepEqual(await live.presence('room'), ['ann', 'bo']);
    await live.send({ hello: 'handler' });
    const [session] = server.sessions;
    session.say({ message: 'only you' });
    session.say({ channel: 'room', joined: 'bo' });
    session.say({ channel: 'room', left: 'ann' });
    await until(() => seen.presence.length === 3);
    assert.deepEqual(messages, ['only you']);
    assert.deepEqual(seen.presence.at(-1), { members: ['bo'], joined: undefined, left: 'ann' });
    assert.deepEqual([live.transport, live.user, live.session], [transport, 'ann', session.id]);
    seen.subscription.unsubscribe();
    await until(() => commandsNamed(server, 'unsubscribe').length === 1);
    server.publish('room', 'unheard');
    await live.send('after it');
    assert.equal(seen.data.length, 1);
  });

  test(`${transport}: after a break it goes on from the last position, and drops what it has seen`, async (t) => {
    const { server, open } = await start(t);
    const live = open({ transports: [transport] });
    const seen = follow(live);
    await subscribed(seen);
    for (let n = 1; n <= 9; n += 1) server.publish('room', n);
    await until(() => seen.data.length === 9);
    server.breakAll();
    for (let n = 10; n <= 12; n += 1) server.publish('room', n);
    await until(() => seen.data.length === 12);
    const [session] = server.sessions;
    for (const message of server.channel('room').history) session.say(message);
    await live.send('after them');
    assert.deepEqual(seen.data, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert.deepEqual(seen.recovered, [true]);
    assert.equal(commandsNamed(server, 'subscribe')[1].subscribe.from, 'abc-9');
  });

  test(`${transport}: commands keep their order`, async (t) => {
    const { server, open } = await start(t);
    const live = open({ transports: [transport] });
    await connected(live);
    let posts = 0;
    server.beforeRequest = ({ method }) => method === 'POST' && (posts += 1) === 1 && sleep(40); // the first is slow
    const sent = [];
    for (let n = 0; n < 20; n += 1) {
      sent.push(live.send(n));
      await sleep(1);
    }
    await Promise.all(sent);
    assert.deepEqual(commandsNamed(server, 'send').map(({ send }) => send), [...sent.keys()]);
  });
}

for (const transport of TRANSPORTS) {
  test(`${transport}: what is closed here is closed there`, async (t) => {
    const { server, open } = await start(t);
    const live = open({ transports: [transport] });
    await subscribed(follow(live));
    live.close();
    await until(() => server.sessions.size === 0);
  });
}

test('offsets beyond what a number holds are told apart', async (t) => {
  const { server, open } = await start(t);
  server.channel('room').offset = 2n ** 53n - 1n;
  const seen = follow(open());
  await subscribed(seen);
  for (const n of [1, 2, 3]) server.publish('room', n);
  await until(() => seen.data.length === 3);
  assert.equal(seen.positions[1], 'abc-9007199254740993');
});

test('what was lost is told: after a reconnection, by a reset, and when a handler subscribes further on', async (t) => {
  const { server, open } = await start(t);
  const live = open();
  const seen = follow(live);
  await subscribed(seen);
  server.publish('room', 'before');
  await until(() => seen.data.length === 1);
  Object.assign(server.channel('room'), { epoch: 'def', offset: 0n, history: [] });
  server.breakAll();
  await until(() => seen.recovered.length === 1);
  assert.deepEqual(seen.recovered, [false]);
  server.publish('room', 'after');
  await until(() => seen.data.length === 2);
  const [session] = server.sessions;
  session.say({ channel: 'room', position: 'eee-1', data: 'elsewhere' }); // by its offset alone it would count as seen
  session.say({ channel: 'room', reset: { position: 'bad-7' } });
  await until(() => seen.recovered.length === 2);
  session.say({ channel: 'room', position: 'bad-7', data: 'old' });
  session.say({ channel: 'room', position: 'bad-8', data: 'new' });
  session.say({ subscribed: { channel: 'room', position: 'bad-8', recovered: null } });
  session.say({ subscribed: { channel: 'room', position: 'bad-9', recovered: null } });
  await live.send('after them');
  assert.deepEqual(seen.data, ['before', 'after', 'elsewhere', 'new']);
  assert.deepEqual(seen.recovered, [false, false, true, false]);
});

test('a subscription that the handler makes is handed over before its first message', async (t) => {
  const { server, open } = await start(t);
  server.onSession = (session) => {
    session.say({ subscribed: { channel: 'news', position: 'abc-4', members: ['bo'], recovered: null } });
    session.say({ channel: 'news', position: 'abc-5', data: 'first' });
  };
  const live = open();
  const data = [];
  live.onSubscribed = (subscription) => {
    subscription.onMessage = (message) => data.push([subscription.channel, message]);
  };
  await until(() => data.length === 1);
  server.breakAll();
  await until(() => live.states.filter(({ state }) => state === 'connected').length === 2);
  await live.send('after it');
  assert.deepEqual(data, [['news', 'first']]);
  assert.equal(commandsNamed(server, 'subscribe').length, 0);
});

test('a publish that a break left unanswered is sent again with its key, and resolves once', async (t) => {
  const { server, open } = await start(t);
  const seen = follow(open());
  await subscribed(seen);
  const live = open();
  let isFirst = true;
  server.onCommand = ({ publish }, session) => {
    if (!publish || !isFirst) return false;
    isFirst = false;
    server.onCommand = () => false;
    const { say } = session;
    session.say = () => {}; // it takes effect, but the answer is lost
    setImmediate(() => {
      session.say = say;
      session.break();
    });
    return false;
  };
  let resolved = 0;
  const position = await live.publish('room', 'once').finally(() => (resolved += 1));
  assert.equal(position, 'abc-1');
  await until(() => seen.data.length === 1);
  const [first, second, ...more] = commandsNamed(server, 'publish').map(({ publish }) => publish.key);
  assert.equal(first, second);
  assert.match(first, /^[0-9a-f]{32}$/);
  assert.deepEqual([more, resolved, seen.data], [[], 1, ['once']]);
});

test('a publish that is unavailable is tried again; one refused rejects; one unanswered times out', async (t) => {
  const { server, open } = await start(t);
  const live = open({ limits: { commandTimeoutMs: 2_000 } });
  const answers = ['unavailable', 'unavailable'];
  server.onCommand = ({ id, publish }, session) => {
    const code = publish?.data === 'refused' ? 'forbidden' : answers.shift();
    if (code) session.say({ id, error: { code, message: 'no' } });
    return Boolean(code) || publish?.data === 'lost';
  };
  assert.equal(await live.publish('room', 'later'), 'abc-1');
  assert.equal(commandsNamed(server, 'publish').length, 3);
  await assert.rejects(live.publish('room', 'refused'), { name: 'LiveError', code: 'forbidden', message: 'no' });
  await assert.rejects(live.publish('room', 'lost'), { code: 'timeout' });
});

test('a send that a break left unanswered rejects and is not repeated; one that was not sent yet waits', async (t) => {
  const { server, open } = await start(t);
  const live = open();
  const early = live.send('early');
  server.onCommand = ({ send }, session) => {
    if (send === 'lost') session.break();
    return send === 'lost';
  };
  await early;
  await assert.rejects(live.send('lost'), { code: 'disconnected' });
  await live.send('later');
  assert.deepEqual(commandsNamed(server, 'send').map(({ send }) => send), ['early', 'lost', 'later']);
});

test('commands that wait are bounded', async (t) => {
  const { server, open } = await start(t);
  server.onCommand = ({ publish }) => Boolean(publish);
  const live = open({ limits: { commandsMax: 3 } });
  const waiting = [1, 2, 3].map((n) => live.publish('room', n));
  await assert.rejects(live.publish('room', 4), { code: 'too-many' });
  await assert.rejects(live.send(5), { code: 'too-many' });
  await connected(live);
  await subscribed(follow(live)); // what keeps the connection itself is not held up
  live.close();
  for (const one of waiting) await assert.rejects(one, { code: 'closed' });
});

test('back-off doubles to its bound, and is waited in part; a steady connection starts it anew', async (t) => {
  const { server, open } = await start(t);
  let part = 1;
  t.mock.method(Math, 'random', () => part);
  server.refused.add('websocket');
  const live = open({ limits: { backoffMinMs: 2, backoffMaxMs: 20 } });
  const waits = (of = live) => of.states.filter(({ state }) => state === 'connecting').map(({ retryMs }) => retryMs);
  await until(() => waits().length >= 6);
  assert.deepEqual(waits().slice(0, 6), [2, 4, 8, 16, 20, 20]);
  part = 0.25;
  await until(() => waits().at(-1) === 5);
  live.close();
  server.refused.clear();
  part = 1;
  server.onSession = (session) => setImmediate(session.break);
  const flapping = open();
  await until(() => waits(flapping).length >= 4);
  assert.deepEqual(waits(flapping).slice(0, 4), [2, 4, 8, 16]);
  flapping.close();
  const steady = open({ limits: { steadyMs: 0 } });
  await until(() => waits(steady).length >= 4);
  assert.deepEqual(waits(steady).slice(0, 4), [2, 2, 2, 2]);
});

test('a server that goes away says when to come back', async (t) => {
  const { server, open } = await start(t);
  const page = makePage(t);
  const live = open();
  await connected(live);
  const [session] = server.sessions;
  const askedAt = performance.now();
  session.say({ retry: { after_ms: 200 } });
  await live.send('still heard');
  session.close(1012, 'restart');
  await until(() => live.state === 'connecting');
  page.show('visible');
  await until(() => server.attempts.length === 2);
  assert.ok(performance.now() - askedAt >= 195, `came back after ${performance.now() - askedAt} ms`);
  await connected(live);
  const [second] = server.sessions;
  second.say({ retry: { after_ms: 30 } }); // and then it stays: the client leaves by itself
  await until(() => server.attempts.length === 3);
});

test('a network that swallows everything is found out by a ping; an answer to it keeps the connection', async (t) => {
  const { server, open } = await start(t);
  server.pingMs = 20;
  const live = open({ limits: { answerTimeoutMs: 500 } });
  await until(() => commandsNamed(server, 'ping').length === 3);
  assert.equal(server.attempts.length, 1);
  server.onCommand = ({ ping }) => Boolean(ping);
  await until(() => server.attempts.length === 2);
  assert.match(live.states.find(({ state }) => state === 'connecting').reason, /no answer to a ping/);
});

test('a transport that cannot be opened is followed by the next, and the one that worked is remembered', async (t) => {
  const { server, open } = await start(t);
  server.refused.add('websocket');
  const live = open({ transports: TRANSPORTS });
  await connected(live);
  assert.deepEqual([live.transport, server.attempts], ['sse', ['websocket', 'sse']]);
  server.breakAll();
  await until(() => live.states.length === 3);
  assert.deepEqual(server.attempts, ['websocket', 'sse', 'sse']);
  server.refused.add('sse');
  server.breakAll();
  await until(() => live.transport === 'poll');
  // A server that is down for a moment does not make the rest of the visit slower.
  assert.deepEqual(server.attempts.slice(3), ['sse', 'sse', 'sse', 'websocket', 'poll']);
});

test('a transport that opens but stays silent is given up, and one that this place lacks is left out', async (t) => {
  const { server, open } = await start(t);
  server.onRequest = (request, response) => {
    const isEvents = !request.headers['protoplex-transport'] && request.method === 'GET';
    if (isEvents) response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    return isEvents;
  };
  const native = globalThis.WebSocket;
  t.after(() => (globalThis.WebSocket = native));
  globalThis.WebSocket = undefined;
  const live = open({ transports: TRANSPORTS, limits: { openTimeoutMs: 500 } });
  await connected(live);
  assert.deepEqual([live.transport, server.attempts], ['poll', ['sse', 'poll']]);
  assert.throws(() => open({ transports: ['websocket'] }), /none of these transports/);
});

test('a refusal is final by every transport, and says why', async (t) => {
  const { server, open } = await start(t);
  const refusals = [[4500, 'the room is full'], [4999, ''], [1008, 'refused']];
  const all = TRANSPORTS.flatMap((transport) => refusals.map((refusal) => [transport, ...refusal]));
  for (const [transport, code, said] of all) {
    const reason = said || `closed with ${code}`;
    server.attempts = [];
    server.onSession = (session) => setImmediate(() => session.close(code, said));
    const live = open({ transports: [transport, ...TRANSPORTS] });
    const waiting = live.publish('room', 1);
    waiting.catch(() => {});
    await until(() => live.state === 'closed');
    assert.deepEqual(live.states.at(-1), { state: 'closed', reason });
    await sleep(40); // nothing is to come
    assert.equal(server.attempts.length, 1);
    await assert.rejects(live.send(1), { code: 'closed' });
    assert.throws(() => live.subscribe('room'), { code: 'closed' });
  }
  server.onRequest = (request, response) => response.writeHead(403).end();
  const live = open({ transports: ['poll'] });
  await until(() => live.state === 'closed');
});

for (const transport of TRANSPORTS) {
  test(`${transport}: other closes are followed by a new connection`, async (t) => {
    const { server, open } = await start(t);
    const live = open({ transports: [transport] });
    for (const [n, code] of [1001, 1012, 1011, 1008, 4499].entries()) {
      await until(() => server.sessions.size === 1 && live.state === 'connected');
      [...server.sessions][0].close(code, '');
      await until(() => server.attempts.length === n + 2);
    }
  });
}

test('a token is asked for at each subscribe, and again when it expired', async (t) => {
  const { server, open } = await start(t);
  const live = open();
  let tokens = 0;
  const seen = follow(live, 'room', { token: async (channel) => `${channel}#${(tokens += 1)}` });
  await subscribed(seen);
  server.publish('room', 1);
  await until(() => seen.data.length === 1);
  for (const session of server.sessions) session.say({ channel: 'room', ended: { code: 'expired', message: 'old' } });
  await until(() => tokens === 2 && seen.subscription.state === 'subscribed');
  server.breakAll();
  await until(() => tokens === 3 && seen.subscription.state === 'subscribed');
  const asked = commandsNamed(server, 'subscribe').map(({ subscribe }) => [subscribe.token, subscribe.from]);
  assert.deepEqual(asked, [['room#1', undefined], ['room#2', 'abc-1'], ['room#3', 'abc-1']]);
  assert.deepEqual(seen.errors, []);
  await seen.subscription.refresh();
  assert.deepEqual(commandsNamed(server, 'refresh')[0].refresh, { channel: 'room', token: 'room#4' });
});

test('an expiry that a new token mends is not told of; one right after another is', async (t) => {
  const { server, open } = await start(t);
  for (const [steadyMs, told] of [[0, []], [60_000, ['expired', 'expired']]]) {
    const live = open({ limits: { steadyMs } });
    let tokens = 0;
    const seen = follow(live, 'room', { token: async () => `${(tokens += 1)}` });
    for (const n of [1, 2, 3, 4]) {
      await until(() => tokens === n && seen.subscription.state === 'subscribed', 'subscribed with a new token');
      const ended = { channel: 'room', ended: { code: 'expired', message: 'old' } };
      if (n < 4) for (const session of server.sessions) session.say(ended);
    }
    assert.deepEqual(seen.errors, told);
    live.close();
    await until(() => server.sessions.size === 0);
  }
});

test('a subscription that is unavailable is tried again; one refused, or with an old token, ends', async (t) => {
  const { server, open } = await start(t);
  const live = open();
  const codes = { secret: ['forbidden'], busy: ['unavailable', 'unavailable'], old: ['expired'] };
  server.onCommand = ({ id, subscribe }, session) => {
    const code = codes[subscribe?.channel]?.shift();
    if (code) session.say({ id, error: { code, message: 'no' } });
    return Boolean(code);
  };
  const [secret, busy, old] = ['secret', 'busy', 'old'].map((name) => follow(live, name, { token: 'fixed' }));
  await subscribed(busy);
  await until(() => old.errors.length === 1);
  assert.deepEqual([secret.errors, old.errors], [['forbidden'], ['expired']]);
  assert.deepEqual(busy.errors, ['unavailable', 'unavailable']);
  assert.deepEqual([secret.subscription.state, old.subscription.state], ['ended', 'ended']);
  server.breakAll();
  await until(() => server.attempts.length === 2);
  await subscribed(busy);
  const channels = commandsNamed(server, 'subscribe').map(({ subscribe }) => subscribe.channel);
  assert.deepEqual(channels.slice(-1), ['busy']);
  assert.equal(channels.filter((name) => name === 'secret').length, 1);
});

test('when the visitor is back, a wait is cut short and a connection is asked whether it lives', async (t) => {
  const { server, open } = await start(t);
  const page = makePage(t);
  t.mock.method(Math, 'random', () => 1);
  const live = open({ limits: { backoffMinMs: 60_000, backoffMaxMs: 60_000 } });
  await connected(live);
  page.show('visible');
  await until(() => commandsNamed(server, 'ping').length === 1);
  server.breakAll();
  await until(() => live.state === 'connecting');
  page.show('hidden');
  await sleep(30); // nothing is to come
  assert.equal(server.attempts.length, 1);
  page.show('visible');
  await connected(live);
});

test('poll: a batch that is given again is taken once, and a poll that breaks does not cost the session', async (t) => {
  const { server, open } = await start(t);
  const live = open({ transports: ['poll'] });
  const seen = follow(live);
  await subscribed(seen);
  let broken = 0;
  server.onRequest = (request, response, session) => {
    if (request.method !== 'GET' || broken === 3) return false;
    broken += 1;
    const batch = Number(request.headers['protoplex-ack']);
    if (broken === 1) response.end(JSON.stringify({ batch, objects: [{ message: 'again' }] }));
    else if (broken === 2) response.writeHead(502).end();
    else response.destroy();
    return Boolean(session);
  };
  const messages = [];
  live.onMessage = (message) => messages.push(message);
  server.publish('room', 1); // ends the poll that waits
  await until(() => broken === 3);
  server.publish('room', 2);
  await until(() => seen.data.length === 2);
  assert.deepEqual([seen.data, messages, server.attempts], [[1, 2], [], ['poll']]);
});

test('poll: a session that is gone is followed by another', async (t) => {
  const { server, open } = await start(t);
  const live = open({ transports: ['poll'] });
  const seen = follow(live);
  await subscribed(seen);
  server.onRequest = (request, response, session) => {
    if (session && request.method === 'GET') server.onRequest = () => false;
    if (session && request.method === 'GET') response.writeHead(410).end();
    return Boolean(session && request.method === 'GET');
  };
  server.publish('room', 1);
  server.publish('room', 2);
  await until(() => server.attempts.length === 2 && seen.data.length === 2);
});

test('a command that HTTP refuses rejects alone; a server in trouble is left', async (t) => {
  const { server, open } = await start(t);
  const live = open({ transports: ['sse'] });
  await connected(live);
  const statuses = [413, 503];
  server.onRequest = (request, response) => {
    if (request.method !== 'POST' || !statuses.length) return false;
    response.writeHead(statuses.shift()).end();
    return true;
  };
  await assert.rejects(live.publish('room', 'large'), { code: 'too-large' });
  assert.equal(server.attempts.length, 1);
  assert.equal(await live.publish('room', 'fine'), 'abc-1');
  assert.equal(server.attempts.length, 2);
});

for (const transport of TRANSPORTS) {
  test(`${transport}: a command above the server's limit rejects at once, and the others go on`, async (t) => {
    const { server, open } = await start(t);
    server.bytesMax = 200;
    const live = open({ transports: [transport] });
    // Also what waited for the connection.
    await assert.rejects(live.publish('room', 'é'.repeat(100)), { code: 'too-large' });
    await assert.rejects(live.send('x'.repeat(200)), { code: 'too-large' });
    assert.equal(await live.publish('room', 'fine'), 'abc-1');
    // Together they would be too large for one POST; each is below the limit.
    await Promise.all(['a', 'b', 'c'].map((name) => live.send(name.repeat(150))));
    assert.equal(server.attempts.length, 1);
    assert.equal(commandsNamed(server, 'send').length, 3);
  });
}

test('what the server ends the connection for is rejected and not sent again; all else is', async (t) => {
  const { server, open } = await start(t);
  const live = open();
  await connected(live);
  let closings = 0;
  server.onCommand = ({ publish }, session) => {
    if (publish?.data !== 'x'.repeat(5_000)) return closings === 0;
    closings += 1;
    session.close(1009, 'a message above the limit');
    return true;
  };
  const small = live.publish('room', 'small');
  await assert.rejects(live.publish('room', 'x'.repeat(5_000)), { code: 'too-large' });
  assert.equal(await small, 'abc-1');
  assert.deepEqual([closings, server.attempts.length], [1, 2]);
});

test('a POST is bounded in size, and left when it is not answered', async (t) => {
  const { server, open } = await start(t);
  const live = open({ transports: ['sse'], limits: { batchCharsMax: 100, answerTimeoutMs: 500 } });
  await connected(live);
  await Promise.all([1, 2, 3, 4, 5, 6].map((n) => live.send('x'.repeat(20) + n)));
  assert.equal(server.postChars.length, 3);
  server.beforeRequest = ({ method }) => method === 'POST' && new Promise(() => {});
  await assert.rejects(live.send('unanswered'), { code: 'disconnected', message: 'no answer to a command' });
});

test('a hook that throws, and a server that speaks nonsense, break nothing', async (t) => {
  const { server, open } = await start(t);
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  t.after(() => delete globalThis.reportError);
  const live = open();
  const seen = follow(live, 'room', { onPresence: () => { throw new Error('mine'); } });
  await subscribed(seen);
  const [session] = server.sessions;
  session.say({ something: 'new' });
  server.publish('room', 1);
  await until(() => seen.data.length === 1);
  assert.deepEqual([reported, server.attempts.length], [['mine'], 1]);
  session.say({ channel: 'room', position: 'abc-what', data: 2 });
  await until(() => server.attempts.length === 2);
});

test('a channel is subscribed once, and may be again after it was left', async (t) => {
  const { server, open } = await start(t);
  const live = open();
  const first = follow(live);
  assert.throws(() => follow(live), /subscribed to already/);
  await subscribed(first);
  server.onCommand = ({ unsubscribe }, session) => {
    if (unsubscribe) session.say({ channel: 'room', position: 'abc-1', data: 'to the first' });
    return false;
  };
  first.subscription.unsubscribe();
  const second = follow(live);
  await subscribed(second);
  server.publish('room', 'to the second');
  await until(() => second.data.length === 1);
  assert.deepEqual([first.data, second.data], [[], ['to the second']]);
  const { subscription, presence } = second;
  subscription.onRecovered = () => subscription.unsubscribe();
  server.breakAll();
  await until(() => subscription.state === 'ended');
  await live.send('after it');
  assert.equal(presence.length, 1); // and none after it was left
});
