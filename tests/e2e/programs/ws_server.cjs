// CERTIFICATE KEY: a WebSocket server on loopback that echoes; prints its port, then one line per connection and message.
const { createServer } = require("node:https");
const { readFileSync } = require("node:fs");
const { WebSocketServer } = require("ws");
const [cert, key] = process.argv.slice(2).map((name) => readFileSync(name));
const server = createServer({ cert, key });
new WebSocketServer({ server }).on("connection", (socket, request) => {
  console.log("open " + request.url);
  socket.on("message", (data, binary) => {
    console.log("message " + data);
    socket.send(data, { binary });
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
