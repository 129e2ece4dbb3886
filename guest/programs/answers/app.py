import wasihttp
from wasihttp import App, Request, Response

app = App()


@app.get("/dict")
def a_dict(request: Request):
    return {"a": [1, "ä"]}


@app.get("/list")
def a_list(request: Request):
    return Response([1, 2], 201, [("content-type", "application/problem+json")])


@app.get("/parts")
def parts(request: Request):
    return Response(part for part in ("one ", b"two ", "dreißig"))


@app.get("/nothing")
def nothing(request: Request):
    return None


@app.get("/field")
def field(request: Request):
    return Response("", headers=[("x-number", 1)])


@app.get("/late")
def late(request: Request):
    import mailbox

    return mailbox.__name__


if hasattr(wasihttp, "sleep"):

    @app.get("/sleep")
    async def sleep(request: Request):
        await wasihttp.sleep(0.3)
        return "slept"


IncomingHandler = Handler = app.handler()
