// URL [direct]: send one text message, print the echo; through the proxy of the environment unless "direct".
const WebSocket = require("ws");
const { HttpsProxyAgent } = require("https-proxy-agent");
const [url, direct] = process.argv.slice(2);
const agent = direct ? undefined : new HttpsProxyAgent(process.env.HTTPS_PROXY);
const socket = new WebSocket(url, { agent });
socket.on("open", () => socket.send("hello"));
socket.on("message", (data) => { console.log(String(data)); socket.close(); });
socket.on("close", (code, reason) => { if (code !== 1005) console.log("closed " + code + " " + reason); });
socket.on("error", (error) => { console.error(error.code ?? "", error.message); process.exitCode = 3; });
