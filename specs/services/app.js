// The smallest server: an answer, and a page for the health check. TERM ends it; without the
// handler, the requests that it has begun would be cut off.
const server = require("http").createServer((request, response) => {
    response.end(request.url === "/health" ? "healthy\n" : "hello from Node\n");
});
server.listen(3000);
process.on("SIGTERM", () => server.close());
