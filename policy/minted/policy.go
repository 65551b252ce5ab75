package minted

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// FactName is the fact that the policy keeps: an object of a [Fact] for each minted
// recipient, by its address as it stands in the envelope.
const FactName = "minted.addresses"

// Fact is what a minted address says.
type Fact struct {
	Route   string     `json:"route"`
	Data    string     `json:"data"`              // octets that are not UTF-8 are U+FFFD
	Base64  []byte     `json:"base64,omitempty"`  // the data, when it is not UTF-8
	Expires *time.Time `json:"expires,omitempty"` // absent: never
}

// Of is the fact of one recipient, from a message's or a transaction's facts. There
// is none for a recipient that was not minted.
func Of(facts map[string]json.RawMessage, recipient string) (f Fact, found bool, err error) {
	raw, ok := facts[FactName]
	if !ok {
		return f, false, nil
	}
	var all map[string]Fact
	if err := json.Unmarshal(raw, &all); err != nil {
		return f, false, fmt.Errorf("minted: the fact %s: %w", FactName, err)
	}
	f, found = all[recipient]
	return f, found, nil
}

// Policy asks at RCPT: whoever writes to one of routes, at whatever domain, must have
// an address that m has minted. Another, and the route's name alone, is refused with
// 550 5.1.1, one that has expired with 550 5.1.6. Nothing is looked up. What the
// address says is kept as the fact minted.addresses. Recipients whose name is none of
// routes are not looked at. Its name is minted.
//
// It is an error when there are no routes or one cannot be in an address.
func (m *Minter) Policy(routes ...string) (policy.Policy, error) {
	if len(routes) == 0 {
		return nil, errors.New("minted: no routes")
	}
	for _, r := range routes {
		if err := checkRoute(r); err != nil {
			return nil, err
		}
	}
	routes = slices.Clone(routes)
	return policy.Named("minted", policy.OnRcpt(func(_ context.Context, path smtp.Path, t *policy.Transaction) error {
		route, _, _ := strings.Cut(mailbox.Local(path.Local), "+")
		if !slices.Contains(routes, route) {
			return nil
		}
		to := path.String()
		a, err := m.Open(to)
		switch {
		case errors.Is(err, ErrExpired):
			return policy.Because(replyExpired, "expired", slog.String("rcpt", to), slog.Time("expired", a.Expires))
		case err != nil:
			return policy.Because(replyForged, "forged", slog.String("rcpt", to))
		}
		return remember(t, to, a)
	})), nil
}

// remember adds a recipient to the fact.
func remember(t *policy.Transaction, to string, a Address) error {
	all := make(map[string]Fact)
	if raw := t.Fact(FactName); raw != nil {
		if err := json.Unmarshal(raw, &all); err != nil {
			return err
		}
	}
	f := Fact{Route: a.Route, Data: strings.ToValidUTF8(a.Data, "\ufffd")}
	if !utf8.ValidString(a.Data) {
		f.Base64 = []byte(a.Data)
	}
	if !a.Expires.IsZero() {
		f.Expires = &a.Expires
	}
	all[to] = f
	return t.SetFact(FactName, all)
}
