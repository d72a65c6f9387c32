// Node's web server with a handler that reads no body. It says its port, and a
// line for each request that it executes.
const http = require("http");
const server = http.createServer((req, res) => {
  const line = `executed ${req.method} ${req.url} verdict=${req.headers["x-client-verdict"] || ""} subject=${req.headers["x-client-subject"] || ""}\n`;
  process.stdout.write(line);
  res.end(line);
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`port ${server.address().port}\n`));
