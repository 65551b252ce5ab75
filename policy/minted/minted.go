// Package minted makes recipient addresses that carry what they are for, and knows
// its own again without looking anything up: tickets+6b3v…@example.org is signed,
// belongs to the route tickets, expires, and holds some octets of the application's.
// It is for reply-by-mail (the ticket that an answer belongs to) and for inboxes
// that last a while.
//
// The part behind the plus is base32 of a signature (HMAC-SHA256, cut to 80 bits),
// when it expires, and the data, which anyone can read: it is signed, not hidden.
// The signature covers the route and the domain too. Letters of either case are the
// same, for mail servers on the way may change them.
//
// A Minter is what mints and opens; [Minter.Policy] is what asks at RCPT.
package minted

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/internal/mailbox"
)

// DefaultTTL is how long an address lives when nothing is said.
const DefaultTTL = 72 * time.Hour

const (
	maxLocal = 64 // octets of a local part (RFC 5321 §4.5.3.1.1)
	maxRoute = 24 // so that some are left for data
	signed   = 10 // octets of signature
	timed    = 4  // octets of expiry
	minKey   = 16 // octets of a key
)

var (
	// ErrForged: the address is not one that these keys have minted.
	ErrForged = errors.New("minted: not an address of ours")
	// ErrExpired: it was, and its time is over.
	ErrExpired = errors.New("minted: the address has expired")
)

// Address is what a minted address says.
type Address struct {
	// Route is what stands before the plus: letters, digits, "-", "_" and ".", at
	// most 24 of them. Letters are lower case.
	Route string
	// Domain is one of ours.
	Domain string
	// Data is what the application gets back, octet for octet. How much fits
	// hangs on Route: of a name of 7 letters, 21 octets.
	Data string
	// Expires is when the address is refused from, to the second and up to the
	// year 2106; zero is never.
	Expires time.Time
}

// Minter mints addresses, and knows them again. It is safe for use by many
// goroutines.
type Minter struct {
	keys [][]byte
	now  func() time.Time
}

// New makes a Minter of keys of 16 octets or more. The first signs, each verifies:
// a new key goes in front, and the old one goes when its last address has expired.
func New(keys ...[]byte) (*Minter, error) {
	if len(keys) == 0 {
		return nil, errors.New("minted: no key")
	}
	m := &Minter{now: time.Now}
	for i, k := range keys {
		if len(k) < minKey {
			return nil, fmt.Errorf("minted: key %d of %d has %d octets: give it %d or more", i+1, len(keys), len(k), minKey)
		}
		m.keys = append(m.keys, slices.Clone(k))
	}
	return m, nil
}

// Open makes a Minter of the keys in a file, one a line, each any text of 16 octets
// or more. Empty lines, and those that begin with #, do not count.
func Open(file string) (*Minter, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("minted: %w", err)
	}
	var keys [][]byte
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			keys = append(keys, []byte(line))
		}
	}
	m, err := New(keys...)
	if err != nil {
		return nil, fmt.Errorf("%w: in %s", err, file)
	}
	return m, nil
}

// Mint is the address that says a. It is an error when Route or Domain cannot stand
// in an address, or when Data does not fit; the error then says how much does.
func (m *Minter) Mint(a Address) (string, error) {
	if err := checkRoute(a.Route); err != nil {
		return "", err
	}
	domain, err := mailbox.Domain(a.Domain)
	if err != nil || domain == "" || strings.ContainsAny(domain, "@ ") {
		return "", fmt.Errorf("minted: %q is no domain", a.Domain)
	}
	room := encoding().DecodedLen(maxLocal-len(a.Route)-1) - signed - timed
	if len(a.Data) > room {
		return "", fmt.Errorf("minted: %d octets of data, and beside the route %s %d fit: put the rest where the application finds it by them", len(a.Data), a.Route, room)
	}
	var expires uint32
	if !a.Expires.IsZero() {
		at := a.Expires.Unix()
		if at <= 0 || at > 1<<32-1 {
			return "", fmt.Errorf("minted: an address cannot expire at %v", a.Expires)
		}
		expires = uint32(at)
	}
	text := append(binary.BigEndian.AppendUint32(nil, expires), a.Data...)
	token := append(sign(m.keys[0], a.Route, domain, text), text...)
	return a.Route + "+" + strings.ToLower(encoding().EncodeToString(token)) + "@" + a.Domain, nil
}

// Open is what address says. It returns ErrForged for one that these keys have not
// minted, and ErrExpired, with what it says, for one whose time is over.
func (m *Minter) Open(address string) (Address, error) {
	local, given, _ := mailbox.Split(address)
	domain := mailbox.Fold(given)
	route, text, tagged := strings.Cut(mailbox.Local(local), "+")
	token, err := encoding().DecodeString(strings.ToUpper(text))
	// Two spellings that decode to the same octets are not both ours.
	if !tagged || err != nil || len(token) < signed+timed || !strings.EqualFold(encoding().EncodeToString(token), text) {
		return Address{}, ErrForged
	}
	signature, rest := token[:signed], token[signed:]
	if !slices.ContainsFunc(m.keys, func(k []byte) bool { return hmac.Equal(signature, sign(k, route, domain, rest)) }) {
		return Address{}, ErrForged
	}
	a := Address{Route: route, Domain: given, Data: string(rest[timed:])}
	if at := binary.BigEndian.Uint32(rest); at != 0 {
		a.Expires = time.Unix(int64(at), 0).UTC()
		if !m.now().Before(a.Expires) {
			return a, ErrExpired
		}
	}
	return a, nil
}

// sign covers all that an address says. Neither a route nor a domain holds a NUL.
func sign(key []byte, route, domain string, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("incoming minted 1\x00" + route + "\x00" + domain + "\x00"))
	h.Write(text)
	return h.Sum(nil)[:signed]
}

func encoding() *base32.Encoding { return base32.StdEncoding.WithPadding(base32.NoPadding) }

// checkRoute finds what cannot be a route of an address.
func checkRoute(s string) error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}
	if s == "" || len(s) > maxRoute || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") || strings.ContainsFunc(s, odd) {
		return fmt.Errorf("minted: route %q: use 1 to %d of a-z, 0-9, - and _, with dots between", s, maxRoute)
	}
	return nil
}
