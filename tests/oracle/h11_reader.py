"""What h11 reads in recorded connections.

In: one connection a line, in hexadecimal. Out: one line of JSON each,
`{"requests": [...], "error": ""}`; the last request is not `whole` if its end is missing.
"""

import json
import sys

import h11


def pairs(headers):
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]


def answer(connection):
    """Without an answer h11 reads no further request."""
    connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    if connection.our_state is h11.MUST_CLOSE:
        return False
    connection.start_next_cycle()
    return True


def events(connection, requests):
    """Reads all there is; the value is what is left over."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            return connection.trailing_data[0]
        if isinstance(event, h11.Request):
            body = bytearray()
            requests.append(
                {
                    "whole": False,
                    "method": event.method.decode("latin-1"),
                    "target": event.target.decode("latin-1"),
                    "version": event.http_version.decode("latin-1"),
                    "fields": pairs(event.headers),
                }
            )
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            trailers = pairs(event.headers)
            requests[-1].update(whole=True, body=body.hex(), trailers=trailers)
            if not answer(connection):
                return connection.trailing_data[0]


def read(data):
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    requests, error = [], ""
    try:
        # No data at all would be the end of the connection.
        if data:
            connection.receive_data(data)
        rest = events(connection, requests)
        # It broke off in a head.
        if rest and all(request["whole"] for request in requests):
            requests.append({"whole": False})
    except h11.RemoteProtocolError as refused:
        error = str(refused) or "refused"
    return {"requests": requests, "error": error}


for line in sys.stdin:
    json.dump(read(bytes.fromhex(line)), sys.stdout, separators=(",", ":"))
    print()
