package smtp

import (
	"bytes"
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// differs says where the engine and the reference disagree; "" when they do not.
// What is said and seen behind a STARTTLS that was obeyed depends on whether
// octets had come with it: then it is an error, else they are a handshake, which
// fails. Neither lets them be commands.
func differs(got, want played) string {
	if want.end.Reason == "tls" {
		before := strings.TrimSuffix(want.said, "220 2.0.0 Ready to start TLS\r\n")
		behind, same := strings.CutPrefix(got.said, before)
		alert, began := strings.CutPrefix(behind, "220 2.0.0 Ready to start TLS\r\n")
		switch {
		case !same:
			return diff("said", got.said, want.said)
		case began && (alert == "" || strings.HasPrefix(alert, "\x15\x03") || strings.HasPrefix(alert, "\x16\x03")):
		case behind == "554 5.5.1 Nothing may follow STARTTLS before the handshake\r\n":
		default:
			return diff("said behind STARTTLS", behind, "a handshake, or 554")
		}
		got.said, got.end.Reason = want.said, want.end.Reason
		got.saw, want.saw = withoutEnd(got.saw), withoutEnd(want.saw)
	}
	switch {
	case got.said != want.said:
		return diff("said", got.said, want.said)
	case !slices.Equal(got.saw, want.saw):
		return diff("saw", strings.Join(got.saw, "\n"), strings.Join(want.saw, "\n"))
	case got.end.Reason != want.end.Reason || got.end.Messages != want.end.Messages:
		return diff("ended", got.end.Reason, want.end.Reason)
	}
	return strings.Join(append(got.faults, want.faults...), "; ")
}

// withoutEnd is what was seen, but for how a transaction was given up.
func withoutEnd(saw []string) []string {
	for len(saw) > 0 && (saw[len(saw)-1] == "reset" || saw[len(saw)-1] == "abort") {
		saw = saw[:len(saw)-1]
	}
	return saw
}

// TestTheReferenceIsRight: it passes every transcript that does not depend on
// what comes together, as the engine does.
func TestTheReferenceIsRight(t *testing.T) {
	t.Parallel()
	for _, s := range scripts(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			cfg, rules := configure(t, s)
			sent := bytes.Join(s.Sent(), nil)
			if len(sent) > 64<<10 {
				t.Skip("too long for one that looks at everything anew with each octet")
			}
			if bad := differs(play(cfg, rules, [][]byte{sent}), refer(cfg, rules, false, sent)); bad != "" {
				t.Error(bad)
			}
		})
	}
}

// tongue is what the octets of 0xc0 and over stand for in the input of
// FuzzReference, so that it is made of commands more often than of noise. 0xbf
// makes the octet behind it one of the other half.
var tongue = []string{
	"EHLO c.example\r\n", "HELO c.example\r\n", "MAIL FROM:<a@x.example>\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<b@y.example>\r\n", "RCPT TO:<no@y.example>\r\n",
	"DATA\r\n", "BDAT ", "BDAT 5\r\n", "BDAT 5 LAST\r\n", "BDAT 0\r\n", "BDAT 0 LAST\r\n", " LAST", "RSET\r\n", "NOOP\r\n", "QUIT\r\n", "STARTTLS\r\n",
	"VRFY ", "HELP", "XCLIENT ", "AUTH ", "LHLO x\r\n", "GET / HTTP/1.1\r\n", "\r\n.\r\n", ".\r\n", "\r\n", "\n.\n", "\r.\r", "MAIL FROM:", "RCPT TO:",
	"<", ">", "@x.example", "<b@y.example>", "\"", "[IPv6:::1]", " SIZE=", " BODY=", "8BITMIME", "BINARYMIME", " SMTPUTF8", " RET=FULL", " ENVID=", " AUTH=<>",
	" NOTIFY=", "NEVER", "SUCCESS", "FAILURE", " ORCPT=rfc822;", "+41", "postmaster", "\xc3\xb6", "\xc2\x85", "\xc5\xbf", "abcdefghijklmnopqrstuvwxyz",
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "9223372036854775807", "@y.example:", "EHLO ", "bcd", "ef",
}

const otherHalf = 0xbf

// spell writes in full what is written in the tongue.
func spell(short []byte) []byte {
	var full []byte
	for i := 0; i < len(short); i++ {
		c := short[i]
		switch {
		case c == otherHalf:
			if i++; i < len(short) {
				full = append(full, short[i]|0x80)
			}
		case c > otherHalf && int(c-otherHalf-1) < len(tongue):
			full = append(full, tongue[c-otherHalf-1]...)
		default:
			full = append(full, c)
		}
	}
	return full
}

// abridge is spell backwards.
func abridge(full []byte) []byte {
	var short []byte
next:
	for len(full) > 0 {
		for i, word := range tongue {
			if bytes.HasPrefix(full, []byte(word)) {
				short = append(short, byte(otherHalf+1+i))
				full = full[len(word):]
				continue next
			}
		}
		if full[0] >= otherHalf {
			short = append(short, otherHalf)
		}
		short = append(short, full[0])
		full = full[1:]
	}
	return short
}

func TestWhatIsAbridgedIsSpeltAgain(t *testing.T) {
	t.Parallel()
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	for _, s := range []string{string(all), strings.Join(tongue, ""), "EHLO c.example\r\nfoo\xff\xfe\xbf"} {
		if got := spell(abridge([]byte(s))); string(got) != s {
			t.Errorf("%q is now %q", s, got)
		}
	}
	if len(tongue) > 0xff-otherHalf {
		t.Errorf("%d words", len(tongue))
	}
}

// settings is a configuration, the Session's rules, and whether TLS is there
// already, all drawn from a number.
func settings(how uint64, tls *tls.Config) (cfg *Config, rules map[string]string, encrypted bool) {
	cfg = &Config{Hostname: "mx.example", TLS: tls}
	cfg.TLSMode = pick(&how, TLSDisabled, TLSOptional, TLSRequired, TLSOptional)
	encrypted = cfg.TLSMode == TLSOptional && pick(&how, true, false)
	cfg.LMTP = pick(&how, false, false, true)
	cfg.Limits.MessageSize = pick[int64](&how, 0, 100, 20, 3)
	cfg.Limits.CommandLine = pick(&how, 0, 60)
	cfg.Limits.Commands = pick(&how, 0, 12, 5)
	cfg.Limits.Errors = pick(&how, 0, 2)
	cfg.Limits.Recipients = pick(&how, 0, 2)
	cfg.Limits.RefusedRecipients = pick(&how, 0, 2)
	cfg.Limits.SessionSize = pick[int64](&how, 0, 0, 150)
	yes := func(netip.AddrPort) bool { return true }
	cfg.RejectBareNewline, cfg.Lenient = pick(&how, nil, yes), pick(&how, nil, yes)
	rules = map[string]string{"rcpt no@y.example": "550 5.1.1 No such user"}
	for _, call := range []string{"hello EVIL", "mail", "rcpt", "data", "write", "end", "abort", "reset"} {
		if answer := pick(&how, "", "", "", "", "550 5.7.1 No", "error secret", "panic secret", "421 4.3.2 Gone"); answer != "" {
			rules[call] = answer
		}
	}
	return cfg, rules, encrypted
}

// pick draws one of the values.
func pick[T any](how *uint64, values ...T) T {
	n := uint64(len(values))
	v := values[*how%n]
	*how /= n
	return v
}

// piecesOf cuts a dialogue: sizes are those of its pieces, over and over; none
// leaves it whole.
func piecesOf(sent, sizes []byte) [][]byte {
	if len(sizes) == 0 {
		return [][]byte{sent}
	}
	var pieces [][]byte
	for i := 0; len(sent) > 0; i++ {
		n := min(1+int(sizes[i%len(sizes)]), len(sent))
		pieces = append(pieces, sent[:n])
		sent = sent[n:]
	}
	return pieces
}

// FuzzReference holds the engine against the reference: whatever is sent, and
// however it is cut, the replies, what the Session sees and the end are the same.
func FuzzReference(f *testing.F) {
	for _, s := range scripts(f) {
		if sent := bytes.Join(s.Sent(), nil); len(sent) < 1000 {
			f.Add(uint64(0), abridge(sent), []byte{0, 6, 2})
		}
	}
	dialogue := envelope + "RCPT TO:<no@y.example>\r\nDATA\r\na\n.\r\n.\r\nEHLO EVIL\r\nRSET\r\n" +
		"MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<b@y.example>\r\nRCPT TO:<b@y.example>\r\nBDAT 5\r\nabcdeBDAT 5 LAST\r\nfghijNOOP\r\nSTARTTLS\r\nQUIT\r\n"
	for how := range uint64(200) {
		// A step that is prime to all that settings draws from.
		f.Add(how*0x9e3779b97f4a7c15, abridge([]byte(dialogue)), []byte{byte(how)})
		f.Add(how*0x9e3779b97f4a7c15, abridge([]byte(strings.ReplaceAll(dialogue, "EHLO", "LHLO"))), []byte{byte(how)})
	}
	withTLS := testTLS(f)
	f.Fuzz(func(t *testing.T, how uint64, short, sizes []byte) {
		sent := spell(short)
		if len(sent) > 4096 {
			return
		}
		cfg, rules, encrypted := settings(how, withTLS)
		serve := Serve
		if encrypted {
			serve = serveInTLS
		}
		want := refer(cfg, rules, encrypted, sent)
		for _, pieces := range [][][]byte{{sent}, piecesOf(sent, []byte{0}), piecesOf(sent, sizes)} {
			if bad := differs(playBy(serve, cfg, rules, pieces), want); bad != "" {
				t.Fatalf("%q in %d pieces, %+v, %v: %s", sent, len(pieces), cfg.Limits, rules, bad)
			}
		}
	})
}
