// A small server that speaks `protoplex.v1` by its three transports, and misbehaves when a test asks it to.

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

const HISTORY_MAX = 100;

export class FakeServer {
  /** What tests read: one entry for each attempt to open a transport, and for each command. */
  attempts = [];
  commands = [];
  postChars = []; // how long each POST's body was
  sessions = new Set();
  channels = new Map();
  /** What tests set. */
  pingMs = 25_000;
  bytesMax = 65_536;
  refused = new Set(); // transports that cannot be opened
  /** Called with (command, session) first; true means that it dealt with it. */
  onCommand = () => false;
  /** Called with (request, response) for each request but upgrades; true means that it dealt with it. */
  onRequest = () => false;
  /** Waited for before that. */
  beforeRequest = () => {};
  /** Called with a session, after its welcome. */
  onSession = () => {};
  #keys = new Map();

  static async start() {
    const server = new FakeServer();
    server.http = createServer((request, response) => server.#request(request, response));
    server.http.on('upgrade', (request, socket) => server.#upgrade(request, socket));
    server.http.listen(0, '127.0.0.1');
    await once(server.http, 'listening');
    server.url = `http://127.0.0.1:${server.http.address().port}/board`;
    return server;
  }

  stop() {
    this.breakAll();
    this.http.closeAllConnections();
    this.http.close();
  }

  /** Connections are gone without a word, and so are their sessions. */
  breakAll() {
    for (const session of [...this.sessions]) session.break();
  }

  channel(name) {
    if (!this.channels.has(name)) this.channels.set(name, { epoch: 'abc', offset: 0n, history: [] });
    return this.channels.get(name);
  }

  publish(name, data) {
    const channel = this.channel(name);
    channel.offset += 1n;
    const message = { channel: name, position: `${channel.epoch}-${channel.offset}`, data };
    channel.history.push(message);
    if (channel.history.length > HISTORY_MAX) channel.history.shift();
    for (const session of this.sessions) if (session.channels.has(name)) session.say(message);
    return message.position;
  }

  #join(transport, say, cut) {
    const session = { id: randomBytes(4).toString('hex'), transport, channels: new Set(), say };
    session.break = () => {
      this.sessions.delete(session);
      cut();
    };
    this.sessions.add(session);
    session.say({ welcome: { session: session.id, user: 'ann', ping_ms: this.pingMs, bytes_max: this.bytesMax } });
    this.onSession(session);
    return session;
  }

  #command(command, session) {
    this.commands.push({ ...command, transport: session.transport });
    if (this.onCommand(command, session)) return;
    const { id, subscribe, unsubscribe, publish, presence } = command;
    if (subscribe) this.#subscribe(id, subscribe, session);
    else if (publish) {
      if (!this.#keys.has(publish.key)) this.#keys.set(publish.key, this.publish(publish.channel, publish.data));
      session.say({ id, ok: { position: this.#keys.get(publish.key) } });
    } else if (presence) session.say({ id, ok: { members: ['ann', 'bo'] } });
    else {
      if (unsubscribe) session.channels.delete(unsubscribe.channel);
      session.say({ id, ok: {} });
    }
  }

  #subscribe(id, { channel: name, from }, session) {
    const { epoch, offset, history } = this.channel(name);
    const recovered = from ? from.startsWith(`${epoch}-`) : null;
    const position = recovered ? from : `${epoch}-${offset}`;
    session.channels.add(name);
    session.say({ id, ok: { position, recovered, members: ['ann'] } });
    const seen = BigInt(position.split('-')[1]);
    for (const message of history) if (BigInt(message.position.split('-')[1]) > seen) session.say(message);
  }

  // --- Server-sent events and long polling -----------------------------------------------------------------------

  async #request(request, response) {
    const { method, headers } = request;
    const body = method === 'POST' ? await text(request) : null;
    if (body && Buffer.byteLength(body) > this.bytesMax) return response.writeHead(413).end();
    if (body) this.postChars.push(body.length);
    await this.beforeRequest(request);
    const session = [...this.sessions].find(({ id }) => id === headers['protoplex-session']);
    const isOpening = !headers['protoplex-session'];
    const transport = headers['protoplex-transport'] === 'poll' ? 'poll' : 'sse';
    if (isOpening) this.attempts.push(transport);
    if (this.onRequest(request, response, session)) return;
    if (isOpening && this.refused.has(transport)) response.writeHead(503).end();
    else if (isOpening) this.#open(transport, response);
    else if (!session) response.writeHead(404).end();
    else if (method === 'POST') {
      response.writeHead(202).end();
      for (const command of [JSON.parse(body)].flat()) this.#command(command, session);
    } else session.polled(Number(headers['protoplex-ack']), response);
  }

  #open(transport, response) {
    if (transport === 'sse') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const say = (object) => response.write(`data: ${JSON.stringify(object)}\n\n`);
      const session = this.#join('sse', say, () => response.destroy());
      session.close = (code, reason) => {
        say({ closed: { code, reason } });
        response.end();
      };
      response.on('close', () => this.sessions.delete(session));
      return;
    }
    let waiting = null;
    let isClosing = false;
    let batch = { number: 0, objects: [] };
    const queue = [];
    const give = () => {
      if (!waiting || !(batch.objects.length || queue.length)) return;
      if (!batch.objects.length) batch = { number: batch.number + 1, objects: queue.splice(0) };
      waiting.end(JSON.stringify({ batch: batch.number, objects: batch.objects }));
      waiting = null;
      if (isClosing) this.sessions.delete(session);
    };
    const say = (object) => {
      queue.push(object);
      setImmediate(give);
    };
    const session = this.#join('poll', say, () => waiting?.writeHead(410).end());
    session.close = (code, reason) => {
      isClosing = true;
      say({ closed: { code, reason } });
    };
    session.polled = (ack, answer) => {
      if (ack === batch.number) batch.objects = [];
      waiting = answer;
      answer.on('close', () => answer.writableFinished || this.sessions.delete(session));
      give();
    };
    response.end(JSON.stringify(queue.splice(0)));
  }

  // --- WebSocket, RFC 6455: as much of it as a browser uses here -------------------------------------------------

  #upgrade({ headers }, socket) {
    this.attempts.push('websocket');
    socket.on('error', () => {});
    if (this.refused.has('websocket')) return socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n');
    const accept = createHash('sha1').update(`${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`);
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n' +
        `sec-websocket-accept: ${accept.digest('base64')}\r\n` +
        `sec-websocket-protocol: ${headers['sec-websocket-protocol']}\r\n\r\n`,
    );
    const say = (object) => socket.write(frame(1, JSON.stringify(object)));
    const session = this.#join('websocket', say, () => socket.destroy());
    session.close = (code, reason) => {
      this.sessions.delete(session);
      socket.end(frame(8, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)])));
    };
    let buffer = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      buffer = Buffer.concat([buffer, chunk]);
      for (let read = unframe(buffer); read; read = unframe(buffer)) {
        buffer = buffer.subarray(read.length);
        if (read.opcode === 1) this.#command(JSON.parse(read.payload.toString()), session);
        else if (read.opcode === 8) session.break();
      }
    });
  }
}

function frame(opcode, payload) {
  const bytes = Buffer.from(payload);
  const head = bytes.length < 126 ? [bytes.length] : [126, bytes.length >> 8, bytes.length & 255];
  return Buffer.concat([Buffer.from([0x80 | opcode, ...head]), bytes]);
}

function unframe(buffer) {
  if (buffer.length < 2) return null;
  const opcode = buffer[0] & 15;
  let length = buffer[1] & 127;
  let at = 2;
  if (length === 126) {
    if (buffer.length < 4) return null;
    length = buffer.readUInt16BE(2);
    at = 4;
  }
  if (buffer.length < at + 4 + length) return null;
  const mask = buffer.subarray(at, at + 4);
  const payload = Buffer.from(buffer.subarray(at + 4, at + 4 + length)).map((byte, i) => byte ^ mask[i & 3]);
  return { opcode, payload, length: at + 4 + length };
}

async function text(stream) {
  let all = '';
  for await (const chunk of stream) all += chunk;
  return all;
}
