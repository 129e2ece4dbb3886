import sys

from wasihttp import App, FetchError, Request, Response, fetch

app = App()
count = 0


@app.get("/")
async def hello(request: Request):
    return "Hello, World!"


@app.get("/hello/{name}")
async def greet(request: Request, name: str):
    return f"{request.query.get('greeting', 'Hello')}, {name}!"


@app.post("/echo")
async def echo(request: Request):
    return Response(request.chunks(), headers=[("content-type", request.header("content-type", "text/plain"))])


@app.get("/headers")
async def headers(request: Request):
    values = [value.encode("latin-1") + b"\n" for name, value in request.headers if name == "x-test"]
    answer = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-bytes", "caf\xe9")]
    return Response(b"".join(values), headers=answer)


@app.get("/query")
async def query(request: Request):
    return "".join(f"{name}={value}\n" for name, value in request.query_list)


@app.get("/count")
async def counted(request: Request):
    global count
    count += 1
    return str(count)


@app.get("/fetch")
async def fetched(request: Request):
    try:
        response = await fetch(request.query["url"])
    except FetchError as error:
        return Response(str(error), 502)
    return f"{response.status}\n".encode() + await response.body()


@app.get("/proxy")
async def proxied(request: Request):
    response = await fetch(request.query["url"])
    return Response(response.chunks(), response.status)


@app.post("/proxy")
async def uploaded(request: Request):
    response = await fetch(request.query["url"], "POST", body=await request.body())
    return Response(response.chunks(), response.status)


@app.get("/error")
async def error(request: Request):
    raise RuntimeError("as asked")


@app.get("/memory")
async def memory(request: Request):
    taken = []
    while True:
        taken.append(bytearray(1 << 20))


@app.get("/log")
async def log(request: Request):
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    return "logged"


Handler = app.handler()
