package smtp

import (
	"bytes"
	"strings"
)

// verb is a command's name.
type verb uint8

const (
	verbUnknown verb = iota
	verbEHLO
	verbHELO
	verbLHLO
	verbMAIL
	verbRCPT
	verbDATA
	verbBDAT
	verbRSET
	verbNOOP
	verbQUIT
	verbSTARTTLS
	verbVRFY
	verbHELP
	verbXCLIENT
	verbRefused // known, and not here: EXPN, AUTH, TURN, …
	verbCount
	verbHTTP = verbCount // a request of HTTP: never a command
)

// mostVerb is the length of the longest name.
const mostVerb = len("STARTTLS")

// parseCommand takes a line without line end apart: the verb, and what follows
// it without white space around. White space is SP and HT. A name that is no
// verb is verbUnknown, with the whole line as args.
func parseCommand(line []byte) (v verb, args []byte) {
	end := bytes.IndexAny(line, " \t")
	if end < 0 {
		end = len(line)
	}
	v = parseVerb(line[:end])
	if v == verbUnknown {
		return v, line
	}
	return v, bytes.Trim(line[end:], " \t")
}

func parseVerb(name []byte) verb {
	if len(name) > mostVerb {
		return verbUnknown
	}
	var upper [mostVerb]byte
	for i, c := range name {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	switch string(upper[:len(name)]) {
	case "EHLO":
		return verbEHLO
	case "HELO":
		return verbHELO
	case "LHLO":
		return verbLHLO
	case "MAIL":
		return verbMAIL
	case "RCPT":
		return verbRCPT
	case "DATA":
		return verbDATA
	case "BDAT":
		return verbBDAT
	case "RSET":
		return verbRSET
	case "NOOP":
		return verbNOOP
	case "QUIT":
		return verbQUIT
	case "STARTTLS":
		return verbSTARTTLS
	case "VRFY":
		return verbVRFY
	case "HELP":
		return verbHELP
	case "XCLIENT":
		return verbXCLIENT
	case "EXPN", "AUTH", "TURN", "ETRN", "ATRN", "SEND", "SOML", "SAML", "BURL", "XFORWARD", "XEXCH50":
		return verbRefused
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI":
		return verbHTTP
	}
	return verbUnknown
}

// isWord reports whether b is a word of the protocol, in any case. The words are
// ASCII: what folds to their letters elsewhere, as ſ does to S, is none.
func isWord[T ~string | ~[]byte](b T, word string) bool {
	return len(b) == len(word) && strings.EqualFold(string(b), word)
}

// hasControl reports whether b has a control character other than HT, or DEL.
func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// parseHello takes the argument of EHLO and HELO: one token of printable ASCII.
// More is not asked, for real clients send bare words, underscores and
// addresses without brackets; what it is worth is a policy's to say.
func parseHello(args []byte) (name string, ok bool) {
	if len(args) == 0 || len(args) > 255 {
		return "", false
	}
	for _, c := range args {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	return string(args), true
}

// helloOfSorts takes what a lenient server makes of an argument that is no name:
// its first word. Control characters stay what they are: no name.
func helloOfSorts(args []byte) (name string, ok bool) {
	if hasControl(args) {
		return "", false
	}
	word, _, _ := bytes.Cut(args, []byte(" "))
	word = bytes.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, word)
	return parseHello(word)
}

// parseChunk takes the argument of BDAT (RFC 3030 §2). A size that does not fit
// is as bad as one that is no number: we could not know where the chunk ends.
func parseChunk(args []byte) (size int64, last, ok bool) {
	end := bytes.IndexAny(args, " \t")
	if end < 0 {
		end = len(args)
	}
	if size, ok = parseSize(args[:end]); !ok || size < 0 {
		return 0, false, false
	}
	rest := bytes.Trim(args[end:], " \t")
	last = isWord(rest, "LAST")
	return size, last, last || len(rest) == 0
}

// parseSize takes a decimal number; -1 for one over the range of int64.
func parseSize(digits []byte) (n int64, ok bool) {
	if len(digits) == 0 || len(digits) > 100 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := int64(c - '0')
		if n < 0 || n > (1<<63-1-d)/10 {
			n = -1
			continue
		}
		n = n*10 + d
	}
	return n, true
}
