// What Node's HTTP server reads in recorded connections: its parser is llhttp, strict as by
// default. In: one connection a line, in hexadecimal. Out: one line of JSON each,
// `{"requests": [...], "error": ""}`; the last request is not `whole` if its end is missing.
'use strict';

const http = require('node:http');
const { Duplex } = require('node:stream');
const { createInterface } = require('node:readline');
const { setImmediate: turn } = require('node:timers/promises');

const server = http.createServer({ maxHeaderSize: 1 << 20 });

server.on('request', (request, response) => {
  const read = start(request);
  const body = [];
  request.on('data', (piece) => body.push(piece));
  // One that breaks off; the connection's own error says so.
  request.on('error', () => {});
  request.on('end', () => {
    end(read, Buffer.concat(body), request.rawTrailers);
    response.end();
  });
});

// Node gives a connection away with the first request to upgrade it. As no backend here accepts,
// what comes behind it is the next request.
server.on('upgrade', (request, socket, behind) => {
  end(start(request), Buffer.alloc(0), []);
  socket.behind = behind;
  socket.destroy();
});

server.on('clientError', (error, socket) => {
  const { record } = socket;
  if (!socket.isOver || error.code !== 'HPE_INVALID_EOF_STATE') {
    record.error ||= `${error.code}: ${error.message}`;
  } else if (record.requests.every((request) => request.whole)) {
    // It broke off in a head.
    record.requests.push({ whole: false });
  }
  socket.destroy();
});

function start(request) {
  const { method, url: target, httpVersion: version } = request;
  const read = { whole: false, method, target, version, fields: pairs(request.rawHeaders) };
  request.socket.record.requests.push(read);
  return read;
}

function end(read, body, trailers) {
  Object.assign(read, { whole: true, body: body.toString('hex'), trailers: pairs(trailers) });
}

function pairs(raw) {
  const fields = [];
  for (let i = 0; i < raw.length; i += 2) {
    fields.push([raw[i].toLowerCase(), raw[i + 1]]);
  }
  return fields;
}

// Reads the bytes of one connection into `record`; the value is what is left to read.
async function read(bytes, record) {
  const write = (_piece, _encoding, done) => done();
  const socket = Object.assign(new Duplex({ read() {}, write }), { record, isOver: false });
  const closed = new Promise((resolve) => socket.on('close', resolve));
  server.emit('connection', socket);
  socket.push(bytes);
  // All that follows from it happens before the second turn of the event loop; an end that came
  // earlier would abort requests which are whole but not yet answered.
  await turn();
  await turn();
  socket.isOver = true;
  socket.push(null);
  await closed;
  return socket.behind ?? Buffer.alloc(0);
}

async function main() {
  for await (const line of createInterface({ input: process.stdin })) {
    const record = { requests: [], error: '' };
    for (let rest = Buffer.from(line, 'hex'); rest.length > 0; ) {
      rest = await read(rest, record);
    }
    process.stdout.write(`${JSON.stringify(record)}\n`);
  }
}

main();
