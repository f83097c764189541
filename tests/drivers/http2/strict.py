"""The library `h2` as the client: it objects to whatever a server may not send."""

import h2.config
import h2.connection
import h2.events

from table import case
from wire import *


@case("all", "a strict client is content with everything it gets", raw=True)
def _(c):
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    for path in ["/", "/hello", "/missing.html", "/old", "/api/hello", "/whoami"]:
        client.send_headers(client.get_next_available_stream_id(), c.fields(path=path), end_stream=True)
    echo = client.get_next_available_stream_id()
    client.send_headers(echo, c.fields(method="POST", path="/api/echo"))
    left, echoed, ended = b"x" * 300_000, 0, set()
    while len(ended) < 7:
        room = min(client.local_flow_control_window(echo), client.max_outbound_frame_size, len(left))
        if left and room:
            left = left[room:]
            client.send_data(echo, b"x" * room, end_stream=not left)
            continue
        c.send(client.data_to_send())
        c.fill(1)
        events = client.receive_data(c.buffer)
        c.buffer = b""
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                echoed += len(event.data) if event.stream_id == echo else 0
            if isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                raise Wrong(f"{event}")
            if isinstance(event, h2.events.StreamEnded):
                ended.add(event.stream_id)
    if echoed != 300_000:
        raise Wrong(f"{echoed} bytes came back")
