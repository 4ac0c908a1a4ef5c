// Requests one URL through a proxy with a Node client library and prints the result as JSON.
//
// The only argument is the order as JSON: task (undici, fetch or ws), url, proxy, trust and proxyTrust (PEM files), and
// for undici also isHttp2, method and upload (a file). node.py creates the orders.
"use strict";
const fs = require("fs");
const tls = require("tls");

const order = JSON.parse(process.argv[2]);
const ca = fs.readFileSync(order.trust);
const proxyCa = fs.readFileSync(order.proxyTrust);

// The libraries do not expose their sockets. The last TLS connection made is the one inside the tunnel.
let inner;
const connect = tls.connect;
tls.connect = (...options) => {
  const socket = connect(...options);
  socket.once("secureConnect", () => {
    const certificate = socket.getPeerCertificate().raw.toString("hex");
    inner = { certificate, protocol: socket.alpnProtocol || "http/1.1" };
  });
  return socket;
};

function agent() {
  const { ProxyAgent } = require("undici");
  return new ProxyAgent({
    uri: order.proxy,
    proxyTls: { ca: proxyCa },
    requestTls: { ca, allowH2: order.isHttp2 === true },
    allowH2: order.isHttp2 === true,
  });
}

const tasks = {
  async undici() {
    const { request } = require("undici");
    const body = order.upload ? fs.readFileSync(order.upload) : undefined;
    const answer = await request(order.url, { dispatcher: agent(), method: order.method ?? "GET", body });
    return { status: answer.statusCode, body: await answer.body.text() };
  },
  async fetch() {
    const { fetch } = require("undici");
    const answer = await fetch(order.url, { dispatcher: agent() });
    return { status: answer.status, body: await answer.text() };
  },
  async ws() {
    const WebSocket = require("ws");
    const { HttpsProxyAgent } = require("https-proxy-agent");
    const socket = new WebSocket(order.url, { agent: new HttpsProxyAgent(order.proxy, { ca: proxyCa }), ca });
    const once = (event) => new Promise((happened, failed) => {
      socket.once(event, (...values) => happened(values));
      socket.once("error", failed);
    });
    const answers = [];
    await once("open");
    socket.send("text \u00e4");
    answers.push(String((await once("message"))[0]));
    socket.send(Buffer.from("000102ff", "hex"));
    answers.push((await once("message"))[0].toString("hex"));
    socket.ping("pong");
    answers.push(String((await once("pong"))[0]));
    socket.close(1000);
    return { answers, code: (await once("close"))[0] };
  },
};

tasks[order.task]().then(
  (found) => {
    process.stdout.write(JSON.stringify({ ...inner, ...found }), () => process.exit(0));
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
