"""A client of gRPC (PyPI's grpcio): makes the calls of `guest/greeter/greeter.proto` that standard input lists as JSON, all
at once on one channel, and prints what became of each.

usage: grpc_client.py ADDRESS [ROOTS SERVER]     with TLS: the file of the authority, the server's name
"""

import json
import sys
import time

import grpc


def varint(number):
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(written) + bytes([number])


def read_varint(data, at):
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return number, at


def ask(wanted):
    name = wanted.get("name", "").encode()
    written = b"\x0a" + varint(len(name)) + name
    for field, key in enumerate(["times", "pause_ms", "code", "ignores_deadline"], start=2):
        if wanted.get(key):
            written += varint(field << 3) + varint(int(wanted[key]))
    return written


def greeting(data):
    read, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 2:
            length, at = read_varint(data, at)
            read[key >> 3] = data[at : at + length].decode()
            at += length
        else:
            read[key >> 3], at = read_varint(data, at)
    return {"text": read.get(1, ""), "number": read.get(2, 0)}


def fields(metadata):
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in metadata or ()}


def begin(channel, wanted):
    kind = channel.unary_stream if wanted.get("streams") else channel.unary_unary
    method = kind(wanted["method"], request_serializer=ask, response_deserializer=greeting)
    # The values of names in -bin are any bytes.
    metadata = [(name, bytes.fromhex(value) if name.endswith("-bin") else value) for name, value in wanted.get("metadata", [])]
    options = {"timeout": wanted.get("timeout"), "metadata": metadata}
    return method(wanted, **options) if wanted.get("streams") else method.future(wanted, **options)


def end(running, wanted, began):
    greetings, times = [], []
    try:
        for one in running if wanted.get("streams") else [running.result()]:
            greetings.append(one)
            times.append(time.monotonic() - began)
            if len(greetings) == wanted.get("cancel_after"):
                running.cancel()
    except grpc.RpcError:
        pass
    return {
        "code": running.code().name,
        "details": running.details(),
        "greetings": greetings,
        "times": times,
        "took": time.monotonic() - began,
        "head": fields(running.initial_metadata()),
        "trailers": fields(running.trailing_metadata()),
    }


def main():
    address, tls = sys.argv[1], sys.argv[2:]
    if tls:
        with open(tls[0], "rb") as roots:
            credentials = grpc.ssl_channel_credentials(roots.read())
        channel = grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", tls[1])])
    else:
        channel = grpc.insecure_channel(address)
    calls = json.load(sys.stdin)
    grpc.channel_ready_future(channel).result(timeout=20)
    began = time.monotonic()
    running = [begin(channel, wanted) for wanted in calls]
    print(json.dumps([end(one, wanted, began) for one, wanted in zip(running, calls)]))
    channel.close()


main()
