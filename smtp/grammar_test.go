package smtp

import (
	"math/big"
	"net/netip"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// This is what the parsers are held against: the grammar of commands as regular
// expressions and whole strings, octet by octet as Latin-1 where it matters.

// octets is a pattern over octets: regexp reads UTF-8, so that each octet is
// made one character of its own.
type octets struct{ *regexp.Regexp }

func pattern(p string) octets { return octets{regexp.MustCompile(`\A(?:` + p + `)`)} }

// latin is s with each octet as a character.
func latin(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// octetsOf is latin backwards.
func octetsOf(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

// find is the submatches at the beginning of s; nil when there is no match.
func (o octets) find(s string) []string {
	found := o.FindStringSubmatch(latin(s))
	for i := range found {
		found[i] = octetsOf(found[i])
	}
	return found
}

const (
	letters   = `A-Za-z0-9_\-`
	wide      = `\x{80}-\x{ff}`
	label     = `(?:[` + letters + `]{0,63}[` + wide + `][` + letters + wide + `]*|[` + letters + `]{1,63})`
	literal   = `\[[^\]]*\]`
	domain    = `(?:` + literal + `|` + label + `(?:\.` + label + `)*)`
	quoted    = `"(?:\\[ -~]|[^\x00-\x1f"\\\x7f])*"`
	unquoted  = `[^\x00- \x7f()<>\[\]:;\\,"@]`
	localPart = `(?:` + quoted + `|` + unquoted + `+)`
	route     = `@` + domain + `(?:,@` + domain + `)*:`
)

var (
	controls  = regexp.MustCompile(`[\x00-\x08\x0a-\x1f\x7f]`)
	helloName = regexp.MustCompile(`\A[!-~]{1,255}\z`)

	onePath   = pattern(`<(` + route + `)?(` + localPart + `)(?:@(` + domain + `))?>(?s:(|[ \t].*))\z`)
	nullPath  = pattern(`<>(?s:(|[ \t].*))\z`)
	longLabel = pattern(`<(?:((?:@` + domain + `,)*)@|(` + route + `)?` + localPart + `@)(?:` + label + `\.)*[` + letters + `]{64}`)
	literals  = regexp.MustCompile(literal)
	chunkSize = regexp.MustCompile(`\A([0-9]{1,100})(?:[ \t]+([A-Za-z]+))?\z`)
	digits    = regexp.MustCompile(`\A[0-9]{1,100}\z`)
	keyword   = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9-]*\z`)
	visible   = regexp.MustCompile(`\A[!-~]+\z`)
	notify    = regexp.MustCompile(`\A(NEVER|(SUCCESS|FAILURE|DELAY)(,(SUCCESS|FAILURE|DELAY))*)\z`)
	hexPair   = regexp.MustCompile(`\A\+[0-9A-Fa-f]{2}`)
)

const (
	here      = " EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT STARTTLS VRFY HELP XCLIENT "
	elsewhere = " EXPN AUTH TURN ETRN ATRN SEND SOML SAML BURL XFORWARD XEXCH50 LHLO "
)

var httpVerbs = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "DELETE": true, "OPTIONS": true, "CONNECT": true,
	"TRACE": true, "PATCH": true, "PRI": true}

// upper is for protocol words: ASCII, and nothing else is a letter.
func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// words is the verb in upper case and what follows it; no verb is "".
func words(line string) (verb, args string) {
	verb = line
	if i := strings.IndexAny(latin(line), " \t"); i >= 0 {
		verb = octetsOf(latin(line)[:i])
	}
	args = strings.Trim(line[len(verb):], " \t")
	verb = upper(verb)
	if verb == "" || strings.Contains(verb, " ") || !strings.Contains(here+elsewhere, " "+verb+" ") && !httpVerbs[verb] {
		return "", line
	}
	return verb, args
}

// readPath is nil when there is no path; tooLong when it is one, or would be.
func readPath(s string) (p Path, rest string, ok, tooLong bool) {
	if found := longLabel.find(s); found != nil && goodLiterals(found[1]+found[2]) {
		return Path{}, "", false, true
	}
	if found := nullPath.find(s); found != nil {
		return Path{}, found[1], true, false
	}
	found := onePath.find(s)
	if found == nil || !goodLiterals(found[1]+found[3]) {
		return Path{}, "", false, false
	}
	p = Path{Local: found[2], Domain: found[3]}
	if len(p.String()) > 254 {
		return Path{}, "", false, true
	}
	return p, found[4], true, false
}

// goodLiterals reports whether all that stands in square brackets is an address.
func goodLiterals(s string) bool {
	for _, one := range literals.FindAllString(s, -1) {
		one = one[1 : len(one)-1]
		v4 := true
		if len(one) > 5 && upper(one[:5]) == "IPV6:" {
			one, v4 = one[5:], false
		}
		a, err := netip.ParseAddr(one)
		if err != nil || a.Is4() != v4 || a.Zone() != "" {
			return false
		}
	}
	return true
}

func isAddressText(p Path) bool {
	return utf8.ValidString(p.Local) && utf8.ValidString(p.Domain) && !strings.ContainsFunc(p.String(), unicode.IsControl)
}

func overASCII(s string) bool {
	return strings.ContainsFunc(latin(s), func(r rune) bool { return r >= 0x80 })
}

// keywordOf cuts FROM: and TO: off. To be lenient is to put in the brackets that
// are missing.
func keywordOf(args, want string, lenient bool) (rest string, ok bool) {
	if len(args) < len(want) || upper(args[:len(want)]) != want {
		return "", false
	}
	rest = strings.TrimLeft(args[len(want):], " \t")
	if lenient && rest != "" && rest[0] != '<' {
		address := blanks(rest)[0]
		rest = "<" + address + ">" + rest[len(address):]
	}
	return rest, rest != ""
}

func readMAIL(args string, lenient bool) (Path, MailParams, *Reply) {
	var p MailParams
	rest, ok := keywordOf(args, "FROM:", lenient)
	if !ok {
		return Path{}, p, replyMailSyntax
	}
	from, rest, ok, tooLong := readPath(rest)
	switch {
	case tooLong:
		return Path{}, p, replyLongSender
	case !ok, from.Domain == "" && from.Local != "":
		return Path{}, p, replyBadSender
	}
	for i, one := range blanks(rest) {
		key, value, has := strings.Cut(one, "=")
		if !keyword.MatchString(key) || twice(blanks(rest)[:i], key) {
			return Path{}, p, replyBadParam
		}
		switch upper(key) {
		case "SIZE":
			if !digits.MatchString(value) {
				return Path{}, p, replyBadParam
			}
			n, _ := new(big.Int).SetString(value, 10)
			if !n.IsInt64() {
				return Path{}, p, replyTooBig
			}
			p.Size = n.Int64()
		case "BODY":
			p.Body = upper(value)
			if p.Body == "BINARYMIME" {
				return Path{}, p, replyBodyParam
			}
			ok = p.Body == "7BIT" || p.Body == "8BITMIME"
		case "SMTPUTF8":
			p.SMTPUTF8, ok = true, !has
		case "RET":
			p.Ret = upper(value)
			ok = p.Ret == "FULL" || p.Ret == "HDRS"
		case "ENVID":
			p.EnvID, ok = readXtext(value, 100)
			ok = ok && !overASCII(p.EnvID)
		case "AUTH":
			p.Auth, ok = value, visible.MatchString(value)
		default:
			return Path{}, p, replyUnknownParam
		}
		if !ok {
			return Path{}, p, replyBadParam
		}
	}
	switch {
	case overASCII(from.String()) && !p.SMTPUTF8:
		return Path{}, p, replyUTF8Sender
	case !isAddressText(from):
		return Path{}, p, replyBadSender
	}
	return from, p, nil
}

func readRCPT(args string, smtputf8, lenient bool) (Path, RcptParams, *Reply) {
	var p RcptParams
	rest, ok := keywordOf(args, "TO:", lenient)
	if !ok {
		return Path{}, p, replyRcptSyntax
	}
	to, rest, ok, tooLong := readPath(rest)
	switch {
	case tooLong:
		return Path{}, p, replyLongPath
	case !ok, to.Domain == "" && upper(to.Local) != "POSTMASTER":
		return Path{}, p, replyBadRecipient
	case overASCII(to.String()) && !smtputf8:
		return Path{}, p, replyNeedsUTF8
	case !isAddressText(to):
		return Path{}, p, replyBadRecipient
	}
	for i, one := range blanks(rest) {
		key, value, _ := strings.Cut(one, "=")
		if !keyword.MatchString(key) || twice(blanks(rest)[:i], key) {
			return Path{}, p, replyBadParam
		}
		switch upper(key) {
		case "NOTIFY":
			p.Notify = upper(value)
			ok = notify.MatchString(p.Notify)
		case "ORCPT":
			kind, address, _ := strings.Cut(value, ";")
			address, ok = readXtext(address, 500)
			ok = ok && keyword.MatchString(kind) && (smtputf8 || !overASCII(address))
			p.ORcpt = kind + ";" + address
		default:
			return Path{}, p, replyUnknownParam
		}
		if !ok {
			return Path{}, p, replyBadParam
		}
	}
	return to, p, nil
}

// blanks is the words of s. Only SP and HT are white space.
func blanks(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' })
}

// firstWord is the name that somebody may have meant by a hello of more.
func firstWord(args string) string {
	word, _, _ := strings.Cut(args, " ")
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c > '~' {
			return '?'
		}
		return c
	}, word)
}

// twice reports whether a parameter was there before.
func twice(before []string, key string) bool {
	for _, one := range before {
		other, _, _ := strings.Cut(one, "=")
		if upper(other) == upper(key) {
			return true
		}
	}
	return false
}

// readXtext is text of one to most octets, all of which can be shown.
func readXtext(value string, most int) (text string, ok bool) {
	var b []byte
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == '+' {
			pair := hexPair.FindString(value[i:])
			if pair == "" {
				return "", false
			}
			n, _ := new(big.Int).SetString(pair[1:], 16)
			c = byte(n.Uint64())
			i += 2
		}
		b = append(b, c)
	}
	text = string(b)
	return text, text != "" && len(text) <= most && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

func readChunkSize(args string) (size int64, last, ok bool) {
	found := chunkSize.FindStringSubmatch(args)
	if found == nil {
		return 0, false, false
	}
	n, _ := new(big.Int).SetString(found[1], 10)
	word := upper(found[2])
	return n.Int64(), word == "LAST", n.IsInt64() && (word == "LAST" || word == "")
}
