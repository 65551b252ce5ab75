package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"
)

// isTerminal reports whether s, a stream of the program, is a terminal.
func isTerminal(s any) bool {
	f, ok := s.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks for a yes. Without anybody to ask it is an error that names the
// mend.
func (a *app) confirm(question string) error {
	if !a.interactive() {
		return fmt.Errorf("%s: this is no terminal to ask on; add --yes to do it", question)
	}
	fmt.Fprintf(a.stderr, "%s? [y/N] ", question)
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return fmt.Errorf("not confirmed; nothing was changed")
}

// clean makes a peer's text safe to show: what does not print is escaped.
func clean(s string) string {
	ok := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0
	if ok {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == unicode.ReplacementChar:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// address shows a mail address; the null sender as <>.
func address(s string) string {
	if s == "" {
		return "<>"
	}
	return clean(s)
}

// span shows a length of time by its two largest units.
func span(d time.Duration) string {
	if d < 0 {
		return "0s"
	}
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// octets shows a size by a unit near it.
func octets(n int64) string {
	unit := ""
	f := float64(n)
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f < 1024 {
			break
		}
		f, unit = f/1024, u
	}
	if unit == "" {
		return fmt.Sprintf("%dB", n)
	}
	if f < 10 {
		return fmt.Sprintf("%.1f%s", f, unit)
	}
	return fmt.Sprintf("%.0f%s", f, unit)
}

// bar shows on a terminal how far something is, in one line that it rewrites.
type bar struct {
	w     io.Writer
	total int
	began time.Time
	last  time.Time
}

func (b *bar) show(done int, what string) {
	now := time.Now()
	if done < b.total && now.Sub(b.last) < 100*time.Millisecond {
		return
	}
	b.last = now
	const width = 30
	full := width * done / max(b.total, 1)
	fmt.Fprintf(b.w, "\r[%s%s] %d/%d %s, %s \x1b[K", strings.Repeat("#", full), strings.Repeat(".", width-full),
		done, b.total, what, span(now.Sub(b.began)))
}

func (b *bar) clear() { fmt.Fprint(b.w, "\r\x1b[K") }
