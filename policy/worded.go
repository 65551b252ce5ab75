package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/incoming-mx/incoming/smtp"
)

// What is taken of a reply that another program worded.
const (
	mostWordedRows = 10
	mostWordedLine = 400
)

// Worded is a refusal in the words of another program, such as a filter: a reply
// as SMTP has it, "550 5.7.1 Virus found", its lines, if it has several, each with
// the code and apart by any line end. It is an error when the code is not one and
// the same of 4xx or 5xx. An enhanced code that is missing, or of another class
// than the code, becomes x.7.1. What is not printable ASCII becomes "?", and what
// is beyond 10 lines or 400 octets of a line is cut.
func Worded(text string) (*smtp.Reply, error) {
	text = strings.TrimRight(text, "\r\n")
	rows := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	code := 0
	var enhanced smtp.EnhancedCode
	for i, row := range rows {
		n, err := strconv.Atoi(row[:min(3, len(row))])
		if err != nil || n < 400 || n > 599 || i > 0 && n != code || len(row) > 3 && row[3] != ' ' && row[3] != '-' {
			return nil, fmt.Errorf("%.80q is no reply of 4xx or 5xx", text)
		}
		code = n
		words, e := cutEnhanced(strings.TrimSpace(row[min(4, len(row)):]))
		if i == 0 {
			enhanced = e
		}
		rows[i] = printable(words)
	}
	if enhanced[0] != code/100 {
		enhanced = smtp.EnhancedCode{code / 100, 7, 1}
	}
	return &smtp.Reply{Code: code, Enhanced: enhanced, Text: strings.Join(rows[:min(len(rows), mostWordedRows)], "\n")}, nil
}

// cutEnhanced takes an enhanced code off the words that it stands before; the zero
// code when there is none (RFC 3463 §2).
func cutEnhanced(words string) (rest string, code smtp.EnhancedCode) {
	first, rest, _ := strings.Cut(words, " ")
	parts := strings.Split(first, ".")
	if len(parts) != len(code) {
		return words, smtp.EnhancedCode{}
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n > 999 {
			return words, smtp.EnhancedCode{}
		}
		code[i] = int(n)
	}
	return strings.TrimSpace(rest), code
}

// printable is a line's words without what has no place in a reply.
func printable(words string) string {
	b := []byte(words[:min(len(words), mostWordedLine)])
	for i, c := range b {
		if c < ' ' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}

// Folded is the value of a header field in the words of another program, as
// Transaction.Prepend takes it: folded by CRLF also where it is by LF, without a
// line end behind it and the space before it that we write ourselves. It is an error
// when a line end is no fold.
func Folded(value string) (string, error) {
	value = strings.ReplaceAll(value, "\r\n", "\n")
	value = strings.TrimPrefix(strings.TrimRight(value, "\n"), " ")
	for i := range len(value) {
		if value[i] == '\n' && value[i+1] != ' ' && value[i+1] != '\t' { // it does not end in one
			return "", fmt.Errorf("a line end that is not a fold, in %.100q", value)
		}
	}
	return strings.ReplaceAll(value, "\n", "\r\n"), nil
}
