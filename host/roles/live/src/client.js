// The client of live connections: channels, presence and messages, by WebSocket, server-sent events or long poll.
// JSON objects of one protocol (`protoplex.v1`) go over all three. A connection that breaks is opened anew, and every
// subscription goes on from the last position that was seen. No dependencies; browsers, and Node 22 or newer.

const PROTOCOL = 'protoplex.v1';

/** Timeouts and limits, each settable by `options.limits`. */
const LIMITS = {
  openTimeoutMs: 10_000, // from the start of a connection to the server's welcome
  answerTimeoutMs: 10_000, // from a ping or a POST to its answer: then the network is taken for dead
  silencesMax: 1.5, // of the server's `ping_ms`, before it is asked whether it is there
  commandTimeoutMs: 30_000, // from `publish` or `send` to its answer, reconnections included
  commandsMax: 1_000, // that wait for their answer
  backoffMinMs: 200, // doubled with each attempt; a random part of it is waited
  backoffMaxMs: 20_000,
  steadyMs: 10_000, // what lived so long starts its back-off anew
  failuresBeforeFallback: 3, // of a transport that has worked before
  pollRetriesMax: 3, // of a poll that broke, before the session is given up
  batchCharsMax: 32_768, // of commands in one POST
};

/**
 * Why something was refused or lost. `code` is the server's, or `disconnected`, `timeout`, `closed`, `token`, or
 * `too-large` for what the server says it would not take.
 */
export class LiveError extends Error {
  constructor({ code, message }) {
    super(message || code);
    this.name = 'LiveError';
    this.code = code;
  }
}

/**
 * Opens a live connection and keeps it.
 * @param {string} url where the handler's route is; relative ones are resolved against the page
 * @param {object} [options]
 * @param {('websocket'|'sse'|'poll')[]} [options.transports] tried in this order; what this place lacks is left out
 * @param {Partial<typeof LIMITS>} [options.limits]
 * @param {boolean} [options.credentials] whether cookies go to a server of another origin; the build must list ours.
 *   A WebSocket always sends them.
 * @returns {Live}
 */
export function connect(url, options) {
  return new Live(url, options);
}

/** A live connection, opened again whenever it breaks. Hooks are plain properties; set them right after `connect`. */
export class Live {
  /** @type {'connecting'|'connected'|'closed'} `closed` is final: by `close()`, or because the server refuses us. */
  state = 'connecting';
  /** The transport in use, the user that the server takes us for, and our session; null when not connected. */
  transport = null;
  user = null;
  session = null;
  /** Called with (state, detail): `{transport, session, user}`, `{reason, retryMs}` or `{reason}`. */
  onState;
  /** Called with each message that the handler sends to this connection alone. */
  onMessage;
  /** Called with a Subscription that the handler made; set its hooks here and nothing is missed. */
  onSubscribed;

  #url; #limits; #credentials; #transports; #subscriptions = new Map();
  #pending = new Map(); #nextId = 1; // what waits for its answer, by id
  #link = null; #timer; #restartAt = 0; #restartTimer;
  #turn = 0; #worked; #failures = 0; #attempts = 0;
  #hurry = () => this.#lookAgain();

  constructor(url, { transports = Object.keys(TRANSPORTS), limits, credentials = false } = {}) {
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace(/^ws/, 'http');
    this.#url.hash = '';
    this.#limits = { ...LIMITS, ...limits };
    this.#credentials = credentials;
    this.#transports = transports.filter((name) => TRANSPORTS[name].isHere());
    if (!this.#transports.length) throw new Error(`none of these transports is here: ${transports.join(', ')}`);
    globalThis.addEventListener?.('online', this.#hurry);
    globalThis.document?.addEventListener('visibilitychange', this.#hurry);
    this.#timer = setTimeout(() => this.#open(), 0);
  }

  /**
   * Subscribes to a channel, until `unsubscribe()`, across reconnections.
   * @param {string} channel
   * @param {object} [options] the hooks of a Subscription, and:
   * @param {string} [options.from] a position seen earlier; what came after it is delivered first
   * @param {string|((channel: string) => Promise<string>)} [options.token] a function is asked again for each subscribe
   * @returns {Subscription}
   */
  subscribe(channel, { from, ...hooks } = {}) {
    if (this.state === 'closed') throw new LiveError({ code: 'closed', message: 'the connection is closed' });
    if (this.#subscriptions.has(channel)) throw new Error(`${channel} is subscribed to already`);
    const subscription = this.#track(channel, Object.assign(hooks, { position: from }));
    if (this.state === 'connected') this.#begin(subscription);
    return subscription;
  }

  /**
   * Publishes to a channel. After a broken connection it is sent again with the same key, so it takes effect once.
   * @param {{key?: string}} [options] an idempotency key of your own
   * @returns {Promise<string>} the position it got
   */
  async publish(channel, data, { key = randomKey() } = {}) {
    return (await this.#call({ publish: { channel, data, key } }, true)).position;
  }

  /** Sends to the handler; resolves when it was handled. Never sent twice: rejects if the connection breaks before. */
  async send(data) {
    await this.#call({ send: data }, false);
  }

  /** @returns {Promise<string[]>} who is subscribed to the channel */
  async presence(channel) {
    return (await this.#call({ presence: { channel } }, true)).members;
  }

  /** Ends the connection and everything that waits on it. */
  close() {
    if (this.state !== 'closed') this.#end('closed here');
  }

  // --- Connections: one link at a time, and what happens between two ---------------------------------------------

  #open() {
    const order = [...new Set([this.#worked ?? this.#transports[0], ...this.#transports])];
    const name = order[this.#turn];
    this.#link = new Link(name, this.#url, this.#limits, this.#credentials, {
      welcome: (link) => this.#welcomed(link, name),
      receive: (object) => this.#receive(object),
      lost: (link, why) => this.#lost(link, why, this.#turn + 1 < order.length),
    });
  }

  #welcomed(link, name) {
    this.#worked = name;
    this.#turn = this.#failures = 0;
    const { session, user = null } = link.welcome;
    Object.assign(this, { state: 'connected', transport: name, session, user });
    for (const subscription of [...this.#subscriptions.values()]) if (!subscription.byServer) this.#begin(subscription);
    for (const entry of this.#pending.values()) this.#transmit(entry);
    call(this.onState, this.state, { transport: name, session, user });
  }

  #lost(link, { reason, isRefusal, isTooLarge }, isAnotherLeft) {
    clearTimeout(this.#restartTimer);
    this.#link = null;
    if (isTooLarge) this.#rejectLargest(reason);
    Object.assign(this, { state: 'connecting', transport: null, session: null, user: null });
    for (const subscription of this.#subscriptions.values()) subscription.state = 'subscribing';
    for (const [id, entry] of this.#pending) {
      if (entry.isRepeated) entry.isSent = false;
      else if (entry.isSent) this.#answered({ id, error: { code: 'disconnected', message: reason } });
    }
    if (isRefusal) return this.#end(reason);
    if (link.welcome && performance.now() - link.welcomedAt >= this.#limits.steadyMs) this.#attempts = 0;
    if (!link.welcome) this.#failures += 1;
    const mayFallBack = !this.#worked || this.#failures >= this.#limits.failuresBeforeFallback;
    if (!link.welcome && isAnotherLeft && mayFallBack) {
      this.#turn += 1;
      return this.#open();
    }
    this.#turn = 0;
    const retryMs = Math.max(this.#backoff(this.#attempts++), this.#restartAt - performance.now());
    this.#timer = setTimeout(() => this.#open(), retryMs);
    call(this.onState, this.state, { reason, retryMs });
  }

  /** Rejects the largest command: the server ended the connection for its size, and would again if it were repeated. */
  #rejectLargest(reason) {
    const sent = [...this.#pending.values()].filter(({ isSent }) => isSent);
    const [largest] = sent.sort((a, b) => b.bytes - a.bytes);
    if (largest) this.#answered({ id: largest.id, error: { code: 'too-large', message: reason } });
  }

  /** Called when the network or the page's user came back: probes the link, or opens one without further delay. */
  #lookAgain() {
    if (globalThis.document?.visibilityState === 'hidden') return;
    if (this.#link) this.#link.probe();
    else if (performance.now() >= this.#restartAt) {
      clearTimeout(this.#timer);
      this.#open();
    }
  }

  #end(reason) {
    this.#link?.end();
    this.#link = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#restartTimer);
    globalThis.removeEventListener?.('online', this.#hurry);
    globalThis.document?.removeEventListener('visibilitychange', this.#hurry);
    Object.assign(this, { state: 'closed', transport: null, session: null, user: null });
    for (const subscription of this.#subscriptions.values()) subscription.state = 'ended';
    this.#subscriptions.clear();
    for (const id of [...this.#pending.keys()]) this.#answered({ id, error: { code: 'closed', message: reason } });
    call(this.onState, this.state, { reason });
  }

  /** Milliseconds to wait before another attempt: a random part of a bound that doubles (full jitter). */
  #backoff(attempts) {
    return Math.random() * Math.min(this.#limits.backoffMaxMs, this.#limits.backoffMinMs * 2 ** attempts);
  }

  // --- Commands and their answers --------------------------------------------------------------------------------

  /** Runs a command of the page: limited in number and in time. */
  async #call(command, isRepeated) {
    if (this.state === 'closed') throw new LiveError({ code: 'closed', message: 'the connection is closed' });
    if (this.#pending.size >= this.#limits.commandsMax) {
      throw new LiveError({ code: 'too-many', message: `${this.#limits.commandsMax} commands wait for their answers` });
    }
    return new Promise((resolve, reject) => {
      this.#ask(command, isRepeated, (error, ok) => (error ? reject(error) : resolve(ok)));
    });
  }

  #ask(command, isRepeated, done) {
    const id = this.#nextId;
    // Serialised now, so that a repetition is the same even if the page changes its object.
    const text = JSON.stringify({ id, ...command });
    const entry = { id, text, bytes: bytesOf(text), isRepeated, done, isSent: false, failures: 0 };
    const timeout = { id, error: { code: 'timeout', message: 'no answer in time' } };
    entry.timer = setTimeout(() => this.#answered(timeout), this.#limits.commandTimeoutMs);
    this.#nextId += 1;
    this.#pending.set(id, entry);
    this.#transmit(entry);
  }

  #transmit(entry) {
    if (this.state !== 'connected' || entry.isSent || !this.#pending.has(entry.id)) return;
    const { id, bytes } = entry;
    if (bytes > this.#link.bytesMax) {
      const message = `the command has ${bytes} bytes; ${this.#link.bytesMax} is the most`;
      return this.#answered({ id, error: { code: 'too-large', message } });
    }
    entry.isSent = true;
    this.#link.send(entry);
  }

  #answered({ id, ok, error }) {
    const entry = this.#pending.get(id);
    if (!entry) return; // a ping's, or later than its timeout
    if (error?.code === 'unavailable' && entry.isRepeated) {
      entry.isSent = false;
      setTimeout(() => this.#transmit(entry), this.#backoff(entry.failures++));
      return;
    }
    clearTimeout(entry.timer);
    this.#pending.delete(id);
    if (error) entry.done(new LiveError(error));
    else entry.done(null, ok);
  }

  // --- Subscriptions ---------------------------------------------------------------------------------------------

  #track(channel, properties) {
    const subscription = new Subscription(channel, (wish) => this.#change(subscription, wish));
    Object.assign(subscription, properties);
    this.#subscriptions.set(channel, subscription);
    return subscription;
  }

  async #begin(subscription) {
    const { channel } = subscription;
    const link = this.#link;
    // After each wait: another connection, or `unsubscribe`, has made this attempt pointless.
    const isCurrent = () => this.#link === link && this.#subscriptions.get(channel) === subscription;
    try {
      const token = typeof subscription.token === 'function' ? await ownToken(subscription) : subscription.token;
      if (!isCurrent()) return;
      // By callback: a promise would be late for the messages that stand in the same batch as the answer.
      this.#ask({ subscribe: { channel, from: subscription.position, token } }, false, (error, ok) => {
        if (!isCurrent()) return;
        if (error) this.#failed(subscription, error);
        else this.#settled(subscription, ok);
      });
    } catch (error) {
      if (isCurrent()) this.#failed(subscription, error);
    }
  }

  #settled(subscription, { position, members, recovered }) {
    const last = subscription.position;
    // A handler subscribes without our position, so what it says is compared with what was seen.
    const isWhole = recovered ?? (last && position ? isSeen(position, last) : null);
    if (isWhole !== true) subscription.position = position;
    subscription.state = 'subscribed';
    subscription.settledAt = performance.now();
    if (isWhole != null) call(subscription.onRecovered, isWhole);
    if (!members || subscription.state !== 'subscribed') return; // a hook may have unsubscribed
    subscription.members = new Set(members);
    call(subscription.onPresence, { members: subscription.members });
  }

  #failed(subscription, error) {
    const { channel, token, byServer, settledAt } = subscription;
    const mayRenew = error.code === 'expired' && typeof token === 'function';
    const isAgain = !byServer && (mayRenew || ['unavailable', 'timeout', 'token'].includes(error.code));
    if (performance.now() - settledAt >= this.#limits.steadyMs) subscription.failures = 0;
    const isRoutine = isAgain && mayRenew && subscription.failures === 0;
    subscription.state = isAgain ? 'subscribing' : 'ended';
    if (isAgain) {
      const link = this.#link;
      subscription.settledAt = Infinity;
      setTimeout(() => {
        if (this.#link === link && this.#subscriptions.get(channel) === subscription) this.#begin(subscription);
      }, this.#backoff(subscription.failures++));
    } else this.#subscriptions.delete(channel);
    if (!isRoutine) call(subscription.onError, error);
  }

  async #change(subscription, wish) {
    const { channel, state } = subscription;
    if (wish === 'refresh') {
      const token = await ownToken(subscription);
      if (subscription.state === 'subscribed') await this.#call({ refresh: { channel, token } }, false);
    } else if (this.#subscriptions.get(channel) === subscription) {
      this.#subscriptions.delete(channel);
      subscription.state = 'ended';
      if (this.state === 'connected' && state !== 'ended') this.#ask({ unsubscribe: { channel } }, false, () => {});
    }
  }

  // --- Messages of the server ------------------------------------------------------------------------------------

  #receive(object) {
    if ('id' in object) this.#answered(object);
    else if ('channel' in object) this.#onChannel(this.#subscriptions.get(object.channel), object);
    else if (object.subscribed) this.#subscribedByServer(object.subscribed);
    else if (object.retry) this.#restarting(object.retry.after_ms);
    else if ('message' in object) call(this.onMessage, object.message);
  }

  #onChannel(subscription, object) {
    if (subscription?.state !== 'subscribed') return; // of an earlier subscription to that channel
    const { position, joined, left, reset, ended } = object;
    if (reset) this.#settled(subscription, { ...reset, recovered: false });
    else if (ended) this.#failed(subscription, new LiveError(ended));
    else if ('data' in object) {
      if (isSeen(position, subscription.position)) return;
      subscription.position = position ?? subscription.position;
      call(subscription.onMessage, object.data, position);
    } else if (joined != null || left != null) {
      const { members } = subscription;
      if (joined != null) members.add(joined);
      else members.delete(left);
      call(subscription.onPresence, { members, joined, left });
    }
  }

  #subscribedByServer({ channel, ...ok }) {
    const known = this.#subscriptions.get(channel);
    const subscription = known ?? this.#track(channel, { byServer: true });
    if (!known) call(this.onSubscribed, subscription);
    this.#settled(subscription, ok);
  }

  /** The server restarts soon: answers may still come, but after its time the link is closed from here. */
  #restarting(afterMs) {
    const link = this.#link;
    this.#restartAt = performance.now() + afterMs;
    clearTimeout(this.#restartTimer);
    this.#restartTimer = setTimeout(() => link.fail('the server restarts'), afterMs);
  }
}

/** One channel. Its hooks may be set at any time. */
export class Subscription {
  /** @type {'subscribing'|'subscribed'|'ended'} */
  state = 'subscribing';
  /** The channel's subscribers; kept up to date where the channel has presence. @type {Set<string>} */
  members = new Set();
  /** The last position seen, `EPOCH-OFFSET`; can be stored, and given as `from` later. */
  position;
  /** Called with (data, position). */
  onMessage;
  /** Called with `{members, joined, left}`. */
  onPresence;
  /** Called after a reconnection: true if nothing was missed; false if it was, so state must be loaded anew. */
  onRecovered;
  /** Called with a LiveError; `state` tells whether that was the end or it is tried again. */
  onError;
  token;
  byServer = false;
  settledAt = Infinity;
  failures = 0;
  #change;

  constructor(channel, change) {
    this.channel = channel;
    this.#change = change;
  }

  /** No hook is called after this. */
  unsubscribe() {
    this.#change('unsubscribe');
  }

  /** Gives the server a new token before the old one expires. */
  refresh() {
    return this.#change('refresh');
  }
}

/** One connection by one transport, from its start to its end. Tells its owner of a welcome and of its end, each once. */
class Link {
  welcome = null;
  #wire; #limits; #owner; #timer; #isOver = false; #isProbing = false; #heardAt; #abort = new AbortController();

  constructor(name, url, limits, credentials, owner) {
    this.#limits = limits;
    this.credentials = credentials;
    this.#owner = owner;
    this.#timer = setTimeout(() => this.fail('no welcome in time'), limits.openTimeoutMs);
    try {
      this.#wire = TRANSPORTS[name].open(url, this, limits);
    } catch (error) {
      queueMicrotask(() => this.fail(error.message));
    }
  }

  get signal() {
    return this.#abort.signal;
  }

  /** The most bytes of one command, and of one POST. */
  get bytesMax() {
    return this.welcome?.bytes_max ?? Infinity;
  }

  /** Takes one object or an array of them, as JSON or parsed. */
  receive(said) {
    if (this.#isOver) return;
    this.#heardAt = performance.now();
    this.#isProbing = false;
    try {
      for (const object of [typeof said === 'string' ? JSON.parse(said) : said].flat()) {
        if (object.welcome) this.#open(object.welcome);
        else if (object.closed) this.closed(object.closed);
        else if (!this.#isOver) this.#owner.receive(object);
      }
    } catch (error) {
      this.fail(`not ${PROTOCOL}: ${error.message}`);
    }
  }

  #open(welcome) {
    clearTimeout(this.#timer);
    this.welcome = welcome;
    this.welcomedAt = performance.now();
    this.#owner.welcome(this);
    this.#watch();
  }

  /** Probes the server after a silence: a half-open network never says that it is gone. */
  #watch() {
    if (this.#isOver) return;
    const restMs = this.#heardAt + this.#limits.silencesMax * this.welcome.ping_ms - performance.now();
    if (restMs > 0) this.#timer = setTimeout(() => this.#watch(), restMs);
    else this.probe();
  }

  probe() {
    if (!this.welcome || this.#isProbing || this.#isOver) return;
    this.#isProbing = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#isProbing) this.fail('no answer to a ping');
      else this.#watch();
    }, this.#limits.answerTimeoutMs);
    const text = '{"id":0,"ping":{}}';
    this.send({ id: 0, text, bytes: text.length });
  }

  send(command) {
    try {
      this.#wire.send(command);
    } catch (error) {
      queueMicrotask(() => this.fail(error.message)); // never while the caller still writes
    }
  }

  fail(reason, { isRefusal = false, isTooLarge = false } = {}) {
    if (this.#isOver) return;
    this.end();
    this.#owner.lost(this, { reason, isRefusal, isTooLarge });
  }

  /** The server closed the connection; its code says whether another may be opened. */
  closed({ code, reason }) {
    const isRefusal = (code >= 4500 && code <= 4999) || (code === 1008 && reason.startsWith('refused'));
    this.fail(reason || `closed with ${code}`, { isRefusal, isTooLarge: code === 1009 });
  }

  end() {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#abort.abort();
    this.#wire?.close();
  }
}

// --- Transports: each is opened with a URL and a link to tell, and gives `{send, close}` ---------------------------

const TRANSPORTS = {
  websocket: { isHere: () => typeof WebSocket === 'function', open: openWebSocket },
  sse: { isHere: () => typeof EventSource === 'function', open: openEvents },
  poll: { isHere: () => typeof fetch === 'function', open: openPoll },
};

function openWebSocket(url, link) {
  const socket = new WebSocket(url.href.replace(/^http/, 'ws'), PROTOCOL);
  // Some WebSockets report no more than this; others close with a code, in the same turn.
  socket.onerror = () => setTimeout(() => link.fail('the WebSocket broke'), 0);
  socket.onmessage = ({ data }) => link.receive(data);
  socket.onclose = (end) => link.closed(end);
  return { send: ({ text }) => socket.send(text), close: () => socket.close() };
}

function openEvents(url, link, limits) {
  const source = new EventSource(url, { withCredentials: link.credentials });
  source.onmessage = ({ data }) => link.receive(data);
  // An EventSource reconnects by itself, but knows nothing of positions: it is closed first.
  source.onerror = () => link.fail('the event stream broke');
  return { send: poster(url, link, limits), close: () => source.close() };
}

function openPoll(url, link, limits) {
  poll(url, link, limits).catch((error) => link.fail(error.message));
  return { send: poster(url, link, limits), close: () => {} };
}

async function poll(url, link, limits) {
  const { signal } = link;
  const credentials = credentialsOf(link);
  const headers = { 'protoplex-transport': 'poll' };
  const asJson = { ...headers, 'content-type': 'application/json' };
  const first = { method: 'POST', headers: asJson, body: '[]', signal, credentials };
  const opened = await fetch(url, first);
  if (!opened.ok) return link.fail(`status ${opened.status}`, { isRefusal: [401, 403].includes(opened.status) });
  link.receive(await opened.text());
  if (!link.welcome) return link.fail('no welcome');
  headers['protoplex-session'] = link.welcome.session;
  let ack = 0;
  let failures = 0;
  while (!signal.aborted) {
    headers['protoplex-ack'] = String(ack);
    try {
      const response = await fetch(url, { headers, signal, credentials, cache: 'no-store' });
      if (isGone(response)) return link.fail('the session is gone');
      if (!response.ok) throw new Error(`status ${response.status}`);
      const { batch, objects } = await response.json();
      failures = 0;
      // A batch that is not new was sent again, because our acknowledgement got lost.
      link.receive(batch > ack ? objects : []);
      ack = Math.max(ack, batch);
    } catch (error) {
      if (failures++ === limits.pollRetriesMax) throw error;
      await new Promise((resolve) => setTimeout(resolve, limits.backoffMinMs * 2 ** failures * Math.random()));
    }
  }
}

/** Sends commands by POST, one request at a time to keep their order; commands given meanwhile go in the next. */
function poster(url, link, limits) {
  const waiting = [];
  let isBusy = false;
  async function drain() {
    while (waiting.length && !link.signal.aborted) {
      const batch = [waiting.shift()];
      let chars = batch[0].text.length;
      let bytes = batch[0].bytes + 2; // the brackets
      const hasRoomFor = (next) =>
        (chars += next.text.length) <= limits.batchCharsMax && (bytes += next.bytes + 1) <= link.bytesMax;
      while (waiting.length && hasRoomFor(waiting[0])) batch.push(waiting.shift());
      await post(url, link, limits, batch);
    }
    isBusy = false;
  }
  return (command) => {
    waiting.push(command);
    if (isBusy) return;
    isBusy = true;
    queueMicrotask(drain);
  };
}

async function post(url, link, limits, batch) {
  const timer = setTimeout(() => link.fail('no answer to a command'), limits.answerTimeoutMs);
  const headers = { 'content-type': 'application/json', 'protoplex-session': link.welcome.session };
  // A single command goes without brackets, and may be as large as a body.
  const body = batch.length === 1 ? batch[0].text : `[${batch.map(({ text }) => text).join()}]`;
  try {
    const credentials = credentialsOf(link);
    const { ok, status } = await fetch(url, { method: 'POST', headers, body, signal: link.signal, credentials });
    if (ok) return;
    // The session is gone, or the server cannot take the command now: another connection repeats what may be repeated.
    if (isGone({ status }) || status === 429 || status >= 500) return link.fail(`a command got status ${status}`);
    const error = { code: status === 413 ? 'too-large' : 'bad-request', message: `status ${status}` };
    link.receive(batch.map(({ id }) => ({ id, error })));
  } catch (error) {
    link.fail(error.message);
  } finally {
    clearTimeout(timer);
  }
}

// --- Small functions -----------------------------------------------------------------------------------------------

const isGone = ({ status }) => status === 404 || status === 410;

/** True if `position` is not after `last`. Across epochs nothing is known, so nothing is dropped. */
function isSeen(position, last) {
  if (!position || !last) return false;
  const [epoch, offset] = position.split('-');
  const [lastEpoch, lastOffset] = last.split('-');
  return epoch === lastEpoch && BigInt(offset) <= BigInt(lastOffset); // up to 2^64, beyond what a number holds
}

async function ownToken({ token, channel }) {
  try {
    return typeof token === 'function' ? await token(channel) : token;
  } catch (error) {
    throw new LiveError({ code: 'token', message: `no token: ${error.message}` });
  }
}

/** The `credentials` option of `fetch`. */
const credentialsOf = ({ credentials }) => (credentials ? 'include' : 'same-origin');

/** The size of a text on the wire: UTF-8. */
function bytesOf(text) {
  return new TextEncoder().encode(text).length;
}

/** An idempotency key. `crypto.randomUUID` is missing on pages without TLS. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A hook that throws is reported like any uncaught error, and breaks nothing here. */
function call(hook, ...values) {
  try {
    hook?.(...values);
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
}
