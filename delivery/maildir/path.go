package maildir

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/incoming-mx/incoming/internal/mailbox"
)

const (
	// maxEscaped is the longest an escaped address gets, so that a file name,
	// of at most 255 octets, has room for two and some text around them.
	maxEscaped = 120
	// maxName is the longest file name that common file systems hold.
	maxName = 255
)

// template is the path of Maildirs. Absolute and clean.
type template struct {
	text  string
	fixed string // the part that no recipient changes: whole directories
}

// parseTemplate reads a path with {rcpt} and {domain}.
func parseTemplate(path string) (template, error) {
	if path == "" {
		return template{}, errors.New(`no path: name the directory, such as "/var/mail/{domain}/{rcpt}"`)
	}
	if strings.ContainsRune(path, 0) {
		return template{}, fmt.Errorf("path %q holds a NUL, which no file name may", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return template{}, fmt.Errorf("path %s: %w", path, err)
	}
	t := template{text: abs}
	fixed := true
	for name := range strings.SplitSeq(abs, "/") {
		n, err := checkName(name)
		if err != nil {
			return template{}, fmt.Errorf("path %s: %w", path, err)
		}
		if fixed = fixed && n == 0; fixed && name != "" {
			t.fixed += "/" + name
		}
	}
	if t.fixed == "" {
		t.fixed = "/"
	}
	if t.fixed == "/" && !t.perRecipient() {
		return template{}, fmt.Errorf("path %s is the root directory: name one for the Maildir", path)
	}
	return t, nil
}

// checkName looks at one name of the path and counts the fields in it.
func checkName(name string) (fields int, err error) {
	rest := strings.NewReplacer("{rcpt}", "", "{domain}", "").Replace(name)
	if i := strings.IndexAny(rest, "{}"); i >= 0 {
		return 0, fmt.Errorf("%q: only {rcpt} and {domain} may stand in braces", name)
	}
	fields = strings.Count(name, "{rcpt}") + strings.Count(name, "{domain}")
	if n := len(rest) + fields*maxEscaped; n > maxName {
		return 0, fmt.Errorf("%q may come to %d octets, a file name has at most %d: put a / between", name, n, maxName)
	}
	return fields, nil
}

func (t template) perRecipient() bool { return t.text != t.fixed }

// path is the Maildir of one recipient.
func (t template) path(address string) string {
	address = canonical(address)
	_, domain, _ := mailbox.Split(address)
	return strings.NewReplacer("{rcpt}", escape(address), "{domain}", escape(domain)).Replace(t.text)
}

// box is one Maildir and who has it.
type box struct {
	path       string
	recipients []string
}

// group is the Maildirs of recipients, in the order the first of each comes.
func (t template) group(recipients []string) []box {
	var boxes []box
	at := make(map[string]int, len(recipients))
	for _, rcpt := range recipients {
		path := t.path(rcpt)
		i, found := at[path]
		if !found {
			i = len(boxes)
			at[path] = i
			boxes = append(boxes, box{path: path})
		}
		boxes[i].recipients = append(boxes[i].recipients, rcpt)
	}
	return boxes
}

// canonical is one spelling of an address for all that mean the same mailbox:
// in small letters, its local part in NFC, its domain as A-labels and without a
// last dot. RFC 5321 §2.4 lets the case of a local part matter; no sender relies
// on it, and a mailbox must not split because someone wrote Bob. Quotes stay.
func canonical(address string) string {
	local, domain, found := mailbox.Split(address)
	local = lower(norm.NFC.String(local))
	if !found {
		return local
	}
	return local + "@" + mailbox.Fold(domain)
}

// lower is s with A to Z as small letters. Other letters stay: how they fold
// depends on who asks.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// escape makes s a part of a file name, a different one for each s: letters,
// digits and + - . = @ _ stay, but for a dot or hyphen in front; any other octet
// is % and two hexadecimal digits; "" is "%". What would be longer than
// maxEscaped is cut, and ends in "%_" and a hash of the whole.
func escape(s string) string {
	if s == "" {
		return "%"
	}
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if plain(c) && (i > 0 || (c != '.' && c != '-')) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() <= maxEscaped {
		return b.String()
	}
	sum := sha256.Sum256([]byte(s))
	end := "%_" + hex.EncodeToString(sum[:16])
	return b.String()[:maxEscaped-len(end)] + end
}

func plain(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("+-.=@_", c) >= 0
}
