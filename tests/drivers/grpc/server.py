"""A gRPC server on the C core. Messages are bytes; what a method does is told by its name.

server.py [--max-age-ms N] [--tls KEY CERTIFICATE]: prints its port.
"""

import argparse
import threading
import time
from concurrent import futures

import grpc

cancelled = threading.Event()


def unary(request, context):
    asked = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", asked.get("x-ask", "")),))
    context.set_trailing_metadata((("x-trailing", "t"), ("x_under_score", "u"), ("x-trailing-bin", b"\x00\xff")))
    return b"ok " + request


def client_stream(requests, context):
    count, size = 0, 0
    for request in requests:
        count, size = count + 1, size + len(request)
    return b"%d %d" % (count, size)


def server_stream(request, context):
    """`count:pause_ms:size`."""
    count, pause_ms, size = (int(part) for part in request.split(b":"))
    for number in range(count):
        yield b"%d" % number + b"." * size
        time.sleep(pause_ms / 1000)


def bidi(requests, context):
    for request in requests:
        yield b"echo " + request


def error(request, context):
    context.set_trailing_metadata((("x-why", "tested"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100 % \u00e9")


def error_after(request, context):
    yield b"one"
    context.abort(grpc.StatusCode.DATA_LOSS, "half of it")


def remaining(request, context):
    """The milliseconds that the deadline leaves."""
    return b"%d" % int(context.time_remaining() * 1000)


def sleep(request, context):
    time.sleep(int(request) / 1000)
    return b"awake"


def until_cancelled(request, context):
    """Says one thing and then nothing, until the client has had enough."""
    ended = threading.Event()
    context.add_callback(ended.set)
    yield b"waiting"
    if ended.wait(20):
        cancelled.set()


def was_cancelled(request, context):
    told = cancelled.wait(10)
    cancelled.clear()
    return b"yes" if told else b"no"


METHODS = {
    "/test.Test/Unary": grpc.unary_unary_rpc_method_handler(unary),
    "/test.Test/ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "/test.Test/ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "/test.Test/Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "/test.Test/Error": grpc.unary_unary_rpc_method_handler(error),
    "/test.Test/ErrorAfter": grpc.unary_stream_rpc_method_handler(error_after),
    "/test.Test/Remaining": grpc.unary_unary_rpc_method_handler(remaining),
    "/test.Test/Sleep": grpc.unary_unary_rpc_method_handler(sleep),
    "/test.Test/UntilCancelled": grpc.unary_stream_rpc_method_handler(until_cancelled),
    "/test.Test/WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--max-age-ms", type=int)
    arguments.add_argument("--tls", nargs=2)
    arguments = arguments.parse_args()
    options = [("grpc.max_receive_message_length", 16 << 20), ("grpc.so_reuseport", 0)]
    if arguments.max_age_ms:
        options += [
            ("grpc.max_connection_age_ms", arguments.max_age_ms),
            ("grpc.max_connection_age_grace_ms", 60_000),
        ]
    server = grpc.server(futures.ThreadPoolExecutor(128), handlers=(Handler(),), options=options)
    if arguments.tls:
        key, certificate = (open(name, "rb").read() for name in arguments.tls)
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"port {port}.", flush=True)
    server.wait_for_termination()


main()
