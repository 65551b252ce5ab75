// Package interop sends mail to the built daemon by clients that are not ours:
// swaks, curl, msmtp, Postfix as a relay, Python's smtplib, nodemailer and Go's
// net/smtp, and beside them by what we bring. Each sends every kind of message in
// clear, by STARTTLS and in TLS from the first octet, or by LMTP, and what arrives
// is, octet for octet, what the client was given; in clear also what it put on the
// wire. The same behind HAProxy, which tells of the client by PROXY headers, and on
// sockets that systemd hands over.
//
// It compiles always and runs when INCOMING_INTEROP is 1. A client that is not
// there is a test skipped, and with CI set a test failed. nodemailer comes by
// npm, in the version that nodemailer/package-lock.json pins.
package interop
