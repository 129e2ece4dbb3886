"""What `guest/keys` does in Rust: asks a store of keys and values what the path says, by wasi:keyvalue 0.2.0-draft2."""

from urllib.parse import unquote_to_bytes

from componentize_py_types import Err
from wasihttp import App, Request, Response
from wit_world.imports import atomics, batch, store

app = App()


class Query(dict):
    def __init__(self, text: str):
        pairs = (pair.partition("=") for pair in text.split("&") if pair)
        super().__init__((name, unquote_to_bytes(value)) for name, _, value in pairs)

    def text(self, name: str, default: str = "") -> str:
        return self[name].decode() if name in self else default

    def number(self, name: str, default: int) -> int:
        return int(self[name]) if name in self else default

    def keys_named(self) -> list[str]:
        return [key for key in self.text("keys").split(",") if key]

    def value(self) -> bytes:
        return b"x" * int(self["bytes"]) if "bytes" in self else self.get("value", b"")


def list_all(bucket: store.Bucket) -> str:
    pages, keys, cursor = 0, [], None
    while pages == 0 or cursor is not None:
        page = bucket.list_keys(cursor)
        pages, cursor = pages + 1, page.cursor
        keys += page.keys
    is_in_order = all(one.encode() < other.encode() for one, other in zip(keys, keys[1:]))
    return f"{pages} {len(keys)} {str(is_in_order).lower()}"


def answer(verb: str, bucket: store.Bucket, query: Query):
    key = query.text("key", "key")
    match verb:
        case "get":
            value = bucket.get(key)
            return Response(b"no such key", 404) if value is None else Response(value)
        case "size":
            value = bucket.get(key)
            return "None" if value is None else f"Some({len(value)})"
        case "set":
            bucket.set(key, query.value())
            return "set"
        case "delete":
            bucket.delete(key)
            return "deleted"
        case "exists":
            return str(bucket.exists(key)).lower()
        case "list":
            page = bucket.list_keys(query.text("cursor") or None)
            return (page.cursor or "end") + "\n" + "\n".join(page.keys)
        case "list-all":
            return list_all(bucket)
        case "increment":
            return str(atomics.increment(bucket, key, query.number("by", 1)))
        case "get-many":
            found = batch.get_many(bucket, query.keys_named())
            return ",".join("-" if value is None else value.decode() for _, value in found)
        case "set-many":
            value = query.value()
            if "count" in query:
                pairs = [(f"{key}{number:06}", value) for number in range(query.number("count", 0))]
            else:
                pairs = [(key, value) for key in query.keys_named()]
            batch.set_many(bucket, pairs)
            return "set"
        case "delete-many":
            batch.delete_many(bucket, query.keys_named())
            return "deleted"
        case "set-and-trap":
            bucket.set(key, query.value())
            raise RuntimeError("as asked")
    return Response("no such verb", 404)


@app.get("/draft2/{verb}")
def ask(request: Request, verb: str):
    query = Query(request.query_string)
    try:
        with store.open(query.text("store", "default")) as bucket:
            return answer(verb, bucket, query)
    except Err as error:
        match error.value:
            case store.Error_Other(text):
                return Response(f"other: {text}", 422)
            case store.Error_AccessDenied():
                return Response("access-denied", 422)
            case other:
                return Response(type(other).__name__, 422)


IncomingHandler = app.handler()
