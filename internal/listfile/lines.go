package listfile

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Lines yields the lines of a text that say something, trimmed and without their
// comments, by their number from 1. A "#" at the start of a line or after a space
// begins a comment: an address may have one within. The first error, of yield or
// that a line is not UTF-8, ends it, and names path and line.
func Lines(path string, text []byte, yield func(number int, line string) error) error {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	number := 0
	for raw := range bytes.Lines(text) {
		number++
		if !utf8.Valid(raw) {
			return fmt.Errorf("%s:%d: not UTF-8", path, number)
		}
		line := withoutComment(string(raw))
		if line == "" {
			continue
		}
		if err := yield(number, line); err != nil {
			return fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	return nil
}

func withoutComment(line string) string {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			line = line[:i]
			break
		}
	}
	return strings.TrimSpace(line)
}
