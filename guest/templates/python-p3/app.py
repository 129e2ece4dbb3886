from wasihttp import App, Request, Response

app = App()


@app.get("/")
async def hello(request: Request):
    return "Hello, World!"


@app.get("/hello/{name}")
async def greet(request: Request, name: str):
    return f"Hello, {name}!"


@app.post("/echo")
async def echo(request: Request):
    """The body goes back as it comes."""
    return Response(request.chunks(), headers=[("content-type", request.header("content-type", "text/plain"))])


# What componentize-py exports.
Handler = app.handler()
