package smtp

import (
	"fmt"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/transcript"
)

// states bring a session to each phase.
var states = []string{
	"",
	"EHLO x\r\n",
	"EHLO x\r\nMAIL FROM:<a@x.example>\r\n",
	"EHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<no@y.example>\r\n",
	"EHLO x\r\nMAIL FROM:<a@x.example> SMTPUTF8\r\nRCPT TO:<b@y.example>\r\n",
	"EHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n",
	"EHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nBDAT 3\r\nabc",
	"EHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nBDAT 101\r\n" + strings.Repeat("a", 101),
	"EHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nBDAT 7\r\na",
}

// otherStates are those of a listener with TLS, behind and before it, and of LMTP.
var otherStates = []struct {
	mode        TLSMode
	inTLS, lmtp bool
	sent        string
}{
	{TLSOptional, false, false, ""},
	{TLSOptional, false, false, "EHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\n"},
	{TLSRequired, false, false, "EHLO x\r\n"},
	{TLSOptional, false, false, "EHLO x\r\nSTARTTLS x\r\n"},
	{TLSOptional, false, false, "EHLO x\r\nSTARTTLS\r\n"},
	{TLSOptional, true, false, ""},
	{TLSOptional, true, false, "EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\n"},
	{TLSDisabled, false, true, ""},
	{TLSDisabled, false, true, "LHLO x\r\nMAIL FROM:<a@x.example>\r\n"},
	{TLSDisabled, false, true, lmtpEnvelope},
	{TLSDisabled, false, true, lmtpEnvelope + "DATA\r\n"},
	{TLSDisabled, false, true, lmtpEnvelope + "BDAT 3\r\nabc"},
	{TLSDisabled, false, true, lmtpEnvelope + "BDAT 101\r\n" + strings.Repeat("a", 101)},
}

const lmtpEnvelope = "LHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nRCPT TO:<b@y.example>\r\n"

var replyLine = regexp.MustCompile(`^[2345][0-9][0-9]([ -][ -~]*)?\r\n$`)

// FuzzSession throws the same octets at each state, whole, octet by octet and
// cut in two: the engine must not break, keep the contract of the Session, say
// nothing but replies, and as many as the reference, do the same each time, hold
// no more memory than its buffers and leave nothing running.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"NOOP\r\nQUIT\r\n", "a\r\n.\r\nQUIT\r\n", "BDAT 3 LAST\r\nabcQUIT\r\n", "DATA\r\n.\r\n", "RSET\r\nMAIL FROM:<>\r\n", "\x16\x03\x01",
		"GET / HTTP/1.1\r\n", "\n.\n.\r\n", "DATA\r\nfoo\r\nbar\r\n", "BDAT\r\n", "BDAT 99\r\n", "EHLO \xff\r\nHELO y\r\n", "STARTTLS\r\nx",
		strings.Repeat("x", 200) + "\r\n", "RCPT TO:<\xc3\xb6@y>\r\n", "MAIL FROM:<a@x> SIZE=101\r\n", "\r\n.\r\n.\r\nRSET\r\nDATA\r\n",
		"BDAT 9223372036854775807 LAST\r\n", "MAIL FROM:<@a:>\r\n", "BDAT 3 LA\xc5\xbfT\r\nabcNOOP\r\n",
	} {
		f.Add([]byte(seed), uint16(3))
		f.Add([]byte(seed), uint16(4))
	}
	for i, s := range scripts(f) {
		// The client's lines of the case itself, without what brings it there.
		var own []byte
		for _, line := range s.Lines {
			if line.Kind == transcript.Client && !line.Included && line.Times == 1 {
				own = append(own, line.Text...)
			}
		}
		if len(own) < 150 {
			f.Add(own, uint16(i))
		}
	}
	limits := Limits{MessageSize: 100, CommandLine: 120, Commands: 30, Errors: 5, Recipients: 2, RefusedRecipients: 2}
	lenient := &Config{Hostname: "mx.example", Limits: limits, TLS: testTLS(f)}
	mild := map[string]string{"rcpt no@y.example": "550 5.1.1 No such user", "mail b@x.example": "error secret"}
	limits.MessageSize = 20
	strict := &Config{Hostname: "mx.example", Limits: limits, TLS: lenient.TLS, RejectBareNewline: func(netip.AddrPort) bool { return true }}
	harsh := map[string]string{"rcpt no@y.example": "550 5.1.1 No such user", "write": "error secret", "mail c@x.example": "550 5.7.1 No"}
	f.Fuzz(func(t *testing.T, sent []byte, cut uint16) {
		if len(sent) > 4096 {
			return
		}
		cfg, rules := *lenient, mild
		if cut%2 == 1 {
			cfg, rules = *strict, harsh
		}
		before := runtime.NumGoroutine()
		for _, state := range states {
			throw(t, &cfg, rules, false, state, sent, int(cut))
		}
		for _, state := range otherStates {
			cfg.TLSMode, cfg.LMTP = state.mode, state.lmtp
			throw(t, &cfg, rules, state.inTLS, state.sent, sent, int(cut))
		}
		for wait := time.Now(); runtime.NumGoroutine() > before; {
			if time.Since(wait) > 5*time.Second {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
			runtime.Gosched()
		}
	})
}

func throw(t *testing.T, cfg *Config, rules map[string]string, inTLS bool, state string, sent []byte, cut int) {
	t.Helper()
	serve := Serve
	if inTLS {
		serve = serveInTLS
	}
	whole := append([]byte(state), sent...)
	at := cut % (len(whole) + 1)
	want := refer(cfg, rules, inTLS, whole)
	var first []string
	for _, pieces := range [][][]byte{{whole}, piecesOf(whole, []byte{0}), {whole[:at], whole[at:]}} {
		p := playBy(serve, cfg, rules, pieces)
		if bad := differs(p, want); bad != "" {
			t.Fatalf("%q behind %q in %d pieces: %s", sent, state, len(pieces), bad)
		}
		if want.end.Reason == "tls" {
			p.said, _, _ = strings.Cut(p.said, "\x15\x03") // the alert by which a handshake fails
			p.events = nil                                 // whether anything came with STARTTLS
		}
		for line := range strings.Lines(p.said) {
			if !replyLine.MatchString(line) || strings.Contains(line, "secret") {
				t.Fatalf("%q behind %q: said %q", sent, state, line)
			}
		}
		if first == nil {
			first = append(p.events, "end")
		}
		if !slices.Equal(append(p.events, "end"), first) {
			t.Fatalf("%q behind %q in %d pieces: %s", sent, state, len(pieces), diff("events", fmt.Sprint(p.events), fmt.Sprint(first)))
		}
	}
}

// FuzzBDAT frames a text by BDAT in two chunks: it arrives as it is, and the
// command behind it is obeyed.
func FuzzBDAT(f *testing.F) {
	f.Add([]byte("a\r\n.\r\nQUIT\r\n"), uint16(3), []byte{70, 2})
	f.Add([]byte("BDAT 3\r\n"), uint16(0), []byte{})
	f.Add([]byte{}, uint16(0), []byte{9})
	f.Fuzz(func(t *testing.T, text []byte, split uint16, sizes []byte) {
		half := int(split) % (len(text) + 1)
		sent := fmt.Appendf(nil, "%sBDAT %d\r\n%sBDAT %d LAST\r\n%sMAIL FROM:<behind@x.example>\r\n", envelope, half, text[:half], len(text)-half, text[half:])
		p := play(&Config{Hostname: "mx.example"}, nil, piecesOf(sent, sizes))
		saw := strings.Join(p.saw, "\n")
		if !strings.HasSuffix(saw, "\nbdat\nmessage "+showText(text)+"\nmail <behind@x.example>") || len(p.faults) > 0 {
			t.Fatalf("%q: %s\n%s", sent, saw, p.faults)
		}
	})
}
