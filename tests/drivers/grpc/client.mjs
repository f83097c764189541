// A gRPC client on Node's HTTP/2. Prints a line of JSON for each case: its name, and what was wrong.
//
// client.mjs TARGET [CA-FILE]

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as grpc from "@grpc/grpc-js";

const [target, ca] = process.argv.slice(2);
const bytes = { serialize: (message) => message, deserialize: (message) => message };

function method(name, requestStream, responseStream) {
    return {
        path: `/test.Test/${name}`,
        requestStream,
        responseStream,
        requestSerialize: bytes.serialize,
        requestDeserialize: bytes.deserialize,
        responseSerialize: bytes.serialize,
        responseDeserialize: bytes.deserialize,
    };
}

const Client = grpc.makeGenericClientConstructor({
    unary: method("Unary", false, false),
    clientStream: method("ClientStream", true, false),
    serverStream: method("ServerStream", false, true),
    bidi: method("Bidi", true, true),
    error: method("Error", false, false),
    errorAfter: method("ErrorAfter", false, true),
    remaining: method("Remaining", false, false),
    sleep: method("Sleep", false, false),
    untilCancelled: method("UntilCancelled", false, true),
    wasCancelled: method("WasCancelled", false, false),
}, "Test");

const credentials = ca ? grpc.credentials.createSsl(readFileSync(ca)) : grpc.credentials.createInsecure();
const client = new Client(target, credentials, {
    "grpc.max_receive_message_length": 16 << 20,
    "grpc.enable_retries": 0,
});

const deadline = (ms = 30_000) => ({ deadline: Date.now() + ms });

function call(name, message, { metadata = new grpc.Metadata(), options = deadline() } = {}) {
    return new Promise((resolve, reject) => {
        const said = {};
        const begun = client[name](Buffer.from(message), metadata, options, (error, answer) => {
            if (error) reject(error);
            else setImmediate(() => resolve({ answer, ...said }));
        });
        begun.on("metadata", (initial) => { said.initial = initial; });
        begun.on("status", (status) => { said.trailing = status.metadata; });
    });
}

async function all(stream) {
    const messages = [];
    for await (const message of stream) messages.push(message.toString());
    return messages;
}

function streamed(name, message) {
    return client[name](Buffer.from(message), new grpc.Metadata(), deadline());
}

function upload(count, message) {
    return new Promise((resolve, reject) => {
        const stream = client.clientStream(new grpc.Metadata(), deadline(), (error, answer) =>
            error ? reject(error) : resolve(answer.toString()));
        for (let sent = 0; sent < count; sent += 1) stream.write(Buffer.from(message));
        stream.end();
    });
}

const cases = {
    async unary() {
        assert.equal((await call("unary", "x")).answer.toString(), "ok x");
    },
    async metadata() {
        const metadata = new grpc.Metadata();
        metadata.set("x-ask", "mine");
        const { initial, trailing } = await call("unary", "", { metadata });
        assert.deepEqual(initial.get("x-initial"), ["mine"]);
        assert.deepEqual(trailing.get("x-trailing"), ["t"]);
        assert.deepEqual(trailing.get("x_under_score"), ["u"]);
        assert.deepEqual(trailing.get("x-trailing-bin"), [Buffer.from([0, 255])]);
    },
    async large() {
        const message = Buffer.alloc(4 << 20, "0123456789");
        const { answer } = await call("unary", message);
        assert.ok(answer.equals(Buffer.concat([Buffer.from("ok "), message])), "it came back changed");
    },
    async client_stream() {
        assert.equal(await upload(100, "ab"), "100 200");
    },
    async tiny_messages() {
        assert.equal(await upload(20_000, "a"), "20000 20000");
    },
    async server_stream() {
        const messages = await all(streamed("serverStream", "5:20:10"));
        assert.deepEqual(messages.map((message) => message[0]), ["0", "1", "2", "3", "4"]);
    },
    async bidi() {
        const stream = client.bidi(new grpc.Metadata(), deadline());
        const answers = stream[Symbol.asyncIterator]();
        for (let number = 0; number < 10; number += 1) {
            stream.write(Buffer.from(`${number}`));
            assert.equal((await answers.next()).value.toString(), `echo ${number}`);
        }
        stream.end();
        assert.ok((await answers.next()).done, "there is more");
    },
    async trailers_only() {
        const error = await call("error", "").then(() => assert.fail("no error"), (error) => error);
        assert.equal(error.code, grpc.status.NOT_FOUND, error);
        assert.equal(error.details, "no such thing: 100 % \u00e9");
        assert.deepEqual(error.metadata.get("x-why"), ["tested"]);
    },
    async error_after_a_message() {
        const messages = [];
        const error = await (async () => {
            for await (const message of streamed("errorAfter", "")) messages.push(message.toString());
        })().then(() => assert.fail("no error"), (error) => error);
        assert.deepEqual([messages, error.code, error.details], [["one"], grpc.status.DATA_LOSS, "half of it"]);
    },
    async deadline_is_told() {
        const left = Number((await call("remaining", "", { options: deadline(20_000) })).answer);
        assert.ok(left > 5_000 && left <= 21_000, `${left}`);
    },
    async deadline_ends() {
        const late = call("sleep", "3000", { options: deadline(300) });
        const error = await late.then(() => assert.fail("no error"), (error) => error);
        assert.equal(error.code, grpc.status.DEADLINE_EXCEEDED, error);
    },
    async cancel_reaches_the_server() {
        const stream = streamed("untilCancelled", "");
        await new Promise((resolve, reject) => stream.once("data", resolve).once("error", reject));
        stream.on("error", () => {});
        stream.cancel();
        assert.equal((await call("wasCancelled", "")).answer.toString(), "yes");
    },
    async many_at_once() {
        const calls = await Promise.all(Array.from({ length: 300 }, () => call("sleep", "200")));
        assert.ok(calls.every(({ answer }) => answer.toString() === "awake"));
    },
};

for (const [name, run] of Object.entries(cases)) {
    let fault = null;
    try {
        await run();
    } catch (error) {
        fault = `${error?.message ?? error}`.slice(0, 500);
    }
    console.log(JSON.stringify({ case: name, fault }));
}
client.close();
