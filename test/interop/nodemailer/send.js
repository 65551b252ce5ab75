// Sends one message, as the job on standard input says, and ends with 1 when it was not taken.
'use strict';
const fs = require('fs');
const nodemailer = require('nodemailer');

const job = JSON.parse(fs.readFileSync(0, 'utf8'));
const transport = nodemailer.createTransport({
  host: job.host,
  port: job.port,
  name: 'client.example.net',
  secure: job.tls === 'implicit',
  requireTLS: job.tls === 'starttls',
  ignoreTLS: job.tls === 'clear',
  tls: { ca: job.ca ? fs.readFileSync(job.ca) : undefined, servername: job.servername },
});
transport
  .sendMail({ envelope: { from: job.from, to: job.to }, raw: fs.readFileSync(job.file) })
  .then((info) => {
    if (info.rejected.length > 0) throw new Error('refused: ' + info.rejected);
  })
  .catch((err) => {
    console.error(err.message);
    process.exitCode = 1;
  });
