package smtp

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
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

var replyLine = regexp.MustCompile(`^[2345][0-9][0-9]([ -][ -~]*)?\r\n$`)

// FuzzSession throws the same octets at each state, whole, octet by octet and
// cut in two: the engine must not break, keep the contract of the Session, say
// nothing but replies, and do the same each time.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"NOOP\r\nQUIT\r\n", "a\r\n.\r\nQUIT\r\n", "BDAT 3 LAST\r\nabcQUIT\r\n", "DATA\r\n.\r\n", "RSET\r\nMAIL FROM:<>\r\n", "\x16\x03\x01",
		"GET / HTTP/1.1\r\n", "\n.\n.\r\n", "DATA\r\nfoo\r\nbar\r\n", "BDAT\r\n", "BDAT 99\r\n", "EHLO \xff\r\nHELO y\r\n", "STARTTLS\r\nx",
		strings.Repeat("x", 200) + "\r\n", "RCPT TO:<\xc3\xb6@y>\r\n", "MAIL FROM:<a@x> SIZE=101\r\n",
	} {
		f.Add([]byte(seed), uint16(3))
		f.Add([]byte(seed), uint16(4))
	}
	limits := Limits{MessageSize: 100, CommandLine: 120, Commands: 30, Errors: 5, Recipients: 2, RefusedRecipients: 2}
	lenient := &Config{Hostname: "mx.example", Limits: limits}
	mild := map[string]string{"rcpt no@y.example": "550 5.1.1 No such user", "mail b@x.example": "error secret"}
	limits.MessageSize = 20
	strict := &Config{Hostname: "mx.example", Limits: limits, RejectBareNewline: func(netip.AddrPort) bool { return true }}
	harsh := map[string]string{"rcpt no@y.example": "550 5.1.1 No such user", "write": "error secret", "mail c@x.example": "550 5.7.1 No"}
	f.Fuzz(func(t *testing.T, sent []byte, cut uint16) {
		if len(sent) > 4096 {
			return
		}
		cfg, rules := lenient, mild
		if cut%2 == 1 {
			cfg, rules = strict, harsh
		}
		for i, state := range states {
			whole := append([]byte(state), sent...)
			at := int(cut) % (len(whole) + 1)
			octets := make([][]byte, len(whole))
			for i := range whole {
				octets[i] = whole[i : i+1]
			}
			var first string
			for _, pieces := range [][][]byte{{whole}, octets, {whole[:at], whole[at:]}} {
				p := play(cfg, rules, pieces)
				if len(p.faults) > 0 {
					t.Fatalf("state %d: %s", i, p.faults)
				}
				for line := range strings.Lines(p.said) {
					if !replyLine.MatchString(line) || strings.Contains(line, "secret") {
						t.Fatalf("state %d: said %q", i, line)
					}
				}
				result := fmt.Sprint(p.said, p.saw, p.events, p.end.Reason, p.end.Messages)
				if first == "" {
					first = result
				}
				if result != first || p.end.Reason == closedPanic.String() {
					t.Fatalf("state %d, %q in %d pieces: %s", i, sent, len(pieces), diff("result", result, first))
				}
			}
		}
	})
}

// FuzzChunk frames a text by BDAT in two chunks: it arrives as it is, and the
// command behind it is obeyed.
func FuzzChunk(f *testing.F) {
	f.Add([]byte("a\r\n.\r\nQUIT\r\n"), uint16(3), uint16(70))
	f.Add([]byte("BDAT 3\r\n"), uint16(0), uint16(0))
	f.Add([]byte{}, uint16(0), uint16(9))
	f.Fuzz(func(t *testing.T, text []byte, split, cut uint16) {
		half := int(split) % (len(text) + 1)
		sent := fmt.Appendf(nil, "%sBDAT %d\r\n%sBDAT %d LAST\r\n%sMAIL FROM:<behind@x.example>\r\n", envelope, half, text[:half], len(text)-half, text[half:])
		at := int(cut) % (len(sent) + 1)
		p := play(&Config{Hostname: "mx.example"}, nil, [][]byte{sent[:at], sent[at:]})
		saw := strings.Join(p.saw, "\n")
		if !strings.HasSuffix(saw, "message "+showText(text)+"\nmail <behind@x.example>") || len(p.faults) > 0 {
			t.Fatalf("%q: %s\n%s", sent, saw, p.faults)
		}
	})
}
