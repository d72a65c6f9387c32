// Node's tls module as a TLS peer of the tests: one line of standard input is
// one connection, as script_test.go describes.
import tls from 'node:tls';
import fs from 'node:fs';
import crypto from 'node:crypto';
import readline from 'node:readline';

console.log('version=' + process.version);
for await (const line of readline.createInterface({ input: process.stdin })) {
  const call = Object.fromEntries(line.split('\t').map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]));
  const said = {};
  try {
    if (call.role === 'client') await visit(call, said);
    else await server(call, said);
  } catch (e) {
    said.error = String(e.code ?? '') + ' ' + String(e.message).replace(/\s+/g, ' ');
  }
  console.log(['result', ...Object.entries(said).map(([k, v]) => `${k}=${v}`)].join('\t'));
}

function options(call) {
  return {
    minVersion: call.version, maxVersion: call.version, ALPNProtocols: ['interop'], ca: fs.readFileSync(call.ca),
    ...(call.crt && { cert: fs.readFileSync(call.crt), key: fs.readFileSync(call.key) }),
    ...(call.crl && { crl: fs.readFileSync(call.crl) }),
    allowHalfOpen: true,
  };
}

async function visit(call, said) {
  const sessions = []; // the newest is the last
  for (let i = 0; i < Number(call.visits ?? 1); i++) await client(call, said, sessions);
}

function client(call, said, sessions) {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ ...options(call), session: sessions.at(-1), host: '127.0.0.1', port: Number(call.port), servername: call.name ?? 'localhost', sigalgs: { RSA: 'RSA-PSS+SHA256', ECDSA: 'ECDSA+SHA256' }[call.auth], requestOCSP: 'status' in call }, () => {
      describe(socket, said);
      if (call.again) socket.renegotiate({}, () => {});
      socket.write(fs.readFileSync(call.send));
    });
    socket.on('session', (session) => sessions.push(session));
    socket.on('OCSPResponse', (response) => { if (response) said.status = response.toString('hex'); });
    talk(socket, call, said, () => socket.end(), resolve, reject);
  });
}

function server(call, said) {
  return new Promise((resolve, reject) => {
    let expected = Number(call.visits ?? 1), left = expected;
    const last = () => { if (--left === 0) resolve(); };
    const listener = tls.createServer({ ...options(call), requestCert: 'ask' in call, rejectUnauthorized: 'ask' in call }, (socket) => {
      describe(socket, said);
      if (call.again) socket.renegotiate({}, () => {});
      talk(socket, call, said, () => socket.write(fs.readFileSync(call.send)), last, reject);
      socket.on('end', () => socket.end());
      if (--expected === 0) listener.close();
    });
    if (call.staple) listener.on('OCSPRequest', (crt, issuer, answer) => answer(null, fs.readFileSync(call.staple)));
    listener.on('tlsClientError', (e) => {
      listener.close();
      reject(e);
    });
    listener.listen(0, '127.0.0.1', () => console.log('port=' + listener.address().port));
  });
}

// talk calls got once all is received, and resolve at the end.
function talk(socket, call, said, got, resolve, reject) {
  let parts = [], length = 0, all = false;
  socket.setTimeout(30000, () => socket.destroy(new Error('timeout')));
  socket.on('data', (part) => {
    parts.push(part);
    length += part.length;
    if (all) said.error = 'more data';
    if (!all && length >= Number(call.want)) {
      all = true;
      const sum = crypto.createHash('sha256').update(Buffer.concat(parts)).digest('hex');
      if (said.sha256 && said.sha256 !== sum) said.error = 'other data than in the connection before';
      said.sha256 = sum;
      got();
    }
  });
  socket.on('end', () => { said.end = 'orderly'; });
  socket.on('error', reject);
  socket.on('close', resolve);
}

function describe(socket, said) {
  said.resumed = socket.isSessionReused() ? 'yes' : 'no';
  said.version = socket.getProtocol();
  said.cipher = socket.getCipher().standardName;
  const cert = socket.getPeerCertificate();
  if (cert.subject) said.cert = cert.subject.CN;
}
