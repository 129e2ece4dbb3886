from wasihttp import App, Request, Response

app = App()


@app.get("/")
def hello(request: Request):
    return "Hello, World!"


@app.get("/hello/{name}")
def greet(request: Request, name: str):
    return f"Hello, {name}!"


@app.post("/echo")
def echo(request: Request):
    """The body goes back as it comes."""
    return Response(request.chunks(), headers=[("content-type", request.header("content-type", "text/plain"))])


# What componentize-py exports.
IncomingHandler = app.handler()
