"""A gRPC client on the C core. Prints a line of JSON for each case: its name, and what was wrong.

client.py TARGET [--ca FILE] [--until FILE]: with a file, calls of all kinds go on until it is there.
"""

import argparse
import concurrent.futures
import json
import os
import queue
import threading
import time

import grpc

TIMEOUT = 30
LARGE = bytes(range(256)) * (4 << 12)


def check(is_true, what):
    if not is_true:
        raise AssertionError(what)


class Cases:
    def __init__(self, channel):
        method = lambda kind, name: getattr(channel, kind)(f"/test.Test/{name}")
        self.unary_call = method("unary_unary", "Unary")
        self.client_stream_call = method("stream_unary", "ClientStream")
        self.server_stream_call = method("unary_stream", "ServerStream")
        self.bidi_call = method("stream_stream", "Bidi")
        self.error_call = method("unary_unary", "Error")
        self.error_after_call = method("unary_stream", "ErrorAfter")
        self.remaining_call = method("unary_unary", "Remaining")
        self.sleep_call = method("unary_unary", "Sleep")
        self.until_cancelled_call = method("unary_stream", "UntilCancelled")
        self.was_cancelled_call = method("unary_unary", "WasCancelled")
        self.unknown_call = method("unary_unary", "Unknown")

    def unary(self):
        check(self.unary_call(b"x", timeout=TIMEOUT) == b"ok x", "another answer")

    def metadata(self):
        _, call = self.unary_call.with_call(b"", timeout=TIMEOUT, metadata=(("x-ask", "mine"), ("x-b-bin", b"\x00\xff")))
        initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
        check(initial.get("x-initial") == "mine", initial)
        for name, value in (("x-trailing", "t"), ("x_under_score", "u"), ("x-trailing-bin", b"\x00\xff")):
            check(trailing.get(name) == value, trailing)

    def large(self):
        check(self.unary_call(LARGE, timeout=TIMEOUT) == b"ok " + LARGE, "it came back changed")

    def client_stream(self):
        said = self.client_stream_call((b"ab" for _ in range(100)), timeout=TIMEOUT)
        check(said == b"100 200", said)

    def tiny_messages(self):
        said = self.client_stream_call((b"a" for _ in range(20_000)), timeout=TIMEOUT)
        check(said == b"20000 20000", said)

    def server_stream(self):
        said = list(self.server_stream_call(b"5:20:10", timeout=TIMEOUT))
        check([one[:1] for one in said] == [b"0", b"1", b"2", b"3", b"4"], said)

    def server_stream_large(self):
        said = list(self.server_stream_call(b"8:0:1000000", timeout=TIMEOUT))
        check([len(one) for one in said] == [1_000_001] * 8, [len(one) for one in said])

    def bidi(self):
        """Each message is sent when the answer to the last one is here."""
        waiting = queue.Queue()
        answers = self.bidi_call(iter(waiting.get, None), timeout=TIMEOUT)
        for number in range(10):
            waiting.put(b"%d" % number)
            answer = next(answers)
            check(answer == b"echo %d" % number, answer)
        waiting.put(None)
        check(list(answers) == [], "there is more")

    def trailers_only(self):
        try:
            self.error_call(b"", timeout=TIMEOUT)
        except grpc.RpcError as error:
            check(error.code() == grpc.StatusCode.NOT_FOUND, error)
            check(error.details() == "no such thing: 100 % \u00e9", error.details())
            check(dict(error.trailing_metadata()).get("x-why") == "tested", error.trailing_metadata())
            return
        check(False, "no error")

    def error_after_a_message(self):
        said = []
        try:
            for one in self.error_after_call(b"", timeout=TIMEOUT):
                said.append(one)
        except grpc.RpcError as error:
            check((said, error.code(), error.details()) == ([b"one"], grpc.StatusCode.DATA_LOSS, "half of it"), error)
            return
        check(False, "no error")

    def unknown_method(self):
        try:
            self.unknown_call(b"", timeout=TIMEOUT)
        except grpc.RpcError as error:
            check(error.code() == grpc.StatusCode.UNIMPLEMENTED, error)
            return
        check(False, "no error")

    def deadline_is_told(self):
        left = int(self.remaining_call(b"", timeout=20))
        check(5_000 < left <= 21_000, left)

    def deadline_ends(self):
        try:
            self.sleep_call(b"3000", timeout=0.3)
        except grpc.RpcError as error:
            check(error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error)
            return
        check(False, "no error")

    def cancel_reaches_the_server(self):
        call = self.until_cancelled_call(b"", timeout=TIMEOUT)
        check(next(call) == b"waiting", "another message")
        call.cancel()
        check(self.was_cancelled_call(b"", timeout=TIMEOUT) == b"yes", "the server was not told")

    def many_at_once(self):
        calls = [self.sleep_call.future(b"200", timeout=TIMEOUT) for _ in range(300)]
        check(all(call.result() == b"awake" for call in calls), "another answer")


NAMES = [name for name in vars(Cases) if not name.startswith("_")]
SHORT = ["unary", "metadata", "client_stream", "server_stream", "bidi", "trailers_only"]


def said(name, run):
    try:
        run()
        return {"case": name, "fault": None}
    except Exception as fault:
        text = f"{fault.code()}: {fault.details()}" if isinstance(fault, grpc.Call) else repr(fault)
        return {"case": name, "fault": text[:500]}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("target")
    arguments.add_argument("--ca")
    arguments.add_argument("--until")
    arguments = arguments.parse_args()
    options = [("grpc.max_receive_message_length", 16 << 20), ("grpc.enable_retries", 0)]
    if arguments.ca:
        credentials = grpc.ssl_channel_credentials(open(arguments.ca, "rb").read())
        channel = grpc.secure_channel(arguments.target, credentials, options)
    else:
        channel = grpc.insecure_channel(arguments.target, options)
    cases = Cases(channel)
    if not arguments.until:
        for name in NAMES:
            print(json.dumps(said(name, getattr(cases, name))), flush=True)
        return

    def again_and_again(name):
        while not os.path.exists(arguments.until):
            print(json.dumps(said(name, getattr(cases, name))) + "\n", end="", flush=True)

    with concurrent.futures.ThreadPoolExecutor(len(SHORT)) as threads:
        list(threads.map(again_and_again, SHORT))


main()
