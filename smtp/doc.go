// Package smtp is the wire: it serves one connection of the Simple Mail
// Transfer Protocol (RFC 5321), turning octets into commands and commands into
// calls of a [Session], and answers with what the Session says. [Serve] is the
// way in.
//
// What it promises whatever a peer sends:
//
//   - after 354, and after BDAT n, every octet up to the true end of the text
//     is text, or the connection closes: it is never read as a command;
//   - memory is bounded by fixed buffers, not by what the peer sends or by how
//     slowly it does so;
//   - one reply a command, from the table in [Replies] or the Session's own
//     [Reply]; the text of an internal error never reaches the peer.
//
// It knows no queue, no policy and no file.
package smtp
