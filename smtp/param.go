package smtp

import (
	"bytes"
	"errors"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	mostEnvID = 100 // octets decoded (RFC 3461 §4.4)
	mostORcpt = 500 // octets (RFC 3461 §4.2)
)

var (
	errBadParam     = errors.New("smtp: bad parameter")
	errUnknownParam = errors.New("smtp: unknown parameter")
	errBodyParam    = errors.New("smtp: BODY type not supported")
	errTooBig       = errors.New("smtp: SIZE out of range")
)

// parseMailParams takes what follows the path of MAIL. A SIZE that no int64
// holds is errTooBig.
func parseMailParams(rest []byte) (p MailParams, err error) {
	var seen seenParams
	for one := range params(rest) {
		name := upperKey(one.key)
		if !seen.first(name) {
			return MailParams{}, errBadParam
		}
		if err := p.set(name, one.value, one.has); err != nil {
			return MailParams{}, err
		}
	}
	return p, nil
}

func (p *MailParams) set(name string, value []byte, has bool) (err error) {
	switch name {
	case "SIZE":
		n, ok := parseSize(value)
		if !ok {
			return errBadParam
		}
		if n < 0 {
			return errTooBig
		}
		p.Size = n
	case "BODY":
		p.Body, err = parseBody(value)
	case "SMTPUTF8":
		if has {
			return errBadParam
		}
		p.SMTPUTF8 = true
	case "RET":
		p.Ret, err = parseRet(value)
	case "ENVID":
		p.EnvID, err = decodeXtext(value, mostEnvID, false)
	case "AUTH":
		if len(value) == 0 || !printable(value) {
			return errBadParam
		}
		p.Auth = string(value)
	default:
		return unknownParam(name)
	}
	return err
}

func parseRet(value []byte) (string, error) {
	for _, known := range [...]string{"FULL", "HDRS"} {
		if isWord(value, known) {
			return known, nil
		}
	}
	return "", errBadParam
}

func parseBody(value []byte) (string, error) {
	switch {
	case isWord(value, "7BIT"):
		return "7BIT", nil
	case isWord(value, "8BITMIME"):
		return "8BITMIME", nil
	case isWord(value, "BINARYMIME"):
		return "", errBodyParam // not offered (RFC 3030 §3)
	}
	return "", errBadParam
}

// parseRcptParams takes what follows the path of RCPT.
func parseRcptParams(rest []byte, smtputf8 bool) (p RcptParams, err error) {
	var seen seenParams
	for one := range params(rest) {
		name := upperKey(one.key)
		if !seen.first(name) {
			return RcptParams{}, errBadParam
		}
		switch name {
		case "NOTIFY":
			p.Notify, err = parseNotify(one.value)
		case "ORCPT":
			p.ORcpt, err = parseORcpt(one.value, smtputf8)
		default:
			err = unknownParam(name)
		}
		if err != nil {
			return RcptParams{}, err
		}
	}
	return p, nil
}

func parseNotify(value []byte) (string, error) {
	if !printable(value) {
		return "", errBadParam
	}
	notify := strings.ToUpper(string(value))
	if notify == "NEVER" {
		return notify, nil
	}
	for item := range strings.SplitSeq(notify, ",") {
		if item != "SUCCESS" && item != "FAILURE" && item != "DELAY" {
			return "", errBadParam
		}
	}
	return notify, nil
}

// parseORcpt takes "type;xtext".
func parseORcpt(value []byte, smtputf8 bool) (string, error) {
	kind, address, ok := bytes.Cut(value, []byte(";"))
	if !ok || len(kind) == 0 || len(address) == 0 || !isKeyword(kind) {
		return "", errBadParam
	}
	decoded, err := decodeXtext(address, mostORcpt, smtputf8)
	if err != nil {
		return "", err
	}
	return string(kind) + ";" + decoded, nil
}

type param struct {
	key, value []byte
	has        bool // a value, be it an empty one
}

// params takes a list of esmtp parameters apart (RFC 5321 §4.1.2).
func params(rest []byte) iter.Seq[param] {
	return func(yield func(param) bool) {
		for {
			rest = bytes.TrimLeft(rest, " \t")
			if len(rest) == 0 {
				return
			}
			end := bytes.IndexAny(rest, " \t")
			if end < 0 {
				end = len(rest)
			}
			var one param
			one.key, one.value, one.has = bytes.Cut(rest[:end], []byte("="))
			rest = rest[end:]
			if !yield(one) {
				return
			}
		}
	}
}

// upperKey is a keyword that we know in upper case, "?" for one that we do not,
// and "" for what is no keyword.
func upperKey(key []byte) string {
	if !isKeyword(key) {
		return ""
	}
	for _, known := range [...]string{"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH", "NOTIFY", "ORCPT"} {
		if isWord(key, known) {
			return known
		}
	}
	return "?"
}

func unknownParam(name string) error {
	if name == "" {
		return errBadParam
	}
	return errUnknownParam
}

// isKeyword reports whether key is letters, digits and hyphens, not beginning
// with a hyphen.
func isKeyword(key []byte) bool {
	for i, c := range key {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (c != '-' || i == 0) {
			return false
		}
	}
	return len(key) > 0
}

// seenParams refuses a parameter given twice. At most six keywords are known to
// one command.
type seenParams struct {
	names [6]string
	n     int
}

func (s *seenParams) first(name string) bool {
	for _, seen := range s.names[:s.n] {
		if seen == name {
			return false
		}
	}
	if s.n < len(s.names) && name != "?" {
		s.names[s.n] = name
		s.n++
	}
	return true
}

// decodeXtext decodes xtext (RFC 3461 §4) of at most that many octets. A bare
// "=" is let pass. What comes out is printable, so that it can be logged and put
// into a header field.
func decodeXtext(value []byte, most int, smtputf8 bool) (string, error) {
	if len(value) == 0 {
		return "", errBadParam
	}
	out := make([]byte, 0, min(len(value), most))
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == '+' {
			if i+2 >= len(value) {
				return "", errBadParam
			}
			hi, lo := unhex(value[i+1]), unhex(value[i+2])
			if hi < 0 || lo < 0 {
				return "", errBadParam
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		if c < ' ' || c == 0x7f || c >= 0x80 && !smtputf8 || len(out) == most {
			return "", errBadParam
		}
		out = append(out, c)
	}
	if !utf8.Valid(out) || bytes.ContainsFunc(out, unicode.IsControl) {
		return "", errBadParam
	}
	return string(out), nil
}

// unhex is the value of an upper-case hexadecimal digit, -1 for anything else.
// Lower case is let pass.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

func printable(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
