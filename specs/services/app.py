"""The smallest WSGI application: an answer, and a page for the health check."""


def answer(request, start):
    text = "healthy\n" if request["PATH_INFO"] == "/health" else "hello from Python\n"
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]
