package command

import "strings"

// maxSaid is the octets of standard error that are kept.
const maxSaid = 1024

// tail keeps the last of what is written to it: programs tell what went wrong
// when they end.
type tail struct {
	b   []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > maxSaid {
		p, t.cut = p[len(p)-maxSaid:], true
	}
	t.b = append(t.b, p...)
	if over := len(t.b) - maxSaid; over > 0 {
		t.b, t.cut = append(t.b[:0], t.b[over:]...), true
	}
	return n, nil
}

func (t *tail) String() string {
	s := strings.TrimSpace(string(t.b))
	if t.cut {
		return "…" + s
	}
	return s
}
