// Package transcript reads dialogues of a line protocol from text that anyone
// can read and write, and plays the client's half of one in pieces: whole, octet
// by octet, and cut in two at every place. A server must not be able to tell
// these apart.
//
// A transcript is lines:
//
//	# a comment
//	use NAME            the lines of another transcript come here
//	KEY: VALUE          for the caller; KEY is lower case
//	C: text             the client sends text and CRLF
//	C| text             the client sends text, and no line end
//	C* N text           the client sends text N times
//	S: text             the server answers text and CRLF
//	S* N text           it answers text and CRLF N times
//	END reason          the server ends the connection, and why
//
// In C and S, \r \n \t \0 \\ and \x80 are one octet each. One space after the
// mark is not part of the text. It knows no protocol.
package transcript

import (
	"bytes"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Script is a transcript that was read.
type Script struct {
	Name  string
	Lines []Line
}

// Kind is what a Line is.
type Kind int

const (
	Comment Kind = iota // Text is the line, which may be empty
	Use                 // Text is the name; what it names follows, Included
	Setting             // Key and Text
	Client              // Text is what is sent once, Times how often
	Server              // Text is the line without its CRLF, Times how often
	End                 // Text is the reason
)

// Line is one line of a transcript.
type Line struct {
	Kind     Kind
	Key      string
	Text     string
	Times    int
	Included bool   // it came by Use
	source   string // as written
}

// Load reads the transcript name.txt of a directory.
func Load(dir fs.FS, name string) (*Script, error) {
	lines, err := load(dir, name, 0)
	if err != nil {
		return nil, err
	}
	return &Script{Name: name, Lines: lines}, nil
}

func load(dir fs.FS, name string, depth int) ([]Line, error) {
	if depth > 5 {
		return nil, fmt.Errorf("transcript %s: used too deep", name)
	}
	text, err := fs.ReadFile(dir, name+".txt")
	if err != nil {
		return nil, fmt.Errorf("transcript: %w", err)
	}
	var lines []Line
	for i, source := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		line, err := parseLine(source)
		if err != nil {
			return nil, fmt.Errorf("transcript %s:%d: %w", name, i+1, err)
		}
		lines = append(lines, line)
		if line.Kind != Use {
			continue
		}
		used, err := load(dir, line.Text, depth+1)
		if err != nil {
			return nil, fmt.Errorf("transcript %s:%d: %w", name, i+1, err)
		}
		for _, l := range used {
			l.Included = true
			lines = append(lines, l)
		}
	}
	return lines, nil
}

func parseLine(source string) (Line, error) {
	line := Line{source: source, Times: 1}
	mark, rest, _ := strings.Cut(source, " ")
	var err error
	switch {
	case strings.TrimSpace(source) == "", strings.HasPrefix(source, "#"):
		line.Kind, line.Text = Comment, source
	case mark == "use":
		line.Kind, line.Text = Use, rest
	case mark == "END":
		line.Kind, line.Text = End, rest
	case mark == "C:":
		line.Kind = Client
		line.Text, err = Unescape(rest)
		line.Text += "\r\n"
	case mark == "C|":
		line.Kind = Client
		line.Text, err = Unescape(rest)
	case mark == "S:":
		line.Kind = Server
		line.Text, err = Unescape(rest)
	case mark == "C*", mark == "S*":
		line.Kind = Client
		if mark == "S*" {
			line.Kind = Server
		}
		times, text, _ := strings.Cut(rest, " ")
		if line.Times, err = strconv.Atoi(times); err == nil {
			line.Text, err = Unescape(text)
		}
	case strings.HasSuffix(mark, ":") && mark == strings.ToLower(mark):
		line.Kind, line.Key, line.Text = Setting, strings.TrimSuffix(mark, ":"), rest
	default:
		err = fmt.Errorf("what is %q?", source)
	}
	return line, err
}

// Settings is the values of a key, in order.
func (s *Script) Settings(key string) []string {
	var values []string
	for _, l := range s.Lines {
		if l.Kind == Setting && l.Key == key {
			values = append(values, l.Text)
		}
	}
	return values
}

// Sent is what the client sends, one element for each uninterrupted run of its
// lines.
func (s *Script) Sent() [][]byte {
	var turns [][]byte
	turn := false
	for _, l := range s.Lines {
		switch l.Kind {
		case Client:
			if !turn {
				turns = append(turns, nil)
			}
			turn = true
			last := &turns[len(turns)-1]
			*last = append(*last, strings.Repeat(l.Text, l.Times)...)
		case Server:
			turn = false
		}
	}
	return turns
}

// Answered is what the server answers: all of it.
func (s *Script) Answered() []byte {
	var all []byte
	for _, l := range s.Lines {
		if l.Kind == Server {
			all = append(all, strings.Repeat(l.Text+"\r\n", l.Times)...)
		}
	}
	return all
}

// Ended is how the transcript says the connection ends.
func (s *Script) Ended() string {
	for _, l := range s.Lines {
		if l.Kind == End {
			return l.Text
		}
	}
	return ""
}

// Rewritten is the transcript's text with the server's half replaced: banner
// comes first, answers[i] after the client's i-th line, then the settings of
// that key, and the end. It is how a transcript is written: the client's half
// by hand, the other by the server, then read with care.
func (s *Script) Rewritten(banner string, answers []string, key string, values []string, end string) string {
	var b strings.Builder
	i, said := 0, banner == ""
	for _, l := range s.Lines {
		if l.Kind == Client {
			if !said && !l.Included {
				writeAnswers(&b, banner)
			}
			said = true
			answer := answers[i]
			i++
			if !l.Included {
				b.WriteString(l.source + "\n")
				writeAnswers(&b, answer)
			}
			continue
		}
		if !l.Included && l.Kind != Server && l.Kind != End && (l.Kind != Setting || l.Key != key) {
			b.WriteString(l.source + "\n")
		}
	}
	if !said {
		writeAnswers(&b, banner)
	}
	for _, v := range values {
		b.WriteString(key + ": " + v + "\n")
	}
	b.WriteString("END " + end + "\n")
	return b.String()
}

func writeAnswers(b *strings.Builder, answers string) {
	lines := strings.SplitAfter(answers, "\r\n")
	for i := 0; i < len(lines); {
		line := strings.TrimSuffix(lines[i], "\r\n")
		n := 1
		for i+n < len(lines) && lines[i+n] == lines[i] {
			n++
		}
		switch {
		case lines[i] == "":
		case n > 2:
			fmt.Fprintf(b, "S* %d %s\n", n, Escape([]byte(line)))
		default:
			for range n {
				b.WriteString("S: " + Escape([]byte(line)) + "\n")
			}
		}
		i += n
	}
}

// ClientLines is what each of the client's lines sends.
func (s *Script) ClientLines() [][]byte {
	var lines [][]byte
	for _, l := range s.Lines {
		if l.Kind == Client {
			lines = append(lines, []byte(strings.Repeat(l.Text, l.Times)))
		}
	}
	return lines
}

// Escape is b in the form of a transcript.
func Escape(b []byte) string {
	if plain(b) {
		return string(b)
	}
	var out strings.Builder
	for i, c := range b {
		switch {
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\t':
			out.WriteString(`\t`)
		case c == 0:
			out.WriteString(`\0`)
		case c == '\\':
			out.WriteString(`\\`)
		case c < ' ' || c > '~' || c == ' ' && i == len(b)-1:
			fmt.Fprintf(&out, `\x%02x`, c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// plain reports whether Escape has nothing to do, which is so of most lines.
func plain(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return len(b) == 0 || b[len(b)-1] != ' '
}

// Unescape is the reverse of Escape.
func Unescape(s string) (string, error) {
	var out bytes.Buffer
	for len(s) > 0 {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i == len(s)-1 {
			out.WriteString(s)
			break
		}
		out.WriteString(s[:i])
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case 'r':
			out.WriteByte('\r')
		case 'n':
			out.WriteByte('\n')
		case 't':
			out.WriteByte('\t')
		case '0':
			out.WriteByte(0)
		case '\\':
			out.WriteByte('\\')
		case 'x':
			if len(s) < 2 {
				return "", fmt.Errorf(`\x wants two digits`)
			}
			n, err := strconv.ParseUint(s[:2], 16, 8)
			if err != nil {
				return "", fmt.Errorf(`\x%s: %w`, s[:2], err)
			}
			out.WriteByte(byte(n))
			s = s[2:]
		default:
			return "", fmt.Errorf(`what is \%c?`, c)
		}
	}
	return out.String(), nil
}
