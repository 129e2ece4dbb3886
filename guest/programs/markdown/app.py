import mistune

from wasihttp import App, Request, Response

app = App()
# Imported and set up once, when the component is built.
render = mistune.create_markdown(plugins=["table", "strikethrough"])


@app.post("/render")
def rendered(request: Request):
    html = render(request.body().decode())
    return Response(html, headers=[("content-type", "text/html; charset=utf-8")])


IncomingHandler = app.handler()
