package smtp

import (
	"bytes"
	"flag"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/transcript"
)

var update = flag.Bool("update", false, "write the server's half of the transcripts anew")

// TestTranscripts plays every dialogue of testdata whole, octet by octet and cut
// in two at every place, and wants the same replies, the same calls of the
// Session and the same end each time. The keys of a transcript:
//
//	set: KEY VALUE      of the configuration, see configure
//	when: CALL: ANSWER  a rule of the Session, see fake
//	play: whole         only so: see arrival
//	play: lines         only a line at a time: likewise
//	saw: TEXT           what the Session saw, in order
//	event: TEXT         what the engine reported, in order
func TestTranscripts(t *testing.T) {
	t.Parallel()
	for _, s := range scripts(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			if *update {
				rewrite(t, filepath.Join("testdata", s.Name+".txt"), s)
				return
			}
			playTranscript(t, s)
		})
	}
}

// arrival is the transcripts that are not cut, since their rule is about what
// comes together. TestNoSplitBehindStartTLSIsObeyed cuts them in its own way.
var arrival = []string{"T01-pipelined", "T08-plain-after-starttls"}

// scripts is every transcript of testdata.
func scripts(t testing.TB) []*transcript.Script {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	var all []*transcript.Script
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if strings.HasPrefix(name, "use-") {
			continue
		}
		s, err := transcript.Load(os.DirFS("testdata"), name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func playTranscript(t *testing.T, s *transcript.Script) {
	if cut := len(s.Settings("play")) == 0; cut == slices.Contains(arrival, s.Name) {
		t.Fatalf("cut: %t", cut)
	}
	cfg, rules := configure(t, s)
	want := string(s.Answered())
	wantSaw, wantEvents := s.Settings("saw"), s.Settings("event")
	seed := uint64(time.Now().UnixNano())
	t.Logf("random pieces, if it is long, from seed %d", seed)
	for name, pieces := range ways(s, seed) {
		p := play(cfg, rules, pieces)
		bad := ""
		switch {
		case p.said != want:
			bad = diff("replies", p.said, want)
		case !slices.Equal(p.saw, wantSaw):
			bad = diff("the session saw", strings.Join(p.saw, "\n"), strings.Join(wantSaw, "\n"))
		case !slices.Equal(p.events, wantEvents):
			bad = diff("events", strings.Join(p.events, "\n"), strings.Join(wantEvents, "\n"))
		case p.end.Reason != s.Ended():
			bad = fmt.Sprintf("ended %q, want %q", p.end.Reason, s.Ended())
		case len(p.faults) > 0:
			bad = strings.Join(p.faults, "; ")
		}
		if bad != "" {
			t.Fatalf("%s: %s", name, bad)
		}
	}
}

// ways is how a transcript is played.
func ways(s *transcript.Script, seed uint64) iter.Seq2[string, [][]byte] {
	sent := bytes.Join(s.Sent(), nil)
	return func(yield func(string, [][]byte) bool) {
		switch play := s.Settings("play"); {
		case len(play) == 0:
			transcript.Cuts(sent, seed)(yield)
		case play[0] == "whole":
			yield("whole", [][]byte{sent})
		default:
			yield("line by line", s.ClientLines())
		}
	}
}

func diff(what, got, want string) string {
	return fmt.Sprintf("%s:\n%s\nwant:\n%s", what, got, want)
}

func rewrite(t *testing.T, file string, s *transcript.Script) {
	cfg, rules := configure(t, s)
	pieces := s.ClientLines()
	if play := s.Settings("play"); len(play) > 0 && play[0] == "whole" {
		pieces = [][]byte{bytes.Join(pieces, nil)}
	}
	p := play(cfg, rules, pieces)
	turns := p.turns[1:]
	for len(turns) < len(s.ClientLines()) { // played whole: all comes after the last
		turns = append([]string{""}, turns...)
	}
	for _, fault := range p.faults {
		t.Errorf("fault: %s", fault)
	}
	values := make([]string, 0, len(p.saw)+len(p.events))
	values = append(values, p.saw...)
	text := s.Rewritten(p.turns[0], turns, "saw", values, p.end.Reason)
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "event: ") {
			continue
		}
		if strings.HasPrefix(line, "END ") {
			for _, e := range p.events {
				out.WriteString("event: " + e + "\n")
			}
		}
		out.WriteString(line)
	}
	if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// configure is the configuration and the Session's rules of a transcript.
func configure(t *testing.T, s *transcript.Script) (*Config, map[string]string) {
	cfg := &Config{Hostname: "mx.example"}
	for _, set := range s.Settings("set") {
		key, value, _ := strings.Cut(set, " ")
		number, err := strconv.Atoi(value)
		switch key {
		case "message_size":
			cfg.Limits.MessageSize = int64(number)
		case "recipients":
			cfg.Limits.Recipients = number
		case "commands":
			cfg.Limits.Commands = number
		case "errors":
			cfg.Limits.Errors = number
		case "refused_recipients":
			cfg.Limits.RefusedRecipients = number
		case "session_size":
			cfg.Limits.SessionSize = int64(number)
		case "command_line":
			cfg.Limits.CommandLine = number
		case "bare_newline":
			err = nil
			cfg.RejectBareNewline = func(peer netip.AddrPort) bool {
				return value == "reject" && peer.String() == "198.51.100.7:40000"
			}
		case "lmtp":
			cfg.LMTP = number == 1
		case "lenient":
			err = nil
			cfg.Lenient = func(peer netip.AddrPort) bool { return value == "yes" && peer.String() == "198.51.100.7:40000" }
		case "tls":
			err = nil
			cfg.TLS = testTLS(t)
			cfg.TLSMode = map[string]TLSMode{"optional": TLSOptional, "required": TLSRequired}[value]
		default:
			t.Fatalf("set: %s?", key)
		}
		if err != nil {
			t.Fatalf("set: %s: %v", set, err)
		}
	}
	rules := map[string]string{}
	for _, when := range s.Settings("when") {
		call, answer, ok := strings.Cut(when, ": ")
		if !ok {
			t.Fatalf("when: %s?", when)
		}
		rules[call] = answer
	}
	return cfg, rules
}
